//! The cache: blobs by hash, and per commit a folder of links to them, as Python's `huggingface_hub` has it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use smelt_text::write_atomically;

use super::{HubError, RepoId, RepoKind};

/// The part of a cache that belongs to one repository.
pub struct RepoCache {
    layout: CacheRepo,
    repo: RepoId,
    /// Holds `blobs`, `refs` and `snapshots`.
    folder: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    pub fn new(cache: &Path, repo: &RepoId) -> Self {
        let kind = match repo.kind {
            RepoKind::Model => RepoType::Model,
            RepoKind::Dataset => RepoType::Dataset,
        };
        let named = Repo::with_revision(repo.name().to_owned(), kind, repo.revision().to_owned());
        let (folder, locks) =
            (cache.join(named.folder_name()), cache.join(".locks").join(named.folder_name()));
        let layout = Cache::new(cache.to_owned()).repo(named);
        Self { layout, repo: repo.clone(), folder, locks }
    }

    /// The folder of a commit's files.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.layout.pointer_path(commit)
    }

    /// The folder of the revision as it was downloaded last, if it was.
    pub fn newest_snapshot(&self) -> Option<(String, PathBuf)> {
        let revision = self.repo.revision();
        let known = fs::read_to_string(self.folder.join("refs").join(revision)).ok();
        let commits = known.as_deref().map(str::trim).into_iter().chain([revision]);
        let found =
            commits.filter(|commit| is_commit(commit)).find(|commit| self.snapshot(commit).is_dir())?;
        Some((found.to_owned(), self.snapshot(found)))
    }

    /// Notes that the revision is `commit`, once all files are there.
    pub fn point_revision_at(&self, commit: &str) -> Result<(), HubError> {
        let path = self.folder.join("refs").join(self.repo.revision());
        if self.repo.revision() == commit || fs::read_to_string(&path).is_ok_and(|known| known == commit) {
            return Ok(());
        }
        create_folder_of(&path)?;
        write_atomically(&path, commit.as_bytes()).map_err(HubError::io("write", &path))
    }

    /// Where the content with this hash lies.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// Keeps other processes, Python's too, from downloading the same; released when dropped.
    pub fn lock(&self, etag: &str, file: &str) -> Result<File, HubError> {
        let path = self.locks.join(format!("{etag}.lock"));
        create_folder_of(&path)?;
        let lock = File::create(&path).map_err(HubError::io("write", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(fs::TryLockError::WouldBlock) => Err(HubError::Busy { file: file.to_owned() }),
            Err(fs::TryLockError::Error(source)) => Err(HubError::io("lock", &path)(source)),
        }
    }

    /// Makes `file` of a commit mean the blob with this hash.
    pub fn link(&self, commit: &str, file: &str, etag: &str) -> Result<(), HubError> {
        let link = self.snapshot(commit).join(file);
        create_folder_of(&link)?;
        let steps_up = file.split('/').count() + 1;
        let target: PathBuf =
            std::iter::repeat_n(Path::new(".."), steps_up).collect::<PathBuf>().join("blobs").join(etag);
        if link.symlink_metadata().is_ok() {
            // A link to a blob that is gone.
            fs::remove_file(&link).map_err(HubError::io("replace", &link))?;
        }
        link_or_copy(&target, &self.blob(etag), &link).map_err(HubError::io("write", &link))
    }
}

#[cfg(unix)]
fn link_or_copy(target: &Path, _blob: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Windows lets only some users make symbolic links.
#[cfg(not(unix))]
fn link_or_copy(_target: &Path, blob: &Path, link: &Path) -> io::Result<()> {
    fs::hard_link(blob, link).or_else(|_| fs::copy(blob, link).map(|_| ()))
}

fn create_folder_of(file: &Path) -> Result<(), HubError> {
    let folder = file.parent().expect("a file of the cache lies in a folder");
    fs::create_dir_all(folder).map_err(HubError::io("create", folder))
}

/// Whether a name of the hub stays within the folder that it is joined to, on every system.
pub fn is_safe_name(name: &str) -> bool {
    let is_plain = |component| matches!(component, Component::Normal(_));
    !name.is_empty()
        && !name.contains(['\\', ':', '\0'])
        && !name.split('/').any(str::is_empty)
        && Path::new(name).components().all(is_plain)
}

/// Whether `text` can be a commit: it names a folder.
pub fn is_commit(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.chars().all(|character| character.is_ascii_alphanumeric())
}

/// What a hash of the hub says about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256 of the content: large files.
    Sha256,
    /// Git's name of a blob, SHA-1 of a header and the content: small files.
    GitBlob,
    /// Something else, as other servers give.
    Unknown,
}

impl Hash {
    /// Which one `etag` is.
    pub fn of(etag: &str) -> Self {
        let is_hex = etag.chars().all(|digit| digit.is_ascii_hexdigit());
        match etag.len() {
            64 if is_hex => Self::Sha256,
            40 if is_hex => Self::GitBlob,
            _ => Self::Unknown,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::GitBlob => "Git hash",
            Self::Unknown => "hash",
        }
    }

    /// The hash of the file at `path`; none if its kind is unknown.
    pub fn compute(self, path: &Path) -> io::Result<Option<String>> {
        let file = File::open(path)?;
        let header = format!("blob {}\0", file.metadata()?.len());
        match self {
            Self::Sha256 => digest(Sha256::new(), file).map(Some),
            Self::GitBlob => digest(Sha1::new_with_prefix(header), file).map(Some),
            Self::Unknown => Ok(None),
        }
    }
}

fn digest<D: Digest>(mut hasher: D, mut file: File) -> io::Result<String> {
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From `git hash-object` and `sha256sum`.
    #[test]
    fn hashes_are_those_of_git_and_sha256sum() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "hello\n").unwrap();
        let cases = [
            (Hash::GitBlob, "ce013625030ba8dba906f756967f9e9ca394464a"),
            (Hash::Sha256, "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"),
        ];
        for (hash, expected) in cases {
            assert_eq!(hash.compute(&path).unwrap().as_deref(), Some(expected));
            assert_eq!(Hash::of(expected), hash);
        }
        assert_eq!(Hash::of("1234-5"), Hash::Unknown);
    }

    #[test]
    fn names_that_leave_their_folder_are_not_safe() {
        for name in ["config.json", "data/a b.parquet", ".gitattributes"] {
            assert!(is_safe_name(name), "{name}");
        }
        for name in ["", "..", "../x", "a/../b", "/etc/passwd", "a//b", "a/", "C:\\x", "a\\b", "a\0"] {
            assert!(!is_safe_name(name), "{name}");
        }
    }
}
