//! The peak of a training step.
//!
//! A step is a few stages, each with what lives then: the loss, the backward of the uppermost block and of the
//! lowest, that of the embedding, and the update. Between the uppermost block and the lowest, activations go
//! block by block while gradients come, so that one of the two ends is the peak.

use serde::Serialize;

use super::{F32_BYTES, clamp, norms_of_a_block, parameters, process_bytes, product};
use crate::config::{DecoderConfig, Gate, LayerConfig, Projections};

/// A training step to be estimated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingShape {
    /// Sequences of a micro-batch.
    pub batch_size: usize,
    /// Tokens of a sequence.
    pub seq_length: usize,
    /// Micro-batches per step.
    pub gradient_accumulation: usize,
    /// Positions whose logits exist at a time.
    pub chunk_tokens: usize,
    /// Only what enters each block is kept.
    pub gradient_checkpointing: bool,
    /// What is trained, where it is not the whole model.
    pub adapter: Option<AdapterShape>,
    /// Bytes of the model's weights as they are held; f32 where it is left out.
    pub weights_bytes: Option<u64>,
    /// The matrices are multiplied by in 16 bits, and their masters kept in f32.
    pub half_precision: bool,
    /// What updates the parameters.
    pub optimizer: OptimizerShape,
    /// How the backend computes.
    pub kernels: Kernels,
}

/// An adapter in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdapterShape {
    /// Parameters that are trained.
    pub parameters: u64,
    /// Numbers that the forward pass keeps per position for the adapters of all blocks.
    pub saved_per_position: u64,
    /// The head gets a gradient: it is trained whole, or carries an adapter.
    pub trains_head: bool,
}

/// An optimizer in numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptimizerShape {
    /// Bytes that it keeps for each trained parameter.
    pub bytes_per_parameter: f64,
    /// Copies of a parameter in f32 that its update makes.
    pub update_copies: u64,
}

impl OptimizerShape {
    /// AdamW with two moments in f32, updated in place.
    pub const ADAMW: Self = Self { bytes_per_parameter: 8.0, update_copies: 0 };
}

/// What a backend makes of the operations that need most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernels {
    /// Attention without a matrix of scores; the gradient of logits in their place (`cpu`).
    Fused,
    /// Plain operations, each with a buffer of its own.
    Composed,
}

/// Bytes of a training step by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TrainingEstimate {
    /// The program itself.
    pub process_bytes: u64,
    /// The parameters.
    pub weights_bytes: u64,
    /// Gradients of those that are trained.
    pub gradients_bytes: u64,
    /// What the optimizer keeps.
    pub optimizer_bytes: u64,
    /// What the forward pass keeps for the backward.
    pub activations_bytes: u64,
    /// Logits of one chunk and the gradients that the loss computes with them.
    pub loss_bytes: u64,
    /// Buffers of the one block that is being computed.
    pub working_bytes: u64,
    /// The peak: less than the sum, because gradients grow while activations go.
    pub peak_bytes: u64,
    /// What a checkpoint takes while it is written and training goes on, where memory is left for it.
    pub snapshot_bytes: u64,
}

impl Kernels {
    /// Copies of one chunk of logits that the loss holds at a time.
    fn logit_copies(self, softcap: bool) -> u128 {
        match self {
            Self::Fused if softcap => 3,
            Self::Fused => 1,
            Self::Composed => 4,
        }
    }

    /// Copies of one block's attention scores that its backward holds at a time, with what is dropped of them.
    fn score_copies(self, drops: bool) -> u128 {
        match self {
            Self::Fused => 0,
            Self::Composed if drops => 6,
            Self::Composed => 4,
        }
    }
}

/// What the allocator keeps between buffers of different sizes, as a share of what comes and goes.
const FRAGMENTS: (u128, u128) = (1, 20);
/// What reading the base of an adapter leaves behind.
const BASE_BYTES: u128 = 5 << 20;
/// Bytes of a number in 16 bits.
const HALF_BYTES: u128 = 2;
/// Positions that a matrix product packs at a time.
const PACKED_POSITIONS: u128 = 384;

/// Estimates a step of training.
pub fn training(config: &DecoderConfig, shape: TrainingShape) -> TrainingEstimate {
    let sizes = Sizes::new(config, shape);
    let Sizes { weights, trained, optimizer, .. } = sizes;
    let loss = sizes.loss(config, shape);
    let peak = sizes.stages(loss).into_iter().max().unwrap_or_default();
    let fragments = peak * FRAGMENTS.0 / FRAGMENTS.1;
    TrainingEstimate {
        process_bytes: process_bytes(config),
        weights_bytes: clamp(weights),
        gradients_bytes: clamp(trained),
        optimizer_bytes: clamp(optimizer),
        activations_bytes: clamp(sizes.kept + if shape.gradient_checkpointing { sizes.block } else { 0 }),
        loss_bytes: clamp(loss),
        working_bytes: clamp(sizes.working),
        peak_bytes: clamp(weights + optimizer + sizes.held + peak + fragments)
            .saturating_add(process_bytes(config)),
        snapshot_bytes: clamp(trained + optimizer),
    }
}

/// Bytes of what a step holds at some time.
struct Sizes {
    weights: u128,
    optimizer: u128,
    /// Gradients of all trained parameters.
    trained: u128,
    /// Gradients of earlier micro-batches.
    held: u128,
    /// Gradient of the head, 0 if it is not trained.
    head: u128,
    /// The same gradient, where the embedding's is one of its own beside it until both are added.
    tied: u128,
    /// What the forward pass keeps until the backward begins.
    kept: u128,
    /// What the backward of one block needs beside that.
    block: u128,
    working: u128,
    /// Copies that the update of the largest parameter makes.
    update: u128,
    /// The residual stream.
    stream: u128,
    /// Gradients of blocks stay until the step ends; else they are added to those of earlier micro-batches.
    gradients_stay: bool,
}

