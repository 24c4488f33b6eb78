//! Checkpoints: Hugging Face folders, of a model or of an adapter, with the optimizer and the state of the run.
//!
//! `RUN/checkpoints/step-00000500` appears by a rename once everything in it is on disk, so a kill at any
//! instant leaves the last good one. A save begins with a [`Snapshot`], which another thread may write while
//! training goes on.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use smelt_backend::Kernels;
use smelt_model::weights::{SaveOptions, TensorFileWriter, UnwrittenFiles, model_files, write_atomic};
use smelt_model::{Adapter, AdapterConfig, Decoder, ModelConfig, Quantization, adapter_files};

use crate::optimizer::Optimizer;
use crate::{Best, Progress, TrainConfig, TrainError, Trainer};

/// Folder of the checkpoints in the folder of a run.
pub const CHECKPOINTS: &str = "checkpoints";

/// Folder of the moving average of the weights in a checkpoint: a model folder of its own.
pub const AVERAGE: &str = "ema";

/// Says which checkpoint had the lowest validation loss.
const BEST_FILE: &str = "best.json";
const OPTIMIZER_FILE: &str = "optimizer.safetensors";
const STATE_FILE: &str = "trainer_state.json";
const STATE_VERSION: u32 = 1;
const PARTIAL_PREFIX: &str = ".partial-";

/// What a run needs besides weights and moments to continue.
///
/// The order of the data and dropout are functions of the seed and the step, so the step is their state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainerState {
    /// Version of this file.
    pub version: u32,
    /// Optimizer steps done.
    pub step: u64,
    /// What the policies of the run remember.
    #[serde(flatten)]
    pub progress: Progress,
    /// Fingerprint of the training data.
    pub data: String,
    /// The settings of the run.
    pub config: TrainConfig,
    /// Fingerprint of the weights below a trained adapter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// How those weights are quantized, as `config.json` says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Value>,
}

/// What an adapter is trained on.
#[derive(Debug)]
pub struct Base<B: Kernels> {
    /// Its configuration.
    pub config: ModelConfig,
    /// Its weights, which stay as they are.
    pub model: Decoder<B>,
    /// Tells it from others: a run of an adapter resumes only on the same.
    pub fingerprint: String,
}

/// The checkpoints of one run.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    folder: PathBuf,
    /// Files copied into every checkpoint, such as the tokenizer's.
    companions: Vec<PathBuf>,
    spare_bytes: u64,
}

impl Checkpoints {
    /// Those of the run in `run`; `companions` are copied into each one written.
    pub fn new(run: &Path, companions: Vec<PathBuf>) -> Self {
        Self { folder: run.join(CHECKPOINTS), companions, spare_bytes: u64::MAX }
    }

    /// With this much memory beside that of training; a checkpoint that needs more is written while training
    /// waits.
    pub fn with_spare_bytes(self, spare_bytes: u64) -> Self {
        Self { spare_bytes, ..self }
    }

    pub(crate) fn spare_bytes(&self) -> u64 {
        self.spare_bytes
    }

    /// Folders of all checkpoints, oldest first.
    pub fn list(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut steps: Vec<(u64, PathBuf)> = entries
            .filter_map(|entry| {
                let step = entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok()?;
                Some((step, entry.path()))
            })
            .collect();
        steps.sort();
        steps.into_iter().map(|(_, path)| path).collect()
    }

    /// The newest checkpoint.
    pub fn newest(&self) -> Option<PathBuf> {
        self.list().pop()
    }

    /// The checkpoint with the lowest validation loss, where the run keeps it.
    pub fn best(&self) -> Option<PathBuf> {
        let text = fs::read(self.folder.join(BEST_FILE)).ok()?;
        let best: Best = serde_json::from_slice(&text).ok()?;
        Some(self.of_step(best.step)).filter(|path| path.is_dir())
    }

    fn of_step(&self, step: u64) -> PathBuf {
        self.folder.join(format!("step-{step:08}"))
    }

