//! Many requests at a time, by one thread that owns the models.
//!
//! Each step plans, runs one pass over the new tokens of all running requests of a model, samples, and hands out
//! events; on a small model, threads do so side by side, each for a group of the requests. They enter and leave between
//! steps (Yu et al. 2022, Orca, OSDI); long prompts enter in parts, so that others go on meanwhile (Agrawal et al. 2023,
//! arXiv:2308.16369). Results equal those of [`generate`](crate::generate), which is the oracle of the tests.

mod answer;
mod batch;
mod draft;
mod handle;
mod pass;
mod prefix;
mod prefix_file;
mod queue;
mod request;
mod round;
mod running;
mod scheduler;

use smelt_backend::Kernels;
use smelt_model::{CacheBits, Decoder};

pub use batch::complete_all;
pub use draft::{DraftSource, Speculation};
pub use handle::{EngineHandle, EngineModel, EngineStatistics, Inbox, Ticket, engine_channel};
pub use prefix_file::{PrefixFile, PrefixFileError};
pub use request::{CompletionOptions, EndReport, Event, PromptReport, Request, TokenEvent, Work};
pub use scheduler::Engine;

use crate::decoding::PREFILL_POSITIONS;

/// Limits of the engine.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineOptions {
    /// Most requests that run at a time.
    pub max_running: usize,
    /// Most requests that wait; further ones are refused.
    pub max_waiting: usize,
    /// Most prompt tokens of one pass.
    pub prefill_tokens: usize,
    /// Memory of the weights of loaded models: one that nobody uses makes room for another.
    pub weights_bytes: u64,
    /// Memory for keys and values: of running requests, and of prefixes kept for later ones in what is left. A
    /// request that would exceed it waits.
    pub cache_bytes: u64,
    /// Of `cache_bytes`, at most this for prefixes; 0 keeps none.
    pub prefix_bytes: u64,
    /// Keys and values are rounded to this.
    pub kv_bits: Option<CacheBits>,
    /// Tokens are guessed ahead.
    pub speculation: Option<Speculation>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            max_running: 16,
            max_waiting: 256,
            prefill_tokens: PREFILL_POSITIONS,
            weights_bytes: u64::MAX,
            cache_bytes: 1 << 30,
            prefix_bytes: 256 << 20,
            kv_bits: None,
            speculation: None,
        }
    }
}

/// A model in memory.
#[derive(Debug)]
pub struct LoadedModel<B: Kernels> {
    /// The model.
    pub decoder: Decoder<B>,
    /// A smaller one with the same vocabulary, for [`DraftSource::Model`].
    pub draft: Option<Decoder<B>>,
}

/// Why a model could not be loaded.
pub type LoadError = Box<dyn std::error::Error + Send + Sync>;
