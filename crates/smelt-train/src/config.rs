//! What decides a run besides the model and the data.

use serde::{Deserialize, Serialize};
use smelt_backend::Precision;

/// What updates the parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101).
    Adamw,
    /// AdamW with moments in 8 bits (Dettmers et al. 2021, arXiv:2110.02861).
    #[serde(rename = "adamw_8bit")]
    Adamw8bit,
    /// Adafactor (Shazeer and Stern 2018, arXiv:1804.04235).
    Adafactor,
    /// Lion (Chen et al. 2023, arXiv:2302.06675).
    Lion,
    /// Muon (Jordan et al. 2024) for hidden matrices, AdamW for the rest.
    Muon,
    /// Stochastic gradient descent.
    Sgd,
}

impl OptimizerKind {
    /// Every optimizer.
    pub const ALL: [Self; 6] =
        [Self::Adamw, Self::Adamw8bit, Self::Adafactor, Self::Lion, Self::Muon, Self::Sgd];

    /// The settings that go with it where a user names none.
    pub fn defaults(self) -> OptimizerDefaults {
        let adamw = OptimizerDefaults {
            learning_rate: 3e-4,
            weight_decay: 0.1,
            adam_beta1: 0.9,
            adam_beta2: 0.95,
            momentum: 0.9,
            nesterov: false,
        };
        match self {
            Self::Adamw | Self::Adamw8bit => adamw,
            Self::Adafactor => OptimizerDefaults { learning_rate: 1e-2, weight_decay: 0.0, ..adamw },
            // A third of AdamW's rate and three times its decay, as its authors advise.
            Self::Lion => {
                OptimizerDefaults { learning_rate: 1e-4, weight_decay: 0.3, adam_beta2: 0.99, ..adamw }
            }
            Self::Muon => OptimizerDefaults { momentum: 0.95, nesterov: true, ..adamw },
            Self::Sgd => OptimizerDefaults { learning_rate: 1e-2, weight_decay: 0.0, ..adamw },
        }
    }
}

/// Settings of an optimizer where a user names none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptimizerDefaults {
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// First beta of AdamW and Lion.
    pub adam_beta1: f64,
    /// Second beta of AdamW and Lion.
    pub adam_beta2: f64,
    /// Momentum of SGD and Muon.
    pub momentum: f64,
    /// Look ahead by the momentum.
    pub nesterov: bool,
}

/// How Muon's learning rate depends on the shape of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MuonAdjustLrFn {
    /// `sqrt(max(1, rows / columns))` (Jordan et al. 2024).
    Original,
    /// `0.2 sqrt(max(rows, columns))`: updates as large as AdamW's, which so share its learning rate
    /// (Liu et al. 2025, arXiv:2502.16982).
    MatchRmsAdamw,
    /// `sqrt(rows / columns)` (Bernstein 2025).
    SpectralUnclamped,
}

/// Course of the learning rate after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LrSchedule {
    /// A straight line down to `min_learning_rate` at the last step.
    Linear,
    /// Half a cosine down to `min_learning_rate` at the last step (Loshchilov and Hutter 2017,
    /// arXiv:1608.03983), without restarts.
    Cosine,
    /// Warm-up, stable, decay: stays at `learning_rate` and falls in the last `decay_steps` (Hu et al. 2024,
    /// arXiv:2404.06395).
    #[serde(alias = "warmup_stable_decay")]
    Wsd,
    /// Stays at `learning_rate`.
    Constant,
}

/// Shape of a decay of the learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecayType {
    /// `1 - sqrt(progress)` (Hägele et al. 2024, arXiv:2405.18392).
    #[serde(rename = "1-sqrt")]
    OneMinusSqrt,
    /// `1 - progress`.
    Linear,
    /// Half a cosine.
    Cosine,
}

/// What to do about a loss or a gradient that is not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NonFinitePolicy {
    /// End the run; the last checkpoint stays.
    Stop,
    /// Go on with the next step, up to `max_skipped_steps` times in a row.
    Skip,
}

