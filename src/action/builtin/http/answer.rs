//! What the other side said, and what follows from it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::domain::limits::DURATION_MAX;
use crate::domain::{Failure, Payload, PayloadLimits};

/// Bytes of an answer's body that are kept: 256 KiB. Larger data belongs into an object store.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// Bytes of the body that a failure shows: 4 KiB.
const DETAIL_BYTES_MAX: usize = 4 * 1024;

/// The headers that the output has, where the answer has them.
const HEADERS: [&str; 6] = [
    "content-type",
    "etag",
    "last-modified",
    "location",
    "retry-after",
    "x-request-id",
];

/// What was answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HttpOutput {
    /// The status.
    pub status: u16,
    /// Some of the headers, by their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body: JSON as such, anything else as text; null when there is none.
    pub body: Value,
    /// Whether the body was longer than [`BODY_BYTES_MAX`], or than an output may be: then it is the beginning, as text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_cut: bool,
}

impl HttpOutput {
    /// Reads `response` to its end, or as far as is kept.
    pub(super) async fn of(mut response: Response) -> Result<Self, reqwest::Error> {
        let status = response.status().as_u16();
        let headers = some_of(response.headers());
        let (mut bytes, mut is_cut) = (Vec::new(), false);
        while let Some(chunk) = response.chunk().await? {
            let room = BODY_BYTES_MAX - bytes.len();
            bytes.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
            if chunk.len() > room {
                is_cut = true;
                break;
            }
        }
        Ok(Self {
            status,
            headers,
            body: body(&bytes, is_cut),
            is_cut,
        })
    }

    /// The same, cut until it can be stored within `limits`: the request was made, and is not made again for what it brought.
    pub(super) fn fitted(mut self, limits: PayloadLimits) -> Self {
        let fits = |output: &Self| {
            let payload = Payload::of(output);
            payload.and_then(|payload| payload.within(limits)).is_ok()
        };
        if fits(&self) {
            return self;
        }
        let text = match self.body.as_str() {
            Some(text) => text.to_owned(),
            None => self.body.to_string(),
        };
        self.is_cut = true;
        let mut room = text.len().min(limits.bytes_max);
        while room > 0 {
            self.body = Value::String(text[..text.floor_char_boundary(room)].to_owned());
            if fits(&self) {
                return self;
            }
            room /= 2;
        }
        self.body = Value::Null;
        self.headers.clear();
        self
    }

    /// What follows: `expect` are the statuses that are success, 200 to 299 when it is absent.
    pub(super) fn judged(
        self,
        what: &str,
        expect: Option<&[u16]>,
        now: Timestamp,
    ) -> Result<Self, Failure> {
        let status = StatusCode::from_u16(self.status).unwrap_or_default();
        let is_success = match expect {
            Some(expect) => expect.contains(&self.status),
            None => status.is_success(),
        };
        if is_success {
            return Ok(self);
        }
        let reason = status.canonical_reason().unwrap_or_default();
        let message = format!("{what} was answered with {} {reason}", self.status);
        let message = message.trim_end();
        let may_pass = status.is_server_error() || [408, 425, 429].contains(&self.status);
        let failure = match (status.is_redirection(), may_pass) {
            (true, _) => Failure::fatal(format_args!(
                "{message}: it leads to another host, where the headers must not go, or to none; call that one itself"
            )),
            (false, true) => Failure::retry(message),
            (false, false) => Failure::fatal(message),
        };
        let failure = failure.with_detail(&self.detail());
        Err(match self.headers.get(RETRY_AFTER.as_str()) {
            Some(text) if may_pass => match pause(text, now) {
                Some(pause) => failure.retry_after(pause),
                None => failure,
            },
            _ => failure,
        })
    }

    /// For people who look at the failure.
    fn detail(&self) -> Value {
        let text = match self.body.as_str() {
            Some(text) => text.to_owned(),
            None => self.body.to_string(),
        };
        let body = if text.len() > DETAIL_BYTES_MAX {
            let end = text.floor_char_boundary(DETAIL_BYTES_MAX);
            Value::String(text[..end].to_owned())
        } else {
            self.body.clone()
        };
        json!({"status": self.status, "headers": self.headers, "body": body})
    }
}

fn some_of(headers: &HeaderMap) -> BTreeMap<String, String> {
    let found = HEADERS.iter().filter_map(|name| {
        let value = headers.get(*name)?.to_str().ok()?;
        Some(((*name).to_owned(), value.to_owned()))
    });
    found.collect()
}

/// The body as a payload can hold it.
fn body(bytes: &[u8], is_cut: bool) -> Value {
    if bytes.is_empty() {
        return Value::Null;
    }
    if !is_cut
        && let Ok(value) = serde_json::from_slice::<Value>(bytes)
        && Payload::of(&value).is_ok()
    {
        return value;
    }
    Value::String(String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}"))
}

/// What `Retry-After` says: seconds, or a date.
///
/// Source: RFC 9110, section 10.2.3.
pub(super) fn pause(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let pause = if let Ok(seconds) = text.parse() {
        Duration::from_secs(seconds)
    } else {
        let until = DateTimeParser::new().parse_timestamp(text).ok()?;
        // What has passed may be tried at once.
        Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO)
    };
    Some(pause.min(DURATION_MAX))
}
