//! Self-attention (Vaswani et al. 2017, arXiv:1706.03762), with grouped key and value heads.
//!
//! One path for full passes and cached ones. Knows nothing of positions and padding: those come as the
//! additive mask of the pass.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use smelt_backend::Kernels;
use smelt_backend::kernels::AttentionOptions;

use super::{Linear, Pass};
use crate::cache::LayerCache;
use crate::config::{AttentionConfig, DecoderConfig};

/// The attention of one block.
#[derive(Module, Debug)]
pub struct Attention<B: Backend> {
    /// Rows of the query heads, then the key heads, then the value heads.
    qkv_proj: Linear<B>,
    o_proj: Linear<B>,
    #[module(skip)]
    config: AttentionConfig,
    #[module(skip)]
    scale: f64,
}

impl<B: Backend> Attention<B> {
    /// For layer `layer` of `config`, without values.
    pub(crate) fn structure(config: &DecoderConfig, layer: usize, device: &B::Device) -> Self {
        let attention = config.attention;
        let qkv_size = attention.query_size() + 2 * attention.key_value_size();
        Self {
            qkv_proj: Linear::structure(config.hidden_size, qkv_size, attention.qkv_bias, device),
            o_proj: Linear::structure(
                attention.query_size(),
                config.hidden_size,
                attention.output_bias,
                device,
            ),
            config: attention,
            scale: attention.layer_scale(layer),
        }
    }
}

impl<B: Kernels> Attention<B> {
    /// `[batch * seq, hidden]` -> the same; keys and values of earlier positions come from `cache`.
    pub fn forward(
        &self,
        x: Tensor<B, 2>,
        pass: &Pass<B>,
        cache: Option<&mut LayerCache<B>>,
    ) -> Tensor<B, 2> {
        let [q, k, v] = self.heads(self.qkv_proj.forward(x), pass);
        let (k, v) = match cache {
            Some(cache) => cache.update(k, v),
            None => (k, v),
        };
        let options =
            AttentionOptions { scale: self.scale, causal: true, sliding_window: None, softcap: None };
        let mixed = Kernels::attention(q, k, v, pass.mask.clone(), options);
        let rows = pass.batch * pass.seq;
        self.o_proj.forward(mixed.swap_dims(1, 2).reshape([rows, self.config.query_size()]))
    }

    /// The joined projection as `[batch, heads, seq, head_dim]` for query, key and value: views of it.
    fn heads(&self, qkv: Tensor<B, 2>, pass: &Pass<B>) -> [Tensor<B, 4>; 3] {
        let AttentionConfig { num_attention_heads, num_key_value_heads, head_dim, .. } = self.config;
        let joined = num_attention_heads + 2 * num_key_value_heads;
        let qkv = qkv.reshape([pass.batch, pass.seq, joined, head_dim]);
        let counts = [num_attention_heads, num_key_value_heads, num_key_value_heads];
        let mut first = 0;
        counts.map(|count| {
            let part = qkv.clone().narrow(2, first, count).swap_dims(1, 2);
            first += count;
            part
        })
    }
}
