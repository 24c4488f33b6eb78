//! The one decoder-only transformer of all families.
//!
//! Built from a [`DecoderConfig`]; positions, masks, caches and dropout are arguments. Knows nothing of
//! files, losses or sampling. There are two ways in: [`Decoder::hidden`] takes a rectangle of whole sequences, padded
//! if need be; [`Decoder::extend`] continues any number of sequences, each behind its own cache.

use burn::module::Module;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};
use smelt_backend::kernels::{CrossEntropyLoss, CrossEntropyOptions, Head, soft_cap};
use smelt_backend::{Kernels, float_tensor, int_tensor};

use crate::blocks::dropout::{Site, dropout};
use crate::blocks::{
    Block, CacheRows, DropoutStream, Embedding, Linear, Matrix, Norm, Pass, Rotary, Routing,
};
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

/// The arguments of one pass over whole sequences.
#[derive(Debug)]
pub struct ForwardInput<B: Backend> {
    /// `[batch, seq]`, every id below `vocab_size`
    /// ([`DecoderConfig::check_token_ids`] on the host: devices may not check).
    pub input_ids: Tensor<B, 2, Int>,
    /// `[batch, seq]`, row-major; by default they count from 0, padding or not.
    pub position_ids: Option<Vec<u32>>,
    /// `[batch, seq]`, 1 for a token and 0 for padding.
    pub attention_mask: Option<Tensor<B, 2>>,
    /// `[batch, seq]`, row-major: tokens see only tokens of the same document.
    pub document_ids: Option<Vec<u32>>,
    /// The length of the prompt, for frequencies that it chooses once and for all; by default `seq`.
    pub prompt_length: Option<usize>,
    /// Training's dropout; `None` drops nothing.
    pub dropout: Option<DropoutStream>,
}

/// One sequence of [`Decoder::extend`].
#[derive(Debug)]
pub struct Extension<'a, B: Backend> {
    /// What follows the positions in the cache, every id below `vocab_size`; at least one.
    pub ids: &'a [u32],
    /// Read and extended.
    pub cache: &'a mut KvCache<B>,
    /// The length of the sequence as far as it is known, which chooses frequencies that depend on it: a prompt that
    /// enters in parts gives its whole length.
    pub known_length: usize,
}

impl<B: Backend> ForwardInput<B> {
    /// `input_ids` alone: no padding, no dropout.
    pub fn new(input_ids: Tensor<B, 2, Int>) -> Self {
        Self {
            input_ids,
            position_ids: None,
            attention_mask: None,
            document_ids: None,
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
        of_linears(&mut self.layers, self.lm_head.as_mut())
    }

    /// All matrices by the paths of their modules: the tables, then those of the projections.
    pub(crate) fn matrices_mut(&mut self) -> impl Iterator<Item = (String, &mut Matrix<B>)> {
        let Self { embed_tokens, embed_positions, layers, lm_head, .. } = self;
        let tables = [("embed_tokens", Some(embed_tokens)), ("embed_positions", embed_positions.as_mut())];
        let tables =
            tables.into_iter().filter_map(|(path, table)| Some((path.to_owned(), &mut table?.weight)));
        let linears = of_linears(layers, lm_head.as_mut());
        tables.chain(linears.map(|(path, linear)| (path, &mut linear.weight)))
    }

    /// For inference, whose results nobody compares number by number: the values of packed matrices are computed in
    /// f32 ([`QuantizedWeight::unrounded`](smelt_backend::kernels::QuantizedWeight::unrounded)).
    #[must_use]
    pub fn unrounded(mut self) -> Self {
        for (_, matrix) in self.matrices_mut() {
            if let Matrix::Quantized(weight) = matrix {
                *weight = weight.clone().unrounded();
            }
        }
        self
    }

    /// The matrix of the table or projection at `path`, such as `layers.0.self_attn.q_proj`.
    pub fn matrix(&self, path: &str) -> Option<Matrix<B>> {
        let mut shared = self.clone();
        shared.matrices_mut().find(|(own, _)| own == path).map(|(_, matrix)| matrix.clone())
    }

    /// Gives the head a matrix of its own, equal to the token vectors, where it is tied to them.
    pub(crate) fn untie(&mut self) {
        let weight = match &self.embed_tokens.weight {
            Matrix::Dense(weight) => Matrix::of(weight.val()),
            packed => packed.clone(),
        };
        self.lm_head.get_or_insert_with(|| Linear::of(weight));
    }

    /// The head: its own, or the token vectors.
    pub fn head(&self) -> Head<B>
    where
        B: Kernels,
    {
        match &self.lm_head {
            Some(head) => head.head(),
            None => Head { weight: self.embed_tokens.weight.head(), bias: None },
        }
    }
}

impl<B: Kernels> Decoder<B> {
    /// Hidden states after the final norm, `[batch, seq, hidden_size]`.
    ///
    /// # Panics
    /// If the sequence does not fit the context.
    pub fn hidden(&self, input: ForwardInput<B>) -> Tensor<B, 3> {
        self.hidden_and_routing(input).0
    }

