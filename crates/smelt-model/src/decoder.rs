//! The one decoder-only transformer of all families.
//!
//! Built from a [`DecoderConfig`]; positions, masks, caches and dropout are arguments. Knows nothing of
//! files, losses or sampling.

use burn::module::Module;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};
use smelt_backend::Kernels;

use crate::blocks::{Block, DropoutStream, Embedding, Linear, Norm, Pass, dropout};
use crate::cache::KvCache;
use crate::config::{DecoderConfig, Positions};
use crate::mask;

/// A decoder-only transformer.
#[derive(Module, Debug)]
pub struct Decoder<B: Backend> {
    /// Token vectors, `[vocab_size, hidden_size]`.
    pub embed_tokens: Embedding<B>,
    /// Learned position vectors, `[max_position_embeddings, hidden_size]`.
    pub embed_positions: Option<Embedding<B>>,
    /// The blocks, first to last.
    pub layers: Vec<Block<B>>,
    /// After the last block.
    pub norm: Norm<B>,
    /// `None` where the head is tied to the token vectors.
    pub lm_head: Option<Linear<B>>,
    #[module(skip)]
    config: DecoderConfig,
}

/// The arguments of one forward pass.
#[derive(Debug)]
pub struct ForwardInput<'a, B: Backend> {
    /// `[batch, seq]`, every id below `vocab_size`
    /// ([`DecoderConfig::check_token_ids`] on the host: devices may not check).
    pub input_ids: Tensor<B, 2, Int>,
    /// `[batch, seq]`; by default they count on from what the cache holds, padding or not.
    pub position_ids: Option<Tensor<B, 2, Int>>,
    /// `[batch, kv_len]`, 1 for a token and 0 for padding; `kv_len` counts what the cache holds, too.
    pub attention_mask: Option<Tensor<B, 2>>,
    /// Read and extended.
    pub cache: Option<&'a mut KvCache<B>>,
    /// Training's dropout; `None` drops nothing.
    pub dropout: Option<DropoutStream>,
}

impl<B: Backend> ForwardInput<'_, B> {
    /// `input_ids` alone: no padding, no cache, no dropout.
    pub fn new(input_ids: Tensor<B, 2, Int>) -> Self {
        Self { input_ids, position_ids: None, attention_mask: None, cache: None, dropout: None }
    }
}

impl<B: Backend> Decoder<B> {
    /// The model of `config`, all parameters named and shaped but without values.
    pub fn structure(config: &DecoderConfig, device: &B::Device) -> Self {
        let DecoderConfig { vocab_size, hidden_size, num_hidden_layers, .. } = *config;
        let positions = match config.positions {
            Positions::Learned => Some(config.max_position_embeddings),
        };
        let head = !config.tie_word_embeddings;
        Self {
            embed_tokens: Embedding::structure(vocab_size, hidden_size, device),
            embed_positions: positions.map(|count| Embedding::structure(count, hidden_size, device)),
            layers: (0..num_hidden_layers).map(|layer| Block::structure(config, layer, device)).collect(),
            norm: Norm::structure(config.norm, hidden_size, device),
            lm_head: head.then(|| Linear::structure(hidden_size, vocab_size, false, device)),
            config: config.clone(),
        }
    }

    /// What it was built from.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// The matrix of the head, `[vocab_size, hidden_size]`: its own, or the token vectors.
    pub fn head_weight(&self) -> Tensor<B, 2> {
        match &self.lm_head {
            Some(head) => head.weight.val(),
            None => self.embed_tokens.weight.val(),
        }
    }
}

impl<B: Kernels> Decoder<B> {
    /// Hidden states after the final norm, `[batch, seq, hidden_size]`.
    ///
    /// # Panics
    /// If the sequence does not fit the context or the cache.
    pub fn hidden(&self, input: ForwardInput<'_, B>) -> Tensor<B, 3> {
        let (x, pass) = self.run(input, |_, _| ());
        unflat(self.norm.forward(x), &pass)
    }

    /// Hidden states in the order of transformers' `output_hidden_states`, each `[batch, seq, hidden_size]`:
    /// the embeddings, then after each block, the last one after the final norm.
    ///
    /// # Panics
    /// As [`Decoder::hidden`].
    pub fn hidden_states(&self, input: ForwardInput<'_, B>) -> Vec<Tensor<B, 3>> {
        let mut states = Vec::with_capacity(self.layers.len() + 1);
        let (x, pass) = self.run(input, |x, pass| states.push(unflat(x.clone(), pass)));
        states.push(unflat(self.norm.forward(x), &pass));
        states
    }

    /// `hidden` `[batch, seq, hidden_size]`, as [`Decoder::hidden`] returns it -> `[batch, seq, vocab_size]`.
    ///
    /// All logits exist at once: training uses `Kernels::linear_cross_entropy` on
    /// [`Decoder::head_weight`] instead, and generation passes the last position only.
    pub fn logits(&self, hidden: Tensor<B, 3>) -> Tensor<B, 3> {
        let [batch, seq, features] = hidden.dims();
        let logits = Kernels::linear(hidden.reshape([batch * seq, features]), self.head_weight(), None);
        logits.reshape([batch, seq, self.config.vocab_size])
    }

    /// The residual stream before the first block, `[batch * seq, hidden_size]`, and what the blocks share.
    ///
    /// With [`Block::forward`] and the final `norm`, the pieces of [`Decoder::hidden`], for callers that run
    /// block by block.
    ///
    /// # Panics
    /// As [`Decoder::hidden`].
    pub fn embed(&self, input: &ForwardInput<'_, B>) -> (Tensor<B, 2>, Pass<B>) {
        let [batch, seq] = input.input_ids.dims();
        let past = input.cache.as_ref().map_or(0, |cache| cache.len());
        let pass = Pass {
            batch,
            seq,
            mask: input.attention_mask.clone().map(|mask| mask::additive(mask, batch, past + seq)),
            dropout: input.dropout,
        };
        let mut x = self.embed_tokens.forward(input.input_ids.clone());
        if let Some(table) = &self.embed_positions {
            x = x + match input.position_ids.clone() {
                Some(ids) => table.forward(ids),
                None => table.range(past, seq).expand([batch, seq, self.config.hidden_size]),
            };
        }
        let x = x.reshape([batch * seq, self.config.hidden_size]);
        (dropout::at_embedding(x, &self.config.dropout, input.dropout), pass)
    }

    /// All blocks; `before_block` sees what enters each.
    fn run(
        &self,
        mut input: ForwardInput<'_, B>,
        mut before_block: impl FnMut(&Tensor<B, 2>, &Pass<B>),
    ) -> (Tensor<B, 2>, Pass<B>) {
        let (mut x, pass) = self.embed(&input);
        for (layer, block) in self.layers.iter().enumerate() {
            before_block(&x, &pass);
            x = block.forward(x, &pass, input.cache.as_deref_mut().map(|cache| cache.layer(layer)));
        }
        (x, pass)
    }
}

fn unflat<B: Backend>(x: Tensor<B, 2>, pass: &Pass<B>) -> Tensor<B, 3> {
    let features = x.dims()[1];
    x.reshape([pass.batch, pass.seq, features])
}
