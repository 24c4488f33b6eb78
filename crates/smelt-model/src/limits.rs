//! Upper bounds on the sizes a configuration may ask for.
//!
//! Far above every published model: they stop a damaged or hostile `config.json` before arithmetic
//! overflows, and are no statement of what fits into memory.

/// Token ids.
pub const VOCAB_SIZE: usize = 1 << 24;
/// Width of the residual stream.
pub const HIDDEN_SIZE: usize = 1 << 17;
/// Width inside the feed-forward part.
pub const INTERMEDIATE_SIZE: usize = 1 << 20;
/// Blocks.
pub const LAYERS: usize = 1 << 12;
/// Attention heads.
pub const HEADS: usize = 1 << 12;
/// Positions.
pub const POSITIONS: usize = 1 << 26;
/// Experts of a block.
pub const EXPERTS: usize = 1 << 12;
