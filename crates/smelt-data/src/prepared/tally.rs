//! What became of the documents that were read, in numbers.

use serde::{Deserialize, Serialize};

use super::split::SplitTally;
use crate::sift::{Candidate, Origin};
use crate::{Reason, Removed, Scrubbed};

/// Counts over some of the documents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Documents found; each was kept or removed.
    pub read_documents: u64,
    /// What of them was read, in bytes; of some a name or the first bytes tell enough.
    pub read_bytes: u64,
    /// Documents kept.
    pub kept_documents: u64,
    /// The length of their texts in UTF-8.
    pub kept_bytes: u64,
    /// Documents kept that were not UTF-8.
    pub repaired_documents: u64,
    /// What was removed and why.
    pub removed: Removed,
    /// Documents kept in which secrets were replaced.
    pub scrubbed_documents: u64,
    /// The secrets.
    pub scrubbed: Scrubbed,
    /// The first sources of scrubbed documents.
    pub scrubbed_examples: Vec<String>,
    /// What was kept of each input, in their order.
    pub inputs: Vec<InputTally>,
    /// What decides the split.
    pub(crate) split: SplitTally,
}

/// What was kept of one input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputTally {
    /// Documents.
    pub documents: u64,
    /// The length of their texts in bytes.
    pub text_bytes: u64,
}

/// Sources of scrubbed documents that are kept as examples.
const EXAMPLES: usize = 3;

impl Tally {
    /// Counts a document that was found and removed.
    pub(crate) fn add_removed(&mut self, origin: &Origin, reason: Reason) {
        self.read_documents += 1;
        self.read_bytes += origin.read_bytes;
        self.removed.add(reason, origin.bytes, origin.source.clone());
    }

    /// Counts a document that was found and kept.
    pub(crate) fn add_kept(&mut self, origin: &Origin, kept: &Candidate, rank: u64, val_fraction: f64) {
        let bytes = kept.text.len() as u64;
        self.read_documents += 1;
        self.read_bytes += origin.read_bytes;
        self.kept_documents += 1;
        self.kept_bytes += bytes;
        self.repaired_documents += u64::from(kept.repaired);
        if kept.scrubbed.total() > 0 {
            self.scrubbed_documents += 1;
            self.scrubbed += kept.scrubbed;
            if self.scrubbed_examples.len() < EXAMPLES {
                self.scrubbed_examples.push(origin.source.clone());
            }
        }
        let input = self.input(origin.input);
        input.documents += 1;
        input.text_bytes += bytes;
        self.split.add(rank, bytes, val_fraction);
    }

    /// Adds the counts of documents that come after these.
    pub(crate) fn extend(&mut self, later: &Self) {
        self.read_documents += later.read_documents;
        self.read_bytes += later.read_bytes;
        self.kept_documents += later.kept_documents;
        self.kept_bytes += later.kept_bytes;
        self.repaired_documents += later.repaired_documents;
        self.removed.extend(&later.removed);
        self.scrubbed_documents += later.scrubbed_documents;
        self.scrubbed += later.scrubbed;
        let room = EXAMPLES.saturating_sub(self.scrubbed_examples.len());
        self.scrubbed_examples.extend(later.scrubbed_examples.iter().take(room).cloned());
        for (index, input) in later.inputs.iter().enumerate() {
            let sum = self.input(index);
            sum.documents += input.documents;
            sum.text_bytes += input.text_bytes;
        }
        self.split.extend(&later.split);
    }

    fn input(&mut self, index: usize) -> &mut InputTally {
        if self.inputs.len() <= index {
            self.inputs.resize(index + 1, InputTally::default());
        }
        &mut self.inputs[index]
    }
}
