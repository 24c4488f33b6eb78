//! The cache of one layer: a buffer of positions in order, written in place at its end.
//!
//! Where the layer has a window and the buffer is full, the positions that still count move to its front: one
//! copy for every pass of the largest size, and keys stay in order for the attention.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use smelt_backend::Kernels;

use super::rows::{Rows, SpanRows};
use super::{CacheOptions, reach};
use crate::config::{AttentionConfig, LayerConfig};

/// Keys and values of one layer.
#[derive(Debug, Clone)]
pub struct LayerCache<B: Backend> {
    keys: Rows<B>,
    values: Rows<B>,
    /// Positions for which there is memory.
    room: usize,
    /// Positions in the buffers.
    held: usize,
    /// Positions of the sequence: those held are its last.
    len: usize,
    window: Option<usize>,
}

impl<B: Kernels> LayerCache<B> {
    pub(super) fn new(
        attention: &AttentionConfig,
        layer: &LayerConfig,
        options: CacheOptions,
        device: &B::Device,
    ) -> Self {
        let room = options.room(layer);
        let (heads, head_dim) = (attention.num_key_value_heads, attention.head_dim);
        let rows = || Rows::new([heads, room, head_dim], options.bits, device);
        Self { keys: rows(), values: rows(), room, held: 0, len: 0, window: layer.sliding_window }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Appends `keys` and `values`, `[1, kv_heads, seq, head_dim]`, and returns all that the new positions may see
    /// and themselves.
    ///
    /// # Panics
    /// If they do not fit the capacity.
    pub(crate) fn update(
        &mut self,
        keys: Tensor<B, 4>,
        values: Tensor<B, 4>,
    ) -> (Tensor<B, 4>, Tensor<B, 4>) {
        let new = keys.dims()[2];
        self.make_room(new, reach);
        let start = self.held;
        self.held += new;
        self.len += new;
        let visible = self.window.map_or(self.held, |window| self.held.min(new + window.saturating_sub(1)));
        let range = self.held - visible..self.held;
        (self.keys.extended(keys, start, range.clone()), self.values.extended(values, start, range))
    }

    /// Moves the positions that still count to the front, if `new` ones do not fit behind them: `counting` says of a
    /// window how many do.
    fn make_room(&mut self, new: usize, counting: impl Fn(usize) -> usize) {
        if self.held + new > self.room
            && let Some(window) = self.window
        {
            let kept = counting(window).min(self.held);
            self.keys.keep_last(kept, self.held);
            self.values.keep_last(kept, self.held);
            self.held = kept;
        }
        let (held, room) = (self.held, self.room);
        assert!(held + new <= room, "{new} positions behind {held} in a cache of {room}");
    }

    pub(super) fn truncate(&mut self, len: usize) {
        if len == 0 {
            (self.held, self.len) = (0, 0);
            return;
        }
        let removed = self.len.saturating_sub(len);
        self.len -= removed;
        let needed = self.window.map_or(self.len, |window| self.len.min(window.saturating_sub(1)));
        assert!(
            removed + needed <= self.held,
            "{len} of {} positions, {} are held",
            len + removed,
            self.held
        );
        self.held -= removed;
    }

    /// A copy of the positions from `start` on, keys and values; `None` if they are not all held.
    pub(super) fn span(&self, start: usize) -> Option<[SpanRows<B>; 2]> {
        let first = start.checked_sub(self.len - self.held)?;
        Some([self.keys.copied(first..self.held), self.values.copied(first..self.held)])
    }

    /// Continues with the first `count` positions of `span`.
    pub(super) fn append(&mut self, [keys, values]: &[SpanRows<B>; 2], count: usize) {
        // A window reaches only the last of them.
        let taken = self.window.map_or(count, |window| count.min(reach(window)));
        if taken < count {
            self.held = 0;
        }
        // No pass looks at them before the last of these: together they are what a window reaches.
        self.make_room(taken, |window| reach(window) - taken);
        let range = count - taken..count;
        self.keys.append(keys, range.clone(), self.held);
        self.values.append(values, range, self.held);
        self.held += taken;
        self.len += count;
    }
}
