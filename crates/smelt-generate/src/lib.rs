//! Generation of smelt: samplers, the decode loop, and an engine for many requests at a time.
//!
//! Sampling happens on the host, over one position's logits; the model runs on new positions only, with a
//! cache. [`generate`] is the plain loop over one sequence and the oracle of everything faster.

mod beam;
mod decoding;
pub mod engine;
mod error;
mod generate;
mod grammar;
mod sampling;
mod stop_strings;
mod text;

pub use beam::{BeamOptions, BeamRow, BeamSequence, EarlyStopping, beam_search, generate_beams};
pub use decoding::PREFILL_POSITIONS;
pub use error::GenerateError;
pub use generate::{GenerateOptions, GenerateReport, StopReason, generate};
pub use grammar::{Constraint, Grammar, GrammarCompiler};
pub use sampling::{Filter, Sampler, SamplingOptions, TokenLogprobs, TokenMask, order_by_mean_logprob};
pub use stop_strings::{StopProgress, StopStrings};
pub use text::TextStream;
