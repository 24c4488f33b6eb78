//! Self-attention (Vaswani et al. 2017, arXiv:1706.03762), with grouped key and value heads.
//!
//! One path for full passes and cached ones, for all head counts, windows and caps. Knows nothing of
//! positions and padding: those come as the rotations and the additive mask of the pass.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use smelt_backend::Kernels;
use smelt_backend::kernels::{AttentionDropout, AttentionOptions, AttentionSegment};

use super::dropout::Site;
use super::{Linear, Norm, Pass};
use crate::cache::LayerCache;
use crate::config::{AttentionConfig, DecoderConfig, LayerConfig, Projections};

/// The attention of one block.
#[derive(Module, Debug)]
pub struct Attention<B: Backend> {
    /// One matrix for all heads, or the three below.
    qkv_proj: Option<Linear<B>>,
    q_proj: Option<Linear<B>>,
    k_proj: Option<Linear<B>>,
    v_proj: Option<Linear<B>>,
    /// Over the features of a head.
    q_norm: Option<Norm<B>>,
    k_norm: Option<Norm<B>>,
    o_proj: Linear<B>,
    #[module(skip)]
    config: AttentionConfig,
    #[module(skip)]
    layer: LayerConfig,
    #[module(skip)]
    scale: f64,
    #[module(skip)]
    dropout: f64,
    /// Which layer it is of.
    #[module(skip)]
    number: usize,
}

/// The rows of a pass that continue one sequence, and its cache in one layer.
#[derive(Debug)]
pub struct CacheRows<'a, B: Backend> {
    /// How many rows.
    pub rows: usize,
    /// Read and extended.
    pub cache: &'a mut LayerCache<B>,
}

impl<B: Backend> Attention<B> {
    /// For layer `layer` of `config`, without values.
    pub(crate) fn structure(config: &DecoderConfig, layer: usize, device: &B::Device) -> Self {
        let attention = config.attention;
        let (hidden, query, key_value) =
            (config.hidden_size, attention.query_size(), attention.key_value_size());
        let separate = attention.projections == Projections::Separate;
        let projection = |size| Linear::structure(hidden, size, attention.qkv_bias, device);
        let norm = || attention.query_key_norm.map(|norm| Norm::structure(norm, attention.head_dim, device));
        Self {
            qkv_proj: (!separate).then(|| projection(query + 2 * key_value)),
            q_proj: separate.then(|| projection(query)),
            k_proj: separate.then(|| projection(key_value)),
            v_proj: separate.then(|| projection(key_value)),
            q_norm: norm(),
            k_norm: norm(),
            o_proj: Linear::structure(query, hidden, attention.output_bias, device),
            config: attention,
            layer: config.layers[layer],
            scale: attention.layer_scale(layer),
            dropout: config.dropout.attention,
            number: layer,
        }
    }

    /// Its projections by the names of their fields.
    pub(crate) fn linears_mut(&mut self) -> impl Iterator<Item = (String, &mut Linear<B>)> {
        let optional = [
            ("qkv_proj", self.qkv_proj.as_mut()),
            ("q_proj", self.q_proj.as_mut()),
            ("k_proj", self.k_proj.as_mut()),
            ("v_proj", self.v_proj.as_mut()),
            ("o_proj", Some(&mut self.o_proj)),
        ];
        optional.into_iter().filter_map(|(name, linear)| Some((name.to_owned(), linear?)))
    }
}

impl<B: Kernels> Attention<B> {
    /// `[batch * seq, hidden]` -> the same. With `caches`, the rows belong to their sequences, and keys and values of
    /// earlier positions come from there.
    pub fn forward(&self, x: Tensor<B, 2>, pass: &Pass<B>, caches: &mut [CacheRows<'_, B>]) -> Tensor<B, 2> {
        let [q, k, v] = self.heads(x, pass);
        let (mut q, mut k) = (normed(&self.q_norm, q), normed(&self.k_norm, k));
        if let Some(rotary) = pass.rotary.get(self.layer.rotary) {
            (q, k) = (rotary.apply(q), rotary.apply(k));
        }
        if let Some(scale) = &pass.query_scale {
            q = q * scale.clone();
        }
        let options = AttentionOptions {
            scale: self.scale,
            causal: true,
            sliding_window: self.layer.sliding_window,
            softcap: self.config.softcap,
            dropout: pass.dropout.filter(|_| self.dropout > 0.0).map(|stream| AttentionDropout {
                probability: self.dropout,
                seed: stream.seed_of(Site::Probabilities { layer: self.number }),
            }),
        };
        let mixed = match caches {
            [] => Kernels::attention(q, k, v, pass.mask.clone(), options),
            caches => Kernels::attention_over_segments(q, segments(&k, &v, caches), options),
        };
        let rows = pass.batch * pass.seq;
        self.o_proj.forward(mixed.swap_dims(1, 2).reshape([rows, self.config.query_size()]), pass.dropout)
    }

    /// `x` as `[batch, heads, seq, head_dim]` for query, key and value.
    fn heads(&self, x: Tensor<B, 2>, pass: &Pass<B>) -> [Tensor<B, 4>; 3] {
        let AttentionConfig { num_attention_heads: heads, num_key_value_heads, head_dim, .. } = self.config;
        let counts = [heads, num_key_value_heads, num_key_value_heads];
        if let Some(qkv_proj) = &self.qkv_proj {
            let qkv = qkv_proj.forward(x, pass.dropout);
            let [batch, seq] = [pass.batch, pass.seq];
            let parts = match self.config.projections {
                Projections::Interleaved => {
                    Kernels::parts(qkv.reshape([batch, seq, heads, 3 * head_dim]), 3, [head_dim; 3])
                }
                _ => Kernels::parts(qkv.reshape([batch, seq, counts.iter().sum(), head_dim]), 2, counts),
            };
            return parts.map(|part| part.swap_dims(1, 2));
        }
        let projections = [&self.q_proj, &self.k_proj, &self.v_proj]
            .map(|projection| projection.as_ref().expect("three projections where they are not one"));
        let mut counts = counts.into_iter();
        Linear::forward_all(projections, x, pass.dropout).map(|part| {
            let heads = counts.next().expect("a count for each");
            part.reshape([pass.batch, pass.seq, heads, head_dim]).swap_dims(1, 2)
        })
    }
}

/// Puts each sequence's rows of `k` and `v` `[1, kv_heads, rows, head_dim]` behind those in its cache.
fn segments<B: Kernels>(
    k: &Tensor<B, 4>,
    v: &Tensor<B, 4>,
    caches: &mut [CacheRows<'_, B>],
) -> Vec<AttentionSegment<B>> {
    let mut start = 0;
    let segment = |CacheRows { rows, cache }: &mut CacheRows<'_, B>| {
        start += *rows;
        cache.update(k, v, start - *rows..start)
    };
    caches.iter_mut().map(segment).collect()
}

/// Normalises each head's features of `x` `[batch, heads, seq, head_dim]`.
fn normed<B: Kernels>(norm: &Option<Norm<B>>, x: Tensor<B, 4>) -> Tensor<B, 4> {
    let Some(norm) = norm else { return x };
    let [batch, heads, seq, head_dim] = x.dims();
    // Heads lie side by side, as the projection left them.
    let rows = x.swap_dims(1, 2).reshape([batch * seq * heads, head_dim]);
    norm.forward(rows).reshape([batch, seq, heads, head_dim]).swap_dims(1, 2)
}
