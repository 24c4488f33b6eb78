//! Refuses names that others gave this machine.
//!
//! A page in a browser may let a name of its own lead to 127.0.0.1 (DNS rebinding). For the browser, the server is
//! then of the page's origin, and no rule on origins holds. So a server that listens on this machine alone, and asks
//! for no key, answers to its own names only.

use axum::extract::{Request, State};
use axum::http::header::{HOST, HeaderValue};
use axum::http::uri::Authority;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::app::SharedApp;
use crate::error::ApiError;

/// Lets those through who call the server by a name that is its own.
pub async fn check(State(app): State<SharedApp>, request: Request, next: Next) -> Response {
    let named = request.uri().authority().map(Authority::as_str);
    let header = request.headers().get(HOST).map(HeaderValue::as_bytes);
    let name = named.map(str::as_bytes).or(header).unwrap_or_default();
    if app.only_own_names && !is_own(name) {
        return ApiError::foreign_name(&String::from_utf8_lossy(name)).into_response();
    }
    next.run(request).await
}

/// Whether `host` is an address, or a name that every system keeps for itself (RFC 6761).
fn is_own(host: &[u8]) -> bool {
    let Ok(authority) = Authority::try_from(host) else { return false };
    let name = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
    name.parse::<std::net::IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_are_own() {
        for own in
            ["127.0.0.1:8080", "127.0.0.1", "[::1]:80", "localhost", "LOCALHOST:8080", "chat.localhost"]
        {
            assert!(is_own(own.as_bytes()), "{own}");
        }
        for foreign in
            ["", "example.org", "localhost.example.org", "127.0.0.1.nip.io:80", "a b", "user@", "::1"]
        {
            assert!(!is_own(foreign.as_bytes()), "{foreign}");
        }
    }
}
