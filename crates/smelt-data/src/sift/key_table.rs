//! A table from 64-bit keys to numbers that may be larger than memory.
//!
//! Entries gather in memory; when there are too many they are sorted into a file, and files are merged
//! as they grow in number (a log-structured merge tree, O'Neil et al. 1996, of one level). Of a file,
//! memory holds every 256th key, so a lookup is one read. Lives as long as the process: what it holds is
//! derived, and whoever needs it again fills it again.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Entries between two keys that memory holds.
const BLOCK_ENTRIES: usize = 256;
const ENTRY_BYTES: usize = 16;

/// Files before they are merged into one.
const MAX_RUNS: usize = 6;

/// A multimap that spills to a folder.
pub struct KeyTable {
    folder: PathBuf,
    fresh: BTreeSet<(u64, u64)>,
    max_fresh: usize,
    runs: Vec<Run>,
    files_made: usize,
}

/// A sorted file of entries.
struct Run {
    path: PathBuf,
    file: RefCell<File>,
    entries: usize,
    /// The first key of every block.
    fences: Vec<u64>,
}

impl KeyTable {
    /// A table that keeps up to `max_fresh` entries in memory and the others in `folder`, which exists.
    pub fn new(folder: &Path, max_fresh: usize) -> Self {
        Self { folder: folder.to_owned(), fresh: BTreeSet::new(), max_fresh, runs: Vec::new(), files_made: 0 }
    }

    /// Adds a number to those of `key`.
    pub fn insert(&mut self, key: u64, value: u64) -> io::Result<()> {
        self.fresh.insert((key, value));
        if self.fresh.len() >= self.max_fresh {
            self.spill()?;
        }
        Ok(())
    }

    /// The numbers of `key`, the first `limit` of them in ascending order per file.
    pub fn get(&self, key: u64, limit: usize) -> io::Result<Vec<u64>> {
        let mut values = Vec::new();
        for run in &self.runs {
            run.get(key, limit - values.len(), &mut values)?;
        }
        let fresh = self.fresh.range((key, 0)..=(key, u64::MAX)).map(|(_, value)| *value);
        values.extend(fresh.take(limit - values.len()));
        Ok(values)
    }

    fn spill(&mut self) -> io::Result<()> {
        let fresh = std::mem::take(&mut self.fresh);
        let run = self.write_run(fresh.into_iter().map(Ok))?;
        self.runs.push(run);
        if self.runs.len() > MAX_RUNS {
            self.merge()?;
        }
        Ok(())
    }

    fn merge(&mut self) -> io::Result<()> {
        let old = std::mem::take(&mut self.runs);
        let mut sources = old.iter().map(Entries::open).collect::<io::Result<Vec<_>>>()?;
        let mut heads =
            sources.iter_mut().map(|source| source.next().transpose()).collect::<io::Result<Vec<_>>>()?;
        let merged = std::iter::from_fn(|| {
            let least = (0..heads.len()).filter(|&at| heads[at].is_some()).min_by_key(|&at| heads[at])?;
            let entry = heads[least].take()?;
            match sources[least].next().transpose() {
                Ok(next) => heads[least] = next,
                Err(error) => return Some(Err(error)),
            }
            Some(Ok(entry))
        });
        let run = self.write_run(merged)?;
        self.runs.push(run);
        for run in old {
            std::fs::remove_file(&run.path)?;
        }
        Ok(())
    }

    fn write_run(&mut self, entries: impl Iterator<Item = io::Result<(u64, u64)>>) -> io::Result<Run> {
        let path = self.folder.join(format!("{:05}.run", self.files_made));
        self.files_made += 1;
        let mut writer = BufWriter::new(File::create(&path)?);
        let (mut fences, mut written) = (Vec::new(), 0);
        for entry in entries {
            let (key, value) = entry?;
            if written % BLOCK_ENTRIES == 0 {
                fences.push(key);
            }
            written += 1;
            writer.write_all(&key.to_le_bytes())?;
            writer.write_all(&value.to_le_bytes())?;
        }
        writer.flush()?;
        drop(writer);
        let file = RefCell::new(File::open(&path)?);
        Ok(Run { path, file, entries: written, fences })
    }
}

impl Run {
    /// Appends up to `limit` numbers of `key`.
    fn get(&self, key: u64, limit: usize, values: &mut Vec<u64>) -> io::Result<()> {
        let wanted = values.len() + limit;
        // The key may begin in the block before the first that starts with it.
        let first = self.fences.partition_point(|&fence| fence < key).saturating_sub(1);
        for block in first..self.fences.len() {
            if self.fences[block] > key || values.len() >= wanted {
                break;
            }
            let found = self.read_block(block)?.into_iter().filter(|(found, _)| *found == key);
            let room = wanted - values.len();
            values.extend(found.take(room).map(|(_, value)| value));
        }
        Ok(())
    }

    fn read_block(&self, block: usize) -> io::Result<Vec<(u64, u64)>> {
        let start = block * BLOCK_ENTRIES;
        let entries = BLOCK_ENTRIES.min(self.entries - start);
        let mut bytes = vec![0; entries * ENTRY_BYTES];
        let mut file = self.file.borrow_mut();
        file.seek(SeekFrom::Start((start * ENTRY_BYTES) as u64))?;
        file.read_exact(&mut bytes)?;
        let (entries, _) = bytes.as_chunks();
        Ok(entries.iter().map(parse).collect())
    }
}

/// The entries of a run in order.
struct Entries {
    reader: BufReader<File>,
    left: usize,
}

impl Entries {
    fn open(run: &Run) -> io::Result<Self> {
        Ok(Self { reader: BufReader::new(File::open(&run.path)?), left: run.entries })
    }
}

impl Iterator for Entries {
    type Item = io::Result<(u64, u64)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let mut bytes = [0; ENTRY_BYTES];
        Some(self.reader.read_exact(&mut bytes).map(|()| parse(&bytes)))
    }
}

fn parse(bytes: &[u8; ENTRY_BYTES]) -> (u64, u64) {
    let whole = u128::from_le_bytes(*bytes);
    (whole as u64, (whole >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Small memory, so that entries are spilled and files merged many times.
        #[test]
        fn it_holds_what_a_map_holds(keys in prop::collection::vec(0_u64..200, 0..3000), max_fresh in 1_usize..300) {
            let folder = tempfile::tempdir().unwrap();
            let mut table = KeyTable::new(folder.path(), max_fresh);
            let mut expected: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
            for (value, &key) in keys.iter().enumerate() {
                table.insert(key, value as u64).unwrap();
                expected.entry(key).or_default().push(value as u64);
            }
            for key in 0..201 {
                let mut found = table.get(key, usize::MAX).unwrap();
                found.sort_unstable();
                prop_assert_eq!(&found, expected.entry(key).or_default());
                prop_assert_eq!(table.get(key, 2).unwrap().len(), found.len().min(2));
            }
        }
    }
}