/// The settings of a training run.
///
/// What a checkpoint of an older version does not say has its default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainConfig {
    /// Sequences per micro-batch.
    pub batch_size: usize,
    /// Tokens per sequence.
    pub seq_length: usize,
    /// Optimizer steps.
    pub max_steps: u64,
    /// Steps over which the learning rate rises from zero.
    pub warmup_steps: u64,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Learning rate at the end of a schedule that falls.
    pub min_learning_rate: f64,
    /// Course of the learning rate after the warm-up.
    pub lr_schedule: LrSchedule,
    /// Steps over which the learning rate falls at the end of [`LrSchedule::Wsd`].
    pub decay_steps: u64,
    /// How it falls then.
    pub decay_type: DecayType,
    /// What updates the parameters.
    pub optimizer: OptimizerKind,
    /// Weight decay: decoupled from the gradient but with SGD, where it is part of it.
    pub weight_decay: f64,
    /// Decay norms, biases and embeddings as well as matrices.
    pub decay_all_parameters: bool,
    /// First beta of AdamW and Lion.
    pub adam_beta1: f64,
    /// Second beta of AdamW and Lion.
    pub adam_beta2: f64,
    /// AdamW's epsilon.
    pub adam_epsilon: f64,
    /// With Muon, the highest learning rate of what AdamW updates; `learning_rate` if `None`.
    pub adam_learning_rate: Option<f64>,
    /// Momentum of SGD and Muon.
    pub momentum: f64,
    /// Let SGD and Muon look ahead by the momentum.
    pub nesterov: bool,
    /// How Muon's learning rate depends on the shape of a matrix.
    pub muon_adjust_lr_fn: MuonAdjustLrFn,
    /// Largest global norm of the gradient; 0 leaves it as it is.
    pub max_grad_norm: f64,
    /// Coefficient of the z-loss; 0 for none.
    pub z_loss: f64,
    /// Number format of the products.
    pub precision: Precision,
    /// The first loss scale of f16.
    pub loss_scale_init: f64,
    /// Steps without an overflow after which the loss scale doubles.
    pub loss_scale_growth_interval: u64,
    /// Decay of the moving average of the weights; `None` keeps none.
    pub ema_decay: Option<f64>,
    /// What to do about a loss or a gradient that is not finite.
    pub non_finite: NonFinitePolicy,
    /// Most steps skipped in a row.
    pub max_skipped_steps: u64,
    /// Evaluations without an improvement after which the run ends; `None` goes on.
    pub early_stopping_patience: Option<u64>,
    /// By how much the validation loss must fall to count as an improvement.
    pub early_stopping_min_delta: f64,
    /// Micro-batches per optimizer step.
    pub gradient_accumulation_steps: usize,
    /// Keep only what enters each block, and run blocks again for their gradients.
    #[serde(default)]
    pub gradient_checkpointing: bool,
    /// Seed of the order of the data and of dropout.
    pub seed: u64,
    /// Steps between evaluations.
    pub eval_interval: u64,
    /// Evaluate before the first step.
    pub eval_on_start: bool,
    /// Most batches per evaluation.
    pub eval_batches: usize,
    /// Steps between checkpoints.
    pub save_interval: u64,
    /// Checkpoints kept.
    pub keep_last: usize,
    /// Save whenever the validation loss is the lowest so far, and keep that checkpoint besides the last ones.
    pub keep_best: bool,
    /// Steps between lines of the metrics log.
    pub log_interval: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        let optimizer = OptimizerKind::Adamw;
        let OptimizerDefaults { learning_rate, weight_decay, adam_beta1, adam_beta2, momentum, nesterov } =
            optimizer.defaults();
        Self {
            batch_size: 8,
            seq_length: 256,
            max_steps: 1000,
            warmup_steps: 100,
            learning_rate,
            min_learning_rate: 3e-5,
            lr_schedule: LrSchedule::Cosine,
            decay_steps: 200,
            decay_type: DecayType::OneMinusSqrt,
            optimizer,
            weight_decay,
            decay_all_parameters: false,
            adam_beta1,
            adam_beta2,
            adam_epsilon: 1e-8,
            adam_learning_rate: None,
            momentum,
            nesterov,
            muon_adjust_lr_fn: MuonAdjustLrFn::MatchRmsAdamw,
            max_grad_norm: 1.0,
            z_loss: 0.0,
            precision: Precision::F32,
            loss_scale_init: 65536.0,
            loss_scale_growth_interval: 2000,
            ema_decay: None,
            non_finite: NonFinitePolicy::Stop,
            max_skipped_steps: 20,
            early_stopping_patience: None,
            early_stopping_min_delta: 0.0,
            gradient_accumulation_steps: 1,
            gradient_checkpointing: false,
            seed: 42,
            eval_interval: 100,
            eval_on_start: false,
            eval_batches: 20,
            save_interval: 500,
            keep_last: 2,
            keep_best: false,
            log_interval: 10,
        }
    }
}

/// Keys that may differ between a checkpoint and the run that continues it: they decide what is reported
/// and kept, how much memory it takes and when to give up, not what is computed.
const FREE: [&str; 12] = [
    "eval_interval",
    "eval_on_start",
    "eval_batches",
    "save_interval",
    "keep_last",
    "keep_best",
    "log_interval",
    "gradient_checkpointing",
    "non_finite",
    "max_skipped_steps",
    "early_stopping_patience",
    "early_stopping_min_delta",
];

impl TrainConfig {
    /// The first setting in which continuing `saved` with `self` would compute something else:
    /// `(key, saved, now)`.
    pub(crate) fn conflict(&self, saved: &TrainConfig) -> Option<(String, String, String)> {
        let object = |config: &TrainConfig| match serde_json::to_value(config) {
            Ok(serde_json::Value::Object(object)) => object,
            _ => unreachable!("a struct of numbers is a JSON object"),
        };
        let (saved, now) = (object(saved), object(self));
        now.into_iter()
            .filter(|(key, _)| !FREE.contains(&key.as_str()))
            .map(|(key, now)| (saved.get(&key).cloned().unwrap_or_default(), key, now))
            .find(|(saved, _, now)| saved != now)
            .map(|(saved, key, now)| (key, saved.to_string(), now.to_string()))
    }
}
