//! The actions that an executor can run: typed outside, erased inside.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Action, Context};
use crate::domain::{ActionName, Failure, Payload};

/// An attempt under way.
pub type Running = Pin<Box<dyn Future<Output = Result<Payload, Failure>> + Send>>;

type Erased = Arc<dyn Fn(Context, Payload) -> Running + Send + Sync>;

/// The actions that an executor can run, by name.
#[derive(Clone, Default)]
pub struct Registry {
    actions: BTreeMap<ActionName, Erased>,
}

impl Registry {
    /// No action yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With `action` too.
    ///
    /// # Panics
    ///
    /// When its name is not a name, or taken: both are mistakes of the program.
    #[must_use]
    pub fn with<A: Action>(self, action: A) -> Self {
        let action = Arc::new(action);
        self.with_fn(A::NAME, move |context, input| {
            let action = Arc::clone(&action);
            async move { action.run(context, input).await }
        })
    }

    /// With an action that is a function.
    ///
    /// ```
    /// use longshore::action::Registry;
    ///
    /// let registry = Registry::new().with_fn("double", |_context, number: u32| async move { Ok(number * 2) });
    /// assert!(registry.names().any(|name| name.as_str() == "double"));
    /// ```
    ///
    /// # Panics
    ///
    /// As [`Registry::with`].
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "a mistake of the program, found at its start"
    )]
    pub fn with_fn<I, O, F, R>(mut self, name: &str, action: F) -> Self
    where
        I: DeserializeOwned + Send + 'static,
        O: Serialize,
        F: Fn(Context, I) -> R + Send + Sync + 'static,
        R: Future<Output = Result<O, Failure>> + Send + 'static,
    {
        let name = ActionName::new(name).expect("an action's name is one");
        let erased: Erased = Arc::new(move |context, input: Payload| {
            let decoded = input.decode::<I>();
            let running = decoded.map(|input| action(context, input));
            Box::pin(async move {
                let output = running.map_err(|error| not_the_input(&error))?.await?;
                Payload::of(&output).map_err(|error| {
                    Failure::fatal(format!("the output cannot be stored: {error}"))
                })
            })
        });
        let before = self.actions.insert(name.clone(), erased);
        assert!(before.is_none(), "two actions are named `{name}`");
        self
    }

    /// The names of the actions, sorted.
    pub fn names(&self) -> impl Iterator<Item = &ActionName> {
        self.actions.keys()
    }

    /// Whether the action `name` can be run.
    pub fn has(&self, name: &ActionName) -> bool {
        self.actions.contains_key(name)
    }

    /// Begins an attempt of the action `name`; `None` when it is not known here.
    pub fn begin(&self, name: &ActionName, context: Context, input: Payload) -> Option<Running> {
        self.actions.get(name).map(|action| action(context, input))
    }
}

fn not_the_input(error: &serde_path_to_error::Error<serde_json::Error>) -> Failure {
    let path = error.path().to_string();
    let place = if path == "." {
        String::new()
    } else {
        format!(", at `input.{path}`")
    };
    Failure::fatal(format!(
        "the input is not what the action takes: {}{place}",
        error.inner()
    ))
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.actions.keys()).finish()
    }
}
