//! A hub with one repository, and faults to order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};
use smelt_data::hub::{Hub, HubError, HubSettings, RepoId, RepoKind, Selection, Snapshot, Token};
use tempfile::TempDir;

use crate::server::{Reply, Request, Server};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The repository `org/corpus`, a data set, and how the hub behaves.
#[derive(Debug)]
pub struct FakeHub {
    /// Contents by name. Those of `.parquet` files lie in a store of their own, on `localhost`.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Asked for, if there is one.
    pub token: Option<&'static str>,
    /// Large contents that are still cut in the middle.
    pub cuts: AtomicUsize,
    /// Contents that are still refused with 503.
    pub busy: AtomicUsize,
    /// Whether `Range` is heeded.
    pub knows_ranges: bool,
    /// Whether `HEAD` is.
    pub knows_head: bool,
    /// Whether contents differ from what was announced.
    pub is_corrupt: bool,
    /// More that the description says.
    pub card: &'static str,
}

impl Default for FakeHub {
    fn default() -> Self {
        let large: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let files = [
            ("README.md", b"A corpus.\n".to_vec()),
            ("data/train.parquet", large),
            ("data/test é.parquet", b"PAR1".to_vec()),
            ("empty.txt", Vec::new()),
        ];
        Self {
            files: files.into_iter().map(|(name, content)| (name.to_owned(), content)).collect(),
            token: None,
            cuts: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            knows_ranges: true,
            knows_head: true,
            is_corrupt: false,
            card: r#""cardData": {"license": "mit"}, "gated": false"#,
        }
    }
}

/// A running hub, and a cache of its own.
pub struct Fixture {
    pub server: Server,
    pub fake: Arc<FakeHub>,
    pub cache: TempDir,
}

impl FakeHub {
    pub fn start(self) -> Fixture {
        let fake = Arc::new(self);
        let answering = fake.clone();
        let server = Server::start(move |request, address| answering.answer(request, address));
        Fixture { server, fake, cache: tempfile::tempdir().unwrap() }
    }

    fn answer(&self, request: &Request, address: SocketAddr) -> Reply {
        if let Some(hash) = request.path.strip_prefix("/store/") {
            assert_eq!(request.header("authorization"), None, "the token left the hub");
            let content = self.files.values().find(|content| sha256(content) == hash);
            return content.map_or(Reply::status(404), |content| self.content(request, content));
        }
        let expected = self.token.map(|token| format!("Bearer {token}"));
        if expected.is_some() && request.header("authorization") != expected.as_deref() {
            return Reply::status(401).header("X-Error-Message", "Access to it is restricted");
        }
        if request.path == "/api/datasets/org/corpus/revision/main" {
            return self.description();
        }
        let resolve = format!("/datasets/org/corpus/resolve/{COMMIT}/");
        let name =
            request.path.strip_prefix(&resolve).map(|name| name.replace("%20", " ").replace("%C3%A9", "é"));
        match name.and_then(|name| Some((self.files.get(&name)?, name))) {
            Some((content, name)) => self.resolved(request, address, content, name.ends_with(".parquet")),
            None => Reply::status(404),
        }
    }

    fn description(&self) -> Reply {
        let siblings: Vec<String> =
            self.files.keys().map(|name| format!("{{\"rfilename\": {name:?}}}")).collect();
        let card = self.card;
        let json = format!("{{\"sha\": \"{COMMIT}\", \"siblings\": [{}], {card}}}", siblings.join(", "));
        Reply { body: json.into_bytes(), ..Reply::status(200) }
    }

    fn resolved(&self, request: &Request, address: SocketAddr, content: &[u8], is_large: bool) -> Reply {
        if request.method == "HEAD" && !self.knows_head {
            return Reply::status(405);
        }
        if is_large {
            let hash = sha256(content);
            return Reply::status(302)
                .header("Location", format!("http://localhost:{}/store/{hash}", address.port()))
                .header("X-Linked-Etag", format!("\"{hash}\""))
                .header("X-Linked-Size", content.len())
                .header("X-Repo-Commit", COMMIT);
        }
        let etag = git_blob(content);
        let reply = match request.method.as_str() {
            "HEAD" => Reply::status(200).header("Content-Length", content.len()),
            _ => self.content(request, content),
        };
        reply.header("ETag", format!("\"{etag}\"")).header("X-Repo-Commit", COMMIT)
    }

    fn content(&self, request: &Request, content: &[u8]) -> Reply {
        if take(&self.busy) {
            return Reply::status(503);
        }
        let mut content = content.to_vec();
        if self.is_corrupt && !content.is_empty() {
            content[0] ^= 1;
        }
        let reply = match request.range_start().filter(|_| self.knows_ranges) {
            Some(start) if start >= content.len() => return Reply::status(416),
            Some(start) => {
                let range = format!("bytes {start}-{}/{}", content.len() - 1, content.len());
                Reply { body: content[start..].to_vec(), ..Reply::status(206) }.header("Content-Range", range)
            }
            None => Reply { body: content, ..Reply::status(200) },
        };
        let is_cut = reply.body.len() > 1000 && take(&self.cuts);
        let cut_after = is_cut.then_some(reply.body.len() / 2);
        Reply { cut_after, ..reply }
    }
}

/// Counts down to 0; true until it was there.
fn take(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

pub fn sha256(content: &[u8]) -> String {
    format!("{:x}", Sha256::digest(content))
}

fn git_blob(content: &[u8]) -> String {
    let header = format!("blob {}\0", content.len()).into_bytes();
    format!("{:x}", Sha1::digest([&header, content].concat()))
}

impl Fixture {
    pub fn settings(&self) -> HubSettings {
        HubSettings {
            endpoint: format!("http://{}", self.server.address),
            token: None,
            cache: self.cache.path().to_owned(),
            offline: false,
            retry_delay: Duration::from_millis(1),
        }
    }

    pub fn hub(&self) -> Hub {
        Hub::new(self.settings())
    }

    pub fn hub_with_token(&self, token: &str) -> Hub {
        Hub::new(HubSettings { token: Token::new(token), ..self.settings() })
    }

    /// Downloads everything.
    pub fn download(&self) -> Result<Snapshot, HubError> {
        download(&self.hub())
    }

    /// How often contents or descriptions of files were asked for.
    pub fn file_requests(&self) -> usize {
        self.server.requests().iter().filter(|request| !request.path.starts_with("/api/")).count()
    }
}

pub fn corpus() -> RepoId {
    RepoId::new(RepoKind::Dataset, "org/corpus").unwrap()
}

pub fn download(hub: &Hub) -> Result<Snapshot, HubError> {
    hub.download(&hub.info(&corpus())?, &Selection::default(), &mut |_| ControlFlow::Continue(()))
}

/// The error and its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
