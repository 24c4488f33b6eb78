//! Single requests to a hub.
//!
//! Redirects are followed here and not by the HTTP library: what the hub says of a file stands in the
//! answer that redirects to the file's store, and the token is for the hub alone.

use std::time::Duration;

use ureq::http::header::{ACCEPT_ENCODING, AUTHORIZATION, LOCATION, RANGE};
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::{Agent, Body};

use super::cache::is_commit;
use super::{HubError, HubSettings, RepoId};

const MAX_REDIRECTS: usize = 10;
/// A hub's list of a repository's files is shorter.
const MAX_JSON_BYTES: u64 = 256 << 20;

/// Speaks to one hub.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
    settings: HubSettings,
}

/// What a hub says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFacts {
    /// Its hash, cleaned of quotes: a name that is safe to give to a file.
    pub etag: String,
    /// Its length, where the hub says it.
    pub size_bytes: Option<u64>,
    /// The commit that the answer is for.
    pub commit: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Get,
    Head,
}

impl Client {
    pub fn new(settings: HubSettings) -> Self {
        let config = Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .user_agent(concat!("smelt/", env!("CARGO_PKG_VERSION")));
        Self { agent: config.build().into(), settings }
    }

    pub fn settings(&self) -> &HubSettings {
        &self.settings
    }

    /// The hub's description of a repository, as JSON.
    pub fn describe(&self, repo: &RepoId) -> Result<serde_json::Value, HubError> {
        let (kind, revision) = (repo.kind.api_name(), escaped(repo.revision()).replace('/', "%2F"));
        let url = format!("{}/api/{kind}/{}/revision/{revision}", self.settings.endpoint, repo.name());
        let what = repo.to_string();
        let mut answer = self.follow(Method::Get, &url, None, Redirects::All, &what)?;
        self.expect_success(&answer, &what)?;
        let limited = answer.body_mut().with_config().limit(MAX_JSON_BYTES).read_to_vec();
        let json = limited.map_err(|source| connection(&url, source))?;
        serde_json::from_slice(&json)
            .map_err(|error| HubError::BadAnswer { what, reason: format!("not JSON: {error}") })
    }

    /// Address of a file.
    pub fn file_url(&self, repo: &RepoId, commit: &str, file: &str) -> String {
        let prefix = match repo.kind {
            super::RepoKind::Model => "",
            super::RepoKind::Dataset => "datasets/",
        };
        format!("{}/{prefix}{}/resolve/{commit}/{}", self.settings.endpoint, repo.name(), escaped(file))
    }

    /// What the hub says of the file at `url`.
    pub fn facts(&self, url: &str, what: &str) -> Result<FileFacts, HubError> {
        let mut answer = self.follow(Method::Head, url, None, Redirects::SameHost, what)?;
        if matches!(answer.status(), StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED) {
            answer =
                self.follow(Method::Get, url, Some("bytes=0-0".to_owned()), Redirects::SameHost, what)?;
        }
        // An empty file has no first byte to ask for.
        if !answer.status().is_redirection() && answer.status() != StatusCode::RANGE_NOT_SATISFIABLE {
            self.expect_success(&answer, what)?;
        }
        let headers = answer.headers();
        let bad = |reason: String| HubError::BadAnswer { what: what.to_owned(), reason };
        let etag = text(headers, "x-linked-etag").or_else(|| text(headers, "etag"));
        let etag = etag.ok_or_else(|| bad("expected an `ETag`, found none".to_owned()))?;
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
        let is_plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_');
        if !(1..=128).contains(&etag.len()) || !etag.chars().all(is_plain) {
            return Err(bad(format!("expected a hash as `ETag`, found `{}`", etag.escape_debug())));
        }
        let linked = text(headers, "x-linked-size").or_else(|| total_of_range(headers));
        let own = || text(headers, "content-length").filter(|_| answer.status() == StatusCode::OK);
        let size_bytes = linked.or_else(own).and_then(|size| size.parse().ok());
        let commit = text(headers, "x-repo-commit").filter(|commit| is_commit(commit));
        Ok(FileFacts { etag, size_bytes, commit })
    }

    /// The content at `url` from byte `from` on, whatever the status.
    pub fn open(&self, url: &str, from: u64, what: &str) -> Result<Response<Body>, HubError> {
        let range = (from > 0).then(|| format!("bytes={from}-"));
        self.follow(Method::Get, url, range, Redirects::All, what)
    }

