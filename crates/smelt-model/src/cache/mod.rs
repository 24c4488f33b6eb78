//! Keys and values of a sequence's earlier positions, so that decoding runs the model on new positions only.
//!
//! One cache per sequence, without padding: a batch is several caches, each of its own length. Memory is
//! allocated once and written in place. A layer with a window holds only what the window can still reach.

mod layer;
mod packed;
mod rows;
mod span;

use burn::tensor::backend::Backend;
use smelt_backend::Kernels;
use smelt_backend::kernels::KEY_BLOCK;

pub use layer::LayerCache;
pub use packed::CacheBits;
pub use span::KvSpan;

use crate::config::{DecoderConfig, LayerConfig};

/// Positions that can be taken back, however short a window is.
pub const ROLLBACK: usize = 64;

/// What a cache must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheOptions {
    /// Positions of the sequence, all in all.
    pub capacity: usize,
    /// Most positions of one pass.
    pub max_pass: usize,
    /// Keys and values are rounded to this; floats of the backend without it.
    pub bits: Option<CacheBits>,
}

impl CacheOptions {
    /// For sequences of up to `capacity` positions that may enter in one pass.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, max_pass: capacity, bits: None }
    }

    /// Positions for which `layer` has memory.
    fn room(&self, layer: &LayerConfig) -> usize {
        match layer.sliding_window {
            // What is needed begins anywhere in a block.
            Some(window) => {
                self.capacity.min(reach(window).saturating_add(KEY_BLOCK - 1).saturating_add(self.max_pass))
            }
            None => self.capacity,
        }
    }

    /// Bytes of the keys and values of one sequence.
    pub fn bytes(&self, config: &DecoderConfig) -> u64 {
        let attention = &config.attention;
        let row_bytes = match self.bits {
            Some(bits) => bits.row_bytes(attention.head_dim),
            None => attention.head_dim.saturating_mul(size_of::<f32>()),
        };
        let rows =
            config.layers.iter().fold(0u64, |rows, layer| rows.saturating_add(self.room(layer) as u64));
        rows.saturating_mul(2).saturating_mul(attention.num_key_value_heads.saturating_mul(row_bytes) as u64)
    }
}

/// Positions before a pass that it may look at, or that may be last again after some were taken back.
fn reach(window: usize) -> usize {
    window.saturating_sub(1) + ROLLBACK
}

/// The cache of all layers for one sequence.
#[derive(Debug, Clone)]
pub struct KvCache<B: Backend> {
    layers: Vec<LayerCache<B>>,
    capacity: usize,
    /// Length of the prompt that the sequence began with.
    prompt: Option<usize>,
}

impl<B: Kernels> KvCache<B> {
    /// An empty cache.
    pub fn new(config: &DecoderConfig, options: CacheOptions, device: &B::Device) -> Self {
        let layer = |layer: &LayerConfig| LayerCache::new(&config.attention, layer, options, device);
        Self { layers: config.layers.iter().map(layer).collect(), capacity: options.capacity, prompt: None }
    }

    /// Positions of the sequence so far.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, LayerCache::len)
    }

    /// The sequence has not begun.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Positions that fit.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Length of the prompt that the sequence began with: that of the first pass.
    pub(crate) fn prompt_length(&mut self, first_pass: usize) -> usize {
        *self.prompt.get_or_insert(first_pass)
    }

    /// Forgets all positions and keeps the memory.
    pub fn clear(&mut self) {
        self.prompt = None;
        self.layers.iter_mut().for_each(|layer| layer.truncate(0));
    }

    /// Forgets the positions from `len` on.
    ///
    /// # Panics
    /// If `len` is above 0 and more than [`ROLLBACK`] positions back, where a layer has a window.
    pub fn truncate(&mut self, len: usize) {
        self.layers.iter_mut().for_each(|layer| layer.truncate(len));
    }

    /// A copy of the positions from `start` on; `None` if a window has left some of them behind.
    pub fn span(&self, start: usize) -> Option<KvSpan<B>> {
        let layers = self.layers.iter().map(|layer| layer.span(start)).collect::<Option<_>>()?;
        Some(KvSpan::new(layers, self.len() - start))
    }

    /// Continues the sequence with the first `count` positions of `span`, which were computed behind the same
    /// tokens.
    ///
    /// # Panics
    /// If they do not fit the capacity.
    pub fn append(&mut self, span: &KvSpan<B>, count: usize) {
        for (layer, held) in self.layers.iter_mut().zip(span.layers()) {
            layer.append(held, count);
        }
    }

    /// The cache of layer `layer`.
    pub(crate) fn layer(&mut self, layer: usize) -> &mut LayerCache<B> {
        &mut self.layers[layer]
    }
}
