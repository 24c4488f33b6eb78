//! One step: guesses, a pass through a model, sampling, and what is kept of it.

use std::cmp::Reverse;
use std::ops::{ControlFlow, Range};
use std::time::Instant;

use burn::tensor::Tensor;
use rayon::prelude::*;
use smelt_backend::{Kernels, scoped, to_host};
use smelt_model::Decoder;

use super::draft::{self, DraftSource, Speculation};
use super::prefix::PrefixTree;
use super::running::{Running, plan};
use super::scheduler::{Engine, Resident};
use super::{LoadError, LoadedModel};

/// New tokens of a request from which on its keys and values are offered to the prefixes while it runs.
const KEPT_AT_ONCE: usize = 64;
/// Logits from which on several threads draw: waking them takes longer than drawing from fewer.
const SHARED_LOGITS: usize = 1 << 16;
/// Rows of logits of a prompt that exist at a time.
const LOGITS_AT_ONCE: usize = 64;

/// What a request takes in a pass besides its tokens, in tokens of a prompt: its cache, its attention, and a draw.
const OWN_WORK: usize = 3;
/// Tokens of a prompt that are worth a pass.
const WORTH_A_PASS: usize = 32;

/// A request's part of a pass.
struct Part<'r, B: Kernels> {
    request: &'r mut Running<B>,
    /// Its rows of the hidden states.
    rows: Range<usize>,
}

impl<B, L> Engine<B, L>
where
    B: Kernels,
    L: FnMut(usize, &B::Device) -> Result<LoadedModel<B>, LoadError>,
{
    /// One step of all running requests of `model`.
    pub(super) fn pass(&mut self, model: usize) {
        let shared = self.shared().clone();
        let Some(resident) = &mut self.residents[model] else { return };
        let started = Instant::now();
        let is_of_model = |request: &&mut Running<B>| request.model == model;
        let mut requests: Vec<&mut Running<B>> = self.running.iter_mut().filter(is_of_model).collect();
        if let Some(speculation) = shared.options.speculation {
            guess(speculation, resident, &mut requests, &self.device);
        }
        let unseen: Vec<usize> = requests.iter().map(|request| request.sequence.unseen()).collect();
        let reading: Vec<bool> = requests.iter().map(|request| request.answer.is_reading()).collect();
        let mut shares = plan(&unseen, &reading, shared.options.prefill_tokens);
        let (decoder, device) = (&resident.loaded.decoder, &self.device);
        let sequences = shares.iter().filter(|share| **share > 0).count();
        let most = B::passes_at_once(device, resident.weight_bytes, sequences);
        even_out(&mut shares, &reading, most);
        let going = requests.into_iter().zip(shares).filter(|(_, share)| *share > 0).collect();
        let groups = divided(going, most);
        let done = B::side_by_side(device, groups, |group| group_pass(decoder, group, device));
        let done = done.into_iter().fold(Done::default(), Done::and);
        self.running.iter_mut().filter(is_of_model).for_each(|request| request.answer.tell());
        self.running.iter_mut().filter(is_of_model).for_each(|request| keep(&mut resident.prefixes, request));
        let mut statistics = shared.lock_statistics();
        statistics.passes += 1;
        statistics.prompt_tokens += done.read as u64;
        statistics.generated_tokens += done.drawn.generated as u64;
        statistics.drafted_tokens += done.drawn.drafted as u64;
        statistics.accepted_tokens += done.drawn.accepted as u64;
        statistics.finished += (done.drawn.ended + done.ended_reading) as u64;
        statistics.forward_seconds += done.forward_seconds;
        statistics.host_seconds += started.elapsed().as_secs_f64() - done.forward_seconds;
    }
}

/// A request and its share of new tokens.
type Going<'r, B> = (&'r mut Running<B>, usize);

/// Leaves for later passes what of a prompt would take longer than everything else in a pass of up to `most` groups.
fn even_out(shares: &mut [usize], reading: &[bool], most: usize) {
    let total: usize = shares.iter().map(|share| work_of(*share)).sum();
    for (share, _) in shares.iter_mut().zip(reading).filter(|(_, reading)| **reading) {
        let others = total - work_of(*share);
        if most > 1 && others > 0 {
            *share = (*share).min((others / (most - 1)).saturating_sub(OWN_WORK).max(WORTH_A_PASS));
        }
    }
}

/// What a request with so many new tokens takes, in tokens of a prompt.
fn work_of(share: usize) -> usize {
    if share > 0 { share + OWN_WORK } else { 0 }
}

