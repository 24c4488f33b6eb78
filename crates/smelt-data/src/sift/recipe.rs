//! What to take for which purpose: named sets of filters.

use serde::{Deserialize, Serialize};

use crate::{FileKind, Reason};

/// A named set of filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recipe {
    /// All text but generated and minified code.
    Any,
    /// English prose, by the rules of Gopher and C4.
    Prose,
    /// Bash scripts that parse, with their comments.
    Bash,
}

impl Recipe {
    /// The kinds of files that it takes out of folders; empty for every kind.
    pub fn kinds(self) -> &'static [FileKind] {
        match self {
            Self::Any => &[],
            Self::Prose => &[FileKind::Prose],
            Self::Bash => &[FileKind::Shell],
        }
    }

    /// Sizes of the documents that it takes, in bytes of text.
    pub fn sizes(self) -> SizeLimits {
        match self {
            Self::Any => SizeLimits { min_bytes: 1, max_bytes: u64::MAX },
            Self::Prose => SizeLimits { min_bytes: 200, max_bytes: u64::MAX },
            // Longer ones are archives with a script in front.
            Self::Bash => SizeLimits { min_bytes: 32, max_bytes: 1 << 20 },
        }
    }
}

/// Sizes of documents to take, in bytes of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizeLimits {
    /// The smallest.
    pub min_bytes: u64,
    /// The largest.
    pub max_bytes: u64,
}

impl SizeLimits {
    /// Why a text of this size is left out, if it is.
    pub fn judge(self, bytes: u64) -> Option<Reason> {
        if bytes < self.min_bytes {
            return Some(Reason::TooSmall);
        }
        (bytes > self.max_bytes).then_some(Reason::TooLarge)
    }
}
