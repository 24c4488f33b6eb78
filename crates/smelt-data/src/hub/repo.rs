//! Names of repositories.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::HubError;

/// What a repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepoKind {
    /// A model.
    Model,
    /// A data set.
    Dataset,
}

impl RepoKind {
    /// Its part of the API's paths.
    pub(super) fn api_name(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }
}

/// Shown as `model` or `dataset`.
impl fmt::Display for RepoKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Model => "model",
            Self::Dataset => "dataset",
        })
    }
}

impl FromStr for RepoKind {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        match text {
            "model" => Ok(Self::Model),
            "dataset" => Ok(Self::Dataset),
            _ => Err(HubError::BadId { text: text.to_owned(), reason: "expected `model` or `dataset`" }),
        }
    }
}

/// A repository at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoId {
    /// What it holds.
    pub kind: RepoKind,
    name: String,
    revision: String,
}

impl RepoId {
    /// The repository `ORG/NAME`, `NAME`, or either with `@REVISION` behind it; else at `main`.
    ///
    /// # Errors
    /// [`HubError::BadId`] if the hub could not have such a name.
    pub fn new(kind: RepoKind, text: &str) -> Result<Self, HubError> {
        let bad = |reason| HubError::BadId { text: text.to_owned(), reason };
        let (name, revision) = text.split_once('@').unwrap_or((text, "main"));
        let parts: Vec<&str> = name.split('/').collect();
        if parts.len() > 2 || name.len() > 96 {
            return Err(bad("expected `ORG/NAME` of at most 96 characters"));
        }
        let is_part = |part: &&str| !part.is_empty() && part.chars().all(is_name_character);
        if !parts.iter().all(is_part) {
            return Err(bad("expected letters, digits, `-`, `_` and `.` in `ORG/NAME`"));
        }
        let is_odd = |part: &&str| part.starts_with(['.', '-']) || part.ends_with(['.', '-']);
        if parts.iter().any(is_odd) || name.contains("..") || name.contains("--") {
            return Err(bad("a part begins or ends with `.` or `-`, or holds two of them in a row"));
        }
        let is_step = |step: &str| !step.is_empty() && step != "." && step != "..";
        let is_revision = |character: char| is_name_character(character) || character == '/';
        if !revision.split('/').all(is_step) || !revision.chars().all(is_revision) {
            return Err(bad("the revision behind `@` is no branch, tag or commit"));
        }
        Ok(Self { kind, name: name.to_owned(), revision: revision.to_owned() })
    }

    /// The repository that `path` means where no file or folder of that name is: `ORG/NAME`, unless there
    /// is a folder `ORG` here.
    pub fn from_missing_path(kind: RepoKind, path: &Path) -> Option<Self> {
        let text = path.to_str()?;
        let (organisation, _) = text.split_once('/')?;
        if path.exists() || Path::new(organisation).exists() {
            return None;
        }
        Self::new(kind, text).ok()
    }

    /// `ORG/NAME` or `NAME`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Branch, tag or commit.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The same at another revision.
    ///
    /// # Errors
    /// [`HubError::BadId`] if it cannot be one.
    pub fn at(&self, revision: &str) -> Result<Self, HubError> {
        Self::new(self.kind, &format!("{}@{revision}", self.name))
    }
}

fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.')
}

/// Shown such as ``dataset `ORG/NAME` at `main` ``.
impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}` at `{}`", self.kind, self.name, self.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_or_two_parts_and_perhaps_a_revision() {
        for (text, name, revision) in [
            ("gpt2", "gpt2", "main"),
            ("Salesforce/wikitext", "Salesforce/wikitext", "main"),
            ("a/b.c_d-1@v1.0", "a/b.c_d-1", "v1.0"),
            ("a/b@refs/pr/1", "a/b", "refs/pr/1"),
        ] {
            let id = RepoId::new(RepoKind::Model, text).unwrap();
            assert_eq!((id.name(), id.revision()), (name, revision));
        }
    }

    #[test]
    fn what_would_leave_the_cache_or_cannot_be_is_refused() {
        for text in [
            "",
            "/",
            "a/",
            "/etc",
            "../x",
            "a/..",
            "a/b/c",
            "a b/c",
            "a/b@",
            "a/b@../x",
            "a/b@x/../y",
            "a--b/c",
            "a/.b",
        ] {
            assert!(RepoId::new(RepoKind::Dataset, text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_path_is_an_id_only_where_nothing_of_that_name_is() {
        let id = |text| RepoId::from_missing_path(RepoKind::Model, Path::new(text));
        assert_eq!(id("no-such-org/name").unwrap().name(), "no-such-org/name");
        // This crate's folder has `src`, so this is a misspelt path.
        assert_eq!(id("src/nothing"), None);
        assert_eq!(id("src/lib.rs"), None);
        assert_eq!(id("/no-such-org/name"), None);
        assert_eq!(id("name"), None);
    }
}
