//! What decides a run besides the model and the data.

use serde::{Deserialize, Serialize};

/// Course of the learning rate after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LrSchedule {
    /// Half a cosine down to `min_learning_rate` at the last step (Loshchilov and Hutter 2017,
    /// arXiv:1608.03983), without restarts.
    Cosine,
    /// Stays at `learning_rate`.
    Constant,
}

/// The settings of a training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Learning rate at the end of the cosine.
    pub min_learning_rate: f64,
    /// Course of the learning rate after the warm-up.
    pub lr_schedule: LrSchedule,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Decay norms, biases and embeddings as well as matrices.
    pub decay_all_parameters: bool,
    /// AdamW's first beta.
    pub adam_beta1: f64,
    /// AdamW's second beta.
    pub adam_beta2: f64,
    /// AdamW's epsilon.
    pub adam_epsilon: f64,
    /// Largest global norm of the gradient; 0 leaves it as it is.
    pub max_grad_norm: f64,
    /// Micro-batches per optimizer step.
    pub gradient_accumulation_steps: usize,
    /// Keep only what enters each block, and run blocks again for their gradients.
    #[serde(default)]
    pub gradient_checkpointing: bool,
    /// Seed of the order of the data and of dropout.
    pub seed: u64,
    /// Steps between evaluations.
    pub eval_interval: u64,
    /// Most batches per evaluation.
    pub eval_batches: usize,
    /// Steps between checkpoints.
    pub save_interval: u64,
    /// Checkpoints kept.
    pub keep_last: usize,
    /// Steps between lines of the metrics log.
    pub log_interval: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            batch_size: 8,
            seq_length: 256,
            max_steps: 1000,
            warmup_steps: 100,
            learning_rate: 3e-4,
            min_learning_rate: 3e-5,
            lr_schedule: LrSchedule::Cosine,
            weight_decay: 0.1,
            decay_all_parameters: false,
            adam_beta1: 0.9,
            adam_beta2: 0.95,
            adam_epsilon: 1e-8,
            max_grad_norm: 1.0,
            gradient_accumulation_steps: 1,
            gradient_checkpointing: false,
            seed: 42,
            eval_interval: 100,
            eval_batches: 20,
            save_interval: 500,
            keep_last: 2,
            log_interval: 10,
        }
    }
}

/// Keys that may differ between a checkpoint and the run that continues it: they decide what is reported
/// and kept and how much memory it takes, not what is computed.
const FREE: [&str; 6] =
    ["eval_interval", "eval_batches", "save_interval", "keep_last", "log_interval", "gradient_checkpointing"];

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
