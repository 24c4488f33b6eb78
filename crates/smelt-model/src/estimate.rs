//! How much memory a model will take, by part, before anything is allocated.
//!
//! Counts buffers as the kernels of `smelt_backend` keep and free them; `cargo xtask memory-table` holds the
//! result against measured peaks. Knows nothing of a device's overhead beyond a flat amount for the process.

mod training;

use serde::Serialize;

use crate::cache::{CacheBits, CacheOptions};
use crate::config::{DecoderConfig, Gate, LayerConfig, MlpConfig, NormConfig, NormKind, Positions, Residual};

pub use training::{AdapterShape, Kernels, OptimizerShape, TrainingEstimate, TrainingShape, training};

/// Bytes of a weight, a gradient, a moment, an activation.
const F32_BYTES: u128 = 4;
/// What the program takes before any tensor: code, data, allocator.
const PROCESS_BYTES: u64 = 32 << 20;
/// What a tokenizer takes for each of its tokens.
const TOKEN_BYTES: u64 = 1 << 10;

/// Number of parameters by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ParameterCount {
    /// Token vectors.
    pub embed_tokens: u64,
    /// Learned position vectors.
    pub embed_positions: u64,
    /// One block.
    pub block: u64,
    /// All blocks.
    pub blocks: u64,
    /// The final norm.
    pub norm: u64,
    /// The head, 0 if tied.
    pub lm_head: u64,
    /// Everything.
    pub total: u64,
}

/// A generation to be estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InferenceShape {
    /// Sequences at a time.
    pub batch_size: usize,
    /// Positions of a prompt that enter at a time.
    pub prompt_length: usize,
    /// Positions the cache of each sequence holds.
    pub capacity: usize,
    /// Keys and values are rounded to this.
    pub kv_bits: Option<CacheBits>,
    /// Bytes of the weights as they are held; f32 where it is left out.
    pub weights_bytes: Option<u64>,
}

/// Bytes of a generation by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct InferenceEstimate {
    /// The program itself.
    pub process_bytes: u64,
    /// The parameters.
    pub weights_bytes: u64,
    /// Keys and values.
    pub kv_cache_bytes: u64,
    /// Buffers of the one block that is being computed.
    pub working_bytes: u64,
    /// The sum.
    pub peak_bytes: u64,
}

/// Counts the parameters of `config`.
pub fn parameters(config: &DecoderConfig) -> ParameterCount {
    let hidden = config.hidden_size;
    let embed_tokens = product([config.vocab_size, hidden]);
    let embed_positions = match config.positions {
        Positions::Learned => product([config.max_position_embeddings, hidden]),
        Positions::Rotary(_) => 0,
    };
    let norm = norm_parameters(config.norm, hidden);
    let head_bias = if config.head.bias { config.vocab_size as u128 } else { 0 };
    let lm_head = if config.tie_word_embeddings { 0 } else { embed_tokens + head_bias };
    let block_of = |layer: &LayerConfig| {
        norms_of_a_block(config) * norm
            + attention_parameters(config)
            + feed_forward_parameters(config, *layer)
    };
    let blocks: u128 = config.layers.iter().map(block_of).sum();
    ParameterCount {
        embed_tokens: clamp(embed_tokens),
        embed_positions: clamp(embed_positions),
        block: clamp(config.layers.iter().map(block_of).max().unwrap_or_default()),
        blocks: clamp(blocks),
        norm: clamp(norm),
        lm_head: clamp(lm_head),
        total: clamp(embed_tokens + embed_positions + blocks + norm + lm_head),
    }
}

fn norms_of_a_block(config: &DecoderConfig) -> u128 {
    match config.residual {
        Residual::Sequential | Residual::Parallel { shared_norm: false } => 2,
        Residual::Parallel { shared_norm: true } => 1,
        Residual::Sandwich => 4,
    }
}

