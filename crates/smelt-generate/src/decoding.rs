//! A sequence being decoded: its tokens, and the keys and values of those that the model has seen.

use burn::tensor::Tensor;
use smelt_backend::{Kernels, scoped, to_host};
use smelt_model::{CacheOptions, Decoder, Extension, KvCache, KvSpan, RotaryConfig};

/// Positions of a prompt that run at a time, where nobody says otherwise: bounds the memory of a pass.
pub const PREFILL_POSITIONS: usize = 512;

/// Tokens and their cache. The model has seen all but the last few.
#[derive(Debug, Clone)]
pub(crate) struct Sequence<B: Kernels> {
    tokens: Vec<u32>,
    cache: KvCache<B>,
    /// Tokens that were known when the model last saw some.
    known_length: usize,
    max_pass: usize,
}

impl<B: Kernels> Sequence<B> {
    /// Begins with `prompt`.
    pub fn new(model: &Decoder<B>, prompt: Vec<u32>, options: CacheOptions, device: &B::Device) -> Self {
        let cache = KvCache::new(model.config(), options, device);
        Self { tokens: prompt, cache, known_length: 0, max_pass: options.max_pass }
    }

    /// All tokens, the prompt first.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Tokens that the model has seen.
    pub fn seen(&self) -> usize {
        self.cache.len()
    }

    /// Tokens that it has not.
    pub fn unseen(&self) -> usize {
        self.tokens.len() - self.cache.len()
    }

    /// Appends tokens.
    pub fn extend(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
    }

    /// Removes the last `count` tokens, which the model may have seen, and leaves its cache as it is until
    /// [`Sequence::settle`].
    pub fn take_back(&mut self, count: usize) -> Vec<u32> {
        self.tokens.split_off(self.tokens.len() - count)
    }

    /// All tokens, to be continued.
    pub fn tokens_mut(&mut self) -> &mut Vec<u32> {
        &mut self.tokens
    }

    /// Forgets what the model has seen of tokens that were taken back, and of the last one, whose logits are wanted.
    pub fn settle(&mut self) {
        let seen = self.tokens.len().saturating_sub(1);
        if self.cache.len() > seen {
            self.cache.truncate(seen);
        }
    }

    /// Makes the tokens `tokens`, and forgets what differs.
    pub fn follow(&mut self, tokens: &[u32]) {
        let shared = self.tokens.iter().zip(tokens).take_while(|(mine, token)| mine == token).count();
        self.tokens.truncate(shared);
        if self.cache.len() > shared {
            self.cache.truncate(shared);
        }
        self.tokens.extend_from_slice(&tokens[shared..]);
    }

    /// The next pass runs everything again: what is cached was computed with other frequencies than a sequence of this
    /// length has.
    pub fn switches(&self, model: &Decoder<B>) -> bool {
        let (before, total) = (self.known_length, self.tokens.len());
        let mut switches = model.config().rotary().iter().filter_map(RotaryConfig::switches_beyond);
        switches.any(|length| (before <= length) != (total <= length))
    }

    /// The next pass over up to `limit` tokens that were not seen.
    pub fn next_pass(&mut self, model: &Decoder<B>, limit: usize) -> Extension<'_, B> {
        if self.switches(model) {
            self.cache.clear();
        }
        let known_length = self.tokens.len();
        self.known_length = known_length;
        let start = self.cache.len();
        let end = self.tokens.len().min(start + limit.min(self.max_pass));
        Extension { ids: &self.tokens[start..end], cache: &mut self.cache, known_length }
    }

    /// A copy of the keys and values from position `start` on, as far as they are held.
    pub fn span(&self, start: usize) -> Option<KvSpan<B>> {
        self.cache.span(start)
    }

    /// Takes the first `count` positions of `span` for the next ones, instead of computing them.
    pub fn skip(&mut self, span: &KvSpan<B>, count: usize) {
        self.cache.append(span, count);
    }

    /// Runs everything that was not seen, and returns the logits behind the last token.
    pub fn logits(&mut self, model: &Decoder<B>, device: &B::Device) -> Vec<f32> {
        last_logits(model, &mut [self], device)
    }
}

/// Runs everything that was not seen of each sequence, and returns the logits behind each one's last token, one row
/// after the other.
pub(crate) fn last_logits<B: Kernels>(
    model: &Decoder<B>,
    sequences: &mut [&mut Sequence<B>],
    device: &B::Device,
) -> Vec<f32> {
    let mut last: Vec<Option<Tensor<B, 2>>> = vec![None; sequences.len()];
    while sequences.iter().any(|sequence| sequence.unseen() > 0) {
        let places: Vec<usize> = (0..sequences.len()).filter(|at| sequences[*at].unseen() > 0).collect();
        let going = sequences.iter_mut().filter(|sequence| sequence.unseen() > 0);
        let mut passes: Vec<_> = going.map(|sequence| sequence.next_pass(model, usize::MAX)).collect();
        let rows: Vec<usize> = passes.iter().map(|pass| pass.ids.len()).collect();
        let hidden = scoped(|| model.extend(&mut passes, device));
        let mut end = 0;
        for (place, rows) in places.into_iter().zip(rows) {
            end += rows;
            last[place] = Some(hidden.clone().narrow(0, end - 1, 1));
        }
    }
    let hidden = Tensor::cat(last.into_iter().flatten().collect(), 0);
    scoped(|| to_host(model.row_logits(hidden)))
}
