//! Requests that a page of another site makes a browser send: they change nothing here.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Problem;

/// Where a browser says that a request came from. Pages cannot set it, and other programs do not send it.
const FETCH_SITE: &str = "sec-fetch-site";

/// Hands a request on unless it would change something and a page of another site had it sent.
///
/// Source: <https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header>.
pub(super) async fn check(request: Request, next: Next) -> Response {
    if is_foreign(request.method(), request.headers()) {
        return Problem::new(
            StatusCode::FORBIDDEN,
            "a page of another site had a browser send this request",
        )
        .with_hint("call from a server of yours, or serve the page from the address of this API")
        .into_response();
    }
    next.run(request).await
}

fn is_foreign(method: &Method, headers: &HeaderMap) -> bool {
    let site = headers.get(FETCH_SITE).map(HeaderValue::as_bytes);
    !method.is_safe() && !matches!(site, None | Some(b"same-origin" | b"none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_other_sites_changes_are_foreign() {
        let from = |site: &'static str| {
            HeaderMap::from_iter([(FETCH_SITE.parse().unwrap(), HeaderValue::from_static(site))])
        };
        for (method, headers, expected) in [
            (Method::POST, HeaderMap::new(), false),
            (Method::POST, from("same-origin"), false),
            (Method::POST, from("none"), false),
            (Method::POST, from("same-site"), true),
            (Method::DELETE, from("cross-site"), true),
            (Method::GET, from("cross-site"), false),
        ] {
            assert_eq!(
                is_foreign(&method, &headers),
                expected,
                "{method} {headers:?}"
            );
        }
    }
}