fn norm_parameters(norm: NormConfig, features: usize) -> u128 {
    match norm.kind {
        NormKind::LayerNorm { bias: true } => 2 * features as u128,
        NormKind::LayerNorm { bias: false } | NormKind::RmsNorm { .. } => features as u128,
    }
}

fn attention_parameters(config: &DecoderConfig) -> u128 {
    let attention = config.attention;
    let qkv = attention.query_size() + 2 * attention.key_value_size();
    let norms = attention.query_key_norm.map_or(0, |norm| 2 * norm_parameters(norm, attention.head_dim));
    linear(config.hidden_size, qkv, attention.qkv_bias)
        + linear(attention.query_size(), config.hidden_size, attention.output_bias)
        + norms
}

fn feed_forward_parameters(config: &DecoderConfig, layer: LayerConfig) -> u128 {
    let Some(experts) = config.experts.filter(|_| layer.sparse) else {
        return mlp_parameters(config.hidden_size, config.mlp);
    };
    let mlp = |size: usize| mlp_parameters(config.hidden_size, config.expert_mlp(size));
    let hidden = config.hidden_size as u128;
    let shared = experts.shared_expert_intermediate_size.map_or(0, |size| mlp(size) + hidden);
    experts.num_experts as u128 * (hidden + mlp(experts.intermediate_size)) + shared
}

pub(crate) fn mlp_parameters(hidden: usize, mlp: MlpConfig) -> u128 {
    let ups = if mlp.gate == Gate::None { 1 } else { 2 };
    ups * linear(hidden, mlp.intermediate_size, mlp.bias) + linear(mlp.intermediate_size, hidden, mlp.bias)
}

fn linear(inputs: usize, outputs: usize, bias: bool) -> u128 {
    product([inputs, outputs]) + if bias { outputs as u128 } else { 0 }
}

/// Estimates generation, with activations in f32.
pub fn inference(config: &DecoderConfig, shape: InferenceShape) -> InferenceEstimate {
    let weights = shape.weights_bytes.map_or(u128::from(parameters(config).total) * F32_BYTES, u128::from);
    let InferenceShape { capacity, prompt_length: max_pass, kv_bits: bits, .. } = shape;
    let cache = CacheOptions { capacity, max_pass, bits };
    let kv_cache = (shape.batch_size as u128).saturating_mul(cache.bytes(config).into());
    let logits = product([shape.batch_size, config.vocab_size]) * F32_BYTES;
    let working = logits + working(config, shape.batch_size, shape.prompt_length, shape.prompt_length, 2);
    InferenceEstimate {
        process_bytes: process_bytes(config),
        weights_bytes: clamp(weights),
        kv_cache_bytes: clamp(kv_cache),
        working_bytes: clamp(working),
        peak_bytes: clamp(kv_cache.saturating_add(weights + working)).saturating_add(process_bytes(config)),
    }
}

/// Bytes of one block's passing buffers: the widest activations, and the attention scores.
fn working(config: &DecoderConfig, batch: usize, q_len: usize, kv_len: usize, score_copies: u128) -> u128 {
    let scores = product([batch, config.attention.num_attention_heads, q_len, kv_len]) * score_copies;
    let widths = [2 * config.mlp.intermediate_size, 3 * config.attention.query_size()];
    let widest = widths.into_iter().max().unwrap_or_default() + 2 * config.hidden_size;
    (scores.max(product([batch, q_len, widest]))) * F32_BYTES
}

fn process_bytes(config: &DecoderConfig) -> u64 {
    PROCESS_BYTES.saturating_add((config.vocab_size as u64).saturating_mul(TOKEN_BYTES))
}

/// The product, kept far enough below `u128::MAX` that sums and small factors cannot overflow.
fn product<const N: usize>(sizes: [usize; N]) -> u128 {
    sizes.into_iter().fold(1u128, |product, size| product.saturating_mul(size as u128).min(1 << 96))
}

fn clamp(count: u128) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
