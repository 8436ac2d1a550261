//! `http`: calls a URL with JSON, and may wait until the other side answers later.

mod answer;
mod callback;
mod hosts;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Url};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use answer::{BODY_BYTES_MAX, HttpOutput};
pub use callback::CallbackToken;
pub use hosts::Hosts;

use super::{duration, stopped};
use crate::action::{Action, Context};
use crate::clock::Clock;
use crate::domain::limits::DURATION_MAX;
use crate::domain::{Failure, Payload, TaskId};

/// How long a request may take when its input does not say: 30 s.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// How long a request may take at most: an hour. What takes longer answers by a callback.
const TIMEOUT_MAX: Duration = Duration::from_hours(1);

/// How long a connection may take to be made: 10 s.
const CONNECT_DURATION_MAX: Duration = Duration::from_secs(10);

/// How long a callback is waited for when the input does not say: an hour.
const CALLBACK_TIMEOUT_DEFAULT: f64 = 3600.0;

/// Redirects that one request follows.
const REDIRECTS_MAX: usize = 10;

/// What stands for the address of the callback in headers and body.
const PLACEHOLDER: &str = "{callback}";

/// The header that has the address of the callback.
const CALLBACK_HEADER: &str = "longshore-callback";

/// The header that is the same in each attempt of a task.
const KEY_HEADER: &str = "idempotency-key";

/// The settings, as an operator writes them.
const HOSTS_SETTING: &str = "`executor.http_hosts`";
const CALLBACK_SETTING: &str = "`http.callback_url`";

/// What the action `http` may do.
#[derive(Debug, Clone, Default)]
pub struct HttpRights {
    /// The hosts that it may call.
    pub hosts: Hosts,
    /// The address of the web servers, as other sides see it; without it there are no callbacks.
    pub callback_url: Option<String>,
}

/// `http`: calls a URL with JSON. The request is a stored step: once it was answered no crash repeats it, and before that
/// each attempt sends the same `Idempotency-Key`, the task's id.
///
/// With `callback` the request carries an address, in the header `Longshore-Callback` and in place of `{callback}` in headers
/// and body; the task then waits without a slot until somebody posts there, and returns what was posted.
#[derive(Clone)]
pub struct Http {
    clock: Arc<dyn Clock>,
    rights: HttpRights,
    client: Arc<OnceLock<Client>>,
}

/// What to call: `{"url": "https://api.example/orders", "body": {"order": 7}}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpInput {
    /// An address that begins with `http://` or `https://`.
    pub url: String,
    /// The method; `POST` when there is a body, `GET` otherwise.
    #[serde(default)]
    pub method: Option<String>,
    /// Headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body: sent as JSON; a text is sent as it is when a header `Content-Type` says that it is something else.
    #[serde(default, deserialize_with = "present")]
    pub body: Option<Value>,
    /// Unit: seconds; how long the request may take; 30 when absent.
    #[serde(default)]
    pub timeout: Option<f64>,
    /// The statuses that are success; 200 to 299 when absent.
    #[serde(default)]
    pub expect: Option<Vec<u16>>,
    /// Whether the other side answers later.
    #[serde(default)]
    pub callback: Option<CallbackInput>,
}

/// How long an answer is waited for: `{"timeout": 3600}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallbackInput {
    /// Unit: seconds; an hour when absent.
    #[serde(default = "callback_timeout")]
    pub timeout: f64,
}

/// What the action returns: the answer, or with a callback its body.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum HttpResult {
    /// The answer to the request.
    Answer(HttpOutput),
    /// What was posted later.
    Callback(Value),
}

/// A request that may be made.
struct Request {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
    timeout: Duration,
    expect: Option<Vec<u16>>,
    /// For people: `POST` to `api.example`.
    what: String,
}

impl Http {
    /// The action, which takes its time from `clock` and may do what `rights` say.
    pub fn new(clock: Arc<dyn Clock>, rights: HttpRights) -> Self {
        Self {
            clock,
            rights,
            client: Arc::default(),
        }
    }