    /// Writes a checkpoint, then deletes all but the newest that are to be kept and, with `keep_best`, the best.
    ///
    /// # Errors
    /// [`TrainError::Io`] or [`TrainError::Model`], for example on a full disk; earlier checkpoints are
    /// then untouched.
    pub fn write(&self, snapshot: Snapshot) -> Result<PathBuf, TrainError> {
        let (config, progress) = (snapshot.state.config.clone(), snapshot.state.progress.clone());
        let partial = self.folder.join(format!("{PARTIAL_PREFIX}step-{:08}", snapshot.state.step));
        let target = self.of_step(snapshot.state.step);
        self.remove_partial()?;
        fs::create_dir_all(&partial).map_err(TrainError::io("create", &partial))?;
        let written = snapshot.write(&self.companions, &partial).and_then(|()| replace(&partial, &target));
        if let Err(error) = written {
            // The error is what matters; a leftover is removed by the next save.
            let _ = fs::remove_dir_all(&partial);
            return Err(error);
        }
        self.mark_best(&config, &progress)?;
        let best = self.best();
        let old = self.list().into_iter().rev().skip(config.keep_last.max(1));
        for old in old.filter(|old| Some(old) != best.as_ref()) {
            fs::remove_dir_all(&old).map_err(TrainError::io("delete", &old))?;
        }
        Ok(target)
    }

    /// Notes the best checkpoint of the run, if it is to be kept.
    fn mark_best(&self, config: &TrainConfig, progress: &Progress) -> Result<(), TrainError> {
        let path = self.folder.join(BEST_FILE);
        let best = progress.best.filter(|best| config.keep_best && self.of_step(best.step).is_dir());
        match best {
            Some(best) => {
                let text = serde_json::to_string(&best).expect("the best is plain data");
                write_atomic(&path, |file| writeln!(file, "{text}")).map_err(TrainError::io("write", &path))
            }
            None if path.exists() => fs::remove_file(&path).map_err(TrainError::io("delete", &path)),
            None => Ok(()),
        }
    }

    /// Deletes what a killed save left.
    fn remove_partial(&self) -> Result<(), TrainError> {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(PARTIAL_PREFIX) {
                fs::remove_dir_all(entry.path()).map_err(TrainError::io("delete", &entry.path()))?;
            }
        }
        Ok(())
    }
}

/// A run as it stands after a step.
pub struct Snapshot {
    /// The model, or the adapter that is trained on it.
    model: UnwrittenFiles,
    /// The same with the moving average of the weights.
    average: Option<UnwrittenFiles>,
    optimizer: TensorFileWriter<'static>,
    state: TrainerState,
}

impl Snapshot {
    /// Bytes that are taken while it is written and training goes on: copies of what training changes
    /// meanwhile, or of all where a device must be read at once.
    pub fn bytes(&self) -> u64 {
        let average = self.average.as_ref().map_or(0, UnwrittenFiles::bytes);
        self.model.bytes() + average + self.optimizer.bytes()
    }

    /// The same, independent of the device.
    pub(crate) fn fetched(self) -> Self {
        let average = self.average.map(UnwrittenFiles::fetched);
        Self { model: self.model.fetched(), average, optimizer: self.optimizer.fetched(), ..self }
    }

    fn write(self, companions: &[PathBuf], folder: &Path) -> Result<(), TrainError> {
        self.model.write(folder)?;
        self.optimizer.write(&folder.join(OPTIMIZER_FILE))?;
        let average = self.average.map(|average| (average, folder.join(AVERAGE)));
        if let Some((average, folder)) = average {
            fs::create_dir_all(&folder).map_err(TrainError::io("create", &folder))?;
            average.write(&folder)?;
            companions.iter().try_for_each(|companion| copy_into(companion, &folder))?;
        }
        companions.iter().try_for_each(|companion| copy_into(companion, folder))?;
        let path = folder.join(STATE_FILE);
        let text = serde_json::to_string_pretty(&self.state).expect("the state is plain data");
        write_atomic(&path, |file| writeln!(file, "{text}")).map_err(TrainError::io("write", &path))
    }
}

