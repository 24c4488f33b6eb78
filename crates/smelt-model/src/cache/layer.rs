//! The cache of one layer: a buffer of positions in order, written in place at its end.
//!
//! Where the layer has a window and the buffer is full, the positions that still count move to its front: one
//! copy for every pass of the largest size, and keys stay in order for the attention. They move by whole blocks, so
//! that sums over keys are divided where they are in a pass over the whole sequence.

use std::ops::Range;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use smelt_backend::Kernels;
use smelt_backend::kernels::{AttentionSegment, KEY_BLOCK};

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
    /// Positions of the sequence: those held are its last, from the beginning of a block on.
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

    /// Appends the positions `taken` of `keys` and `values`, `[1, kv_heads, seq, head_dim]`, and returns all that
    /// they may see and themselves.
    ///
    /// # Panics
    /// If they do not fit the capacity.
    pub(crate) fn update(
        &mut self,
        keys: &Tensor<B, 4>,
        values: &Tensor<B, 4>,
        taken: Range<usize>,
    ) -> AttentionSegment<B> {
        let new = taken.len();
        self.make_room(new, self.first_needed(self.len));
        let start = self.held;
        let first = self.window.map_or(0, |window| block_start((start + 1).saturating_sub(window)));
        self.held += new;
        self.len += new;
        let range = first..self.held;
        let (keys, visible) = self.keys.extended(keys, taken.clone(), start, range.clone());
        let (values, _) = self.values.extended(values, taken, start, range);
        AttentionSegment { rows: new, keys, values, visible }
    }

    /// Moves the positions from `first` on to the front, if `new` ones do not fit behind those held.
    fn make_room(&mut self, new: usize, first: usize) {
        if self.held + new > self.room {
            let kept = self.held.min(self.len.saturating_sub(first));
            self.keys.keep_last(kept, self.held);
            self.values.keep_last(kept, self.held);
            self.held = kept;
        }
        let (held, room) = (self.held, self.room);
        assert!(held + new <= room, "{new} positions behind {held} in a cache of {room}");
    }

    /// The first position that still counts when there are `len`.
    fn first_needed(&self, len: usize) -> usize {
        self.window.map_or(0, |window| block_start(len.saturating_sub(reach(window))))
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
        let first = self.first_needed(self.len + count);
        let skipped = first.saturating_sub(self.len);
        if skipped > 0 {
            self.held = 0;
        }
        let taken = skipped..count;
        self.make_room(taken.len(), first);
        self.keys.append(keys, taken.clone(), self.held);
        self.values.append(values, taken.clone(), self.held);
        self.held += taken.len();
        self.len += count;
    }
}

/// The beginning of the block that `position` is in.
fn block_start(position: usize) -> usize {
    position / KEY_BLOCK * KEY_BLOCK
}
