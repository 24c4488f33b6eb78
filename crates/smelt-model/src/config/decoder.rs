//! What a decoder is made of, in the words of Hugging Face, the same for every family.
//!
//! A family file turns its `config.json` into this; the blocks know only this. An option that a later
//! family brings becomes a field here, not a second model.

use smelt_backend::kernels::Activation;

use crate::error::ModelError;
use crate::rotary::RotaryConfig;

/// The shape and the options of a decoder-only transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// Number of token ids.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Longest context, before any rope scaling extends it.
    pub max_position_embeddings: usize,
    /// Factor on the token vectors.
    pub embedding_scale: Option<f64>,
    /// How positions enter.
    pub positions: Positions,
    /// All norms of the residual stream.
    pub norm: NormConfig,
    /// How the two parts of a block join the residual stream.
    pub residual: Residual,
    /// The attention of every block.
    pub attention: AttentionConfig,
    /// The dense feed-forward part.
    pub mlp: MlpConfig,
    /// The sparse feed-forward part of the blocks that have one.
    pub experts: Option<ExpertsConfig>,
    /// What differs from block to block, one entry each.
    pub layers: Vec<LayerConfig>,
    /// From the residual stream to logits.
    pub head: HeadConfig,
    /// The head multiplies by the token embedding instead of a matrix of its own.
    pub tie_word_embeddings: bool,
    /// Dropout in training.
    pub dropout: DropoutConfig,
    /// Standard deviation of freshly initialised weights.
    pub initializer_range: f64,
}

/// How positions enter the model.
#[derive(Debug, Clone, PartialEq)]
pub enum Positions {
    /// A table of learned vectors, added to the token embedding.
    Learned,
    /// Queries and keys are rotated; each layer says which of these it uses.
    Rotary(Vec<RotaryConfig>),
}

/// How the attention and the feed-forward part of a block join the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residual {
    /// `x + attention(norm(x))`, then `x + mlp(norm(x))`.
    Sequential,
    /// As [`Residual::Sequential`], with another norm on what each part adds (Gemma 2).
    Sandwich,
    /// `x + attention(norm(x)) + mlp(norm(x))`.
    Parallel {
        /// One norm feeds both parts.
        shared_norm: bool,
    },
}

/// What is peculiar to one block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LayerConfig {
    /// A query sees itself and the `sliding_window - 1` positions before; all of them without.
    pub sliding_window: Option<usize>,
    /// Which entry of [`Positions::Rotary`] rotates its queries and keys.
    pub rotary: usize,
    /// The feed-forward part is that of [`DecoderConfig::experts`].
    pub sparse: bool,
}

/// The kind of normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// Mean and variance, with a bias if so asked.
    LayerNorm {
        /// Adds a learned bias.
        bias: bool,
    },
    /// Root mean square, without a bias.
    RmsNorm {
        /// The scale is `1 + weight` (Gemma).
        unit_offset: bool,
    },
}

/// A norm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormConfig {
    /// The kind.
    pub kind: NormKind,
    /// Added to the variance.
    pub epsilon: f64,
}

/// How a checkpoint holds the projections to queries, keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Projections {
    /// Three matrices.
    Separate,
    /// One matrix: rows of all query heads, then all key heads, then all value heads.
    Joined,
    /// One matrix: for each head its query, key and value rows (GPT-NeoX).
    Interleaved,
}

/// The attention of a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionConfig {
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads, a divisor of the query heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Factor on the scores of the first layer.
    pub scale: f64,
    /// Divides the factor by the number of the layer, counted from 1.
    pub scale_by_inverse_layer: bool,
    /// How queries, keys and values are projected.
    pub projections: Projections,
    /// The query, key and value projections have a bias.
    pub qkv_bias: bool,
    /// The output projection has a bias.
    pub output_bias: bool,
    /// A norm on each head's queries and keys, before they are rotated.
    pub query_key_norm: Option<NormConfig>,
    /// Scores become `softcap * tanh(score / softcap)`.
    pub softcap: Option<f64>,
    /// Queries of positions from this one on grow with the logarithm of the position to this base (Qwen 1).
    pub log_scaling: Option<usize>,
}

