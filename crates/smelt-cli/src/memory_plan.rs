//! The memory of a run before it starts: what it will take, whether that is to be had, and what to change.

use std::fs;
use std::path::Path;

use smelt_backend::kernels::CrossEntropyOptions;
use smelt_backend::{BackendError, Name, Precision, Reason, in_build, memory};
use smelt_convert::gguf::is_gguf;
use smelt_model::ModelConfig;
use smelt_model::estimate::{
    AdapterShape, Kernels, OptimizerShape, TrainingEstimate, TrainingShape, parameters, training,
};
use smelt_model::quantization::QuantizationRules;
use smelt_train::OptimizerKind;

use crate::config::RunConfig;
use crate::error::CliError;
use crate::folders::model_folder;
use crate::model_files;
use crate::quantity::bytes;

/// Rank of the adapters that are suggested.
const SUGGESTED_RANK: usize = 16;
/// Moments in a byte each, with a scale for each block of 256; the update is computed in host memory.
const ADAMW_8BIT: OptimizerShape =
    OptimizerShape { bytes_per_parameter: 2.0 + 8.0 / 256.0, update_copies: 2 };
/// Bytes of a number in 32 bits.
const F32_BYTES: u64 = 4;
/// Shortest sequences that are suggested.
const SHORTEST: usize = 32;

/// A run as far as its memory goes.
#[derive(Debug)]
pub struct MemoryPlan {
    model: ModelConfig,
    shape: TrainingShape,
    /// It starts from weights, so that an adapter could be trained instead.
    from_weights: bool,
}

impl MemoryPlan {
    /// Of the run that `config` describes, on `backend` or on any.
    ///
    /// # Errors
    /// [`CliError::Model`] for a pattern of modules that is none.
    pub fn new(config: &RunConfig, model: &ModelConfig, backend: Option<&str>) -> Result<Self, CliError> {
        let adapter = config.adapter_config();
        let adapted = adapter.is_some();
        let shape = TrainingShape {
            batch_size: config.train.batch_size,
            seq_length: config.train.seq_length,
            gradient_accumulation: config.train.gradient_accumulation_steps,
            chunk_tokens: CrossEntropyOptions::default().chunk_tokens,
            gradient_checkpointing: config.train.gradient_checkpointing,
            adapter: adapter.map(|adapter| AdapterShape::of(model, &adapter)).transpose()?,
            weights_bytes: adapted.then(|| base_bytes(config, model, backend)).flatten(),
            half_precision: config.train.precision != Precision::F32,
            optimizer: optimizer(config),
            kernels: if computes_on_cpu(backend) { Kernels::Fused } else { Kernels::Composed },
        };
        Ok(Self { model: model.clone(), shape, from_weights: config.model.path.is_some() })
    }

    /// What it will take.
    pub fn estimate(&self) -> TrainingEstimate {
        training(&self.model.decoder, self.shape)
    }

    /// Memory that is left beside it within `limit`, or within what the system has free.
    pub fn spare_bytes(&self, limit: Option<u64>) -> u64 {
        let all = limit.unwrap_or_else(memory::system_available_bytes);
        all.saturating_sub(self.estimate().peak_bytes)
    }

    /// Refuses what is estimated to take more than `limit` bytes.
    ///
    /// # Errors
    /// [`CliError::MemoryLimit`] with what to change.
    pub fn check(&self, limit: Option<u64>) -> Result<(), CliError> {
        let needed_bytes = self.estimate().peak_bytes;
        match limit.filter(|limit| needed_bytes > *limit) {
            Some(limit_bytes) => {
                Err(CliError::MemoryLimit { needed_bytes, limit_bytes, advice: self.advice(limit_bytes) })
            }
            None => Ok(()),
        }
    }

    /// `error`, with what to change if a lack of memory is what stands in the way.
    pub fn explain(&self, error: CliError) -> CliError {
        let lack = |reason: &Reason| match reason {
            Reason::TooSmall { available_bytes, .. } => Some(*available_bytes),
            _ => None,
        };
        let available = match &error {
            CliError::Backend(BackendError::Unusable { reason, .. }) => lack(reason),
            CliError::Backend(BackendError::NoneLeft { rejected }) => {
                rejected.iter().filter_map(|(_, reason)| lack(reason)).max()
            }
            _ => None,
        };
        match available {
            Some(available) => {
                CliError::MemoryLacks { advice: self.advice(available), source: Box::new(error) }
            }
            None => error,
        }
    }

