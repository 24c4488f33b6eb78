//! One step: guesses, a pass through a model, and sampling.

use std::ops::{ControlFlow, Range};
use std::time::Instant;

use burn::tensor::Tensor;
use rayon::prelude::*;
use smelt_backend::{Kernels, scoped, to_host};
use smelt_model::Decoder;

use super::LoadedModel;
use super::draft::{self, DraftSource, Speculation};
use super::handle::Shared;
use super::running::{Running, plan, prompt_tokens};

/// Logits from which on several threads draw: waking them takes longer than drawing from fewer.
const SHARED_LOGITS: usize = 1 << 16;
/// Rows of logits of a prompt that exist at a time.
const LOGITS_AT_ONCE: usize = 64;

/// A request's part of a pass.
struct Part<'r, B: Kernels> {
    request: &'r mut Running<B>,
    /// Its rows of the hidden states.
    rows: Range<usize>,
}

/// A pass of some requests of a model, what is drawn behind it, and what their clients are told; the seconds of the first.
pub(super) fn pass<B: Kernels>(
    requests: &mut [Running<B>],
    loaded: &LoadedModel<B>,
    device: &B::Device,
    shared: &Shared,
) -> f64 {
    let started = Instant::now();
    let (decoder, options) = (&loaded.decoder, &shared.options);
    if let Some(speculation) = options.speculation {
        guess(speculation, loaded, requests, prompt_tokens(options.prefill_tokens, true), device);
    }
    let unseen: Vec<usize> = requests.iter().map(|request| request.sequence.unseen()).collect();
    let reading: Vec<bool> = requests.iter().map(|request| request.answer.is_reading()).collect();
    let decodes = reading.contains(&false);
    let shares = plan(&unseen, &reading, prompt_tokens(options.prefill_tokens, decodes));
    let going = requests.iter_mut().zip(shares).filter(|(_, share)| *share > 0).collect();
    let (hidden, mut parts) = forward(decoder, going, device);
    let read: usize = parts.iter_mut().map(|part| part.read_prompt(decoder, &hidden)).sum();
    let ended_reading = parts.iter().filter(|part| part.request.ended).count();
    parts.retain(|part| !part.request.ended && part.request.sequence.unseen() == 0);
    let logits = wanted_logits(decoder, &hidden, &parts);
    let forward_seconds = started.elapsed().as_secs_f64();
    let drawn = draw(parts, &logits, decoder.config().vocab_size);
    let mut statistics = shared.lock_statistics();
    statistics.passes += 1;
    statistics.prompt_tokens += read as u64;
    statistics.generated_tokens += drawn.generated as u64;
    statistics.drafted_tokens += drawn.drafted as u64;
    statistics.accepted_tokens += drawn.accepted as u64;
    statistics.finished += (drawn.ended + ended_reading) as u64;
    statistics.forward_seconds += forward_seconds;
    drop(statistics);
    requests.iter_mut().for_each(|request| request.answer.tell());
    forward_seconds
}

/// A request and its share of new tokens.
type Going<'r, B> = (&'r mut Running<B>, usize);

/// Appends guesses to the requests that decode; a draft model reads up to `limit` tokens of each at a time.
fn guess<B: Kernels>(
    speculation: Speculation,
    loaded: &LoadedModel<B>,
    requests: &mut [Running<B>],
    limit: usize,
    device: &B::Device,
) {
    let decodes = |request: &Running<B>| !request.answer.is_reading() && request.sequence.unseen() == 1;
    let mut decoding: Vec<&mut Running<B>> = requests.iter_mut().filter(|request| decodes(request)).collect();
    match speculation.source {
        DraftSource::PromptLookup => {
            for request in decoding {
                let count = speculation.tokens.min(request.room_for_drafts(&loaded.decoder));
                let tokens = draft::lookup(request.sequence.tokens(), count).to_vec();
                request.guess(&tokens);
            }
        }
        DraftSource::Model => draft::by_model(loaded, &mut decoding, speculation.tokens, limit, device),
    }
}

/// Runs the shares of new tokens through the model: hidden states `[rows, hidden_size]`, and whose they are.
fn forward<'r, B: Kernels>(
    decoder: &Decoder<B>,
    mut going: Vec<Going<'r, B>>,
    device: &B::Device,
) -> (Tensor<B, 2>, Vec<Part<'r, B>>) {
    let mut passes: Vec<_> =
        going.iter_mut().map(|(request, share)| request.sequence.next_pass(decoder, *share)).collect();
    let counts: Vec<usize> = passes.iter().map(|pass| pass.ids.len()).collect();
    let hidden = scoped(|| decoder.extend(&mut passes, device));
    let mut end = 0;
    let parts = going.into_iter().zip(counts).map(|((request, _), count)| {
        end += count;
        Part { request, rows: end - count..end }
    });
    let parts = parts.collect();
    (hidden, parts)
}