impl AttentionConfig {
    /// Factor on the scores of layer `layer`, counted from 0.
    pub fn layer_scale(&self, layer: usize) -> f64 {
        if self.scale_by_inverse_layer { self.scale / (layer + 1) as f64 } else { self.scale }
    }

    /// Width of the joined query heads.
    pub fn query_size(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Width of the joined key heads, and of the value heads.
    pub fn key_value_size(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }
}

/// How a feed-forward part is gated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// `down(activation(up(x)))`
    None,
    /// `down(activation(gate(x)) * up(x))` with two matrices (Shazeer 2020, arXiv:2002.05202).
    Separate,
    /// The same with one matrix: rows of the gate, then those of `up` (Phi-3).
    Joined,
}

/// The feed-forward part of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MlpConfig {
    /// Width between its projections.
    pub intermediate_size: usize,
    /// Between the projections.
    pub activation: Activation,
    /// Whether and how it is gated.
    pub gate: Gate,
    /// The projections have biases.
    pub bias: bool,
}

/// A sparse mixture of experts: each token passes through a few of them (Jiang et al. 2024, arXiv:2401.04088).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpertsConfig {
    /// Experts of a block.
    pub num_experts: usize,
    /// Experts that a token passes through.
    pub num_experts_per_tok: usize,
    /// Width between the projections of one expert.
    pub intermediate_size: usize,
    /// The weights of the chosen experts are scaled to sum to 1.
    pub norm_topk_prob: bool,
    /// Width of an expert that all tokens pass through, behind a gate of its own.
    pub shared_expert_intermediate_size: Option<usize>,
    /// Factor of the load-balancing loss in training.
    pub router_aux_loss_coef: f64,
}

/// From the residual stream to logits.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct HeadConfig {
    /// The head has a bias.
    pub bias: bool,
    /// Logits become `softcap * tanh(logit / softcap)`.
    pub softcap: Option<f64>,
}

/// Dropout probabilities in training; inference has none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DropoutConfig {
    /// On the sum of the embeddings.
    pub embedding: f64,
    /// On what a block adds to the residual stream.
    pub residual: f64,
    /// On the attention probabilities.
    pub attention: f64,
}

impl DecoderConfig {
    /// The rotations of its layers; none with learned positions.
    pub fn rotary(&self) -> &[RotaryConfig] {
        match &self.positions {
            Positions::Learned => &[],
            Positions::Rotary(configs) => configs,
        }
    }

    /// Positions that have a vector, where they are learned: there are no others. Rotations go on.
    pub fn learned_positions(&self) -> Option<usize> {
        (self.positions == Positions::Learned).then_some(self.max_position_embeddings)
    }

    /// Positions it was made to serve, rope scaling included.
    pub fn context_length(&self) -> usize {
        let base = self.max_position_embeddings;
        self.rotary().iter().map(|rotary| rotary.context_length(base)).min().unwrap_or(base)
    }

    /// The dense feed-forward part of one expert.
    pub(crate) fn expert_mlp(&self, intermediate_size: usize) -> MlpConfig {
        MlpConfig { intermediate_size, ..self.mlp }
    }

    /// Refuses ids that the embedding does not hold: some backends would read past it silently.
    ///
    /// # Errors
    /// [`ModelError::TokenOutOfRange`] for the first id that is not below `vocab_size`.
    pub fn check_token_ids(&self, ids: &[u32]) -> Result<(), ModelError> {
        match ids.iter().enumerate().find(|(_, id)| **id as usize >= self.vocab_size) {
            None => Ok(()),
            Some((position, id)) => {
                Err(ModelError::TokenOutOfRange { id: *id, position, vocab_size: self.vocab_size })
            }
        }
    }
}
