//! Keys and values of earlier positions, so that decoding runs the model on new positions only.
//!
//! Allocated once at full capacity and written in place. Which positions are padding is not known here:
//! callers pass an attention mask over the whole length.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use crate::config::DecoderConfig;

/// The cache of all layers.
#[derive(Debug, Clone)]
pub struct KvCache<B: Backend> {
    layers: Vec<LayerCache<B>>,
    capacity: usize,
    /// Length of the prompt that the sequences began with.
    prompt: Option<usize>,
}

/// The cache of one layer.
#[derive(Debug, Clone)]
pub struct LayerCache<B: Backend> {
    /// `[batch, kv_heads, capacity, head_dim]`; `None` only while being written.
    keys: Option<Tensor<B, 4>>,
    values: Option<Tensor<B, 4>>,
    len: usize,
}

impl<B: Backend> KvCache<B> {
    /// An empty cache for `batch` sequences of up to `capacity` positions.
    pub fn new(config: &DecoderConfig, batch: usize, capacity: usize, device: &B::Device) -> Self {
        let attention = config.attention;
        let shape = [batch, attention.num_key_value_heads, capacity, attention.head_dim];
        let layer = |_| LayerCache {
            keys: Some(Tensor::zeros(shape, device)),
            values: Some(Tensor::zeros(shape, device)),
            len: 0,
        };
        Self { layers: (0..config.num_hidden_layers).map(layer).collect(), capacity, prompt: None }
    }

    /// Positions held.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.len)
    }

    /// Nothing is held yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Positions that fit.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Length of the prompt that the sequences began with: that of the first pass.
    pub(crate) fn prompt_length(&mut self, first_pass: usize) -> usize {
        *self.prompt.get_or_insert(first_pass)
    }

    /// Forgets all positions and keeps the memory.
    pub fn clear(&mut self) {
        self.prompt = None;
        for layer in &mut self.layers {
            layer.len = 0;
        }
    }

    /// The cache of layer `layer`.
    pub fn layer(&mut self, layer: usize) -> &mut LayerCache<B> {
        &mut self.layers[layer]
    }
}

impl<B: Backend> LayerCache<B> {
    /// Appends `keys` and `values`, `[batch, kv_heads, seq, head_dim]`, and returns all held so far.
    ///
    /// # Panics
    /// If they do not fit the capacity.
    pub fn update(&mut self, keys: Tensor<B, 4>, values: Tensor<B, 4>) -> (Tensor<B, 4>, Tensor<B, 4>) {
        let start = self.len;
        self.len += keys.dims()[2];
        (append(&mut self.keys, keys, start), append(&mut self.values, values, start))
    }
}

/// Writes `new` from position `start` on; the buffer is moved out and back, so that it is written in place.
fn append<B: Backend>(buffer: &mut Option<Tensor<B, 4>>, new: Tensor<B, 4>, start: usize) -> Tensor<B, 4> {
    let [batch, heads, seq, head_dim] = new.dims();
    let whole = buffer.take().expect("a cache buffer is absent only while it is written");
    let capacity = whole.dims()[2];
    let end = start + seq;
    assert!(end <= capacity, "positions {start}..{end} in a cache of {capacity}");
    let whole = whole.slice_assign([0..batch, 0..heads, start..end, 0..head_dim], new);
    let held = whole.clone().narrow(2, 0, end);
    *buffer = Some(whole);
    held
}
