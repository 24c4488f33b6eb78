//! What a server is told at its start.

use std::time::Duration;

/// How a server behaves.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Keys, of which a request must bring one; none lets everyone in.
    pub api_keys: Vec<String>,
    /// Origins whose pages may read answers (`https://example.org`, or `*` for all).
    pub cors_origins: Vec<String>,
    /// Most tokens of a chat answer where the request does not say.
    pub default_max_tokens: usize,
    /// What a client may take.
    pub limits: Limits,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            api_keys: Vec::new(),
            cors_origins: Vec::new(),
            default_max_tokens: 2048,
            limits: Limits::default(),
        }
    }
}

/// Limits on clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's body.
    pub request_bytes: usize,
    /// Open connections; further ones wait to be accepted.
    pub connections: usize,
    /// For the head of a request to arrive, and for a connection to stand idle.
    pub header_time: Duration,
    /// For the body of a request to arrive.
    pub read_time: Duration,
    /// For a client to go on reading an answer.
    pub write_time: Duration,
    /// From the arrival of a request to the end of its answer; waiting counts.
    pub request_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes: 4 << 20,
            connections: 1024,
            header_time: Duration::from_secs(30),
            read_time: Duration::from_secs(60),
            write_time: Duration::from_secs(60),
            request_time: Duration::from_secs(600),
        }
    }
}