/// Puts the finished folder in place, durably; a run that is repeated replaces its own checkpoint.
fn replace(partial: &Path, target: &Path) -> Result<(), TrainError> {
    if target.exists() {
        fs::remove_dir_all(target).map_err(TrainError::io("replace", target))?;
    }
    fs::rename(partial, target).map_err(TrainError::io("write", target))?;
    let folder = target.parent().expect("a checkpoint lies in the folder of checkpoints");
    if cfg!(unix) {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(TrainError::io("write", folder))?;
    }
    Ok(())
}

fn copy_into(file: &Path, folder: &Path) -> Result<(), TrainError> {
    let bytes = fs::read(file).map_err(TrainError::io("read", file))?;
    let path = folder.join(file.file_name().unwrap_or_default());
    write_atomic(&path, |out| out.write_all(&bytes)).map_err(TrainError::io("write", &path))
}

impl TrainerState {
    /// `folder` is a checkpoint of a run.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(STATE_FILE).is_file()
    }

    /// Reads the state in a checkpoint folder.
    ///
    /// # Errors
    /// [`TrainError::Io`], [`TrainError::State`].
    pub fn read(checkpoint: &Path) -> Result<Self, TrainError> {
        let path = checkpoint.join(STATE_FILE);
        let text = fs::read(&path).map_err(TrainError::io("read", &path))?;
        serde_json::from_slice(&text).map_err(|source| TrainError::State { path, source })
    }
}

impl<B: Kernels> Trainer<B> {
    /// The run as it stands, trained on the data of fingerprint `data`; costs nothing until it is written or
    /// training changes a tensor.
    ///
    /// # Errors
    /// [`TrainError::Model`] if the adapter in training is not that of its settings.
    pub fn snapshot(&self, data: &str) -> Result<Snapshot, TrainError> {
        let average = self.averaged_model().map(|average| self.files(&average)).transpose()?;
        Ok(Snapshot {
            model: self.files(&self.model())?,
            average,
            optimizer: self.optimizer.file(),
            state: TrainerState {
                version: STATE_VERSION,
                step: self.step,
                progress: self.progress.clone(),
                data: data.to_owned(),
                config: self.config.clone(),
                base: self.base.clone(),
                quantization: quantization(&self.model_config).filter(|_| self.adapter.is_some()),
            },
        })
    }

    /// The files of what is trained of `model`.
    fn files(&self, model: &Decoder<B>) -> Result<UnwrittenFiles, TrainError> {
        Ok(match &self.adapter {
            Some(adapter) => adapter_files(&self.model_config, model, adapter)?,
            None => model_files(&self.model_config, model, SaveOptions::default()),
        })
    }

    /// Continues the run of `checkpoint` exactly.
    ///
    /// # Errors
    /// [`TrainError::Conflict`] if `config`, `model_config` or `data` are not those of the checkpoint;
    /// [`TrainError::OptimizerMismatch`]; those of reading the files.
    pub fn resume(
        checkpoint: &Path,
        config: TrainConfig,
        model_config: &ModelConfig,
        data: &str,
        device: B::Device,
    ) -> Result<Self, TrainError> {
        let state = check(checkpoint, &config, data)?;
        let (saved, model) = smelt_model::load_for_training::<B>(checkpoint, &device)?;
        if saved.decoder != model_config.decoder {
            let describe = |config: &ModelConfig| config.to_json().to_string();
            return Err(conflict(checkpoint, "model", describe(&saved), describe(model_config)));
        }
        Trainer::new(config, saved, model, device)?.at(checkpoint, state)
    }

