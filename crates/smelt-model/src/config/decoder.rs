//! What a decoder is made of, in the words of Hugging Face, the same for every family.
//!
//! A family file turns its `config.json` into this; the blocks know only this. An option that a later
//! family brings becomes a field here, not a second model.

use smelt_backend::kernels::Activation;

use crate::error::ModelError;

/// The shape and the options of a decoder-only transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// Number of token ids.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Longest context.
    pub max_position_embeddings: usize,
    /// How positions enter.
    pub positions: Positions,
    /// All norms.
    pub norm: NormConfig,
    /// The attention of every block.
    pub attention: AttentionConfig,
    /// The feed-forward part of every block.
    pub mlp: MlpConfig,
    /// The head multiplies by the token embedding instead of a matrix of its own.
    pub tie_word_embeddings: bool,
    /// Dropout in training.
    pub dropout: DropoutConfig,
    /// Standard deviation of freshly initialised weights.
    pub initializer_range: f64,
}

/// How positions enter the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Positions {
    /// A table of learned vectors, added to the token embedding.
    Learned,
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
    RmsNorm,
}

/// All norms of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormConfig {
    /// The kind.
    pub kind: NormKind,
    /// Added to the variance.
    pub epsilon: f64,
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
    /// The query, key and value projections have a bias.
    pub qkv_bias: bool,
    /// The output projection has a bias.
    pub output_bias: bool,
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

/// The feed-forward part of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MlpConfig {
    /// Width between its two projections.
    pub intermediate_size: usize,
    /// Between the projections.
    pub activation: Activation,
    /// The projections have biases.
    pub bias: bool,
}

/// Dropout probabilities in training; inference has none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DropoutConfig {
    /// On the sum of the embeddings.
    pub embedding: f64,
    /// On what a block adds to the residual stream.
    pub residual: f64,
    /// On the attention probabilities: read from the configuration, not applied.
    pub attention: f64,
}

impl DecoderConfig {
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
