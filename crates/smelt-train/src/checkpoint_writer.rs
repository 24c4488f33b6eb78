//! Writes checkpoints while training goes on, one at a time.
//!
//! A thread of its own writes a [`Snapshot`]. Tensors in system memory it reads itself: training copies those that
//! it changes meanwhile. From other devices everything is read first, since they take work from one thread.
//! Where the memory for these copies is not to be had, training waits until the checkpoint is written.

use std::path::PathBuf;
use std::thread::JoinHandle;

use crate::TrainError;
use crate::checkpoint::{Checkpoints, Snapshot};

/// What became of a checkpoint.
type Written = Result<PathBuf, TrainError>;

/// The one who writes the checkpoints of a run.
pub(crate) struct CheckpointWriter<'a> {
    checkpoints: &'a Checkpoints,
    /// The snapshot's tensors may be read by any thread.
    shared_memory: bool,
    in_flight: Option<JoinHandle<Written>>,
}

impl<'a> CheckpointWriter<'a> {
    /// Nothing is being written.
    pub fn new(checkpoints: &'a Checkpoints, shared_memory: bool) -> Self {
        Self { checkpoints, shared_memory, in_flight: None }
    }

    /// Begins to write `snapshot`; what is in flight must have been waited for.
    ///
    /// Returns the checkpoint if it was written at once.
    ///
    /// # Errors
    /// As [`Checkpoints::write`].
    pub fn begin(&mut self, snapshot: Snapshot) -> Result<Option<PathBuf>, TrainError> {
        assert!(self.in_flight.is_none(), "one checkpoint is written at a time");
        if snapshot.bytes() > self.checkpoints.spare_bytes() {
            return self.checkpoints.write(snapshot).map(Some);
        }
        let snapshot = if self.shared_memory { snapshot } else { snapshot.fetched() };
        let checkpoints = self.checkpoints.clone();
        self.in_flight = Some(std::thread::spawn(move || checkpoints.write(snapshot)));
        Ok(None)
    }

    /// The checkpoint that was in flight, if it is written by now.
    ///
    /// # Errors
    /// As [`Checkpoints::write`].
    pub fn finished(&mut self) -> Result<Option<PathBuf>, TrainError> {
        match self.in_flight.take_if(|thread| thread.is_finished()) {
            Some(thread) => outcome(thread).map(Some),
            None => Ok(None),
        }
    }

    /// Waits for the checkpoint in flight.
    ///
    /// # Errors
    /// As [`Checkpoints::write`].
    pub fn wait(&mut self) -> Result<Option<PathBuf>, TrainError> {
        self.in_flight.take().map(outcome).transpose()
    }
}

impl Drop for CheckpointWriter<'_> {
    /// A run that fails still ends with the checkpoint it had begun.
    fn drop(&mut self) {
        if let Some(Err(error)) = self.in_flight.take().map(outcome) {
            tracing::error!("the last checkpoint was not written: {error}");
        }
    }
}

fn outcome(thread: JoinHandle<Written>) -> Written {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
