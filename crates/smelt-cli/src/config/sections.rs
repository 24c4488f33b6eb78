//! The sections of a run config as typed structs, with their defaults.
//!
//! The fields are the keys of the YAML file; `deny_unknown_fields` makes serde hand out their names
//! (see `keys`). Values are checked in `check`, not here.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use smelt_backend::Precision;
use smelt_backend::kernels::{QuantizationError, QuantizationFormat};
use smelt_model::AdapterConfig;
use smelt_model::adapter::{LayerIndices, ModuleNames};
use smelt_model::quantization::GROUP_SIZE;
use smelt_train::{DecayType, LrSchedule, MuonAdjustLrFn, NonFinitePolicy, OptimizerKind};

use super::model::ModelSection;
use crate::quantity::ByteSize;

/// Everything that decides a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct RunConfig {
    /// Where to compute.
    pub backend: BackendSection,
    /// What to train.
    pub model: ModelSection,
    /// What to train on.
    pub data: DataSection,
    /// How to train.
    pub train: TrainSection,
    /// What an adapter changes.
    pub adapter: AdapterSection,
    /// How the model below an adapter is quantized.
    pub quantization: QuantizationSection,
    /// What to keep.
    pub checkpoint: CheckpointSection,
    /// What to report.
    pub log: LogSection,
}

/// Section `backend`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackendSection {
    /// A backend by name, or `auto`: the best one that works here.
    pub name: String,
    /// Order in which `auto` tries the backends; those left out come after.
    pub preference: Vec<String>,
}

impl Default for BackendSection {
    fn default() -> Self {
        Self { name: "auto".to_owned(), preference: Vec::new() }
    }
}

/// Section `data`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataSection {
    /// Use the corpus in the binary: bash scripts and English about them.
    pub embedded: bool,
    /// Files and folders of text, or one prepared folder (it holds `meta.json`), or one folder of instruction
    /// data (it holds `train.jsonl`).
    pub paths: Vec<PathBuf>,
    /// Folder or file of a tokenizer to reuse; one is trained where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
    /// Part of the documents held out for validation.
    pub val_split: f64,
    /// Of instruction data, learn the answers alone.
    pub mask_prompt: bool,
    /// Leave out lines of instruction data that are no records, instead of stopping at the first.
    pub skip_bad_lines: bool,
}

impl Default for DataSection {
    fn default() -> Self {
        Self {
            embedded: false,
            paths: Vec::new(),
            tokenizer: None,
            val_split: 0.1,
            mask_prompt: false,
            skip_bad_lines: false,
        }
    }
}

/// Section `train`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSection {
    /// What is trained.
    pub method: Method,
    /// Number format of matrix products; weights are updated in 32 bits whatever it is.
    pub precision: Precision,
    /// The first loss scale of `f16`.
    pub loss_scale_init: f64,
    /// Steps without an overflow after which the loss scale doubles.
    pub loss_scale_growth_interval: u64,
    /// Sequences per micro-batch.
    pub batch_size: usize,
    /// Tokens per sequence.
    pub seq_length: usize,
    /// Optimizer steps.
    pub max_steps: u64,
    /// Steps over which the learning rate rises from zero.
    pub warmup_steps: u64,
    /// Highest learning rate; the optimizer's usual one where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Learning rate at the end of a schedule that falls; where it is left out, a tenth of `learning_rate` for
    /// the cosine and 0 for the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_learning_rate: Option<f64>,
    /// Course of the learning rate after the warm-up.
    pub lr_schedule: LrSchedule,
    /// Steps over which the learning rate falls at the end of `wsd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decay_steps: Option<u64>,
    /// The same, as a part of `max_steps`; a fifth where both are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decay_ratio: Option<f64>,
    /// How it falls then.
    pub decay_type: DecayType,
    /// What updates the parameters.
    pub optimizer: OptimizerKind,
    /// Weight decay: decoupled from the gradient but with `sgd`; the optimizer's usual one where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// Decay norms, biases and embeddings as well as matrices.
    pub decay_all_parameters: bool,
    /// First beta of AdamW and Lion; the optimizer's usual one where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adam_beta1: Option<f64>,
    /// Second beta of AdamW and Lion; the optimizer's usual one where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adam_beta2: Option<f64>,
    /// AdamW's epsilon.
    pub adam_epsilon: f64,
    /// With `muon`, the highest learning rate of what AdamW updates; `learning_rate` where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adam_learning_rate: Option<f64>,
    /// Momentum of `sgd` and `muon`; the optimizer's usual one where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// Let `sgd` and `muon` look ahead by the momentum; `muon` does where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nesterov: Option<bool>,
    /// How the learning rate of `muon` depends on the shape of a matrix.
    pub muon_adjust_lr_fn: MuonAdjustLrFn,
    /// Largest global norm of the gradient; 0 leaves it as it is.
    pub max_grad_norm: f64,
    /// Coefficient of the z-loss, which keeps logits from drifting; 0 for none.
    pub z_loss: f64,
    /// Decay of a moving average of the weights, which is then validated, sampled and saved besides; none is
    /// kept where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema_decay: Option<f64>,
    /// What to do about a loss or a gradient that is not finite.
    pub non_finite: NonFinitePolicy,
    /// Most steps skipped in a row.
    pub max_skipped_steps: u64,
    /// Evaluations without an improvement after which the run ends; it goes on where this is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping_patience: Option<u64>,
    /// By how much the validation loss must fall to count as an improvement.
    pub early_stopping_min_delta: f64,
    /// Micro-batches per optimizer step.
    pub gradient_accumulation_steps: usize,
    /// Keep only what enters each block, and run blocks again for their gradients: less memory, more time.
    pub gradient_checkpointing: bool,
    /// Memory that training may take at its peak; a run that would take more is refused at the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<ByteSize>,
    /// Seed of the initial weights, the order of the data, and dropout.
    pub seed: u64,
    /// Steps between evaluations.
    pub eval_interval: u64,
    /// Evaluate before the first step, too; where it is left out, if the run starts from a model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_on_start: Option<bool>,
    /// Most batches per evaluation.
    pub eval_batches: usize,
}

