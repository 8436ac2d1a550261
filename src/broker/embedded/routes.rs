//! Topic patterns of one exchange, as a tree of words: finding takes as long as the key is, however many
//! bindings there are.

use std::collections::HashMap;

/// Topic patterns and what they lead to. `*` stands for one word, `#` for any number of words.
#[derive(Debug)]
pub(super) struct Routes<T> {
    words: HashMap<String, Self>,
    one: Option<Box<Self>>,
    any: Option<Box<Self>>,
    targets: Vec<T>,
}

impl<T> Default for Routes<T> {
    fn default() -> Self {
        Self {
            words: HashMap::new(),
            one: None,
            any: None,
            targets: Vec::new(),
        }
    }
}

impl<T: PartialEq> Routes<T> {
    /// Adds a binding; a second time it changes nothing.
    pub(super) fn add(&mut self, pattern: &str, target: T) {
        let mut node = self;
        for word in words(pattern) {
            node = match word {
                "*" => node.one.get_or_insert_default(),
                "#" => node.any.get_or_insert_default(),
                word => node.words.entry(word.to_owned()).or_default(),
            };
        }
        if !node.targets.contains(&target) {
            node.targets.push(target);
        }
    }

    /// Removes a binding, if it is there.
    pub(super) fn remove(&mut self, pattern: &str, target: &T) {
        self.remove_words(&words(pattern).collect::<Vec<_>>(), target);
    }

    fn remove_words(&mut self, pattern: &[&str], target: &T) {
        let Some((word, rest)) = pattern.split_first() else {
            self.targets.retain(|one| one != target);
            return;
        };
        match *word {
            "*" => remove_below(&mut self.one, rest, target),
            "#" => remove_below(&mut self.any, rest, target),
            word => {
                if let Some(node) = self.words.get_mut(word) {
                    node.remove_words(rest, target);
                    if node.is_empty() {
                        self.words.remove(word);
                    }
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.words.is_empty() && self.one.is_none() && self.any.is_none() && self.targets.is_empty()
    }

    /// Calls `found` for each binding that `key` matches; for one that matches in two ways, twice.
    pub(super) fn find<'routes>(&'routes self, key: &str, found: &mut impl FnMut(&'routes T)) {
        self.find_words(&words(key).collect::<Vec<_>>(), found);
    }

    fn find_words<'routes>(&'routes self, key: &[&str], found: &mut impl FnMut(&'routes T)) {
        if let Some(any) = &self.any {
            if any.words.is_empty() && any.one.is_none() && any.any.is_none() {
                any.targets.iter().for_each(&mut *found);
            } else {
                (0..=key.len()).for_each(|skipped| any.find_words(&key[skipped..], found));
            }
        }
        let Some((word, rest)) = key.split_first() else {
            self.targets.iter().for_each(found);
            return;
        };
        if let Some(node) = self.words.get(*word) {
            node.find_words(rest, found);
        }
        if let Some(one) = &self.one {
            one.find_words(rest, found);
        }
    }
}

fn remove_below<T: PartialEq>(below: &mut Option<Box<Routes<T>>>, rest: &[&str], target: &T) {
    if let Some(node) = below {
        node.remove_words(rest, target);
        if node.is_empty() {
            *below = None;
        }
    }
}

/// The words of a key; an empty key has none.
fn words(key: &str) -> impl Iterator<Item = &str> {
    key.split('.').filter(move |_| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, key: &str) -> bool {
        let mut routes = Routes::default();
        routes.add(pattern, ());
        let mut is_found = false;
        routes.find(key, &mut |()| is_found = true);
        is_found
    }

    #[test]
    fn a_star_is_one_word_and_a_hash_is_any_number() {
        for (pattern, key) in [
            ("#", ""),
            ("#", "a.b"),
            ("*.bulk.#", "created.bulk"),
            ("*.bulk.#", "created.bulk.echo.x"),
            ("a.#.z", "a.z"),
            ("a.#.z", "a.b.z.z"),
            ("executor.*", "executor.7"),
        ] {
            assert!(matches(pattern, key), "{pattern} {key}");
        }
        for (pattern, key) in [
            ("*", ""),
            ("*", "a.b"),
            ("*.bulk.#", "bulk"),
            ("*.bulk.#", "created.other.bulk"),
            ("a.#.z", "a.z.b"),
            ("executor.*", "executor"),
        ] {
            assert!(!matches(pattern, key), "{pattern} {key}");
        }
    }

    #[test]
    fn a_removed_binding_leaves_nothing_behind() {
        let mut routes = Routes::default();
        for pattern in ["a.*.#", "#", "a"] {
            routes.add(pattern, 1);
            routes.add(pattern, 2);
        }
        for pattern in ["a.*.#", "#", "a", "never.added"] {
            routes.remove(pattern, &1);
            routes.remove(pattern, &2);
        }
        assert!(routes.is_empty());
    }
}
