//! How much memory a model will take, by part, before anything is allocated.
//!
//! Counts what the forward pass keeps for the hand-written backwards of `smelt_backend::kernels`, one
//! buffer at a time, in f32. Knows nothing of a device's overhead beyond a flat amount for the process; it
//! is held against measured peaks by the tests of the command line.

use serde::Serialize;

use crate::config::{DecoderConfig, Gate, LayerConfig, MlpConfig, NormConfig, NormKind, Positions, Residual};

/// Bytes of a weight, a gradient, a moment, an activation.
const F32_BYTES: u128 = 4;
/// What the program takes before any tensor: code, tokenizer, data, allocator.
const PROCESS_BYTES: u64 = 24 << 20;
/// Copies of one chunk of logits that the loss holds at a time: logits, shifted, exponentials, gradient.
const LOGIT_COPIES: u128 = 4;
/// Copies of one block's attention scores that its backward holds at a time.
const SCORE_COPIES: u128 = 4;
/// Moments of AdamW.
const MOMENTS: u128 = 2;

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

/// A training step to be estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainingShape {
    /// Sequences of a micro-batch.
    pub batch_size: usize,
    /// Tokens of a sequence.
    pub seq_length: usize,
    /// Micro-batches per step.
    pub gradient_accumulation: usize,
    /// Positions whose logits exist at a time.
    pub chunk_tokens: usize,
}

/// Bytes of a training step by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TrainingEstimate {
    /// The program itself.
    pub process_bytes: u64,
    /// The parameters.
    pub weights_bytes: u64,
    /// Their gradients.
    pub gradients_bytes: u64,
    /// AdamW's moments.
    pub optimizer_bytes: u64,
    /// What the forward pass keeps for the backward.
    pub activations_bytes: u64,
    /// Logits of one chunk and the gradients that the loss computes with them.
    pub loss_bytes: u64,
    /// Buffers of the one block that is being computed.
    pub working_bytes: u64,
    /// The peak: less than the sum, because gradients grow while activations go.
    pub peak_bytes: u64,
}

/// A generation to be estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InferenceShape {
    /// Sequences at a time.
    pub batch_size: usize,
    /// Positions of a prompt that enter at a time.
    pub prompt_length: usize,
    /// Positions the cache holds.
    pub capacity: usize,
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

/// Estimates full training with AdamW.
pub fn training(config: &DecoderConfig, shape: TrainingShape) -> TrainingEstimate {
    let weights = u128::from(parameters(config).total) * F32_BYTES;
    let head_gradient = product([config.vocab_size, config.hidden_size]) * F32_BYTES;
    let rows = product([shape.batch_size, shape.seq_length]);
    let chunk = rows.min(shape.chunk_tokens as u128);
    let activations = rows * F32_BYTES * saved_per_row(config);
    let loss = LOGIT_COPIES * chunk * config.vocab_size as u128 * F32_BYTES
        + head_gradient
        + rows * config.hidden_size as u128 * F32_BYTES;
    let working = working(config, shape.batch_size, shape.seq_length, shape.seq_length, SCORE_COPIES);
    let held = if shape.gradient_accumulation > 1 { weights } else { 0 };
    // A tied head's gradient stays beside that of the embedding until they are added.
    let tied = if config.tie_word_embeddings { 2 * head_gradient } else { 0 };
    let peak = [activations + loss, activations + head_gradient + working, weights + tied + working];
    let peak = peak.into_iter().max().unwrap_or_default() + held + weights * (1 + MOMENTS);
    TrainingEstimate {
        process_bytes: PROCESS_BYTES,
        weights_bytes: clamp(weights),
        gradients_bytes: clamp(weights),
        optimizer_bytes: clamp(weights * MOMENTS),
        activations_bytes: clamp(activations),
        loss_bytes: clamp(loss),
        working_bytes: clamp(working),
        peak_bytes: clamp(peak).saturating_add(PROCESS_BYTES),
    }
}

/// Estimates generation in f32.
pub fn inference(config: &DecoderConfig, shape: InferenceShape) -> InferenceEstimate {
    let weights = u128::from(parameters(config).total) * F32_BYTES;
    let positions = product([shape.batch_size, shape.capacity, config.num_hidden_layers]);
    let kv_cache = positions * 2 * config.attention.key_value_size() as u128 * F32_BYTES;
    let logits = product([shape.batch_size, config.vocab_size]) * F32_BYTES;
    let working = logits + working(config, shape.batch_size, shape.prompt_length, shape.prompt_length, 2);
    InferenceEstimate {
        process_bytes: PROCESS_BYTES,
        weights_bytes: clamp(weights),
        kv_cache_bytes: clamp(kv_cache),
        working_bytes: clamp(working),
        peak_bytes: clamp(weights + kv_cache + working).saturating_add(PROCESS_BYTES),
    }
}

/// Numbers that the forward pass keeps per position.
fn saved_per_row(config: &DecoderConfig) -> u128 {
    let hidden = config.hidden_size as u128;
    let query = config.attention.query_size() as u128;
    let key_value = config.attention.key_value_size() as u128;
    let dropped = |probability: f64| if probability > 0.0 { hidden } else { 0 };
    // What enters each norm and what leaves it, which the projections keep.
    let normed = 2 * norms_of_a_block(config) * hidden;
    // Query, key, value; the output as attention keeps it, and merged for its projection.
    let attention = query + 2 * key_value + 2 * query;
    // What enters a norm of heads.
    let head_norms = if config.attention.query_key_norm.is_some() { query + key_value } else { 0 };
    // A rotation is its own buffer, and so are both parts of a head that rotates in part.
    let rotated = if config.rotary().is_empty() { 0 } else { query + key_value };
    let every_block = normed + attention + head_norms + rotated + 2 * dropped(config.dropout.residual);
    let blocks: u128 = config.layers.iter().map(|layer| every_block + saved_by_mlp(config, *layer)).sum();
    blocks + 2 * hidden + dropped(config.dropout.embedding)
}

fn saved_by_mlp(config: &DecoderConfig, layer: LayerConfig) -> u128 {
    // Before and after the activation, and the gate.
    let buffers = if config.mlp.gate == Gate::None { 2 } else { 3 };
    match config.experts.filter(|_| layer.sparse) {
        None => buffers * config.mlp.intermediate_size as u128,
        Some(experts) => {
            let chosen = experts.num_experts_per_tok * (experts.intermediate_size + config.hidden_size);
            let shared = experts.shared_expert_intermediate_size.unwrap_or(0);
            buffers * (chosen + shared) as u128 + 3 * experts.num_experts as u128
        }
    }
}

/// Bytes of one block's passing buffers: the widest activations, and the attention scores.
fn working(config: &DecoderConfig, batch: usize, q_len: usize, kv_len: usize, score_copies: u128) -> u128 {
    let scores = product([batch, config.attention.num_attention_heads, q_len, kv_len]) * score_copies;
    let widths = [2 * config.mlp.intermediate_size, 3 * config.attention.query_size()];
    let widest = widths.into_iter().max().unwrap_or_default() + 2 * config.hidden_size;
    (scores.max(product([batch, q_len, widest]))) * F32_BYTES
}

/// The product, kept far enough below `u128::MAX` that sums and small factors cannot overflow.
fn product<const N: usize>(sizes: [usize; N]) -> u128 {
    sizes.into_iter().fold(1u128, |product, size| product.saturating_mul(size as u128).min(1 << 96))
}

fn clamp(count: u128) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