impl Default for TrainSection {
    fn default() -> Self {
        Self {
            method: Method::Full,
            precision: Precision::F32,
            loss_scale_init: 65536.0,
            loss_scale_growth_interval: 2000,
            batch_size: 8,
            seq_length: 256,
            max_steps: 1000,
            warmup_steps: 100,
            learning_rate: None,
            min_learning_rate: None,
            lr_schedule: LrSchedule::Cosine,
            decay_steps: None,
            decay_ratio: None,
            decay_type: DecayType::OneMinusSqrt,
            optimizer: OptimizerKind::Adamw,
            weight_decay: None,
            decay_all_parameters: false,
            adam_beta1: None,
            adam_beta2: None,
            adam_epsilon: 1e-8,
            adam_learning_rate: None,
            momentum: None,
            nesterov: None,
            muon_adjust_lr_fn: MuonAdjustLrFn::MatchRmsAdamw,
            max_grad_norm: 1.0,
            z_loss: 0.0,
            ema_decay: None,
            non_finite: NonFinitePolicy::Stop,
            max_skipped_steps: 20,
            early_stopping_patience: None,
            early_stopping_min_delta: 0.0,
            gradient_accumulation_steps: 1,
            gradient_checkpointing: false,
            memory_limit: None,
            seed: 42,
            eval_interval: 100,
            eval_on_start: None,
            eval_batches: 20,
        }
    }
}

/// Section `adapter`, in PEFT's vocabulary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdapterSection {
    /// Rank.
    pub r: usize,
    /// The update is scaled by `lora_alpha / r`; twice the rank where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora_alpha: Option<f64>,
    /// Dropout on what enters the adapter.
    pub lora_dropout: f64,
    /// Modules to adapt: names or ends of names, a regular expression for whole names, or `all-linear`.
    pub target_modules: ModuleNames,
    /// Modules that stay as they are though `target_modules` names them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude_modules: Option<ModuleNames>,
    /// Layers to adapt; all where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers_to_transform: Option<LayerIndices>,
    /// Modules that are trained and saved whole.
    pub modules_to_save: Vec<String>,
    /// Scale by `lora_alpha / sqrt(r)` instead.
    pub use_rslora: bool,
}

impl Default for AdapterSection {
    fn default() -> Self {
        let AdapterConfig { r, lora_dropout, target_modules, use_rslora, .. } = AdapterConfig::default();
        Self {
            r,
            lora_alpha: None,
            lora_dropout,
            target_modules,
            exclude_modules: None,
            layers_to_transform: None,
            modules_to_save: Vec::new(),
            use_rslora,
        }
    }
}

/// Section `quantization`, of `qlora`: what a model in floats becomes while it is loaded. A model that is quantized
/// already stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuantizationSection {
    /// Bits of a weight: 2, 3, 4, 5, 6 or 8; 4 where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits: Option<u64>,
    /// Weights that share a scale: 32, 64 or 128; 64 where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_size: Option<u64>,
}

impl QuantizationSection {
    /// The format that is asked for.
    ///
    /// # Errors
    /// [`QuantizationError`] if there is none of these numbers.
    pub fn format(&self) -> Result<QuantizationFormat, QuantizationError> {
        QuantizationFormat::new(self.bits.unwrap_or(4), self.group_size.unwrap_or(GROUP_SIZE))
    }
}

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Every weight.
    Full,
    /// Low-rank adapters.
    Lora,
    /// Low-rank adapters with magnitudes.
    Dora,
    /// Low-rank adapters on a quantized base.
    Qlora,
}

/// Section `checkpoint`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointSection {
    /// Folder of the run; `runs/NAME` after the config or the data where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_dir: Option<PathBuf>,
    /// Steps between checkpoints.
    pub save_interval: u64,
    /// Checkpoints kept; older ones are deleted.
    pub keep_last: usize,
    /// Save whenever the validation loss is the lowest so far, and keep that checkpoint besides the last ones.
    pub keep_best: bool,
}

impl Default for CheckpointSection {
    fn default() -> Self {
        Self { output_dir: None, save_interval: 500, keep_last: 2, keep_best: false }
    }
}

/// Section `log`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSection {
    /// Steps between reports of the training loss.
    pub log_interval: u64,
    /// Write event files for TensorBoard into `RUN/tensorboard`, beside `RUN/metrics.jsonl`.
    pub tensorboard: bool,
    /// Steps between samples of the model's text; with every evaluation where it is left out, none with 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_interval: Option<u64>,
    /// Texts that samples continue; where there are none, a text is begun.
    pub sample_prompts: Vec<String>,
    /// Most tokens of a sample.
    pub sample_tokens: usize,
    /// The device's speed in matrix products, in 10^12 floating-point operations per second, of which training
    /// achieves a share; measured at the start where it is left out and the device is the processor, unknown
    /// with 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_tflops: Option<f64>,
}

impl Default for LogSection {
    fn default() -> Self {
        Self {
            log_interval: 10,
            tensorboard: true,
            sample_interval: None,
            sample_prompts: Vec::new(),
            sample_tokens: 64,
            peak_tflops: None,
        }
    }
}
