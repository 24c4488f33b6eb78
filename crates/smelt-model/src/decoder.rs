//! The one decoder-only transformer of all families.
//!
//! Built from a [`DecoderConfig`]; positions, masks, caches and dropout are arguments. Knows nothing of
//! files, losses or sampling.

use burn::module::{Module, Param, ParamId};
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};
use smelt_backend::kernels::{CrossEntropyLoss, CrossEntropyOptions, Head, soft_cap};
use smelt_backend::{Kernels, float_tensor, int_tensor};

use crate::blocks::{Block, DropoutStream, Embedding, Linear, Norm, Pass, Rotary, Routing, dropout};
use crate::cache::KvCache;
use crate::config::{DecoderConfig, Positions};
use crate::mask;
use crate::positions::PositionIds;
use crate::rotary::RopeLengths;

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
    /// `[batch, seq]`, row-major; by default they count on from what the cache holds, padding or not.
    pub position_ids: Option<Vec<u32>>,
    /// `[batch, kv_len]`, 1 for a token and 0 for padding; `kv_len` counts what the cache holds, too.
    pub attention_mask: Option<Tensor<B, 2>>,
    /// `[batch, seq]`, row-major: tokens see only tokens of the same document. Not with a cache.
    pub document_ids: Option<Vec<u32>>,
    /// Read and extended.
    pub cache: Option<&'a mut KvCache<B>>,
    /// The length that chooses frequencies which depend on it; by default that of what the cache holds and
    /// this pass. A prompt that enters in parts gives its whole length.
    pub rope_length: Option<usize>,
    /// The length of the prompt, for frequencies that it chooses once and for all; by default that of the
    /// cache's first pass, or this one's without a cache.
    pub prompt_length: Option<usize>,
    /// Training's dropout; `None` drops nothing.
    pub dropout: Option<DropoutStream>,
}

impl<B: Backend> ForwardInput<'_, B> {
    /// `input_ids` alone: no padding, no cache, no dropout.
    pub fn new(input_ids: Tensor<B, 2, Int>) -> Self {
        Self {
            input_ids,
            position_ids: None,
            attention_mask: None,
            document_ids: None,
            cache: None,
            rope_length: None,
            prompt_length: None,
            dropout: None,
        }
    }
}

impl<B: Backend> Decoder<B> {
    /// The model of `config`, all parameters named and shaped but without values.
    pub fn structure(config: &DecoderConfig, device: &B::Device) -> Self {
        let DecoderConfig { vocab_size, hidden_size, num_hidden_layers, .. } = *config;
        let positions = match config.positions {
            Positions::Learned => Some(config.max_position_embeddings),
            Positions::Rotary(_) => None,
        };
        let head = !config.tie_word_embeddings;
        Self {
            embed_tokens: Embedding::structure(vocab_size, hidden_size, device),
            embed_positions: positions.map(|count| Embedding::structure(count, hidden_size, device)),
            layers: (0..num_hidden_layers).map(|layer| Block::structure(config, layer, device)).collect(),
            norm: Norm::structure(config.norm, hidden_size, device),
            lm_head: head.then(|| Linear::structure(hidden_size, vocab_size, config.head.bias, device)),
            config: config.clone(),
        }
    }

    /// What it was built from.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// All projections by their paths in the model, first to last; the head comes last if there is one.
    pub(crate) fn linears_mut(&mut self) -> impl Iterator<Item = (String, &mut Linear<B>)> {
        let blocks = self.layers.iter_mut().enumerate().flat_map(|(layer, block)| {
            block.linears_mut().map(move |(name, linear)| (format!("layers.{layer}.{name}"), linear))
        });
        blocks.chain(self.lm_head.iter_mut().map(|head| ("lm_head".to_owned(), head)))
    }

    /// Gives the head a matrix of its own, equal to the token vectors, where it is tied to them.
    pub(crate) fn untie(&mut self) {
        let weight = &self.embed_tokens.weight;
        self.lm_head.get_or_insert_with(|| Linear {
            weight: Param::initialized(ParamId::new(), weight.val()),
            bias: None,
            lora: None,
        });
    }

    /// The head: its own, or the token vectors.
    pub fn head(&self) -> Head<B>
    where
        B: Kernels,
    {
        match &self.lm_head {
            Some(head) => head.head(),
            None => Head { weight: self.embed_tokens.weight.val(), bias: None },
        }
    }
}

impl<B: Kernels> Decoder<B> {
    /// Hidden states after the final norm, `[batch, seq, hidden_size]`.
    ///
    /// # Panics
    /// If the sequence does not fit the context or the cache.
    pub fn hidden(&self, input: ForwardInput<'_, B>) -> Tensor<B, 3> {
        self.hidden_and_routing(input).0
    }

    /// As [`Decoder::hidden`], with the routing of each block that has experts, first to last.
    ///
    /// # Panics
    /// As [`Decoder::hidden`].
    pub fn hidden_and_routing(&self, input: ForwardInput<'_, B>) -> (Tensor<B, 3>, Vec<Routing<B>>) {
        let Run { x, pass, routings } = self.run(input, |_, _| ());
        (unflat(self.norm.forward(x), &pass), routings)
    }

    /// Hidden states in the order of transformers' `output_hidden_states`, each `[batch, seq, hidden_size]`:
    /// the embeddings, then after each block, the last one after the final norm.
    ///
    /// # Panics
    /// As [`Decoder::hidden`].
    pub fn hidden_states(&self, input: ForwardInput<'_, B>) -> Vec<Tensor<B, 3>> {
        let mut states = Vec::with_capacity(self.layers.len() + 1);
        let Run { x, pass, .. } = self.run(input, |x, pass| states.push(unflat(x.clone(), pass)));
        states.push(unflat(self.norm.forward(x), &pass));
        states
    }

