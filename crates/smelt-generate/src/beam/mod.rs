//! Beam search: the likeliest sequences rather than the likeliest next tokens.
//!
//! Steps, scores and the ways to stop are those of transformers' `generate(num_beams=...)`. Draws nothing:
//! beams that sample are not here.

mod generate;
mod search;

pub use generate::generate_beams;
pub use search::{BeamOptions, BeamRow, BeamSequence, EarlyStopping, beam_search};
