//! When two JSON texts say the same.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// Whether two texts say the same value. White space, the order of fields, escapes in strings and the form of numbers
/// say nothing; of a field that is there twice the last counts, as for most readers.
///
/// Numbers are compared as they are written, not as a machine would round them: two ids that differ beyond what a
/// `f64` holds are two. The depth is bounded, because a payload's is.
pub(super) fn same_value(left: &RawValue, right: &RawValue) -> bool {
    let (left, right) = (left.get(), right.get());
    if left == right {
        return true;
    }
    match (left.as_bytes().first(), right.as_bytes().first()) {
        (Some(b'{'), Some(b'{')) => {
            let (Some(left), Some(right)) = (fields(left), fields(right)) else {
                return false;
            };
            left.len() == right.len()
                && left
                    .iter()
                    .zip(&right)
                    .all(|(left, right)| left.0 == right.0 && same_value(left.1, right.1))
        }
        (Some(b'['), Some(b'[')) => {
            let (Some(left), Some(right)) = (items(left), items(right)) else {
                return false;
            };
            left.len() == right.len()
                && left
                    .iter()
                    .zip(&right)
                    .all(|(left, right)| same_value(left, right))
        }
        (Some(b'"'), Some(b'"')) => {
            let text = |json| serde_json::from_str::<String>(json).ok();
            text(left).is_some_and(|left| Some(left) == text(right))
        }
        (Some(b'-' | b'0'..=b'9'), Some(b'-' | b'0'..=b'9')) => {
            number(left).is_some_and(|left| Some(left) == number(right))
        }
        _ => false, // `true`, `false` and `null` have one text each.
    }
}

fn fields(json: &str) -> Option<BTreeMap<Cow<'_, str>, &RawValue>> {
    serde_json::from_str(json).ok()
}

fn items(json: &str) -> Option<Vec<&RawValue>> {
    serde_json::from_str(json).ok()
}

/// A number in its only form: the sign, the digits without zeros at either end, the exponent of the last digit. `None`
/// for an exponent that nobody can mean; then only the text can be the same.
fn number(json: &str) -> Option<(bool, String, i64)> {
    let (is_negative, size) = match json.strip_prefix('-') {
        Some(size) => (true, size),
        None => (false, json),
    };
    let (mantissa, exponent) = size.split_once(['e', 'E']).unwrap_or((size, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_end_matches('0');
    let zeros = digits.len() - significant.len();
    let exponent = exponent
        .parse::<i64>()
        .ok()?
        .checked_sub(i64::try_from(fraction.len()).ok()?)?
        .checked_add(i64::try_from(zeros).ok()?)?;
    let significant = significant.trim_start_matches('0');
    if significant.is_empty() {
        return Some((false, String::new(), 0));
    }
    Some((is_negative, significant.to_owned(), exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_same(left: &str, right: &str) -> bool {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let answers = [
            same_value(&raw(left), &raw(right)),
            same_value(&raw(right), &raw(left)),
        ];
        assert_eq!(answers[0], answers[1], "{left} {right}");
        answers[0]
    }

    #[test]
    fn what_says_the_same_is_the_same() {
        for (left, right) in [
            (
                r#"{"a": 1, "b": [true, null]}"#,
                r#"{"b":[true,null],"a":1}"#,
            ),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            (r#""\u00e9\/""#, r#""é/""#),
            (r#"{"\u0061":1}"#, r#"{"a":1}"#),
            ("1", "1.0"),
            ("100", "1e2"),
            ("1.50", "15E-1"),
            ("0", "-0.00"),
            ("0e7", "0"),
            ("1e+2", "100"),
            (
                "123456789012345678901234567890",
                "123456789012345678901234567890.0",
            ),
            ("1e999999999999999999999", "1e999999999999999999999"),
        ] {
            assert!(is_same(left, right), "{left} {right}");
        }
    }

    #[test]
    fn what_says_something_else_is_not() {
        for (left, right) in [
            (r#"{"a":1}"#, r#"{"a":1,"b":1}"#),
            (r#"{"a":1}"#, r#"{"b":1}"#),
            (r#"{"a":[1,2]}"#, r#"{"a":[2,1]}"#),
            ("[]", "{}"),
            ("[]", "[null]"),
            ("1", r#""1""#),
            ("1", "-1"),
            ("1", "10"),
            ("0.1", "0.01"),
            ("null", "false"),
            ("null", "0"),
            (r#""a""#, r#""A""#),
            ("9007199254740993", "9007199254740992"),
            ("1e999999999999999999999", "1e999999999999999999998"),
        ] {
            assert!(!is_same(left, right), "{left} {right}");
        }
    }
}
