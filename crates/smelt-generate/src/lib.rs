//! Generation of smelt: samplers and the decode loop.
//!
//! Sampling happens on the host, over one position's logits; the model runs on new positions only, with a
//! cache. Knows token ids, not text: callers decode what [`generate`] hands them token by token.

mod batch;
mod decoding;
mod error;
mod generate;
mod sampling;
mod stop_strings;

pub use batch::generate_batch;
pub use error::GenerateError;
pub use generate::{GenerateOptions, GenerateReport, StopReason, generate};
pub use sampling::{Filter, Sampler, SamplingOptions, TokenLogprobs, TokenMask, order_by_mean_logprob};
pub use stop_strings::{StopProgress, StopStrings};
