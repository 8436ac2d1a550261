//! Hosts, answers and tokens, as tables.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::Url;
use serde_json::{Value, json};

use super::answer::{HttpOutput, pause};
use super::{CallbackToken, Hosts};
use crate::domain::{Payload, Step, StepKind, StepName, StepOutcome, StepProgress, Verdict};

#[test]
fn a_host_is_allowed_by_name_port_and_domain() {
    let check = |rules: &str, url: &str, expected: bool| {
        let hosts = Hosts::new(rules.split_whitespace()).unwrap();
        let url = Url::parse(url).unwrap();
        assert_eq!(hosts.allows(&url), expected, "{rules}: {url}");
    };
    check("", "http://a.example", false);
    check("a.example", "http://A.Example.:8080/x", true);
    check("a.example", "http://b.a.example", false);
    check("A.EXAMPLE:8443", "https://a.example:8443", true);
    check("a.example:443", "https://a.example", true);
    check("a.example:443", "http://a.example", false);
    check("*.example", "https://a.b.example", true);
    check("*.example", "https://example", false);
    check("*.example", "https://aexample", false);
    check("*", "https://anything", true);
    check("127.0.0.1:80", "http://127.0.0.1", true);
    check("[::1]:80 x", "http://[::1]/", true);
    check("a.example", "http://a.example@b.example/", false);
}

#[test]
fn what_is_no_host_says_what_one_is() {
    for wrong in [
        "http://a", "a/b", "a:port", "a:99999", "u@a", "*.*", "a*b", "",
    ] {
        let error = Hosts::new([wrong]).unwrap_err();
        assert!(error.contains("it names hosts such as"), "{wrong}: {error}");
    }
    let hosts = Hosts::new(["A.example:1", "*.b", "*"]).unwrap();
    assert_eq!(hosts.to_string(), "a.example:1,*.b,*");
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let now: Timestamp = "2026-11-22T01:00:00Z".parse().unwrap();
    let read = |text: &str| pause(text, now).map(|pause| pause.as_secs());
    assert_eq!(read("120"), Some(120));
    assert_eq!(read("Sun, 22 Nov 2026 01:00:30 GMT"), Some(30));
    assert_eq!(read("Sun, 22 Nov 2026 00:00:00 GMT"), Some(0));
    assert_eq!(read("soon"), None);
    assert_eq!(read("-1"), None);
}

#[test]
fn a_status_is_success_or_tried_again_or_neither() {
    let answer = |status: u16, headers: &[(&str, &str)]| HttpOutput {
        status,
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        body: json!({"why": "x"}),
        is_cut: false,
    };
    let judged = |answer: HttpOutput, expect: Option<&[u16]>| {
        answer.judged("`GET` to `a`", expect, Timestamp::UNIX_EPOCH)
    };
    let retry = |after: Option<u64>| Verdict::Retry {
        after: after.map(Duration::from_secs),
    };
    assert!(judged(answer(204, &[]), None).is_ok());
    assert!(judged(answer(404, &[]), Some(&[404])).is_ok());
    for status in [408, 425, 429, 500, 503] {
        let failure = judged(answer(status, &[]), None).unwrap_err();
        assert_eq!(failure.verdict, retry(None), "{status}");
    }
    let failure = judged(answer(429, &[("retry-after", "7")]), None).unwrap_err();
    assert_eq!(failure.verdict, retry(Some(7)));
    let failure = judged(answer(404, &[("retry-after", "7")]), None).unwrap_err();
    assert_eq!(failure.verdict, Verdict::Fatal);
    assert_eq!(
        failure.message,
        "`GET` to `a` was answered with 404 Not Found"
    );
    let detail: Value = failure.detail.unwrap().decode().unwrap();
    assert_eq!(
        (&detail["status"], &detail["body"]),
        (&json!(404), &json!({"why": "x"}))
    );
    assert_eq!(
        judged(answer(200, &[]), Some(&[201])).unwrap_err().verdict,
        Verdict::Fatal
    );
    let failure = judged(answer(302, &[]), None).unwrap_err();
    assert!(
        failure.message.contains("it leads to another host"),
        "{}",
        failure.message
    );
}

#[test]
fn the_name_of_a_signal_does_not_tell_the_token_and_only_the_right_one_is_asked_for() {
    let token = CallbackToken::new(7);
    let signal = token.signal().unwrap();
    assert!(!signal.as_str().contains(token.expose()));
    assert_eq!(signal.as_str().len(), "callback.".len() + 32);
    let step = |name: &str, outcome: StepOutcome| Step {
        name: StepName::new(name).unwrap(),
        kind: StepKind::Step,
        progress: StepProgress::Ended { place: 1, outcome },
    };
    let stored = StepOutcome::Done(Payload::of(token.expose()).unwrap());
    let steps = [step("callback", stored.clone())];
    assert!(token.is_asked_for(&steps));
    assert!(!CallbackToken::new(8).is_asked_for(&steps));
    assert!(!token.is_asked_for(&[step("other", stored)]));
    assert!(!token.is_taken(&steps));
    assert_eq!(format!("{token:?}"), "CallbackToken(***)");
}
