//! The model, its cache and the padding of a batch: new tokens in, logits of the last position out.

use std::ops::Range;

use smelt_backend::{Kernels, float_tensor, int_tensor, scoped, to_host};
use smelt_model::{Decoder, ForwardInput, KvCache, RotaryConfig};

/// Prompt positions that run at a time: bounds the memory of attention scores.
const PREFILL_POSITIONS: usize = 512;

/// A batch of sequences being decoded, left-padded to the same length.
pub(crate) struct Decoding<'a, B: Kernels> {
    model: &'a Decoder<B>,
    cache: KvCache<B>,
    /// Padding in front of each sequence.
    pads: Vec<usize>,
    /// Everything that entered, padding included: what is cached may have to be computed again.
    entered: Vec<Vec<u32>>,
    device: &'a B::Device,
}

impl<'a, B: Kernels> Decoding<'a, B> {
    /// For sequences with `pads` positions of padding each, of up to `capacity` positions with it.
    pub(crate) fn new(
        model: &'a Decoder<B>,
        pads: Vec<usize>,
        capacity: usize,
        device: &'a B::Device,
    ) -> Self {
        let cache = KvCache::new(model.config(), pads.len(), capacity, device);
        let entered = vec![Vec::with_capacity(capacity); pads.len()];
        Self { model, cache, pads, entered, device }
    }

    /// Runs `rows`, new tokens of equal number for each sequence, and returns each one's last logits.
    pub(crate) fn advance(&mut self, rows: &[Vec<u32>]) -> Vec<Vec<f32>> {
        let new = rows.first().map_or(0, Vec::len);
        assert!(new > 0 && rows.iter().all(|row| row.len() == new), "rows of one length above 0");
        self.entered.iter_mut().zip(rows).for_each(|(entered, row)| entered.extend(row));
        let total = self.entered[0].len();
        if self.frequencies_switch(total) {
            self.cache.clear();
        }
        let mut logits = Vec::new();
        for start in (self.cache.len()..total).step_by(PREFILL_POSITIONS) {
            let end = total.min(start + PREFILL_POSITIONS);
            logits = scoped(|| self.forward(start..end, total));
        }
        logits
    }

    /// What is cached was computed with other frequencies than a sequence of `total` positions has.
    fn frequencies_switch(&self, total: usize) -> bool {
        let mut switches = self.model.config().rotary().iter().filter_map(RotaryConfig::switches_beyond);
        switches.any(|length| (1..=length).contains(&self.cache.len()) && total > length)
    }

    /// One pass over the `positions` of what entered, of `total`; logits only at the end, since the head is the
    /// widest matrix of a small model.
    fn forward(&mut self, positions: Range<usize>, total: usize) -> Vec<Vec<f32>> {
        let (batch, seq) = (self.pads.len(), positions.len());
        let ids: Vec<u32> = self.entered.iter().flat_map(|row| &row[positions.clone()]).copied().collect();
        let mut input = ForwardInput::new(int_tensor(&ids, [batch, seq], self.device));
        input.rope_length = Some(total);
        if self.pads.iter().any(|pad| *pad > 0) {
            let place = |pad: usize| positions.clone().map(move |at| at.saturating_sub(pad) as u32);
            let kept = |pad: usize| (0..positions.end).map(move |at| if at < pad { 0.0 } else { 1.0 });
            let mask: Vec<f32> = self.pads.iter().flat_map(|pad| kept(*pad)).collect();
            input.position_ids = Some(self.pads.iter().flat_map(|pad| place(*pad)).collect());
            input.attention_mask = Some(float_tensor(mask, [batch, positions.end], self.device));
        }
        input.cache = Some(&mut self.cache);
        let hidden = self.model.hidden(input);
        if positions.end < total {
            return Vec::new();
        }
        let logits = to_host(self.model.logits(hidden.narrow(1, seq - 1, 1)));
        logits.chunks(logits.len() / batch).map(<[f32]>::to_vec).collect()
    }
}
