//! Requests to the management interface, and what its answers mean.

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ManagementError;

/// How long one request may take. Quorum queues are made by their members together.
const REQUEST_DURATION_MAX: Duration = Duration::from_secs(15);

/// Characters of an unexpected answer that are shown.
const ANSWER_CHARS_MAX: usize = 300;

/// A client of one management interface.
#[derive(Debug)]
pub(super) struct Http {
    client: Client,
    base: Url,
    user: String,
    password: String,
}

impl Http {
    pub(super) fn new(url: &str) -> Result<Self, ManagementError> {
        let address = |reason: String| ManagementError::Address { reason };
        let mut base = Url::parse(url).map_err(|error| address(error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(address(format!("its scheme is `{}`", base.scheme())));
        }
        let decode = |text: &str| percent_decoded(text);
        let user = decode(base.username());
        let password = decode(base.password().unwrap_or_default());
        // From here on the address can be shown.
        let stripped = base.set_password(None).and_then(|()| base.set_username(""));
        stripped.map_err(|()| address("it has no host".to_owned()))?;
        base.set_query(None);
        let client = Client::builder()
            .timeout(REQUEST_DURATION_MAX)
            // It is a server of ours, not of the world.
            .no_proxy()
            .build()
            .map_err(|error| address(error.to_string()))?;
        Ok(Self {
            client,
            base,
            user,
            password,
        })
    }

    pub(super) fn user(&self) -> &str {
        &self.user
    }

    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        path: &[&str],
    ) -> Result<T, ManagementError> {
        let doing = format!("read {}", path.join("/"));
        let response = self.send(self.request(Method::GET, path), &doing).await?;
        response
            .json()
            .await
            .map_err(|error| ManagementError::Answer {
                doing,
                answer: error.to_string(),
            })
    }

    /// Asks for a health check: `None` when all is well, else what it says.
    pub(super) async fn trouble(&self, path: &[&str]) -> Result<Option<String>, ManagementError> {
        match self.read::<Value>(path).await {
            Ok(_) => Ok(None),
            Err(ManagementError::Answer { answer, .. }) => Ok(Some(answer)),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn put(
        &self,
        path: &[&str],
        body: &Value,
        doing: &str,
    ) -> Result<(), ManagementError> {
        let request = self.request(Method::PUT, path).json(body);
        self.send(request, doing).await.map(drop)
    }

    pub(super) async fn post(
        &self,
        path: &[&str],
        body: &Value,
        doing: &str,
    ) -> Result<(), ManagementError> {
        let request = self.request(Method::POST, path).json(body);
        self.send(request, doing).await.map(drop)
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            // Names may hold anything: each is one segment, encoded.
            segments.pop_if_empty().push("api").extend(path);
        }
        let request = self.client.request(method, url);
        request.basic_auth(&self.user, Some(&self.password))
    }

    async fn send(
        &self,
        request: RequestBuilder,
        doing: &str,
    ) -> Result<Response, ManagementError> {
        let response = request.send().await;
        let response = response.map_err(|error| ManagementError::Unreachable {
            url: self.base.to_string(),
            reason: cause(&error),
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let answer = response.text().await.unwrap_or_default();
        Err(match status {
            StatusCode::UNAUTHORIZED
                if answer.contains("not_authorised") && !answer.contains("Login") =>
            {
                ManagementError::Denied {
                    user: self.user.clone(),
                    doing: doing.to_owned(),
                }
            }
            StatusCode::UNAUTHORIZED => ManagementError::Login {
                user: self.user.clone(),
            },
            StatusCode::FORBIDDEN => ManagementError::Denied {
                user: self.user.clone(),
                doing: doing.to_owned(),
            },
            _ => ManagementError::Answer {
                doing: doing.to_owned(),
                answer: format!("{status}: {}", words(&answer)),
            },
        })
    }
}

/// The reason that an answer gives, or its first characters.
fn words(answer: &str) -> String {
    let said: Option<Value> = serde_json::from_str(answer).ok();
    let reason = said.as_ref().and_then(|said| said["reason"].as_str());
    let shown = reason.unwrap_or(answer);
    shown.chars().take(ANSWER_CHARS_MAX).collect()
}

/// The innermost cause: the outer ones only say that a request was sent.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after
            .get(..2)
            .and_then(|code| std::str::from_utf8(code).ok());
        let code = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        if let Some(byte) = code.filter(|_| *first == b'%') {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_split_into_what_may_be_shown_and_what_not() {
        super::super::super::install_tls();
        let http = Http::new("http://me:a%40b%@host:15672/").unwrap();
        assert_eq!((http.user(), http.password.as_str()), ("me", "a@b%"));
        assert_eq!(http.base.as_str(), "http://host:15672/");
        let request = http.request(Method::GET, &["queues", "/"]).build().unwrap();
        assert_eq!(request.url().path(), "/api/queues/%2F");
        assert!(matches!(
            Http::new("amqp://h"),
            Err(ManagementError::Address { .. })
        ));
    }
}
