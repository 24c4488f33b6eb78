//! Counts of what was found and not taken, with examples.

use std::collections::BTreeMap;
use std::fmt;

/// Why something was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SkipReason {
    /// The file could not be opened or read; its example says why.
    Unreadable,
    /// A socket, pipe or device.
    NotAFile,
    /// A compressed file or archive, by its name.
    Compressed,
    /// A file with NUL bytes.
    Binary,
    /// A file that is not UTF-8.
    InvalidUtf8,
    /// A line of a `.jsonl` file that is not a record with a text.
    BadLine,
    /// No text, or blanks only.
    Empty,
    /// The same text as an earlier document.
    Duplicate,
    /// A file of a kind that was not asked for.
    OtherKind,
    /// A file over the size limit of a file.
    TooLarge,
    /// Found after the size limit of the corpus was reached.
    OverTotal,
}

impl SkipReason {
    fn words(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::NotAFile => "not regular files",
            Self::Compressed => "compressed",
            Self::Binary => "binary",
            Self::InvalidUtf8 => "not UTF-8",
            Self::BadLine => "bad lines",
            Self::Empty => "empty",
            Self::Duplicate => "duplicates",
            Self::OtherKind => "of other kinds",
            Self::TooLarge => "too large",
            Self::OverTotal => "over the total limit",
        }
    }
}

/// Shown in words, such as `unreadable`.
impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// Counts by reason, with the first few examples of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skipped {
    reasons: BTreeMap<SkipReason, (usize, Vec<String>)>,
}

impl Skipped {
    /// Examples kept per reason.
    const EXAMPLES: usize = 3;

    pub(crate) fn add(&mut self, reason: SkipReason, example: String) {
        let (count, examples) = self.reasons.entry(reason).or_default();
        *count += 1;
        if examples.len() < Self::EXAMPLES {
            examples.push(example);
        }
    }

    /// How often something was skipped for `reason`.
    pub fn count(&self, reason: SkipReason) -> usize {
        self.reasons.get(&reason).map_or(0, |(count, _)| *count)
    }

    /// The first sources skipped for `reason`.
    pub fn examples(&self, reason: SkipReason) -> &[String] {
        self.reasons.get(&reason).map_or(&[], |(_, examples)| examples)
    }

    /// Every reason that occurred, with its count.
    pub fn iter(&self) -> impl Iterator<Item = (SkipReason, usize)> + '_ {
        self.reasons.iter().map(|(reason, (count, _))| (*reason, *count))
    }

    /// How much was skipped in all.
    pub fn total(&self) -> usize {
        self.iter().map(|(_, count)| count).sum()
    }
}

/// One line such as `2 binary, 1 empty`, or `nothing`.
impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reasons.is_empty() {
            return f.write_str("nothing");
        }
        let parts: Vec<String> = self.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        f.write_str(&parts.join(", "))
    }
}