    /// What to tell when a device ran out of memory nevertheless: how to take a quarter less.
    pub fn out_of_memory(&self, message: String) -> CliError {
        CliError::OutOfMemory { message, advice: self.advice(self.estimate().peak_bytes / 4 * 3) }
    }

    /// What to change so that training takes at most `limit` bytes: first what leaves the result the same, then
    /// an adapter, then shorter sequences; each with the peak it leads to.
    pub fn advice(&self, limit: u64) -> String {
        let mut tried = Vec::new();
        let checkpointed = TrainingShape { gradient_checkpointing: true, ..self.shape };
        if !self.shape.gradient_checkpointing {
            tried.push(("`--gradient-checkpointing`".to_owned(), checkpointed));
        }
        tried.extend(self.smaller_batch(self.shape, limit, ""));
        if !self.shape.gradient_checkpointing {
            tried.extend(self.smaller_batch(checkpointed, limit, "--gradient-checkpointing "));
        }
        if self.shape.optimizer.bytes_per_parameter >= OptimizerShape::ADAMW.bytes_per_parameter {
            tried.push(("`--optimizer adamw_8bit`".to_owned(), self.with_small_moments()));
        }
        tried.extend(self.adapter());
        tried.extend(self.shorter(limit));
        let figures = tried.into_iter().map(|(change, shape)| (change, self.peak(shape)));
        let (fitting, rest): (Vec<_>, Vec<_>) = figures.partition(|(_, peak)| *peak <= limit);
        let told = |(change, peak): &(String, u64)| format!("{change} takes {}", bytes(*peak));
        match fitting.is_empty() {
            false => fitting.iter().map(told).collect::<Vec<_>>().join("; "),
            true => {
                let least = rest.iter().min_by_key(|(_, peak)| *peak).map(told);
                let least = least.map_or(String::new(), |least| format!(" ({least})"));
                format!(
                    "no batch of this model fits{least}; take a smaller `hidden_size` or fewer `num_hidden_layers`"
                )
            }
        }
    }

    fn peak(&self, shape: TrainingShape) -> u64 {
        training(&self.model.decoder, shape).peak_bytes
    }

    /// The largest smaller micro-batch that fits, or 1; accumulation keeps the result the same.
    fn smaller_batch(
        &self,
        shape: TrainingShape,
        limit: u64,
        flags: &str,
    ) -> Option<(String, TrainingShape)> {
        let of = |batch_size: usize| {
            let parts = shape.batch_size.div_ceil(batch_size);
            let gradient_accumulation = shape.gradient_accumulation.saturating_mul(parts);
            TrainingShape { batch_size, gradient_accumulation, ..shape }
        };
        let most = shape.batch_size.checked_sub(1).filter(|most| *most > 0)?;
        // What fits, fits with any smaller batch, so that halving finds the largest.
        let (mut fits, mut too_large) = (0, most + 1);
        while too_large - fits > 1 {
            let middle = fits + (too_large - fits) / 2;
            if self.peak(of(middle)) <= limit { fits = middle } else { too_large = middle }
        }
        let shape = of(fits.max(1));
        let (batch, accumulation) = (shape.batch_size, shape.gradient_accumulation);
        Some((format!("`{flags}--batch-size {batch} --gradient-accumulation {accumulation}`"), shape))
    }

    fn with_small_moments(&self) -> TrainingShape {
        let saved = OptimizerShape::ADAMW.bytes_per_parameter - ADAMW_8BIT.bytes_per_parameter;
        let bytes_per_parameter = self.shape.optimizer.bytes_per_parameter - saved;
        TrainingShape { optimizer: OptimizerShape { bytes_per_parameter, ..ADAMW_8BIT }, ..self.shape }
    }

    fn adapter(&self) -> Option<(String, TrainingShape)> {
        if self.shape.adapter.is_some() || !self.from_weights {
            return None;
        }
        let config = smelt_model::AdapterConfig { r: SUGGESTED_RANK, ..Default::default() };
        let adapter = AdapterShape::of(&self.model, &config).ok();
        Some(("`--method lora`".to_owned(), TrainingShape { adapter, ..self.shape }))
    }

