//! Which documents are copies of earlier ones, exactly or nearly.
//!
//! Of two alike the one that comes first in the order of the inputs stays. What is known of the kept
//! documents lies in files: memory is bounded however many there are.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::key_table::KeyTable;
use super::minhash::{SIGNATURE_LEN, Signature, band_keys, similarity};
use crate::Reason;

/// Which copies to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dedup {
    /// None.
    None,
    /// Documents whose text is the same, byte for byte.
    Exact,
    /// Those, and documents that have at least four fifths of their runs of five words in common with
    /// an earlier one.
    Near,
}

/// Documents are near duplicates from this similarity on.
const NEAR_SIMILARITY: f64 = 0.8;

/// Earlier documents compared per key: texts that share boilerplate share keys with very many.
const COMPARED_PER_KEY: usize = 8;

/// What is remembered of a kept document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// The first half of the SHA-256 of its text.
    pub digest: [u8; 16],
    /// Present if near duplicates are looked for.
    pub signature: Option<Box<Signature>>,
}

impl Fingerprint {
    /// Length of a fingerprint in a file.
    pub fn encoded_len(dedup: Dedup) -> usize {
        if dedup == Dedup::Near { 16 + 2 * SIGNATURE_LEN } else { 16 }
    }

    /// Appends the fingerprint to a file's bytes.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.digest);
        let numbers = self.signature.iter().flat_map(|signature| signature.iter());
        bytes.extend(numbers.flat_map(|number| number.to_le_bytes()));
    }

    /// The fingerprint that `bytes` of the right length hold.
    pub fn decode(bytes: &[u8]) -> Self {
        let (digest, rest) = bytes.split_at(16);
        let digest = digest.try_into().expect("split at the length of a digest");
        let (numbers, _) = rest.as_chunks();
        let numbers: Vec<u16> = numbers.iter().map(|number| u16::from_le_bytes(*number)).collect();
        Self { digest, signature: numbers.try_into().ok() }
    }

    fn exact_key(&self) -> u64 {
        u64::from_be_bytes(self.digest[..8].try_into().expect("a digest is longer"))
    }

    fn keys(&self) -> Vec<u64> {
        let bands = self.signature.iter().flat_map(|signature| band_keys(signature));
        std::iter::once(self.exact_key()).chain(bands).collect()
    }
}

/// The kept documents, numbered from 0 in order.
pub struct Kept {
    dedup: Dedup,
    table: KeyTable,
    documents: u64,
    /// Fingerprints of finished segments: the number of the first document, and the file.
    files: Vec<(u64, PathBuf)>,
    /// Fingerprints after those files.
    fresh: Vec<Fingerprint>,
}

impl Kept {
    pub fn new(dedup: Dedup, table: KeyTable) -> Self {
        Self { dedup, table, documents: 0, files: Vec::new(), fresh: Vec::new() }
    }

    /// Why the document is left out, if it is; else remembers it.
    pub fn admit(&mut self, document: &Fingerprint) -> io::Result<Option<Reason>> {
        if self.dedup != Dedup::None {
            let keys = document.keys();
            let mut compared = Vec::new();
            for &key in &keys {
                for earlier in self.table.get(key, COMPARED_PER_KEY)? {
                    if compared.contains(&earlier) {
                        continue;
                    }
                    compared.push(earlier);
                    let earlier = self.fingerprint(earlier)?;
                    if earlier.digest == document.digest {
                        return Ok(Some(Reason::Duplicate));
                    }
                    if is_near(&earlier, document) {
                        return Ok(Some(Reason::NearDuplicate));
                    }
                }
            }
            self.register(&keys)?;
        }
        self.documents += 1;
        self.fresh.push(document.clone());
        Ok(None)
    }

    /// The fingerprints since the last call lie in `file` from here on.
    pub fn settle(&mut self, file: PathBuf) {
        self.files.push((self.documents - self.fresh.len() as u64, file));
        self.fresh.clear();
    }

    /// Remembers the documents of a file that an earlier process left.
    pub fn replay(&mut self, file: PathBuf) -> io::Result<()> {
        let length = Fingerprint::encoded_len(self.dedup);
        let mut reader = io::BufReader::new(File::open(&file)?);
        let documents = reader.get_ref().metadata()?.len() / length as u64;
        self.files.push((self.documents, file));
        let mut bytes = vec![0; length];
        for _ in 0..documents {
            reader.read_exact(&mut bytes)?;
            if self.dedup != Dedup::None {
                self.register(&Fingerprint::decode(&bytes).keys())?;
            }
            self.documents += 1;
        }
        Ok(())
    }

