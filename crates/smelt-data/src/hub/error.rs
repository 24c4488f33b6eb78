//! What can go wrong between a hub and the cache.

use std::io;
use std::path::PathBuf;

use super::RepoId;

/// Failure to find, download or open a repository.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The name of a repository cannot be one.
    #[error("`{text}` is no hub id: {reason}")]
    BadId {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A setting cannot be.
    #[error("`{name}` is `{value}`, expected {expected}")]
    BadSetting {
        /// The environment variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// The hub does not answer.
    #[error("cannot reach `{url}`")]
    Connection {
        /// What was asked for.
        url: String,
        /// What the client said.
        source: Box<ureq::Error>,
    },
    /// The connection was cut again and again without bringing anything.
    #[error("the download of `{file}` broke off at {at_bytes} bytes, {attempts} times in a row")]
    Cut {
        /// The file.
        file: String,
        /// How much of it is there.
        at_bytes: u64,
        /// Attempts that brought nothing.
        attempts: u32,
        /// The last failure.
        source: io::Error,
    },
    /// There is no such repository, revision or file.
    #[error("the hub has no {what}")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// The hub wants a token, or the token does not suffice.
    #[error("the hub refuses {what}{}", reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default())]
    Denied {
        /// What was asked for.
        what: String,
        /// What the hub said.
        reason: Option<String>,
        /// Whether a token was sent.
        has_token: bool,
    },
    /// The hub answered with an error.
    #[error("the hub answered {status} for {what}")]
    Status {
        /// What was asked for.
        what: String,
        /// The HTTP status.
        status: u16,
    },
    /// The hub answered something that makes no sense.
    #[error("the hub's answer for {what} cannot be used: {reason}")]
    BadAnswer {
        /// What was asked for.
        what: String,
        /// What was expected and what was found.
        reason: String,
    },
    /// What arrived is not what the hub announced.
    #[error("`{file}` arrived with {algorithm} {found}, the hub expects {expected}")]
    Checksum {
        /// The file.
        file: String,
        /// How it was computed.
        algorithm: &'static str,
        /// What the hub says.
        expected: String,
        /// What arrived.
        found: String,
    },
    /// No file of the repository is wanted.
    #[error("no file of {repo} is wanted: {files} files, none matches")]
    NothingSelected {
        /// The repository.
        repo: RepoId,
        /// How many it has.
        files: usize,
    },
    /// Offline, and not in the cache.
    #[error("{repo} is not in the cache `{}`, and this is offline", cache.display())]
    Offline {
        /// The repository.
        repo: RepoId,
        /// The cache.
        cache: PathBuf,
    },
    /// Another process downloads the same file.
    #[error("another process downloads `{file}`")]
    Busy {
        /// The file.
        file: String,
    },
    /// The caller stopped it; what has arrived stays for the next time.
    #[error("the download was stopped")]
    Stopped,
    /// A file of the cache could not be read or written.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// A verb such as `write`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl HubError {
    pub(super) fn io(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