impl Sizes {
    fn new(config: &DecoderConfig, shape: TrainingShape) -> Self {
        let count = parameters(config);
        let weights = shape.weights_bytes.map_or(u128::from(count.total) * F32_BYTES, u128::from);
        let own = shape.adapter.map_or(0, |adapter| u128::from(adapter.parameters) * F32_BYTES);
        let trained = if shape.adapter.is_some() { own } else { u128::from(count.total) * F32_BYTES };
        let matrices = u128::from(count.blocks) + u128::from(count.lm_head);
        let copies = if shape.half_precision && shape.adapter.is_none() { matrices * HALF_BYTES } else { 0 };
        let state = (trained / F32_BYTES) as f64 * shape.optimizer.bytes_per_parameter;
        let table = product([config.vocab_size, config.hidden_size]) * F32_BYTES;
        let head = if shape.adapter.is_some_and(|adapter| !adapter.trains_head) { 0 } else { table };
        let largest = if shape.adapter.is_some() { head.max(own / 8) } else { table };
        let rows = product([shape.batch_size, shape.seq_length]);
        let stream = rows * config.hidden_size as u128 * F32_BYTES;
        let added = shape.adapter.map_or(0, |adapter| u128::from(adapter.saved_per_position));
        let layers = config.layers.len().max(1) as u128;
        let of_layer = |layer: &LayerConfig| {
            let rounded = if shape.half_precision { linear_inputs(config, *layer) } else { 0 };
            rows * ((saved_per_row(config, *layer) + added / layers) * F32_BYTES - rounded * HALF_BYTES)
        };
        let block = config.layers.iter().map(of_layer).max().unwrap_or_default();
        let dropped = if config.dropout.embedding > 0.0 { stream } else { 0 };
        let inputs = layers * stream;
        let blocks: u128 = config.layers.iter().map(of_layer).sum();
        let checkpointed = shape.gradient_checkpointing;
        let accumulates = shape.gradient_accumulation > 1;
        Self {
            weights: weights + own + copies + if shape.adapter.is_some() { BASE_BYTES } else { 0 },
            optimizer: state as u128,
            update: u128::from(shape.optimizer.update_copies) * largest,
            trained,
            held: if accumulates { trained } else { 0 },
            head,
            tied: if config.tie_word_embeddings { head } else { 0 },
            kept: 2 * stream + dropped + if checkpointed { inputs } else { blocks },
            block: if checkpointed { block } else { 0 },
            working: working(config, shape, rows),
            stream,
            gradients_stay: !(checkpointed && accumulates),
        }
    }

    /// Bytes of each stage, beside what lives through all of them.
    fn stages(&self, loss: u128) -> [u128; 5] {
        let found = if self.gradients_stay { self.trained } else { 0 };
        let first_block = self.block.max(self.kept / 8);
        [
            self.kept + loss,
            self.kept + self.head + self.block + self.working,
            found + first_block + self.working + self.stream,
            found + self.tied + 2 * self.stream,
            // The largest gradient is squared for the norm, before the updates.
            self.trained + self.update.max(self.head).max(self.trained / 8),
        ]
    }

    fn loss(&self, config: &DecoderConfig, shape: TrainingShape) -> u128 {
        let rows = product([shape.batch_size, shape.seq_length]);
        let chunk = rows.min(shape.chunk_tokens as u128);
        let vocabulary = config.vocab_size as u128 * F32_BYTES;
        let copies = shape.kernels.logit_copies(config.head.softcap.is_some());
        let chunks = rows.div_ceil(chunk.max(1));
        // Each chunk adds its part to the sum; what it was scaled from lives beside the scaled one.
        let gradients = if chunks > 1 { 2 * self.head } else { self.head };
        let while_chunk = copies * chunk * vocabulary + gradients + chunk.min(PACKED_POSITIONS) * vocabulary;
        while_chunk.max(2 * self.head) + self.stream
    }
}

/// Numbers that the forward pass of a block keeps per position.
fn saved_per_row(config: &DecoderConfig, layer: LayerConfig) -> u128 {
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
    // A rotation is its own buffer; where the projections are one matrix, the rotated keep theirs alive beside it.
    let fused = config.attention.projections != Projections::Separate;
    let rotated = if fused && !config.rotary().is_empty() { query + key_value } else { 0 };
    let every_block = normed + attention + head_norms + rotated + 2 * dropped(config.dropout.residual);
    every_block + saved_by_mlp(config, layer)
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

/// Those of them that enter a projection, which keeps them in 16 bits where it multiplies in 16 bits.
fn linear_inputs(config: &DecoderConfig, layer: LayerConfig) -> u128 {
    let inner = match config.experts.filter(|_| layer.sparse) {
        None => config.mlp.intermediate_size,
        Some(experts) => {
            experts.num_experts_per_tok * experts.intermediate_size
                + experts.shared_expert_intermediate_size.unwrap_or(0)
        }
    };
    2 * config.hidden_size as u128 + config.attention.query_size() as u128 + inner as u128
}

/// Bytes of what passes through the backward of one block.
fn working(config: &DecoderConfig, shape: TrainingShape, rows: u128) -> u128 {
    let hidden = config.hidden_size as u128;
    let gates = if config.mlp.gate == Gate::None { 1 } else { 2 };
    let mlp = gates * config.mlp.intermediate_size as u128 + 2 * hidden;
    let scores = shape.kernels.score_copies(config.dropout.attention > 0.0)
        * product([
            shape.batch_size,
            config.attention.num_attention_heads,
            shape.seq_length,
            shape.seq_length,
        ]);
    (rows * mlp).max(scores) * F32_BYTES
}
