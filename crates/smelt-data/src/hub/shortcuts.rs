//! Public corpora that people train on, by short names.
//!
//! For the first stage English prose like that of BookCorpus, for the second shell scripts. Which files
//! of a repository make up the corpus is known here; its licence is said here as well as by the hub.

use super::{HubError, RepoId, RepoKind, Selection};

/// A corpus with a short name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortcut {
    /// The short name.
    pub name: &'static str,
    /// The data set's repository.
    pub repo: &'static str,
    /// The files that make it up.
    pub include: &'static [&'static str],
    /// What it is.
    pub about: &'static str,
    /// What its licence says, in short.
    pub license: &'static str,
}

/// All of them.
pub const SHORTCUTS: [Shortcut; 4] = [
    Shortcut {
        name: "wikitext",
        repo: "Salesforce/wikitext",
        include: &["wikitext-103-raw-v1/*.parquet"],
        about: "verified articles of the English Wikipedia, 100 million words",
        license: "CC BY-SA 3.0 and GFDL: name the authors, share alike",
    },
    Shortcut {
        name: "tinystories",
        repo: "roneneldan/TinyStories",
        include: &["data/*.parquet"],
        about: "short stories in simple English, written by GPT-3.5 and GPT-4, 2 GB",
        license: "CDLA-Sharing 1.0: share the data under the same terms",
    },
    Shortcut {
        name: "bookcorpus",
        repo: "lucadiliello/bookcorpusopen",
        include: &["data/*.parquet"],
        about: "free English novels, gathered anew after BookCorpus, 6 GB",
        license: "none stated: the rights to each book are its author's; see to it that your use is allowed",
    },
    Shortcut {
        name: "stack-shell",
        repo: "bigcode/the-stack-dedup",
        include: &["data/shell/*.parquet"],
        about: "shell scripts of The Stack, near-duplicates removed",
        license: "each script's own permissive licence, and the terms of The Stack, to be accepted on its page \
                  at the hub with the account of your token",
    },
];

impl Shortcut {
    /// The corpus of that name.
    pub fn find(name: &str) -> Option<Self> {
        SHORTCUTS.into_iter().find(|shortcut| shortcut.name == name)
    }

    /// Its repository.
    ///
    /// # Errors
    /// Never for [`SHORTCUTS`].
    pub fn repo(&self) -> Result<RepoId, HubError> {
        RepoId::new(RepoKind::Dataset, self.repo)
    }

    /// Its files.
    pub fn selection(&self) -> Selection {
        Selection {
            include: self.include.iter().map(|&pattern| pattern.to_owned()).collect(),
            exclude: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shortcut_names_a_repository() {
        for shortcut in SHORTCUTS {
            assert_eq!(Shortcut::find(shortcut.name), Some(shortcut));
            assert_eq!(shortcut.repo().unwrap().name(), shortcut.repo);
        }
        assert_eq!(Shortcut::find("nothing"), None);
    }
}
