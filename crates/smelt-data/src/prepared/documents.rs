//! Where the documents of a shard begin.
//!
//! The file beside a shard holds one little-endian u64 per document, the token at which it begins, in
//! ascending order, and after them the number of tokens in all. Read only: whoever writes the shard
//! writes the index.

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use super::TokenShard;
use super::shard::map;
use crate::DataError;

/// Size of one number of the file in bytes.
const OFFSET_BYTES: usize = size_of::<u64>();

/// The documents of a shard as ranges of its tokens; clones share the memory.
#[derive(Clone)]
pub struct DocumentIndex {
    offsets: Offsets,
    documents: usize,
}

/// `documents + 1` numbers.
#[derive(Clone)]
enum Offsets {
    Mapped { path: PathBuf, map: Arc<Mmap> },
    Found(Arc<[u64]>),
}

impl DocumentIndex {
    /// Maps the file at `path` and reads it once to check that it describes a shard of `tokens` tokens.
    ///
    /// # Errors
    /// If the file cannot be read; [`DataError::BadDocumentIndex`] if it ends within a number, does not
    /// begin with 0, is not ascending, or ends with another number than `tokens`.
    pub fn open(path: &Path, tokens: u64) -> Result<Self, DataError> {
        let file = File::open(path).map_err(DataError::io("read", path))?;
        let bytes = file.metadata().map_err(DataError::io("read", path))?.len();
        let bad = |reason: String| DataError::BadDocumentIndex { path: path.to_owned(), reason };
        if bytes == 0 || bytes % OFFSET_BYTES as u64 != 0 {
            let expected = format!("expected a multiple of {OFFSET_BYTES} and not 0");
            return Err(bad(format!("has {bytes} bytes, {expected}")));
        }
        let map = map(&file).map_err(DataError::io("read", path))?;
        let documents = map.len() / OFFSET_BYTES - 1;
        let index =
            Self { offsets: Offsets::Mapped { path: path.to_owned(), map: Arc::new(map) }, documents };
        index.check(tokens).map_err(bad)?;
        Ok(index)
    }

    /// The documents of a shard without such a file: each ends with `end_of_text`, but perhaps the last.
    pub fn find(shard: &TokenShard, end_of_text: u32) -> Self {
        const STEP: usize = 1 << 16;
        let mut offsets = vec![0];
        for start in (0..shard.len()).step_by(STEP) {
            let ids = shard.get(start..shard.len().min(start + STEP));
            let ends = (start as u64 + 1..).zip(ids).filter(|(_, id)| *id == end_of_text);
            offsets.extend(ends.map(|(end, _)| end));
        }
        if offsets.last() != Some(&(shard.len() as u64)) {
            offsets.push(shard.len() as u64);
        }
        Self { documents: offsets.len() - 1, offsets: Offsets::Found(offsets.into()) }
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.documents
    }

    /// Whether there is no document.
    pub fn is_empty(&self) -> bool {
        self.documents == 0
    }

    /// Tokens of the shard.
    pub fn tokens(&self) -> u64 {
        self.offset(self.documents)
    }

    /// The tokens of a document.
    ///
    /// # Panics
    /// If `document` is not below [`DocumentIndex::len`].
    pub fn range(&self, document: usize) -> Range<u64> {
        assert!(document < self.documents, "document {document} of {}", self.documents);
        self.offset(document)..self.offset(document + 1)
    }

    /// The document that holds the token at `position`.
    ///
    /// # Panics
    /// If `position` is not below [`DocumentIndex::tokens`].
    pub fn document_at(&self, position: u64) -> usize {
        assert!(position < self.tokens(), "token {position} of {}", self.tokens());
        // The first document to begin after `position` follows the one that holds it; an empty document
        // begins where its successor does and holds nothing.
        let (mut low, mut high) = (0, self.documents);
        while low < high {
            let middle = low.midpoint(high);
            if self.offset(middle) <= position {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low - 1
    }

    fn check(&self, tokens: u64) -> Result<(), String> {
        if self.offset(0) != 0 {
            return Err(format!("begins with {}, expected 0", self.offset(0)));
        }
        for document in 0..self.documents {
            let (start, end) = (self.offset(document), self.offset(document + 1));
            if start > end {
                return Err(format!("has document {document} begin at token {start} and end at {end}"));
            }
        }
        match self.tokens() {
            found if found == tokens => Ok(()),
            found => Err(format!("ends with {found}, expected the {tokens} tokens of its shard")),
        }
    }

    fn offset(&self, at: usize) -> u64 {
        match &self.offsets {
            Offsets::Mapped { map, .. } => {
                let (offsets, _) = map.as_chunks();
                u64::from_le_bytes(offsets[at])
            }
            Offsets::Found(offsets) => offsets[at],
        }
    }
}

impl fmt::Debug for DocumentIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match &self.offsets {
            Offsets::Mapped { path, .. } => Some(path),
            Offsets::Found(_) => None,
        };
        f.debug_struct("DocumentIndex").field("path", &path).field("documents", &self.documents).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::TokenDtype;

    fn open(offsets: &[u64], tokens: u64) -> Result<DocumentIndex, String> {
        let bytes: Vec<u8> = offsets.iter().flat_map(|offset| offset.to_le_bytes()).collect();
        open_bytes(&bytes, tokens)
    }

    fn open_bytes(bytes: &[u8], tokens: u64) -> Result<DocumentIndex, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.documents.bin");
        std::fs::write(&path, bytes).unwrap();
        DocumentIndex::open(&path, tokens)
            .map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_token_lies_in_its_document(lengths in prop::collection::vec(0_u64..9, 0..40)) {
            let mut offsets = vec![0];
            lengths.iter().for_each(|length| offsets.push(offsets.last().unwrap() + length));
            let tokens = *offsets.last().unwrap();
            let index = open(&offsets, tokens).unwrap();
            prop_assert_eq!((index.len(), index.tokens()), (lengths.len(), tokens));
            for position in 0..tokens {
                let document = index.document_at(position);
                prop_assert!(index.range(document).contains(&position));
            }
        }
    }

    #[test]
    fn documents_are_found_by_the_token_that_ends_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.bin");
        let found = |ids: &[u32]| {
            let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
            std::fs::write(&path, bytes).unwrap();
            let index = DocumentIndex::find(&TokenShard::open(&path, TokenDtype::U32).unwrap(), 0);
            (0..index.len()).map(|document| index.range(document)).collect::<Vec<_>>()
        };
        assert_eq!(found(&[5, 6, 0, 0, 7, 0]), [0..3, 3..4, 4..6]);
        assert_eq!(found(&[5, 0, 7]), [0..2, 2..3]);
        assert!(found(&[]).is_empty());
    }

    #[test]
    fn an_index_that_does_not_fit_its_shard_is_refused() {
        let cases: [(&[u64], &str); 4] = [
            (&[], "has 0 bytes, expected a multiple of 8 and not 0"),
            (&[1, 9], "begins with 1, expected 0"),
            (&[0, 7, 5, 9], "has document 1 begin at token 7 and end at 5"),
            (&[0, 5, 8], "ends with 8, expected the 9 tokens of its shard"),
        ];
        for (offsets, reason) in cases {
            let message = open(offsets, 9).unwrap_err();
            assert_eq!(message, format!("`train.documents.bin` {reason}"));
        }
        let message = open_bytes(&[0; 12], 0).unwrap_err();
        assert_eq!(message, "`train.documents.bin` has 12 bytes, expected a multiple of 8 and not 0");
    }
}