/// `going` as up to `most` groups that take about as long.
fn divided<B: Kernels>(going: Vec<Going<'_, B>>, most: usize) -> Vec<Vec<Going<'_, B>>> {
    let work: Vec<usize> = going.iter().map(|(_, share)| work_of(*share)).collect();
    let (count, group_of) = groups(&work, most);
    let mut groups: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
    going.into_iter().zip(group_of).for_each(|(going, group)| groups[group].push(going));
    groups
}

/// Divides items into groups with about as much work each: their number, as many as can be but `most` at most, and the
/// group of each item.
fn groups(work: &[usize], most: usize) -> (usize, Vec<usize>) {
    let total: usize = work.iter().sum();
    let mut largest_first: Vec<usize> = (0..work.len()).collect();
    largest_first.sort_by_key(|item| Reverse(work[*item]));
    let in_groups = |count: usize| {
        let (mut sums, mut group_of) = (vec![0; count], vec![0; work.len()]);
        for item in &largest_first {
            let least = (0..count).min_by_key(|group| sums[*group]).unwrap_or(0);
            sums[least] += work[*item];
            group_of[*item] = least;
        }
        // Otherwise others wait for the largest group for longer than they would take to share its work.
        let is_even = sums.iter().all(|sum| 2 * count * sum <= 3 * total);
        is_even.then_some((count, group_of))
    };
    (2..=most.min(work.len())).rev().find_map(in_groups).unwrap_or_else(|| (1, vec![0; work.len()]))
}

/// What came of one pass.
#[derive(Debug, Clone, Copy, Default)]
struct Done {
    /// Tokens of prompts.
    read: usize,
    /// Requests that ended with their prompt.
    ended_reading: usize,
    drawn: Drawn,
    forward_seconds: f64,
}

impl Done {
    /// Both, which ran at the same time.
    fn and(self, other: Self) -> Self {
        Self {
            read: self.read + other.read,
            ended_reading: self.ended_reading + other.ended_reading,
            drawn: self.drawn.and(other.drawn),
            forward_seconds: self.forward_seconds.max(other.forward_seconds),
        }
    }
}

/// A pass of some requests, and what is drawn behind it.
fn group_pass<B: Kernels>(decoder: &Decoder<B>, group: Vec<Going<'_, B>>, device: &B::Device) -> Done {
    let started = Instant::now();
    let (hidden, mut parts) = forward(decoder, group, device);
    let read = parts.iter_mut().map(|part| part.read_prompt(decoder, &hidden)).sum();
    let ended_reading = parts.iter().filter(|part| part.request.ended).count();
    parts.retain(|part| !part.request.ended && part.request.sequence.unseen() == 0);
    let logits = wanted_logits(decoder, &hidden, &parts);
    let forward_seconds = started.elapsed().as_secs_f64();
    let drawn = draw(parts, &logits, decoder.config().vocab_size);
    Done { read, ended_reading, drawn, forward_seconds }
}

/// Appends guesses to the requests that decode.
fn guess<B: Kernels>(
    speculation: Speculation,
    resident: &Resident<B>,
    requests: &mut [&mut Running<B>],
    device: &B::Device,
) {
    let decodes = |request: &Running<B>| !request.answer.is_reading() && request.sequence.unseen() == 1;
    let mut decoding: Vec<&mut Running<B>> =
        requests.iter_mut().map(|request| &mut **request).filter(|request| decodes(request)).collect();
    let loaded = &resident.loaded;
    match speculation.source {
        DraftSource::PromptLookup => {
            for request in decoding {
                let count = speculation.tokens.min(request.room_for_drafts(&loaded.decoder));
                let tokens = draft::lookup(request.sequence.tokens(), count).to_vec();
                request.guess(&tokens);
            }
        }
        DraftSource::Model => draft::by_model(loaded, &mut decoding, speculation.tokens, device),
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

/// Offers the keys and values of a request to the prefixes when its prompt was read, when it ended, and now and then.
fn keep<B: Kernels>(prefixes: &mut Option<PrefixTree<B>>, request: &mut Running<B>) {
    let Some(prefixes) = prefixes else { return };
    let Running { sequence, answer, kept, ended, .. } = request;
    let seen = sequence.seen().min(sequence.tokens().len());
    let was_read = !answer.is_reading() && *kept < answer.prompt_tokens();
    if seen > *kept && (was_read || *ended || seen - *kept >= KEPT_AT_ONCE) {
        prefixes.insert(&sequence.tokens()[..seen], |start| sequence.span(start));
        *kept = seen;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_take_about_as_long() {
        assert_eq!(groups(&[4; 8], 2), (2, vec![0, 1, 0, 1, 0, 1, 0, 1]));
        assert_eq!(groups(&[4, 4, 35, 4, 4], 2), (2, vec![1, 1, 0, 1, 1]));
        // Three of three would wait for the largest; two of two need not.
        assert_eq!(groups(&[9, 4, 4], 3), (2, vec![0, 1, 1]));
        // One is all there is, or far more than the rest.
        assert_eq!(groups(&[70], 4), (1, vec![0]));
        assert_eq!(groups(&[70, 4], 2), (1, vec![0, 0]));
    }

    #[test]
    fn a_prompt_takes_as_much_of_a_pass_as_all_others() {
        let evened = |shares: &[usize], most: usize| {
            let mut evened = shares.to_vec();
            let reading: Vec<bool> = shares.iter().map(|share| *share > 1).collect();
            even_out(&mut evened, &reading, most);
            evened
        };
        assert_eq!(evened(&[1, 500, 1], 1), [1, 500, 1]);
        assert_eq!(evened(&[1, 500, 1], 2), [1, WORTH_A_PASS, 1]);
        assert_eq!(evened(&[1, 500, 100, 0], 2), [1, 104, 100, 0]);
        assert_eq!(evened(&[500, 400], 2), [400, 400]);
        assert_eq!(evened(&[500], 2), [500]);
    }
}
