//! Batches made ahead of their use, on one thread of their own.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use super::{BatchSource, TokenBatch};
use crate::DataError;

/// Iterates over the batches of a source in order, a few ahead; without end but for an error.
///
/// An error takes the place of the batch that it kept from being made, and ends the iteration. Dropping
/// this ends the thread, at the latest with the batch that it is making.
#[derive(Debug)]
pub struct Prefetch {
    /// `None` once the iteration has ended.
    worker: Option<Worker>,
    position: u64,
}

#[derive(Debug)]
struct Worker {
    batches: Receiver<Result<TokenBatch, DataError>>,
    thread: JoinHandle<()>,
}

impl Prefetch {
    /// Makes the batches of `source` from number `first` on, at most `ahead` and one in the making.
    ///
    /// # Errors
    /// [`DataError::Thread`] if the system gives no thread.
    pub fn new(source: Arc<dyn BatchSource>, first: u64, ahead: usize) -> Result<Self, DataError> {
        let (sender, batches) = sync_channel(ahead);
        let make = move || {
            for index in first.. {
                let batch = source.batch(index);
                let is_last = batch.is_err();
                // Nobody listens any more once the receiver is dropped.
                if sender.send(batch).is_err() || is_last {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("batches".to_owned()).spawn(make);
        let thread = thread.map_err(|source| DataError::Thread { purpose: "batches", source })?;
        Ok(Self { worker: Some(Worker { batches, thread }), position: first })
    }

    /// The number of the batch that comes next: all there is to store to resume.
    pub fn position(&self) -> u64 {
        self.position
    }
}

impl Iterator for Prefetch {
    type Item = Result<TokenBatch, DataError>;

    /// # Panics
    /// If the source panicked, as it did.
    fn next(&mut self) -> Option<Self::Item> {
        let worker = self.worker.as_ref()?;
        if let Ok(batch) = worker.batches.recv() {
            self.position += u64::from(batch.is_ok());
            return Some(batch);
        }
        let worker = self.worker.take()?;
        if let Err(panic) = worker.thread.join() {
            resume_unwind(panic);
        }
        None
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        if let Some(Worker { batches, thread }) = self.worker.take() {
            drop(batches);
            // A panic of the thread is of no interest to who wants no more batches.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;

    use super::*;
    use crate::DocumentIndex;
    use crate::batch::{Mixture, PackedDocuments, Sampler, Windows, counting_shard};

    /// Counts what was asked of it; number 5 fails or panics.
    #[derive(Debug, Default)]
    struct Faulty {
        made: AtomicU64,
        panics: bool,
    }

    impl BatchSource for Faulty {
        fn batch(&self, index: u64) -> Result<TokenBatch, DataError> {
            self.made.fetch_add(1, Ordering::SeqCst);
            assert!(index != 5 || !self.panics, "batch 5");
            match index {
                5 => Err(DataError::BadMixture { reason: "batch 5".to_owned() }),
                _ => Ok(TokenBatch::with_capacity(0, 1, false)),
            }
        }

        fn batches_per_epoch(&self) -> u64 {
            1
        }
    }

    fn mixed(seed: u64) -> Arc<dyn BatchSource> {
        let shard = counting_shard(500);
        let documents = DocumentIndex::find(&shard, 77);
        let windows = Arc::new(Windows::new(&shard, 7, seed).unwrap());
        let packed = Arc::new(PackedDocuments::new(&shard, &documents, 7, seed).unwrap());
        let rows = Mixture::new(vec![(windows, 1.0), (packed, 2.0)], seed).unwrap();
        Arc::new(Sampler::of_rows(Arc::new(rows), 3).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_resumed_run_gets_the_batches_of_an_uninterrupted_one(
            seed: u64, ahead in 0_usize..4, stop in 0_usize..80
        ) {
            let whole: Vec<TokenBatch> =
                Prefetch::new(mixed(seed), 0, ahead).unwrap().take(100).map(Result::unwrap).collect();
            let mut first = Prefetch::new(mixed(seed), 0, ahead).unwrap();
            let mut pieces: Vec<TokenBatch> = first.by_ref().take(stop).map(Result::unwrap).collect();
            let position = first.position();
            drop(first);
            prop_assert_eq!(position, stop as u64);
            let rest = Prefetch::new(mixed(seed), position, ahead).unwrap().take(100 - stop);
            pieces.extend(rest.map(Result::unwrap));
            prop_assert_eq!(pieces, whole);
        }
    }

    #[test]
    fn an_error_comes_in_its_place_and_ends_the_batches() {
        let mut batches = Prefetch::new(Arc::new(Faulty::default()), 2, 9).unwrap();
        assert_eq!(batches.by_ref().take(3).filter(Result::is_ok).count(), 3);
        assert!(batches.next().unwrap().is_err());
        assert_eq!(batches.position(), 5);
        assert!(batches.next().is_none() && batches.next().is_none());
    }

    #[test]
    #[should_panic = "batch 5"]
    fn a_panic_of_the_source_is_carried_over() {
        let source = Arc::new(Faulty { panics: true, ..Faulty::default() });
        Prefetch::new(source, 5, 1).unwrap().next();
    }

    #[test]
    fn a_dropped_prefetch_has_made_few_batches_and_leaves_no_thread() {
        let source = Arc::new(Faulty::default());
        let mut batches = Prefetch::new(source.clone(), 6, 2).unwrap();
        batches.next();
        drop(batches);
        // The thread held the other clone.
        assert_eq!(Arc::strong_count(&source), 1);
        assert!(source.made.load(Ordering::SeqCst) <= 5);
    }
}