impl<B: Kernels> Part<'_, B> {
    /// Takes what is wanted of a prompt's positions, and begins to answer when it was read; its positions of this
    /// pass.
    fn read_prompt(&mut self, decoder: &Decoder<B>, hidden: &Tensor<B, 2>) -> usize {
        if !self.request.answer.is_reading() {
            return 0;
        }
        let rows = |range: Range<usize>| hidden.clone().narrow(0, range.start, range.len());
        let Running { answer, sequence, .. } = &mut *self.request;
        if answer.is_embedding() {
            answer.take_hidden(&to_host(rows(self.rows.clone())), decoder.config().hidden_size);
        }
        let mut flow = ControlFlow::Continue(());
        if answer.prompt_logprobs().is_some() {
            let mut next = sequence.seen() - self.rows.len() + 1;
            for start in self.rows.clone().step_by(LOGITS_AT_ONCE) {
                let end = self.rows.end.min(start + LOGITS_AT_ONCE);
                if flow.is_break() {
                    break;
                }
                let logits = scoped(|| to_host(decoder.row_logits(rows(start..end))));
                for logits in logits.chunks_exact(decoder.config().vocab_size) {
                    if let Some(Err(error)) =
                        sequence.tokens().get(next).map(|token| answer.take_prompt_logits(logits, *token))
                    {
                        flow = answer.fail(error);
                        break;
                    }
                    next += 1;
                }
            }
        }
        if flow.is_continue() && sequence.unseen() == 0 {
            flow = answer.begin(sequence.tokens().len());
        }
        self.request.ended = flow.is_break();
        self.rows.len()
    }
}

/// Logits behind the last token of each part and behind its guesses, one row after the other.
fn wanted_logits<B: Kernels>(decoder: &Decoder<B>, hidden: &Tensor<B, 2>, parts: &[Part<'_, B>]) -> Vec<f32> {
    let wanted = |part: &Part<'_, B>| part.rows.end - part.request.drafted - 1..part.rows.end;
    let count: usize = parts.iter().map(|part| wanted(part).len()).sum();
    if count == 0 {
        return Vec::new();
    }
    let rows = match count == hidden.dims()[0] {
        true => hidden.clone(),
        false => {
            let rows = parts.iter().map(wanted).map(|rows| hidden.clone().narrow(0, rows.start, rows.len()));
            Tensor::cat(rows.collect(), 0)
        }
    };
    scoped(|| to_host(decoder.row_logits(rows)))
}

/// What came of the logits of one pass.
#[derive(Debug, Clone, Copy, Default)]
struct Drawn {
    generated: usize,
    drafted: usize,
    accepted: usize,
    ended: usize,
}

impl Drawn {
    fn and(self, other: Self) -> Self {
        Self {
            generated: self.generated + other.generated,
            drafted: self.drafted + other.drafted,
            accepted: self.accepted + other.accepted,
            ended: self.ended + other.ended,
        }
    }
}

/// Draws the next tokens of all parts, several at once.
fn draw<B: Kernels>(parts: Vec<Part<'_, B>>, logits: &[f32], vocab_size: usize) -> Drawn {
    let mut rest = logits;
    let each = parts.into_iter().map(|part| {
        let (own, others) = rest.split_at((part.request.drafted + 1) * vocab_size);
        rest = others;
        (part.request, own)
    });
    let each: Vec<(&mut Running<B>, &[f32])> = each.collect();
    let draw_one = |(request, logits)| draw_one(request, logits);
    if logits.len() < SHARED_LOGITS {
        return each.into_iter().map(draw_one).fold(Drawn::default(), Drawn::and);
    }
    each.into_par_iter().map(draw_one).reduce(Drawn::default, Drawn::and)
}

fn draw_one<B: Kernels>(request: &mut Running<B>, logits: &[f32]) -> Drawn {
    let guesses = request.sequence.take_back(std::mem::take(&mut request.drafted));
    let before = request.sequence.tokens().len();
    let flow = request.answer.draw(logits, &guesses, request.sequence.tokens_mut());
    request.sequence.settle();
    request.ended = flow.is_break();
    let new = &request.sequence.tokens()[before..];
    Drawn {
        generated: new.len(),
        drafted: guesses.len(),
        accepted: new.iter().zip(&guesses).take_while(|(token, guess)| token == guess).count(),
        ended: usize::from(request.ended),
    }
}