    fn shorter(&self, limit: u64) -> Option<(String, TrainingShape)> {
        let mut shape = TrainingShape { batch_size: 1, gradient_checkpointing: true, ..self.shape };
        while shape.seq_length / 2 >= SHORTEST {
            shape.seq_length /= 2;
            if self.peak(shape) <= limit {
                break;
            }
        }
        let flags = format!("`--gradient-checkpointing --batch-size 1 --seq-length {}`", shape.seq_length);
        (shape.seq_length < self.shape.seq_length).then_some((flags, shape))
    }
}

/// The optimizer of `config` in numbers, with the moving average of the weights where one is kept.
fn optimizer(config: &RunConfig) -> OptimizerShape {
    let shape = |bytes_per_parameter, update_copies| OptimizerShape { bytes_per_parameter, update_copies };
    let optimizer = match config.train.optimizer {
        OptimizerKind::Adamw => OptimizerShape::ADAMW,
        OptimizerKind::Adamw8bit => ADAMW_8BIT,
        // Means of rows and columns.
        OptimizerKind::Adafactor => shape(0.0, 2),
        OptimizerKind::Lion => shape(4.0, 3),
        // Hidden matrices have a momentum, the rest two moments.
        OptimizerKind::Muon => shape(5.0, 1),
        OptimizerKind::Sgd if config.train.momentum == Some(0.0) => shape(0.0, 2),
        OptimizerKind::Sgd => shape(4.0, 2),
    };
    let average = if config.train.ema_decay.is_some() { 4.0 } else { 0.0 };
    OptimizerShape { bytes_per_parameter: optimizer.bytes_per_parameter + average, ..optimizer }
}

/// Bytes of the weights that the run of `config` starts from, as they lie below an adapter or generate: packed where the
/// run packs them, and else as [`held_bytes`] has it.
pub fn base_bytes(config: &RunConfig, model: &ModelConfig, backend: Option<&str>) -> Option<u64> {
    let base = config.model.path.as_deref()?;
    match config.quantization_rules() {
        Some(rules) if model.quantization.is_none() => quantized_bytes(model, base, &rules, backend),
        _ => held_bytes(base, backend),
    }
}

/// Bytes of the weights of `model`, which lie in `folder` in floats, once `rules` have quantized them.
fn quantized_bytes(
    model: &ModelConfig,
    folder: &Path,
    rules: &QuantizationRules,
    backend: Option<&str>,
) -> Option<u64> {
    let plan = rules.plan(model).ok()?;
    // What is not packed, and scales, keep the width of the files where the backend can.
    let parameters = parameters(&model.decoder).total.max(1);
    let stored = held_bytes(folder, backend).map_or(F32_BYTES, |bytes| (bytes + parameters / 2) / parameters);
    Some(plan.quantization.weights_bytes(model, stored))
}

/// Bytes of the weights in `model`: those of its files on a backend that computes in system memory; on others those
/// that are packed there, and `None` for a model in floats, which is in f32.
pub fn held_bytes(model: &Path, backend: Option<&str>) -> Option<u64> {
    if !computes_on_cpu(backend) {
        let config = ModelConfig::from_folder(&model_folder(model).ok()?).ok()?;
        return Some(config.quantization.as_ref()?.weights_bytes(&config, F32_BYTES));
    }
    let model = model_folder(model).ok()?;
    if is_gguf(&model) {
        return model_files::checkpoint(&model).ok()?.held_bytes().ok();
    }
    let entries = fs::read_dir(model).ok()?.flatten();
    let files: Vec<(String, u64)> = entries
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.metadata().ok()?.len())))
        .collect();
    let weights = |prefix: &str, end: &str| -> u64 {
        let of_weights = files.iter().filter(|(name, _)| name.starts_with(prefix) && name.ends_with(end));
        of_weights.map(|(_, bytes)| bytes).sum()
    };
    [weights("model", ".safetensors"), weights("pytorch_model", ".bin")].into_iter().find(|bytes| *bytes > 0)
}

/// Everything of this run is computed by the backend that reads files where they are mapped.
fn computes_on_cpu(backend: Option<&str>) -> bool {
    let cpu = Name::Cpu;
    match backend.filter(|name| *name != "auto") {
        Some(name) => name == cpu.as_str(),
        None => in_build().first() == Some(&cpu),
    }
}
