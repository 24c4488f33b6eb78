//! One transformer block: attention and feed-forward, each on a normed copy of the residual stream.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use smelt_backend::Kernels;

use super::dropout::{DropoutStream, Site, dropout};
use super::{Attention, Mlp, Norm};
use crate::cache::LayerCache;
use crate::config::DecoderConfig;

/// What all blocks of one forward pass share.
#[derive(Debug, Clone)]
pub struct Pass<B: Backend> {
    /// Sequences.
    pub batch: usize,
    /// New positions per sequence.
    pub seq: usize,
    /// Added to the attention scores, `[batch, 1, 1, kv_len]`: 0 where a key may be seen.
    pub mask: Option<Tensor<B, 4>>,
    /// Dropout of this pass; `None` drops nothing.
    pub dropout: Option<DropoutStream>,
}

/// One transformer block.
#[derive(Module, Debug)]
pub struct Block<B: Backend> {
    input_layernorm: Norm<B>,
    self_attn: Attention<B>,
    post_attention_layernorm: Norm<B>,
    mlp: Mlp<B>,
    #[module(skip)]
    layer: usize,
    #[module(skip)]
    residual_dropout: f64,
}

impl<B: Backend> Block<B> {
    /// Block number `layer` of `config`, without values.
    pub(crate) fn structure(config: &DecoderConfig, layer: usize, device: &B::Device) -> Self {
        Self {
            input_layernorm: Norm::structure(config.norm, config.hidden_size, device),
            self_attn: Attention::structure(config, layer, device),
            post_attention_layernorm: Norm::structure(config.norm, config.hidden_size, device),
            mlp: Mlp::structure(config, device),
            layer,
            residual_dropout: config.dropout.residual,
        }
    }
}

impl<B: Kernels> Block<B> {
    /// `[batch * seq, hidden]` -> the same. Depends on nothing but its arguments.
    pub fn forward(
        &self,
        x: Tensor<B, 2>,
        pass: &Pass<B>,
        cache: Option<&mut LayerCache<B>>,
    ) -> Tensor<B, 2> {
        let layer = self.layer;
        let attended = self.self_attn.forward(self.input_layernorm.forward(x.clone()), pass, cache);
        let x = x + dropout(attended, self.residual_dropout, pass.dropout, Site::Attention { layer });
        let fed = self.mlp.forward(self.post_attention_layernorm.forward(x.clone()));
        x + dropout(fed, self.residual_dropout, pass.dropout, Site::Mlp { layer })
    }
}