    fn client(&self) -> Result<&Client, Failure> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        // An error says that somebody was first, and that is as well.
        drop(rustls::crypto::ring::default_provider().install_default());
        let hosts = self.rights.hosts.clone();
        let policy = Policy::custom(move |attempt| {
            if attempt.previous().len() > REDIRECTS_MAX {
                attempt.error("it redirects too often")
            } else if hosts.allows(attempt.url())
                && is_same_place(attempt.previous(), attempt.url())
            {
                attempt.follow()
            } else {
                attempt.stop() // The redirect is the answer.
            }
        });
        let client = Client::builder()
            .redirect(policy)
            .connect_timeout(CONNECT_DURATION_MAX)
            // Which hosts are called is the operator's word, and a proxy would be another.
            .no_proxy()
            .user_agent(concat!("longshore/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(self.client.get_or_init(|| client))
    }

    /// The address that `text` is, if it may be called.
    fn url(&self, text: &str) -> Result<Url, Failure> {
        let url = Url::parse(text)
            .map_err(|error| Failure::fatal(format_args!("`url` is no address: {error}")))?;
        if !["http", "https"].contains(&url.scheme()) {
            let scheme = url.scheme();
            return Err(Failure::fatal(format_args!(
                "`url` begins with `http://` or `https://`, not with `{scheme}:`"
            )));
        }
        if self.rights.hosts.is_empty() {
            return Err(Failure::fatal(format_args!(
                "this executor calls no hosts; the setting {HOSTS_SETTING} says which it may, not `{}`",
                host(&url)
            )));
        }
        if !self.rights.hosts.allows(&url) {
            return Err(Failure::fatal(format_args!(
                "this executor may not call it; the setting {HOSTS_SETTING} names what it may: `{}`",
                host(&url)
            )));
        }
        Ok(url)
    }

    /// The request that `input` describes; `callback` is the address that it carries.
    fn request(
        &self,
        input: &HttpInput,
        task: TaskId,
        callback: Option<&str>,
    ) -> Result<Request, Failure> {
        let url = self.url(&input.url)?;
        let method = match (&input.method, &input.body) {
            (Some(method), _) => method.to_ascii_uppercase().parse().map_err(|_| {
                Failure::fatal(format_args!("`method` is no method of HTTP: `{method}`"))
            })?,
            (None, Some(_)) => Method::POST,
            (None, None) => Method::GET,
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &input.headers {
            let value = filled(value, callback);
            headers.insert(header_name(name)?, header_value(name, &value)?);
        }
        if let Some(address) = callback {
            let value = header_value(CALLBACK_HEADER, address)?;
            headers.insert(HeaderName::from_static(CALLBACK_HEADER), value);
        }
        if !method.is_safe() && !headers.contains_key(KEY_HEADER) {
            let value = header_value(KEY_HEADER, &task.to_string())?;
            headers.insert(HeaderName::from_static(KEY_HEADER), value);
        }
        let body = body(input.body.as_ref(), callback, &mut headers)?;
        let timeout = match input.timeout {
            Some(seconds) => duration("timeout", seconds, TIMEOUT_MAX)?,
            None => TIMEOUT_DEFAULT,
        };
        Ok(Request {
            what: format!("`{method}` to `{}`", host(&url)),
            method,
            url,
            headers,
            body,
            timeout,
            expect: input.expect.clone(),
        })
    }

    async fn send(&self, request: Request) -> Result<HttpOutput, Failure> {
        let Request {
            what,
            method,
            url,
            headers,
            body,
            timeout,
            expect,
        } = request;
        let builder = self.client()?.request(method, url);
        let mut builder = builder.headers(headers).timeout(timeout);
        if let Some(body) = body {
            builder = builder.body(body);
        }
        let answered = async { HttpOutput::of(builder.send().await?).await };
        let answer = answered.await.map_err(|error| {
            let never = error.is_builder() || error.is_redirect();
            // Without the address, which may hold a secret.
            let cause = Failure::from(error.without_url()).message;
            let message = format!("{what} was not answered: {cause}");
            if never {
                Failure::fatal(message)
            } else {
                Failure::retry(message)
            }
        })?;
        answer.judged(&what, expect.as_deref(), self.clock.now())
    }

    /// The token of the callback, the same in each attempt.
    async fn token(&self, context: &Context) -> Result<CallbackToken, Failure> {
        let random = self.clock.random();
        let token: String = context
            .step(CallbackToken::step(), || async move {
                Ok(CallbackToken::new(random).expose().to_owned())
            })
            .await?;
        Ok(CallbackToken::given(&token))
    }
}

impl Action for Http {
    const NAME: &'static str = "http";
    type Input = HttpInput;
    type Output = HttpResult;

    async fn run(&self, context: Context, input: HttpInput) -> Result<HttpResult, Failure> {
        let task = context.task().id;
        // What is wrong with the input is said before anything is stored.
        self.request(&input, task, None)?;
        let Some(callback) = &input.callback else {
            let request = self.request(&input, task, None)?;
            return Ok(HttpResult::Answer(self.sent(&context, request).await?));
        };
        let limit = duration("callback.timeout", callback.timeout, DURATION_MAX)?;
        let Some(base) = &self.rights.callback_url else {
            return Err(Failure::fatal(format_args!(
                "this executor knows no address for callbacks; the setting {CALLBACK_SETTING} says where the web servers are"
            )));
        };
        let token = self.token(&context).await?;
        let address = token.address(base, task);
        let request = self.request(&input, task, Some(&address))?;
        self.sent(&context, request).await?;
        let signal = token.signal()?;
        let answer = context.wait_for_within::<Value>(signal.as_str(), limit);
        match answer.await? {
            Some(body) => Ok(HttpResult::Callback(body)),
            None => Err(Failure::fatal(format_args!(
                "nobody called back within {} seconds",
                callback.timeout
            ))),
        }
    }
}

impl Http {
    /// Sends the request once, and stores what was answered.
    async fn sent(&self, context: &Context, request: Request) -> Result<HttpOutput, Failure> {
        let what = request.what.clone();
        let limits = context.payload_limits();
        let send = || async move {
            tokio::select! {
                biased;
                answer = self.send(request) => answer.map(|answer| answer.fitted(limits)),
                stop = context.stopped() => Err(stopped(&what, &stop)),
            }
        };
        context.step("request", send).await
    }
}

/// Whether a redirect stays where the request went: its headers go along, the token of a callback among them, and are not for
/// anybody else.
fn is_same_place(previous: &[Url], next: &Url) -> bool {
    let is_same = |first: &Url| {
        let (from, to) = (first.scheme(), next.scheme());
        // A server may ask for TLS, and not for doing without.
        let is_kept = from == to && first.port_or_known_default() == next.port_or_known_default();
        let is_raised = from == "http" && to == "https";
        first.host() == next.host() && (is_kept || is_raised)
    };
    previous.first().is_some_and(is_same)
}

fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn header_name(name: &str) -> Result<HeaderName, Failure> {
    name.parse()
        .map_err(|_| Failure::fatal(format_args!("`headers` has no name of a header: `{name}`")))
}

fn header_value(name: &str, value: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(value).map_err(|_| {
        Failure::fatal(format_args!(
            "`headers.{name}` holds characters that a header cannot have"
        ))
    })
}

/// The body as it is sent.
fn body(
    body: Option<&Value>,
    callback: Option<&str>,
    headers: &mut HeaderMap,
) -> Result<Option<Vec<u8>>, Failure> {
    let Some(body) = body else {
        return Ok(None);
    };
    let body = filled_all(body, callback);
    let given = headers.get(CONTENT_TYPE).cloned();
    let is_json = given
        .as_ref()
        .is_none_or(|given| given.to_str().is_ok_and(|given| given.contains("json")));
    if given.is_none() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    match (body, is_json) {
        (Value::String(text), false) => Ok(Some(text.into_bytes())),
        (value, _) => Ok(Some(Payload::of(&value)?.as_str().as_bytes().to_vec())),
    }
}

fn filled(text: &str, callback: Option<&str>) -> String {
    match callback {
        Some(address) => text.replace(PLACEHOLDER, address),
        None => text.to_owned(),
    }
}

/// The same with each text of it filled in.
fn filled_all(value: &Value, callback: Option<&str>) -> Value {
    match value {
        Value::String(text) => Value::String(filled(text, callback)),
        Value::Array(list) => list.iter().map(|one| filled_all(one, callback)).collect(),
        Value::Object(map) => map
            .iter()
            .map(|(key, one)| (key.clone(), filled_all(one, callback)))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// A body of `null` is one, too.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

const fn callback_timeout() -> f64 {
    CALLBACK_TIMEOUT_DEFAULT
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("rights", &self.rights)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
