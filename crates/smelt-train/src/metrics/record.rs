//! The lines of a run's log.

use serde::Serialize;
use serde_json::Value;

use crate::{Evaluation, SkippedStep, StepReport};

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// A process begins or continues the run.
    Begins(Box<RunStart>),
    /// A training step.
    Train {
        /// What the step did.
        #[serde(flatten)]
        report: StepReport,
        /// `exp(loss)`.
        perplexity: f64,
        /// Training speed since the last line.
        tokens_per_second: f64,
        /// Part of the device's speed in matrix products that training achieved since the last line: model
        /// FLOPs utilisation (Chowdhery et al. 2022, arXiv:2204.02311).
        #[serde(skip_serializing_if = "Option::is_none")]
        mfu: Option<f64>,
        /// Positions trained on so far.
        tokens_seen: u64,
        /// Resident memory of the process.
        memory_bytes: Option<u64>,
        /// Largest resident memory of the process so far.
        peak_memory_bytes: Option<u64>,
        /// Training time of this process so far, evaluation and saving included.
        elapsed_seconds: f64,
    },
    /// A step that changed nothing.
    Skipped(SkippedStep),
    /// An evaluation.
    Validation {
        /// Steps done before it.
        step: u64,
        /// What it found.
        #[serde(flatten)]
        evaluation: Evaluation,
        /// `exp(loss)`.
        perplexity: f64,
    },
    /// A text from the model.
    Sample(Sample),
}

/// What a run is, and where it computes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunStart {
    /// Steps done before.
    pub step: u64,
    /// When this process began, in seconds since 1970.
    pub unix_seconds: u64,
    /// Version of smelt.
    pub version: &'static str,
    /// Commit that smelt was built from, where the build was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<&'static str>,
    /// Operating system and processor architecture.
    pub system: String,
    /// The backend by name.
    pub backend: String,
    /// Its device in the driver's words.
    pub device: String,
    /// CPU threads.
    pub threads: usize,
    /// The model's family.
    pub family: &'static str,
    /// The model's parameters.
    pub parameters: u64,
    /// Tokens to train on.
    pub train_tokens: u64,
    /// Tokens to validate on.
    pub val_tokens: u64,
    /// Floating-point operations of training per token.
    pub flops_per_token: f64,
    /// Floating-point operations per second of the device in matrix products, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_flops_per_second: Option<f64>,
    /// The settings, by section and key.
    pub config: Value,
}

impl RunStart {
    /// Training speed if nothing but matrix products took time.
    pub fn peak_tokens_per_second(&self) -> Option<f64> {
        self.peak_flops_per_second.map(|peak| peak / self.flops_per_token)
    }
}

/// A text that the model wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// Steps done before it.
    pub step: u64,
    /// Which of the run's prompts it continues, from 0.
    pub prompt_index: usize,
    /// The prompt; empty where a text is begun.
    pub prompt: String,
    /// What follows the prompt.
    pub text: String,
}