    fn register(&mut self, keys: &[u64]) -> io::Result<()> {
        keys.iter().try_for_each(|&key| self.table.insert(key, self.documents))
    }

    fn fingerprint(&self, document: u64) -> io::Result<Fingerprint> {
        let first_fresh = self.documents - self.fresh.len() as u64;
        if document >= first_fresh {
            return Ok(self.fresh[(document - first_fresh) as usize].clone());
        }
        let at = self.files.partition_point(|(first, _)| *first <= document) - 1;
        let (first, path) = &self.files[at];
        let length = Fingerprint::encoded_len(self.dedup);
        let mut bytes = vec![0; length];
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start((document - first) * length as u64))?;
        file.read_exact(&mut bytes)?;
        Ok(Fingerprint::decode(&bytes))
    }
}

fn is_near(left: &Fingerprint, right: &Fingerprint) -> bool {
    match (&left.signature, &right.signature) {
        (Some(left), Some(right)) => similarity(left, right) >= NEAR_SIMILARITY,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sift::minhash::signature;

    fn fingerprint(text: &str) -> Fingerprint {
        use sha2::{Digest, Sha256};
        let digest: [u8; 32] = Sha256::digest(text).into();
        Fingerprint { digest: digest[..16].try_into().unwrap(), signature: Some(Box::new(signature(text))) }
    }

    fn text(range: std::ops::Range<usize>) -> String {
        range.map(|at| format!("word{at} ")).collect()
    }

    fn file_of(folder: &std::path::Path, name: &str, documents: &[Fingerprint]) -> PathBuf {
        let mut bytes = Vec::new();
        documents.iter().for_each(|document| document.encode(&mut bytes));
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn check_copies_are_found(kept: &mut Kept) {
        let reason = |kept: &mut Kept, text: &str| kept.admit(&fingerprint(text)).unwrap();
        assert_eq!(reason(kept, &text(3000..3400)), Some(Reason::Duplicate));
        assert_eq!(reason(kept, &text(7000..7390)), Some(Reason::NearDuplicate));
    }

    #[test]
    fn the_first_of_similar_texts_stays_wherever_it_lies() {
        let folder = tempfile::tempdir().unwrap();
        let documents: Vec<Fingerprint> =
            (0..20).map(|at| fingerprint(&text(at * 1000..at * 1000 + 400))).collect();
        let mut kept = Kept::new(Dedup::Near, KeyTable::new(folder.path(), 40));
        for document in &documents {
            assert_eq!(kept.admit(document).unwrap(), None);
        }
        check_copies_are_found(&mut kept);
        let first = file_of(folder.path(), "first", &documents);
        kept.settle(first.clone());
        check_copies_are_found(&mut kept);

        let later = fingerprint(&text(7200..7700));
        assert_eq!(kept.admit(&later).unwrap(), None);
        let second = file_of(folder.path(), "second", &[later]);
        kept.settle(second.clone());
        assert_eq!(kept.admit(&fingerprint(&text(7200..7690))).unwrap(), Some(Reason::NearDuplicate));

        // As another process does.
        let mut again = Kept::new(Dedup::Near, KeyTable::new(folder.path(), 1000));
        again.replay(first).unwrap();
        again.replay(second).unwrap();
        check_copies_are_found(&mut again);
        assert_eq!(again.admit(&fingerprint(&text(7200..7690))).unwrap(), Some(Reason::NearDuplicate));
    }

    #[test]
    fn only_what_was_asked_for_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (whole, near) = (fingerprint(&text(0..400)), fingerprint(&text(0..395)));
        let expected = [
            (Dedup::None, [None, None]),
            (Dedup::Exact, [Some(Reason::Duplicate), None]),
            (Dedup::Near, [Some(Reason::Duplicate), Some(Reason::NearDuplicate)]),
        ];
        for (dedup, expected) in expected {
            let plain = |one: &Fingerprint| Fingerprint {
                digest: one.digest,
                signature: one.signature.clone().filter(|_| dedup == Dedup::Near),
            };
            let mut kept = Kept::new(dedup, KeyTable::new(folder.path(), 1000));
            assert_eq!(kept.admit(&plain(&whole)).unwrap(), None);
            let found = [&whole, &near].map(|one| kept.admit(&plain(one)).unwrap());
            assert_eq!(found, expected);
        }
    }
}