    /// Continues the run of `checkpoint` exactly, which trained an adapter of `adapter`'s settings on `base`.
    ///
    /// # Errors
    /// As [`Trainer::resume`].
    pub fn resume_adapter(
        checkpoint: &Path,
        config: TrainConfig,
        base: Base<B>,
        adapter: &AdapterConfig,
        data: &str,
        device: B::Device,
    ) -> Result<Self, TrainError> {
        let state = check(checkpoint, &config, data)?;
        if state.base.as_deref() != Some(base.fingerprint.as_str()) {
            let saved = state.base.unwrap_or_default();
            return Err(conflict(checkpoint, "model.path", saved, base.fingerprint));
        }
        let (saved, now) = (&state.quantization, quantization(&base.config));
        if *saved != now {
            let told = |section: &Option<Value>| section.as_ref().map_or("none".to_owned(), Value::to_string);
            return Err(conflict(checkpoint, "quantization", told(saved), told(&now)));
        }
        let saved = Adapter::open(checkpoint, &base.config.family.names)?;
        // What was asked for, written out for this model.
        let (model, adapter) = base.model.with_new_adapter(&base.config, adapter, config.seed)?;
        if let Some((key, saved, now)) = different(&saved.config.to_json(), &adapter.to_json()) {
            return Err(conflict(checkpoint, &format!("adapter.{key}"), saved, now));
        }
        let model = model.with_adapter(&base.config, &saved)?;
        let mut trainer = Trainer::with_adapter(config, base.config, adapter, model, device)?;
        trainer.base = Some(base.fingerprint);
        trainer.at(checkpoint, state)
    }

    /// As the run was when `checkpoint` was written with `state`.
    fn at(mut self, checkpoint: &Path, state: TrainerState) -> Result<Self, TrainError> {
        let parameters = self.trained_parameters();
        let file = checkpoint.join(OPTIMIZER_FILE);
        self.optimizer = Optimizer::load(&self.config, &file, &parameters, &self.device)?;
        if self.average.is_some() {
            let saved = self.saved_average(&checkpoint.join(AVERAGE))?;
            self.restore_average(&saved);
        }
        self.step = state.step;
        self.progress = state.progress;
        Ok(self)
    }

    /// The model with the moving average of its weights that lies in `folder`.
    fn saved_average(&self, folder: &Path) -> Result<Decoder<B>, TrainError> {
        if self.adapter.is_none() {
            return Ok(smelt_model::load_for_training::<B>(folder, &self.device)?.1);
        }
        let adapter = Adapter::open(folder, &self.model_config.family.names)?;
        Ok(self.model().with_adapter(&self.model_config, &adapter)?)
    }
}

/// The state in `checkpoint`, if a run of `config` on `data` may continue it.
fn check(checkpoint: &Path, config: &TrainConfig, data: &str) -> Result<TrainerState, TrainError> {
    let state = TrainerState::read(checkpoint)?;
    if let Some((key, saved, now)) = config.conflict(&state.config) {
        return Err(conflict(checkpoint, &key, saved, now));
    }
    if state.data != data {
        return Err(conflict(checkpoint, "data", state.data, data.to_owned()));
    }
    Ok(state)
}

/// How the model of `config` is quantized.
fn quantization(config: &ModelConfig) -> Option<Value> {
    config.quantization.as_ref().map(Quantization::to_json)
}

fn conflict(checkpoint: &Path, key: &str, saved: String, now: String) -> TrainError {
    TrainError::Conflict { checkpoint: checkpoint.to_owned(), key: key.to_owned(), saved, now }
}

/// The first key in which two objects differ, with its values.
fn different(saved: &Value, now: &Value) -> Option<(String, String, String)> {
    let now = now.as_object()?;
    // Where the base lies may change; what it is, its fingerprint tells.
    now.iter()
        .filter(|(key, _)| *key != "base_model_name_or_path")
        .map(|(key, now)| (key, &saved[key], now))
        .find(|(_, saved, now)| saved != now)
        .map(|(key, saved, now)| (key.clone(), saved.to_string(), now.to_string()))
}
