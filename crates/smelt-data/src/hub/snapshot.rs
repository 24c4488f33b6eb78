//! A repository at a commit, as a folder of the cache.

use std::ops::ControlFlow;
use std::path::PathBuf;

use serde_json::Value;

use super::cache::{RepoCache, is_commit, is_safe_name};
use super::client::Client;
use super::download::Download;
use super::{HubError, HubSettings, RepoId, Selection};

/// A hub and its cache.
#[derive(Debug, Clone)]
pub struct Hub {
    client: Client,
}

/// What a hub says of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoInfo {
    /// The repository.
    pub repo: RepoId,
    /// The commit that its revision means now.
    pub commit: String,
    /// Names of its files.
    pub files: Vec<String>,
    /// Its licence, as its card says.
    pub license: Option<String>,
    /// Whether its terms must be accepted at the hub before it can be downloaded.
    pub is_gated: bool,
}

/// How far a download is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HubProgress<'a> {
    /// The file that is coming.
    pub file: &'a str,
    /// Its number, from 1.
    pub number: usize,
    /// How many there are.
    pub files: usize,
    /// How much of it is there.
    pub done_bytes: u64,
    /// Its length, where the hub says it.
    pub size_bytes: Option<u64>,
}

/// Files of a repository in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Their folder.
    pub folder: PathBuf,
    /// Their commit.
    pub commit: String,
    /// How many were wanted; none are counted offline.
    pub files: usize,
    /// What came over the network.
    pub fetched_bytes: u64,
}

impl Hub {
    /// The hub of `settings`.
    pub fn new(settings: HubSettings) -> Self {
        Self { client: Client::new(settings) }
    }

    /// How it is reached.
    pub fn settings(&self) -> &HubSettings {
        self.client.settings()
    }

    /// Asks what a repository holds.
    ///
    /// # Errors
    /// [`HubError`]; [`HubError::NotFound`] also for a private one that the token may not see.
    pub fn info(&self, repo: &RepoId) -> Result<RepoInfo, HubError> {
        let json = self.client.describe(repo)?;
        let bad = |reason: String| HubError::BadAnswer { what: repo.to_string(), reason };
        let commit = json["sha"].as_str().filter(|commit| is_commit(commit));
        let commit = commit.ok_or_else(|| bad("expected a commit as `sha`".to_owned()))?.to_owned();
        let siblings = json["siblings"].as_array();
        let siblings = siblings.ok_or_else(|| bad("expected a list as `siblings`".to_owned()))?;
        let mut files = Vec::with_capacity(siblings.len());
        for sibling in siblings {
            match sibling["rfilename"].as_str() {
                Some(name) if is_safe_name(name) => files.push(name.to_owned()),
                Some(name) => return Err(bad(format!("`{}` names no file of it", name.escape_debug()))),
                None => return Err(bad("expected a string as `rfilename`".to_owned())),
            }
        }
        let is_gated = !matches!(json["gated"], Value::Null | Value::Bool(false));
        Ok(RepoInfo { repo: repo.clone(), commit, files, license: license(&json), is_gated })
    }

    /// Brings the wanted files of a repository into the cache; those that are there are not asked for.
    ///
    /// The revision of the cache moves only once all of them are there. `on_progress` may break to stop.
    ///
    /// # Errors
    /// [`HubError`]; what has arrived stays, and the next download continues with it.
    pub fn download(
        &self,
        info: &RepoInfo,
        selection: &Selection,
        on_progress: &mut dyn FnMut(HubProgress<'_>) -> ControlFlow<()>,
    ) -> Result<Snapshot, HubError> {
        let wanted: Vec<&String> = info.files.iter().filter(|file| selection.wants(file)).collect();
        if wanted.is_empty() {
            return Err(HubError::NothingSelected { repo: info.repo.clone(), files: info.files.len() });
        }
        let cache = RepoCache::new(&self.settings().cache, &info.repo);
        let folder = cache.snapshot(&info.commit);
        let (files, mut fetched_bytes) = (wanted.len(), 0);
        for (number, file) in (1..).zip(wanted) {
            if folder.join(file).is_file() {
                continue;
            }
            let url = self.client.file_url(&info.repo, &info.commit, file);
            let facts = self.client.facts(&url, &format!("`{file}` of {}", info.repo))?;
            if facts.commit.as_ref().is_some_and(|commit| *commit != info.commit) {
                let reason = format!("expected commit {}, found {:?}", info.commit, facts.commit);
                return Err(HubError::BadAnswer { what: format!("`{file}`"), reason });
            }
            let size_bytes = facts.size_bytes;
            let mut on_bytes =
                |done_bytes| on_progress(HubProgress { file, number, files, done_bytes, size_bytes });
            if on_bytes(0).is_break() {
                return Err(HubError::Stopped);
            }
            let download = Download { client: &self.client, cache: &cache, url: &url, file, facts: &facts };
            fetched_bytes += download.run(&mut on_bytes)?;
            cache.link(&info.commit, file, &facts.etag)?;
        }
        cache.point_revision_at(&info.commit)?;
        Ok(Snapshot { folder, commit: info.commit.clone(), files, fetched_bytes })
    }

    /// What the cache holds of a repository, without asking the hub.
    ///
    /// # Errors
    /// [`HubError::Offline`] if it holds nothing at that revision.
    pub fn cached(&self, repo: &RepoId) -> Result<Snapshot, HubError> {
        let cache = &self.settings().cache;
        match RepoCache::new(cache, repo).newest_snapshot() {
            Some((commit, folder)) => Ok(Snapshot { folder, commit, files: 0, fetched_bytes: 0 }),
            None => Err(HubError::Offline { repo: repo.clone(), cache: cache.clone() }),
        }
    }
}

/// The licence of a card: one or several identifiers, or the name of one that has none.
fn license(json: &Value) -> Option<String> {
    let card = &json["cardData"];
    let named = match (&card["license"], card["license_name"].as_str()) {
        (Value::String(other), Some(name)) if other == "other" => Some(name.to_owned()),
        (Value::String(license), _) => Some(license.clone()),
        (Value::Array(several), _) => {
            let names: Vec<&str> = several.iter().filter_map(Value::as_str).collect();
            (!names.is_empty()).then(|| names.join(", "))
        }
        _ => None,
    };
    let of_tag = |tag: &Value| tag.as_str()?.strip_prefix("license:").map(str::to_owned);
    named.or_else(|| json["tags"].as_array()?.iter().find_map(of_tag))
}
