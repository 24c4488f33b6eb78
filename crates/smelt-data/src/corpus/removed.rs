//! Counts of what was found and not kept, with examples.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The part of the preparation that removed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Opening files and decoding their text.
    Read,
    /// Choosing by kind, size and quality.
    Filter,
    /// Removing copies.
    Duplicates,
}

/// Shown in lower case, such as `read`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Filter => "filter",
            Self::Duplicates => "duplicates",
        })
    }
}

/// Why something was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The file could not be opened or read; its example says why.
    Unreadable,
    /// A socket, pipe or device.
    NotAFile,
    /// An archive, or compressed in a way that is not read, by its name.
    Archive,
    /// A compressed or columnar file that is cut or broken.
    Damaged,
    /// A text with NUL bytes.
    Binary,
    /// A text that is not UTF-8.
    NotUtf8,
    /// A record without a text.
    BadRecord,
    /// A line too long to be held in memory.
    LongLine,
    /// No text, or blanks only.
    Empty,
    /// A file of a kind that was not asked for.
    OtherKind,
    /// A script for another shell than bash and its like.
    OtherShell,
    /// Fewer bytes than asked for.
    TooSmall,
    /// More bytes than asked for.
    TooLarge,
    /// Written by a program, as its first lines say.
    Generated,
    /// Code in lines too long for people.
    Minified,
    /// Too many places that the grammar does not know.
    SyntaxErrors,
    /// Too few or too many words to be a text.
    WordCount,
    /// Words too short or too long on average.
    WordLength,
    /// Too many words without a letter.
    FewLetters,
    /// Too many `#` or ellipses.
    Symbols,
    /// Too many lines that are items of a list, or end in an ellipsis.
    ListLines,
    /// Too few of the commonest English words.
    NotEnglish,
    /// Too many lines that occur before.
    RepeatedLines,
    /// Filler such as `lorem ipsum`.
    Placeholder,
    /// The same text as an earlier document.
    Duplicate,
    /// Almost the same text as an earlier document.
    NearDuplicate,
}

impl Reason {
    /// The part of the preparation that removes for this reason.
    pub fn step(self) -> Step {
        match self {
            Self::Duplicate | Self::NearDuplicate => Step::Duplicates,
            reason if reason <= Self::Empty => Step::Read,
            _ => Step::Filter,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::NotAFile => "not regular files",
            Self::Archive => "archives",
            Self::Damaged => "damaged",
            Self::Binary => "binary",
            Self::NotUtf8 => "not UTF-8",
            Self::BadRecord => "bad records",
            Self::LongLine => "overlong lines",
            Self::Empty => "empty",
            Self::OtherKind => "of other kinds",
            Self::OtherShell => "for other shells",
            Self::TooSmall => "too small",
            Self::TooLarge => "too large",
            Self::Generated => "generated",
            Self::Minified => "minified",
            Self::SyntaxErrors => "with syntax errors",
            Self::WordCount => "with too few or too many words",
            Self::WordLength => "with odd word lengths",
            Self::FewLetters => "with few letters",
            Self::Symbols => "with many symbols",
            Self::ListLines => "mostly lists",
            Self::NotEnglish => "not English",
            Self::RepeatedLines => "with repeated lines",
            Self::Placeholder => "filler text",
            Self::Duplicate => "duplicates",
            Self::NearDuplicate => "near duplicates",
        }
    }
}

/// Shown in words, such as `unreadable`.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// What was removed for one reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// How many documents, or files that were not opened.
    pub documents: u64,
    /// Length of their texts in bytes, as far as they were read.
    pub bytes: u64,
    /// The first few sources.
    pub examples: Vec<String>,
}

/// Counts by reason, with the first few examples of each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Removed {
    reasons: BTreeMap<Reason, Removal>,
}

impl Removed {
    /// Examples kept per reason.
    const EXAMPLES: usize = 3;

    pub(crate) fn add(&mut self, reason: Reason, bytes: u64, example: String) {
        let removal = self.reasons.entry(reason).or_default();
        removal.documents += 1;
        removal.bytes += bytes;
        if removal.examples.len() < Self::EXAMPLES {
            removal.examples.push(example);
        }
    }

    /// Adds what was removed after this.
    pub(crate) fn extend(&mut self, later: &Self) {
        for (reason, removal) in &later.reasons {
            let sum = self.reasons.entry(*reason).or_default();
            sum.documents += removal.documents;
            sum.bytes += removal.bytes;
            let room = Self::EXAMPLES.saturating_sub(sum.examples.len());
            sum.examples.extend(removal.examples.iter().take(room).cloned());
        }
    }

    /// How often something was removed for `reason`.
    pub fn count(&self, reason: Reason) -> u64 {
        self.reasons.get(&reason).map_or(0, |removal| removal.documents)
    }

    /// The first sources removed for `reason`.
    pub fn examples(&self, reason: Reason) -> &[String] {
        self.reasons.get(&reason).map_or(&[], |removal| &removal.examples)
    }

    /// The first example there is, as the end of a message.
    pub(crate) fn first_example(&self) -> String {
        let example = self.reasons.values().flat_map(|removal| &removal.examples).next();
        example.map_or(String::new(), |example| format!("; first `{example}`"))
    }

    /// Every reason that occurred.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, &Removal)> + '_ {
        self.reasons.iter().map(|(reason, removal)| (*reason, removal))
    }

    /// How much was removed in all.
    pub fn total(&self) -> u64 {
        self.reasons.values().map(|removal| removal.documents).sum()
    }
}

/// One line such as `2 binary, 1 empty`, or `nothing`.
impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reasons.is_empty() {
            return f.write_str("nothing");
        }
        let parts: Vec<String> =
            self.iter().map(|(reason, removal)| format!("{} {reason}", removal.documents)).collect();
        f.write_str(&parts.join(", "))
    }
}
