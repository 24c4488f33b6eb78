//! One transformer block: attention and feed-forward, joined to the residual stream as its family does.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use smelt_backend::Kernels;

use super::dropout::{DropoutStream, Site, dropout};
use super::{Attention, CacheRows, Experts, Linear, Mlp, Norm, Rotary, Routing};
use crate::config::{DecoderConfig, Residual};

/// What all blocks of one forward pass share.
#[derive(Debug, Clone)]
pub struct Pass<B: Backend> {
    /// Sequences.
    pub batch: usize,
    /// New positions per sequence.
    pub seq: usize,
    /// Added to the attention scores, `[batch, 1, 1 or seq, kv_len]`: 0 where a key may be seen.
    pub mask: Option<Tensor<B, 4>>,
    /// One for each kind of rotation that some layer uses.
    pub rotary: Vec<Rotary<B>>,
    /// Factor on the queries by position, `[1, 1, seq, 1]`.
    pub query_scale: Option<Tensor<B, 4>>,
    /// Dropout of this pass; `None` drops nothing.
    pub dropout: Option<DropoutStream>,
}

impl<B: AutodiffBackend> Pass<B> {
    /// The same for a forward pass that tracks no gradients.
    pub fn inner(&self) -> Pass<B::InnerBackend> {
        Pass {
            batch: self.batch,
            seq: self.seq,
            mask: self.mask.clone().map(Tensor::inner),
            rotary: self.rotary.iter().map(Rotary::inner).collect(),
            query_scale: self.query_scale.clone().map(Tensor::inner),
            dropout: self.dropout,
        }
    }
}

/// One transformer block.
#[derive(Module, Debug)]
pub struct Block<B: Backend> {
    input_layernorm: Norm<B>,
    self_attn: Attention<B>,
    /// On what the attention adds ([`Residual::Sandwich`]).
    attention_output_layernorm: Option<Norm<B>>,
    /// In front of the feed-forward part; without it, `input_layernorm` serves both.
    post_attention_layernorm: Option<Norm<B>>,
    mlp: Option<Mlp<B>>,
    moe: Option<Experts<B>>,
    /// On what the feed-forward part adds ([`Residual::Sandwich`]).
    mlp_output_layernorm: Option<Norm<B>>,
    #[module(skip)]
    residual: Residual,
    #[module(skip)]
    layer: usize,
    #[module(skip)]
    residual_dropout: f64,
}

impl<B: Backend> Block<B> {
    /// Block number `layer` of `config`, without values.
    pub(crate) fn structure(config: &DecoderConfig, layer: usize, device: &B::Device) -> Self {
        let norm = || Norm::structure(config.norm, config.hidden_size, device);
        let sandwich = config.residual == Residual::Sandwich;
        let one_norm = config.residual == Residual::Parallel { shared_norm: true };
        let experts = config.experts.filter(|_| config.layers[layer].sparse);
        Self {
            input_layernorm: norm(),
            self_attn: Attention::structure(config, layer, device),
            attention_output_layernorm: sandwich.then(norm),
            post_attention_layernorm: (!one_norm).then(norm),
            mlp: experts.is_none().then(|| Mlp::structure(config.mlp, config.hidden_size, device)),
            moe: experts.map(|experts| Experts::structure(config, experts, device)),
            mlp_output_layernorm: sandwich.then(norm),
            residual: config.residual,
            layer,
            residual_dropout: config.dropout.residual,
        }
    }

    /// Its projections by their paths.
    pub(crate) fn linears_mut(&mut self) -> impl Iterator<Item = (String, &mut Linear<B>)> {
        fn of<'a, B: Backend>(
            part: &'static str,
            linears: impl Iterator<Item = (String, &'a mut Linear<B>)>,
        ) -> impl Iterator<Item = (String, &'a mut Linear<B>)> {
            linears.map(move |(name, linear)| (format!("{part}.{name}"), linear))
        }
        let mlp = self.mlp.iter_mut().flat_map(|mlp| of("mlp", mlp.linears_mut()));
        let moe = self.moe.iter_mut().flat_map(|moe| of("moe", moe.linears_mut()));
        of("self_attn", self.self_attn.linears_mut()).chain(mlp).chain(moe)
    }
}

impl<B: Kernels> Block<B> {
    /// `[batch * seq, hidden]` -> the same, and how its experts shared the work if it has any.
    ///
    /// Depends on nothing but its arguments. With `caches`, the rows are the new positions of their sequences, one
    /// sequence after the other.
    pub fn forward(
        &self,
        x: Tensor<B, 2>,
        pass: &Pass<B>,
        caches: &mut [CacheRows<'_, B>],
    ) -> (Tensor<B, 2>, Option<Routing<B>>) {
        let normed = self.input_layernorm.forward(x.clone());
        let attended = self.self_attn.forward(normed.clone(), pass, caches);
        let attended = through(&self.attention_output_layernorm, attended);
        let dropped = |x, site| dropout(x, self.residual_dropout, pass.dropout, site);
        let layer = self.layer;
        let attended = dropped(attended, Site::Attention { layer });
        let (x, fed) = match self.residual {
            Residual::Sequential | Residual::Sandwich => {
                let x = x + attended;
                (x.clone(), through(&self.post_attention_layernorm, x))
            }
            Residual::Parallel { shared_norm: true } => (x + attended, normed),
            Residual::Parallel { shared_norm: false } => {
                (x.clone() + attended, through(&self.post_attention_layernorm, x))
            }
        };
        let (fed, routing) = self.feed_forward(fed, pass.dropout);
        let fed = through(&self.mlp_output_layernorm, fed);
        (x + dropped(fed, Site::Mlp { layer }), routing)
    }

    fn feed_forward(
        &self,
        x: Tensor<B, 2>,
        dropout: Option<DropoutStream>,
    ) -> (Tensor<B, 2>, Option<Routing<B>>) {
        match (&self.moe, &self.mlp) {
            (Some(moe), _) => {
                let (x, routing) = moe.forward(x, dropout);
                (x, Some(routing))
            }
            (None, Some(mlp)) => (mlp.forward(x, dropout), None),
            (None, None) => unreachable!("a block has a dense or a sparse feed-forward part"),
        }
    }
}

fn through<B: Kernels>(norm: &Option<Norm<B>>, x: Tensor<B, 2>) -> Tensor<B, 2> {
    match norm {
        Some(norm) => norm.forward(x),
        None => x,
    }
}
