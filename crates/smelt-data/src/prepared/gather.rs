//! The first half of a preparation: from the inputs to segments of texts worth keeping.
//!
//! One thread reads, all cores sift, and one goes over the results in order: it leaves out copies of
//! earlier documents and writes the rest. Goes on after the segments that are there.

use rayon::prelude::*;

use super::PrepareProgress;
use super::prepare::{Observer, PrepareOptions};
use super::segment::{SegmentRecord, TextWriter};
use super::split::content_rank;
use super::stages::in_stages;
use super::tally::Tally;
use super::work::WorkFolder;
use crate::DataError;
use crate::corpus::{Content, Files, Item, Position, Reader};
use crate::sift::{Candidate, Kept, KeyTable, Origin, Outcome, SiftOptions, Sifted, sift};

/// What is read and sifted at a time.
const BATCH_BYTES: usize = 8 << 20;
const BATCH_ITEMS: usize = 4096;

/// Keys of documents held in memory before they spill to the disk.
const MAX_KEYS: usize = 2 << 20;

/// What is counted together when a segment has this many documents, however short they are: memory holds
/// the fingerprints of one segment.
const SEGMENT_DOCUMENTS: u64 = 100_000;

/// What was gathered.
pub struct Gathered {
    /// Counts of all segments.
    pub tally: Tally,
    /// What was read by this process, in bytes.
    pub read_bytes: u64,
}

/// Brings the segments in `work` up to the end of `files`; counts them all.
pub fn gather(
    files: Files<'_>,
    total_bytes: u64,
    work: &WorkFolder,
    options: &PrepareOptions,
    observer: &mut Observer<'_>,
) -> Result<Gathered, DataError> {
    let mut gathering = Gathering::resume(work, total_bytes, options, observer)?;
    let before = gathering.total.read_bytes;
    if gathering.is_done {
        return Ok(Gathered { tally: gathering.total, read_bytes: 0 });
    }
    let sifting = options.sifting();
    let reader = Reader::new(files, &sifting.read, gathering.next)?;
    let batches = Batches { reader };
    in_stages(batches, |batch| sift_batch(batch, &sifting), |batch| gathering.take(batch))?;
    gathering.close(true)?;
    let read_bytes = gathering.total.read_bytes - before;
    Ok(Gathered { tally: gathering.total, read_bytes })
}

fn sift_batch(
    batch: Result<Vec<Item>, DataError>,
    options: &SiftOptions,
) -> Result<Vec<Result<Sifted, DataError>>, DataError> {
    Ok(batch?.into_par_iter().map(|item| sift(item, options)).collect())
}

/// Items in groups that are worth sharing among cores.
struct Batches<'i> {
    reader: Reader<'i>,
}

impl Iterator for Batches<'_> {
    type Item = Result<Vec<Item>, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (mut items, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES && items.len() < BATCH_ITEMS {
            match self.reader.next() {
                Some(Ok(item)) => {
                    if let Content::Raw(raw) = &item.content {
                        bytes += raw.bytes.len();
                    }
                    items.push(item);
                }
                Some(Err(error)) => return Some(Err(error)),
                None => break,
            }
        }
        (!items.is_empty()).then_some(Ok(items))
    }
}

/// Goes over sifted documents in order.
struct Gathering<'a, 'o> {
    work: &'a WorkFolder,
    options: &'a PrepareOptions,
    observer: &'a mut Observer<'o>,
    total_bytes: u64,
    kept: Kept,
    /// Finished segments.
    segments: usize,
    is_done: bool,
    next: Position,
    /// The segment that is being written, and its counts.
    writer: Option<TextWriter>,
    segment: Tally,
    /// Counts of the finished segments.
    total: Tally,
}

impl<'a, 'o> Gathering<'a, 'o> {
    fn resume(
        work: &'a WorkFolder,
        total_bytes: u64,
        options: &'a PrepareOptions,
        observer: &'a mut Observer<'o>,
    ) -> Result<Self, DataError> {
        work.clear_spill()?;
        let mut kept = Kept::new(options.dedup, KeyTable::new(&work.spill(), MAX_KEYS));
        let (mut total, mut next, mut is_done) = (Tally::default(), Position::default(), false);
        let finished = work.finished()?;
        for (segment, record) in &finished {
            kept.replay(segment.keys()).map_err(DataError::io("read", &segment.keys()))?;
            total.extend(&record.tally);
            (next, is_done) = (record.next, record.is_last);
        }
        if !finished.is_empty() {
            observer.tell(PrepareProgress::Resumed { tally: &total })?;
        }
        let segments = finished.len();
        let (writer, segment) = (None, Tally::default());
        Ok(Self {
            work,
            options,
            observer,
            total_bytes,
            kept,
            segments,
            is_done,
            next,
            writer,
            segment,
            total,
        })
    }

    fn take(&mut self, batch: Result<Vec<Result<Sifted, DataError>>, DataError>) -> Result<(), DataError> {
        let mut passed_bytes = 0;
        for sifted in batch? {
            let Sifted { origin, outcome } = sifted?;
            passed_bytes = origin.passed_bytes;
            match outcome {
                Outcome::Removed(reason) => self.segment.add_removed(&origin, reason),
                Outcome::Kept(candidate) => self.admit(&origin, &candidate)?,
            }
            self.next = origin.next;
            let is_full = self.segment.read_bytes >= self.options.segment_bytes
                || self.segment.read_documents >= SEGMENT_DOCUMENTS;
            if is_full {
                self.close(false)?;
            }
        }
        self.observer.tell(PrepareProgress::Reading {
            passed_bytes,
            total_bytes: self.total_bytes,
            kept_documents: self.total.kept_documents + self.segment.kept_documents,
            text_bytes: self.total.kept_bytes + self.segment.kept_bytes,
        })
    }

    fn admit(&mut self, origin: &Origin, candidate: &Candidate) -> Result<(), DataError> {
        let spill = self.work.spill();
        let admitted = self.kept.admit(&candidate.fingerprint);
        if let Some(reason) = admitted.map_err(DataError::io("use", &spill))? {
            self.segment.add_removed(origin, reason);
            return Ok(());
        }
        let rank = content_rank(&candidate.fingerprint.digest, self.options.seed);
        self.segment.add_kept(origin, candidate, rank, self.options.val_fraction);
        self.open_writer()?.append(&candidate.text, &candidate.fingerprint)
    }

    fn open_writer(&mut self) -> Result<&mut TextWriter, DataError> {
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => TextWriter::create(self.work.segment(self.segments))?,
        };
        Ok(self.writer.insert(writer))
    }

    fn close(&mut self, is_last: bool) -> Result<(), DataError> {
        self.open_writer()?;
        let writer = self.writer.take().expect("opened in the line before");
        let tally = std::mem::take(&mut self.segment);
        self.total.extend(&tally);
        writer.finish(&SegmentRecord { next: self.next, is_last, tally })?;
        self.kept.settle(self.work.segment(self.segments).keys());
        self.segments += 1;
        Ok(())
    }
}