    /// # Errors
    /// [`HubError`] that says what a status other than success means.
    pub fn expect_success(&self, answer: &Response<Body>, what: &str) -> Result<(), HubError> {
        let what = what.to_owned();
        match answer.status() {
            status if status.is_success() => Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let reason = text(answer.headers(), "x-error-message");
                Err(HubError::Denied { what, reason, has_token: self.settings.token.is_some() })
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(HubError::NotFound { what }),
            status => Err(HubError::Status { what, status: status.as_u16() }),
        }
    }

    fn follow(
        &self,
        method: Method,
        url: &str,
        range: Option<String>,
        redirects: Redirects,
        what: &str,
    ) -> Result<Response<Body>, HubError> {
        let mut url = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.send(method, &url, range.as_deref())?;
            if !answer.status().is_redirection() {
                return Ok(answer);
            }
            let bad = |reason: String| HubError::BadAnswer { what: what.to_owned(), reason };
            let location = text(answer.headers(), LOCATION.as_str())
                .ok_or_else(|| bad(format!("{} without a `Location`", answer.status().as_u16())))?;
            let next = join(&url, &location).ok_or_else(|| bad(format!("it redirects to `{location}`")))?;
            if redirects == Redirects::SameHost && origin(&next) != origin(&url) {
                return Ok(answer);
            }
            url = next;
        }
        Err(HubError::BadAnswer { what: what.to_owned(), reason: "it redirects without end".to_owned() })
    }

    fn send(&self, method: Method, url: &str, range: Option<&str>) -> Result<Response<Body>, HubError> {
        let mut request = match method {
            Method::Get => self.agent.get(url),
            Method::Head => self.agent.head(url),
        };
        // Offsets count bytes of the content as it is.
        request = request.header(ACCEPT_ENCODING, "identity");
        if let Some(range) = range {
            request = request.header(RANGE, range);
        }
        if let Some(token) = &self.settings.token
            && origin(url) == origin(&self.settings.endpoint)
        {
            request = request.header(AUTHORIZATION, token.header());
        }
        request.call().map_err(|source| connection(url, source))
    }
}

/// Which redirects to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Redirects {
    All,
    /// Those within a host, as for a repository that was renamed.
    SameHost,
}

fn connection(url: &str, source: ureq::Error) -> HubError {
    HubError::Connection { url: url.to_owned(), source: Box::new(source) }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.trim().to_owned())
}

/// The length of the whole in `Content-Range: bytes 0-0/123`.
fn total_of_range(headers: &HeaderMap) -> Option<String> {
    Some(text(headers, "content-range")?.rsplit_once('/')?.1.to_owned())
}

/// The first byte in `Content-Range: bytes 10-99/100`.
pub fn start_of_range(headers: &HeaderMap) -> Option<u64> {
    let range = text(headers, "content-range")?;
    range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

/// Scheme and host of an address.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find(['/', '?', '#']).map_or(url.len(), |at| host + at);
    &url[..end]
}

/// The address that `location` means in an answer from `url`; none if it leaves HTTP, or HTTPS for HTTP.
fn join(url: &str, location: &str) -> Option<String> {
    let next = if location.starts_with("//") {
        format!("{}:{location}", url.split_once(':')?.0)
    } else if location.starts_with('/') {
        format!("{}{location}", origin(url))
    } else {
        location.to_owned()
    };
    let is_safe = next.starts_with("https://") || next.starts_with("http://") && url.starts_with("http://");
    is_safe.then_some(next)
}

/// `path` with everything escaped that has a meaning in an address, but for `/`.
fn escaped(path: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte);
    path.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_taken_relative_to_their_answer() {
        let from = "https://hub/a/b?c";
        assert_eq!(join(from, "/x").as_deref(), Some("https://hub/x"));
        assert_eq!(join(from, "https://store/x").as_deref(), Some("https://store/x"));
        assert_eq!(join(from, "//store/x").as_deref(), Some("https://store/x"));
        assert_eq!(join(from, "http://store/x"), None);
        assert_eq!(join(from, "file:///etc/passwd"), None);
        assert_eq!(join("http://hub/a", "http://store/x").as_deref(), Some("http://store/x"));
    }

    #[test]
    fn a_token_belongs_to_scheme_and_host() {
        assert_eq!(origin("https://hub:80/a?b"), "https://hub:80");
        assert_eq!(origin("https://hub"), "https://hub");
        assert_ne!(origin("https://hub.evil/x"), origin("https://hub/x"));
        assert_ne!(origin("https://hub@evil/x"), origin("https://hub/x"));
    }

    #[test]
    fn names_are_escaped() {
        assert_eq!(escaped("data/a b#1?.parquet"), "data/a%20b%231%3F.parquet");
        assert_eq!(escaped("é"), "%C3%A9");
    }
}
