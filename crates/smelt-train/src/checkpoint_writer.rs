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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use smelt_backend::Kernels;
    use smelt_data::TokenBatch;
    use smelt_model::{Decoder, ModelConfig};
    use smelt_testkit::{backend_test, golden_folder};

    use super::*;
    use crate::{TrainConfig, Trainer};

    backend_test!(a_checkpoint_is_of_its_step_however_training_goes_on, of_its_step);
    backend_test!(a_failed_write_surfaces_and_leaves_the_earlier_checkpoint, failed_write);

    fn trainer<B: Kernels>(device: &B::Device) -> Trainer<B> {
        let model_config = ModelConfig::from_folder(&golden_folder("train_gpt2")).expect("the fixture");
        let model = Decoder::init(&model_config, 1, device);
        let config = TrainConfig { seq_length: 4, warmup_steps: 0, ..TrainConfig::default() };
        Trainer::new(config, model_config, model, device.clone()).expect("the sequences fit")
    }

    fn step<B: Kernels>(trainer: &mut Trainer<B>) {
        let batch = TokenBatch {
            batch_size: 1,
            seq_length: 4,
            input_ids: vec![1, 2, 3, 4],
            targets: vec![2, 3, 4, 5],
            loss_mask: vec![1.0; 4],
            document_ids: None,
            position_ids: None,
        };
        trainer.step(&[batch]).expect("a step");
    }

    fn files(folder: &Path) -> [Vec<u8>; 3] {
        ["model.safetensors", "optimizer.safetensors", "trainer_state.json"]
            .map(|name| fs::read(folder.join(name)).expect("the checkpoint has the file"))
    }

    fn of_its_step<B: Kernels>(device: &B::Device) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at_once = Checkpoints::new(&folder.path().join("at_once"), Vec::new()).with_spare_bytes(0);
        let meanwhile = Checkpoints::new(&folder.path().join("meanwhile"), Vec::new());
        let mut trainer = trainer::<B>(device);
        step(&mut trainer);
        let shared_memory = B::is_read_by_any_thread(device);
        let mut waits = CheckpointWriter::new(&at_once, shared_memory);
        let expected =
            waits.begin(trainer.snapshot("data").unwrap()).unwrap().expect("there is no spare memory");
        let mut writer = CheckpointWriter::new(&meanwhile, shared_memory);
        assert_eq!(writer.begin(trainer.snapshot("data").unwrap()).unwrap(), None);
        (0..5).for_each(|_| step(&mut trainer));
        let written = writer.wait().unwrap().expect("a checkpoint was in flight");
        assert!(files(&written) == files(&expected), "steps after the snapshot reached the checkpoint");
        assert_eq!(writer.wait().unwrap(), None);
    }

    fn failed_write<B: Kernels>(device: &B::Device) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let companion = folder.path().join("tokenizer.json");
        fs::write(&companion, "{}").unwrap();
        let checkpoints = Checkpoints::new(folder.path(), vec![companion.clone()]);
        let mut writer = CheckpointWriter::new(&checkpoints, B::is_read_by_any_thread(device));
        let mut trainer = trainer::<B>(device);
        step(&mut trainer);
        writer.begin(trainer.snapshot("data").unwrap()).unwrap();
        let first = writer.wait().unwrap().unwrap();
        fs::remove_file(&companion).unwrap();
        step(&mut trainer);
        writer.begin(trainer.snapshot("data").unwrap()).unwrap();
        let error = writer.wait().unwrap_err();
        assert!(error.to_string().starts_with("cannot read `"), "{error}");
        assert_eq!(checkpoints.list(), [first]);
        let left = fs::read_dir(folder.path().join(crate::CHECKPOINTS)).unwrap().count();
        assert_eq!(left, 1, "nothing half written is left");
    }
}