    /// As [`Decoder::hidden`], with the routing of each block that has experts, first to last.
    ///
    /// # Panics
    /// As [`Decoder::hidden`].
    pub fn hidden_and_routing(&self, input: ForwardInput<B>) -> (Tensor<B, 3>, Vec<Routing<B>>) {
        let Run { x, pass, routings } = self.run(input, |_, _| ());
        (unflat(self.norm.forward(x), &pass), routings)
    }

    /// Hidden states in the order of transformers' `output_hidden_states`, each `[batch, seq, hidden_size]`:
    /// the embeddings, then after each block, the last one after the final norm.
    ///
    /// # Panics
    /// As [`Decoder::hidden`].
    pub fn hidden_states(&self, input: ForwardInput<B>) -> Vec<Tensor<B, 3>> {
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
        let logits = self.row_logits(hidden.reshape([batch * seq, features]));
        logits.reshape([batch, seq, self.config.vocab_size])
    }

    /// The same of rows as [`Decoder::extend`] returns them, `[rows, hidden_size]` -> `[rows, vocab_size]`.
    pub fn row_logits(&self, hidden: Tensor<B, 2>) -> Tensor<B, 2> {
        let logits = match &self.lm_head {
            // An adapter stays beside the head: merged, it would be computed anew for every token.
            Some(head) => head.forward(hidden, None),
            None => self.embed_tokens.weight.product(hidden, None),
        };
        soft_cap(logits, self.config.head.softcap)
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
    pub fn embed(&self, input: &ForwardInput<B>) -> (Tensor<B, 2>, Pass<B>) {
        let shape @ [batch, seq] = input.input_ids.dims();
        let hidden_size = self.config.hidden_size;
        let positions = PositionIds::new(input.position_ids.as_deref(), shape);
        let x = self.embed_tokens(input.input_ids.clone());
        let device = x.device();
        let x = match &self.embed_positions {
            Some(table) if input.position_ids.is_none() => {
                x + table.range(0, seq).expand([batch, seq, hidden_size])
            }
            Some(table) => x + table.forward(int_tensor(&positions.ids, shape, &device)),
            None => x,
        };
        let x = x.reshape([batch * seq, hidden_size]);
        let pass = self.pass(input, &positions, &device);
        (dropout(x, self.config.dropout.embedding, input.dropout, Site::Embedding), pass)
    }

    fn embed_tokens(&self, ids: Tensor<B, 2, Int>) -> Tensor<B, 3> {
        let x = self.embed_tokens.forward(ids);
        match self.config.embedding_scale {
            Some(scale) => x * scale,
            None => x,
        }
    }

    fn pass(&self, input: &ForwardInput<B>, positions: &PositionIds, device: &B::Device) -> Pass<B> {
        let [batch, seq] = input.input_ids.dims();
        let lengths = RopeLengths { sequence: seq, prompt: input.prompt_length.unwrap_or(seq) };
        let padding = input.attention_mask.clone().map(|mask| mask::padding(mask, [batch, seq]));
        let documents = input.document_ids.as_ref().map(|ids| mask::documents(ids, batch, device));
        let mask = match (padding, documents) {
            (Some(padding), Some(documents)) => Some(padding + documents),
            (padding, documents) => padding.or(documents),
        };
        let rotary = self.config.rotary().iter().map(|config| {
            Rotary::new(config, positions.rows, &[(positions.ids.as_slice(), lengths)], device)
        });
        Pass {
            batch,
            seq,
            mask,
            rotary: rotary.collect(),
            query_scale: self.query_scale(0..seq as u32, device),
            dropout: input.dropout,
        }
    }

    /// Continues sequences: hidden states of all new positions after the final norm, `[rows, hidden_size]`, one
    /// sequence after the other.
    ///
    /// There is no padding, and a sequence's result does not depend on the others but for the rounding of matrix
    /// products of another number of rows.
    ///
    /// # Panics
    /// If there is no sequence, or one has no new position or does not fit the context or its cache.
    pub fn extend(&self, sequences: &mut [Extension<'_, B>], device: &B::Device) -> Tensor<B, 2> {
        assert!(sequences.iter().all(|sequence| !sequence.ids.is_empty()), "sequences with new positions");
        let ids: Vec<u32> = sequences.iter().flat_map(|sequence| sequence.ids).copied().collect();
        let (rows, hidden_size) = (ids.len(), self.config.hidden_size);
        let mut x = self.embed_tokens(int_tensor(&ids, [1, rows], device));
        let (pass, places) = self.cached_pass(sequences, device);
        if let Some(table) = &self.embed_positions {
            x = x + table.forward(int_tensor(&places, [1, rows], device));
        }
        let mut x = x.reshape([rows, hidden_size]);
        for (layer, block) in self.layers.iter().enumerate() {
            let mut caches: Vec<CacheRows<'_, B>> = sequences
                .iter_mut()
                .map(|sequence| CacheRows { rows: sequence.ids.len(), cache: sequence.cache.layer(layer) })
                .collect();
            (x, _) = block.forward(x, &pass, &mut caches);
        }
        self.norm.forward(x)
    }

    /// What the blocks share in [`Decoder::extend`], and the position of each row.
    fn cached_pass(&self, sequences: &mut [Extension<'_, B>], device: &B::Device) -> (Pass<B>, Vec<u32>) {
        let mut places = Vec::new();
        let mut lengths = Vec::with_capacity(sequences.len());
        for Extension { ids, cache, known_length } in sequences {
            let (past, rows) = (cache.len(), ids.len());
            let sequence = (*known_length).max(past + rows);
            let prompt = cache.prompt_length(sequence);
            places.extend((past..past + rows).map(|place| place as u32));
            lengths.push((rows, RopeLengths { sequence, prompt }));
        }
        let mut start = 0;
        let parts: Vec<(&[u32], RopeLengths)> = lengths
            .into_iter()
            .map(|(rows, lengths)| {
                start += rows;
                (&places[start - rows..start], lengths)
            })
            .collect();
        let rotary = self.config.rotary().iter().map(|config| Rotary::new(config, 1, &parts, device));
        let pass = Pass {
            batch: 1,
            seq: places.len(),
            mask: None,
            rotary: rotary.collect(),
            query_scale: self.query_scale(places.iter().copied(), device),
            dropout: None,
        };
        (pass, places)
    }

    /// `max(1, log_base(position))` of positions counted from 1, `[1, 1, positions, 1]`, where the model has it.
    fn query_scale(&self, positions: impl Iterator<Item = u32>, device: &B::Device) -> Option<Tensor<B, 4>> {
        let base = self.config.attention.log_scaling? as f64;
        let scale = |position: u32| ((f64::from(position) + 1.0).ln() / base.ln()).max(1.0) as f32;
        let scales: Vec<f32> = positions.map(scale).collect();
        let count = scales.len();
        Some(float_tensor(scales, [1, 1, count, 1], device))
    }

    /// All blocks; `before_block` sees what enters each.
    fn run(&self, input: ForwardInput<B>, mut before_block: impl FnMut(&Tensor<B, 2>, &Pass<B>)) -> Run<B> {
        let (mut x, pass) = self.embed(&input);
        let mut routings = Vec::new();
        for block in &self.layers {
            before_block(&x, &pass);
            let (y, routing) = block.forward(x, &pass, &mut []);
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

fn of_linears<'a, B: Backend>(
    layers: &'a mut [Block<B>],
    head: Option<&'a mut Linear<B>>,
) -> impl Iterator<Item = (String, &'a mut Linear<B>)> {
    let blocks = layers.iter_mut().enumerate().flat_map(|(layer, block)| {
        block.linears_mut().map(move |(name, linear)| (format!("layers.{layer}.{name}"), linear))
    });
    blocks.chain(head.map(|head| ("lm_head".to_owned(), head)))
}

fn unflat<B: Backend>(x: Tensor<B, 2>, pass: &Pass<B>) -> Tensor<B, 3> {
    let features = x.dims()[1];
    x.reshape([pass.batch, pass.seq, features])
}