    /// `hidden` `[batch, seq, hidden_size]`, as [`Decoder::hidden`] returns it -> `[batch, seq, vocab_size]`.
    ///
    /// All logits exist at once: training uses [`Decoder::cross_entropy`] instead, and generation passes the
    /// last position only.
    pub fn logits(&self, hidden: Tensor<B, 3>) -> Tensor<B, 3> {
        let [batch, seq, features] = hidden.dims();
        let Head { weight, bias } = self.head();
        let logits = Kernels::linear(hidden.reshape([batch * seq, features]), weight, bias);
        soft_cap(logits, self.config.head.softcap).reshape([batch, seq, self.config.vocab_size])
    }

    /// `sum token_weights * negative log-likelihood of targets` in nats, and the same with the z-loss of
    /// `options`.
    ///
    /// `hidden` `[batch, seq, hidden_size]`, as [`Decoder::hidden`] returns it; `targets` and `token_weights`
    /// `[batch * seq]`. Logits are soft-capped as the model's are, whatever `options` say.
    pub fn cross_entropy(
        &self,
        hidden: Tensor<B, 3>,
        targets: Tensor<B, 1, Int>,
        token_weights: Tensor<B, 1>,
        options: CrossEntropyOptions,
    ) -> CrossEntropyLoss<B> {
        let [batch, seq, features] = hidden.dims();
        let hidden = hidden.reshape([batch * seq, features]);
        let options = CrossEntropyOptions { softcap: self.config.head.softcap, ..options };
        Kernels::linear_cross_entropy(hidden, self.head(), targets, token_weights, options)
    }

    /// The residual stream before the first block, `[batch * seq, hidden_size]`, and what the blocks share.
    ///
    /// With [`Block::forward`] and the final `norm`, the pieces of [`Decoder::hidden`], for callers that run
    /// block by block.
    ///
    /// # Panics
    /// As [`Decoder::hidden`].
    pub fn embed(&self, input: &mut ForwardInput<'_, B>) -> (Tensor<B, 2>, Pass<B>) {
        let shape @ [batch, seq] = input.input_ids.dims();
        let hidden_size = self.config.hidden_size;
        let past = input.cache.as_ref().map_or(0, |cache| cache.len());
        let positions = PositionIds::new(input.position_ids.as_deref(), shape, past);
        let mut x = self.embed_tokens.forward(input.input_ids.clone());
        if let Some(scale) = self.config.embedding_scale {
            x = x * scale;
        }
        let device = x.device();
        if let Some(table) = &self.embed_positions {
            x = x + match &input.position_ids {
                Some(ids) => table.forward(int_tensor(ids, shape, &device)),
                None => table.range(past, seq).expand([batch, seq, hidden_size]),
            };
        }
        let x = x.reshape([batch * seq, hidden_size]);
        let pass = self.pass(input, &positions, past, &device);
        (dropout::at_embedding(x, &self.config.dropout, input.dropout), pass)
    }

    fn pass(
        &self,
        input: &mut ForwardInput<'_, B>,
        positions: &PositionIds,
        past: usize,
        device: &B::Device,
    ) -> Pass<B> {
        let [batch, seq] = input.input_ids.dims();
        let sequence = input.rope_length.unwrap_or(past + seq);
        let prompt = input.prompt_length.unwrap_or(sequence);
        let prompt = input.cache.as_mut().map_or(prompt, |cache| cache.prompt_length(prompt));
        let lengths = RopeLengths { sequence, prompt };
        let padding = input.attention_mask.clone().map(|mask| mask::padding(mask, batch, past + seq));
        let documents = input.document_ids.as_ref().map(|ids| {
            assert_eq!(past, 0, "documents are told apart in whole passes only");
            mask::documents(ids, batch, device)
        });
        let mask = match (padding, documents) {
            (Some(padding), Some(documents)) => Some(padding + documents),
            (padding, documents) => padding.or(documents),
        };
        let rotary =
            self.config.rotary().iter().map(|config| Rotary::new(config, positions, lengths, device));
        Pass {
            batch,
            seq,
            mask,
            rotary: rotary.collect(),
            query_scale: self.config.attention.log_scaling.map(|base| query_scale(base, past, seq, device)),
            dropout: input.dropout,
        }
    }

    /// All blocks; `before_block` sees what enters each.
    fn run(
        &self,
        mut input: ForwardInput<'_, B>,
        mut before_block: impl FnMut(&Tensor<B, 2>, &Pass<B>),
    ) -> Run<B> {
        let (mut x, pass) = self.embed(&mut input);
        let mut routings = Vec::new();
        for (layer, block) in self.layers.iter().enumerate() {
            before_block(&x, &pass);
            let (y, routing) =
                block.forward(x, &pass, input.cache.as_deref_mut().map(|cache| cache.layer(layer)));
            x = y;
            routings.extend(routing);
        }
        Run { x, pass, routings }
    }
}

/// What the blocks leave behind.
struct Run<B: Backend> {
    x: Tensor<B, 2>,
    pass: Pass<B>,
    routings: Vec<Routing<B>>,
}

/// `max(1, log_base(position))` of positions counted from 1, `[1, 1, seq, 1]`.
fn query_scale<B: Kernels>(base: usize, past: usize, seq: usize, device: &B::Device) -> Tensor<B, 4> {
    let scale = |position: usize| ((position as f64).ln() / (base as f64).ln()).max(1.0) as f32;
    float_tensor((past + 1..=past + seq).map(scale).collect(), [1, 1, seq, 1], device)
}

fn unflat<B: Backend>(x: Tensor<B, 2>, pass: &Pass<B>) -> Tensor<B, 3> {
    let features = x.dims()[1];
    x.reshape([pass.batch, pass.seq, features])
}
