//! Many requests at a time on one model after the other, by one thread that owns them.
//!
//! Each step plans, runs one pass over the new tokens of all running requests of a model, samples, and hands out
//! events. Requests enter and leave between steps (Yu et al. 2022, Orca, OSDI); long prompts enter in parts, so
//! that others go on meanwhile (Agrawal et al. 2023, arXiv:2308.16369). Results equal those of
//! [`generate`](crate::generate), which is the oracle of the tests.

mod handle;
mod request;

pub use handle::{EngineHandle, EngineModel, EngineStatistics, Inbox, Ticket, engine_channel};
pub use request::{CompletionOptions, EndReport, Event, PromptReport, Request, TokenEvent, Work};

/// Limits of the engine.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineOptions {
    /// Most requests that run at a time.
    pub max_running: usize,
    /// Most requests that wait; further ones are refused.
    pub max_waiting: usize,
    /// Most prompt tokens of one pass.
    pub prefill_tokens: usize,
    /// Memory for keys and values: of running requests, and of prefixes kept for later ones in what is left. A
    /// request that would exceed it waits.
    pub cache_bytes: u64,
    /// Of `cache_bytes`, at most this for prefixes that no running request uses; 0 keeps none.
    pub prefix_bytes: u64,
    /// Keys and values in 4 or 8 bits.
    pub kv_bits: Option<u8>,
}
