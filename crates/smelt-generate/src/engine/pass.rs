//! One step: guesses, a pass through a model, sampling, and what is kept of it.

use std::cmp::Reverse;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use burn::tensor::Tensor;
use rayon::prelude::*;
use smelt_backend::{Kernels, scoped, to_host};
use smelt_model::Decoder;

use super::draft::{self, DraftSource, Speculation};
use super::handle::Shared;
use super::prefix::PrefixTree;
use super::running::{Running, plan, prompt_tokens};
use super::scheduler::Engine;
use super::{LoadError, LoadedModel};

/// New tokens of a request from which on its keys and values are offered to the prefixes while it runs.
const KEPT_AT_ONCE: usize = 64;
/// Logits from which on several threads draw: waking them takes longer than drawing from fewer.
const SHARED_LOGITS: usize = 1 << 16;
/// Rows of logits of a prompt that exist at a time.
const LOGITS_AT_ONCE: usize = 64;

/// What a request takes in a pass besides its tokens, in tokens of a prompt: its cache, its attention, and a draw.
const OWN_WORK: usize = 3;
/// How long groups go on without meeting, if nobody waits to be taken in: some passes of a small model, so that little is
/// lost where one is done before another.
const ROUND: Duration = Duration::from_millis(1);
/// Most passes of a round: before a layer with a window forgets what of a prompt is still to be offered to the prefixes.
const MOST_PASSES: u64 = 32;

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
    /// A round of all running requests of `model`: a pass, or several of groups that go on side by side.
    pub(super) fn round(&mut self, model: usize) {
        let shared = self.shared().clone();
        let Some(resident) = &mut self.residents[model] else { return };
        let is_of_model = |request: &&mut Running<B>| request.model == model;
        let requests: Vec<&mut Running<B>> = self.running.iter_mut().filter(is_of_model).collect();
        let most = B::passes_at_once(&self.device, resident.weight_bytes, requests.len());
        let decodes = requests.iter().any(|request| !request.answer.is_reading());
        let groups = grouped(requests, most);
        let reads = |group: &&Group<'_, B>| group.iter().any(|request| request.answer.is_reading());
        let reading = groups.iter().filter(reads).count().max(1);
        let round = Round {
            shared: &shared,
            loaded: &resident.loaded,
            device: &self.device,
            prompt_tokens: prompt_tokens(shared.options.prefill_tokens, decodes).div_ceil(reading),
            started: Instant::now(),
            groups: groups.len(),
            begun: AtomicUsize::new(0),
            waited_for: AtomicUsize::new(groups.len()),
        };
        let done = B::side_by_side(&self.device, groups, |group| round.run(group));
        let done = done.into_iter().fold(Done::default(), Done::and);
        self.running.iter_mut().filter(is_of_model).for_each(|request| keep(&mut resident.prefixes, request));
        let mut statistics = shared.lock_statistics();
        statistics.passes += done.passes;
        statistics.prompt_tokens += done.read as u64;
        statistics.generated_tokens += done.drawn.generated as u64;
        statistics.drafted_tokens += done.drawn.drafted as u64;
        statistics.accepted_tokens += done.drawn.accepted as u64;
        statistics.finished += (done.drawn.ended + done.ended_reading) as u64;
        statistics.forward_seconds += done.forward_seconds;
        statistics.host_seconds += round.started.elapsed().as_secs_f64() - done.forward_seconds;
    }
}

/// A request and its share of new tokens.
type Going<'r, B> = (&'r mut Running<B>, usize);

/// Requests that share passes.
type Group<'r, B> = Vec<&'r mut Running<B>>;

