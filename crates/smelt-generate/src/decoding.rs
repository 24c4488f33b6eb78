//! The model, its cache and the padding of a batch: new tokens in, logits of the last position out.

use smelt_backend::{Kernels, float_tensor, int_tensor, scoped, to_host};
use smelt_model::{Decoder, ForwardInput, KvCache};

/// Prompt positions that run at a time: bounds the memory of attention scores.
const PREFILL_POSITIONS: usize = 512;

/// A batch of sequences being decoded, left-padded to the same length.
pub(crate) struct Decoding<'a, B: Kernels> {
    model: &'a Decoder<B>,
    cache: KvCache<B>,
    /// Padding in front of each sequence.
    pads: Vec<usize>,
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
        Self { model, cache, pads, device }
    }

    /// Runs `rows`, new tokens of equal number for each sequence, and returns each one's last logits.
    pub(crate) fn advance(&mut self, rows: &[Vec<u32>]) -> Vec<Vec<f32>> {
        let new = rows.first().map_or(0, Vec::len);
        assert!(new > 0 && rows.iter().all(|row| row.len() == new), "rows of one length above 0");
        let starts = (0..new).step_by(PREFILL_POSITIONS);
        let mut logits = Vec::new();
        for start in starts {
            let end = new.min(start + PREFILL_POSITIONS);
            let part: Vec<&[u32]> = rows.iter().map(|row| &row[start..end]).collect();
            logits = scoped(|| self.forward(&part, end == new));
        }
        logits
    }

    /// One pass; logits only if asked for, since the head is the widest matrix of a small model.
    fn forward(&mut self, rows: &[&[u32]], with_logits: bool) -> Vec<Vec<f32>> {
        let (batch, seq) = (rows.len(), rows[0].len());
        let past = self.cache.len();
        let mut input = ForwardInput::new(int_tensor(&rows.concat(), [batch, seq], self.device));
        if self.pads.iter().any(|pad| *pad > 0) {
            let positions =
                self.pads.iter().flat_map(|pad| (past..past + seq).map(|at| at.saturating_sub(*pad)));
            let positions: Vec<u32> = positions.map(|position| position as u32).collect();
            let kept = |pad: usize| (0..past + seq).map(move |at| if at < pad { 0.0 } else { 1.0 });
            let mask: Vec<f32> = self.pads.iter().flat_map(|pad| kept(*pad)).collect();
            input.position_ids = Some(int_tensor(&positions, [batch, seq], self.device));
            input.attention_mask = Some(float_tensor(mask, [batch, past + seq], self.device));
        }
        input.cache = Some(&mut self.cache);
        let hidden = self.model.hidden(input);
        if !with_logits {
            return Vec::new();
        }
        let logits = to_host(self.model.logits(hidden.narrow(1, seq - 1, 1)));
        logits.chunks(logits.len() / batch).map(<[f32]>::to_vec).collect()
    }
}