/// `requests` as at most `most` groups. Prompts are read apart from where tokens are drawn, which then takes no longer
/// than otherwise.
fn grouped<B: Kernels>(requests: Group<'_, B>, most: usize) -> Vec<Group<'_, B>> {
    if most == 1 {
        return vec![requests];
    }
    let (reading, decoding): (Group<'_, B>, Group<'_, B>) =
        requests.into_iter().partition(|request| request.answer.is_reading());
    let for_reading = reading.len().min(most - usize::from(!decoding.is_empty()));
    let mut groups = dealt(decoding, most - for_reading);
    groups.extend(dealt(reading, for_reading));
    groups
}

/// `requests` as up to `count` groups with about as much work each.
fn dealt<B: Kernels>(requests: Group<'_, B>, count: usize) -> Vec<Group<'_, B>> {
    let work: Vec<usize> = requests.iter().map(|request| request.sequence.unseen() + OWN_WORK).collect();
    let mut groups: Vec<_> = (0..count.min(requests.len())).map(|_| Vec::new()).collect();
    let group_of = dealt_by(&work, groups.len());
    requests.into_iter().zip(group_of).for_each(|(request, group)| groups[group].push(request));
    groups
}

/// The group of each item, so that all `count` groups have about as much work.
fn dealt_by(work: &[usize], count: usize) -> Vec<usize> {
    let mut largest_first: Vec<usize> = (0..work.len()).collect();
    largest_first.sort_by_key(|item| Reverse(work[*item]));
    let (mut sums, mut group_of) = (vec![0; count], vec![0; work.len()]);
    for item in largest_first {
        let least = (0..count).min_by_key(|group| sums[*group]).unwrap_or(0);
        sums[least] += work[item];
        group_of[item] = least;
    }
    group_of
}

/// What groups of requests have in common that go on side by side. Each runs passes for [`ROUND`], and until all have run
/// one, so that none waits for one that reads a prompt, or whose core does something else for a while.
struct Round<'e, B: Kernels> {
    shared: &'e Shared,
    loaded: &'e LoadedModel<B>,
    device: &'e B::Device,
    /// Most tokens of prompts in a pass of a group.
    prompt_tokens: usize,
    started: Instant,
    groups: usize,
    /// Groups that have begun: where a thread is late, one that is done runs another's group instead of more passes.
    begun: AtomicUsize,
    /// Groups that have not run a pass yet.
    waited_for: AtomicUsize,
}

impl<B: Kernels> Round<'_, B> {
    fn goes_on(&self) -> bool {
        let all_run = self.groups > 1 && self.begun.load(Ordering::Relaxed) == self.groups;
        let has_time = || self.started.elapsed() < ROUND && self.shared.lock_statistics().waiting == 0;
        all_run && (self.waited_for.load(Ordering::Relaxed) > 0 || has_time())
    }

    /// Passes of one group until the round is over.
    fn run(&self, mut group: Group<'_, B>) -> Done {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let mut done = self.pass(&mut group);
        self.waited_for.fetch_sub(1, Ordering::Relaxed);
        while self.goes_on() && done.passes < MOST_PASSES {
            group.retain(|request| !request.ended);
            if group.is_empty() {
                break;
            }
            done = done.then(self.pass(&mut group));
        }
        done
    }

    /// A pass of some requests, what is drawn behind it, and what their clients are told.
    fn pass(&self, group: &mut [&mut Running<B>]) -> Done {
        let started = Instant::now();
        let decoder = &self.loaded.decoder;
        if let Some(speculation) = self.shared.options.speculation {
            guess(speculation, self.loaded, group, self.device);
        }
        let unseen: Vec<usize> = group.iter().map(|request| request.sequence.unseen()).collect();
        let reading: Vec<bool> = group.iter().map(|request| request.answer.is_reading()).collect();
        let shares = plan(&unseen, &reading, self.prompt_tokens);
        let going = group.iter_mut().map(|request| &mut **request).zip(shares);
        let going = going.filter(|(_, share)| *share > 0).collect();
        let (hidden, mut parts) = forward(decoder, going, self.device);
        let read = parts.iter_mut().map(|part| part.read_prompt(decoder, &hidden)).sum();
        let ended_reading = parts.iter().filter(|part| part.request.ended).count();
        parts.retain(|part| !part.request.ended && part.request.sequence.unseen() == 0);
        let logits = wanted_logits(decoder, &hidden, &parts);
        let forward_seconds = started.elapsed().as_secs_f64();
        let drawn = draw(parts, &logits, decoder.config().vocab_size);
        group.iter_mut().for_each(|request| request.answer.tell());
        Done { passes: 1, read, ended_reading, drawn, forward_seconds }
    }
}

/// What came of passes.
#[derive(Debug, Clone, Copy, Default)]
struct Done {
    passes: u64,
    /// Tokens of prompts.
    read: usize,
    /// Requests that ended with their prompt.
    ended_reading: usize,
    drawn: Drawn,
    forward_seconds: f64,
}

impl Done {
    /// Both, one after the other.
    fn then(self, other: Self) -> Self {
        Self {
            passes: self.passes + other.passes,
            read: self.read + other.read,
            ended_reading: self.ended_reading + other.ended_reading,
            drawn: self.drawn.and(other.drawn),
            forward_seconds: self.forward_seconds + other.forward_seconds,
        }
    }

    /// Both, which ran at the same time.
    fn and(self, other: Self) -> Self {
        Self { forward_seconds: self.forward_seconds.max(other.forward_seconds), ..self.then(other) }
    }
}

/// Appends guesses to the requests that decode.
fn guess<B: Kernels>(
    speculation: Speculation,
    loaded: &LoadedModel<B>,
    requests: &mut [&mut Running<B>],
    device: &B::Device,
) {
    let decodes = |request: &Running<B>| !request.answer.is_reading() && request.sequence.unseen() == 1;
    let mut decoding: Vec<&mut Running<B>> =
        requests.iter_mut().map(|request| &mut **request).filter(|request| decodes(request)).collect();
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
    fn groups_have_about_as_much_work() {
        assert_eq!(dealt_by(&[4; 8], 2), [0, 1, 0, 1, 0, 1, 0, 1]);
        assert_eq!(dealt_by(&[4, 4, 35, 4, 4], 2), [1, 1, 0, 1, 1]);
        assert_eq!(dealt_by(&[9, 4, 4], 3), [0, 1, 2]);
        assert_eq!(dealt_by(&[70], 1), [0]);
    }
}
