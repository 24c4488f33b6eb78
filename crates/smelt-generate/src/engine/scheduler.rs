//! The engine's loop: takes requests in, starts them, drops them, and runs one pass after the other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use smelt_backend::{Kernels, memory};
use smelt_model::CacheOptions;

use super::answer::Answer;
use super::handle::{EngineModel, Inbox, Message, Shared, Submitted};
use super::prefix::PrefixTree;
use super::prefix_file;
use super::request::{Event, Work};
use super::running::Running;
use super::{EngineOptions, LoadError, LoadedModel};
use crate::decoding::Sequence;
use crate::error::GenerateError;

/// How long an engine waits for work before it hands memory that was freed back to the system.
const IDLE: Duration = Duration::from_secs(5);

/// A model in memory, and what is kept of its prompts.
pub(super) struct Resident<B: Kernels> {
    pub loaded: LoadedModel<B>,
    /// Of the model, without its draft model.
    pub weight_bytes: u64,
    /// `None` where keys and values depend on the length of their sequence.
    pub prefixes: Option<PrefixTree<B>>,
    /// Number of the step that used it last.
    last_used: u64,
}

/// Runs requests on the models that `load` brings.
pub struct Engine<B: Kernels, L> {
    inbox: Inbox,
    load: L,
    pub(super) device: B::Device,
    /// By index; `None` where not loaded.
    pub(super) residents: Vec<Option<Resident<B>>>,
    waiting: VecDeque<Submitted>,
    pub(super) running: Vec<Running<B>>,
    steps: u64,
    closed: bool,
}

impl<B, L> Engine<B, L>
where
    B: Kernels,
    L: FnMut(usize, &B::Device) -> Result<LoadedModel<B>, LoadError>,
{
    /// An engine behind `inbox`. `load` is called with the index of a model when a request first asks for it, or
    /// asks again after it had to make room.
    pub fn new(inbox: Inbox, load: L, device: B::Device) -> Self {
        let residents = inbox.shared.models.iter().map(|_| None).collect();
        let (waiting, running) = (VecDeque::new(), Vec::new());
        Self { inbox, load, device, residents, waiting, running, steps: 0, closed: false }
    }

    /// Works until the handle says that it is enough, or no handle is left, and all requests are done.
    pub fn run(mut self) {
        // Each pass allocates what the one before freed.
        memory::keep_freed();
        while self.receive() {
            self.drop_unwanted();
            self.start_waiting();
            let turn = self.turn();
            if let Some(model) = turn {
                self.steps += 1;
                self.round(model);
            }
            self.running.retain(|request| !request.ended);
            self.shrink_prefixes(0);
            self.publish();
        }
        (0..self.residents.len()).for_each(|model| self.release(model));
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.inbox.shared
    }

    pub(super) fn options(&self) -> &EngineOptions {
        &self.inbox.shared.options
    }

    /// Takes in what has come; sleeps while there is nothing to do. False at the end.
    fn receive(&mut self) -> bool {
        loop {
            let idle = self.waiting.is_empty() && self.running.is_empty();
            let message = match idle && !self.closed {
                true => self.wait(),
                false => self.inbox.receiver.try_recv(),
            };
            match message {
                Ok(Message::Request(submitted)) => self.waiting.push_back(submitted),
                Ok(Message::ShutDown) | Err(TryRecvError::Disconnected) if !self.closed => self.closed = true,
                Ok(Message::ShutDown) => {}
                Err(_) => return !(idle && self.closed),
            }
        }
    }

    /// The next message, whenever it comes.
    fn wait(&self) -> Result<Message, TryRecvError> {
        let receiver = &self.inbox.receiver;
        let message = match receiver.recv_timeout(IDLE) {
            Err(RecvTimeoutError::Timeout) => {
                memory::release_freed();
                receiver.recv().ok()
            }
            message => message.ok(),
        };
        message.ok_or(TryRecvError::Disconnected)
    }

    /// Drops requests whose client left, or whose time is over.
    fn drop_unwanted(&mut self) {
        let (mut cancelled, mut late, waiting) = (0, 0, self.waiting.len());
        let mut unwanted = |gone: bool, over: bool| {
            cancelled += u64::from(gone);
            late += u64::from(over && !gone);
            gone || over
        };
        self.waiting.retain_mut(|submitted| {
            let over = submitted.request.deadline.is_some_and(|deadline| Instant::now() >= deadline);
            let drop = unwanted(submitted.is_cancelled(), over);
            if drop {
                (submitted.request.on_event)(Event::Failed(GenerateError::Deadline));
            }
            !drop
        });
        self.running.retain_mut(|request| {
            let drop = unwanted(request.answer.is_cancelled(), request.answer.is_late());
            if drop {
                let _ = request.answer.fail(GenerateError::Deadline);
                request.answer.tell();
            }
            !drop
        });
        let mut statistics = self.inbox.shared.lock_statistics();
        statistics.waiting -= waiting - self.waiting.len();
        statistics.cancelled += cancelled;
        statistics.failed += late;
    }

    /// Starts requests in the order in which they came, as far as there is room.
    fn start_waiting(&mut self) {
        while self.running.len() < self.options().max_running {
            let Some(submitted) = self.waiting.front() else { return };
            let model = submitted.request.model;
            let shape = self.shape_of(submitted);
            if shape.bytes > self.options().cache_bytes {
                self.refuse_front(GenerateError::TooLarge {
                    tokens: shape.options.capacity,
                    needed_bytes: shape.bytes,
                    limit_bytes: self.options().cache_bytes,
                });
                continue;
            }
            if self.cache_bytes() + shape.bytes > self.options().cache_bytes {
                return;
            }
            match self.make_resident(model) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    self.refuse_front(error);
                    continue;
                }
            }
            if let Some(submitted) = self.waiting.pop_front() {
                self.inbox.shared.lock_statistics().waiting -= 1;
                self.shrink_prefixes(shape.bytes);
                self.start(submitted, shape);
            }
        }
    }

    fn refuse_front(&mut self, error: GenerateError) {
        if let Some(mut submitted) = self.waiting.pop_front() {
            let mut statistics = self.inbox.shared.lock_statistics();
            statistics.waiting -= 1;
            statistics.failed += 1;
            drop(statistics);
            (submitted.request.on_event)(Event::Failed(error));
        }
    }

    /// What the cache of a request must hold.
    fn shape_of(&self, submitted: &Submitted) -> CacheShape {
        let request = &submitted.request;
        let EngineModel { config, draft, .. } = &self.inbox.shared.models[request.model];
        let more = match &request.work {
            Work::Complete(completion) => completion.max_tokens,
            Work::Embed => 0,
        };
        let capacity = request.prompt.len().saturating_add(more).min(config.decoder.context_length());
        let max_pass = self.options().prefill_tokens.max(smelt_model::ROLLBACK);
        let options = CacheOptions { capacity, max_pass, bits: self.options().kv_bits };
        let draft_bytes = draft.as_ref().map_or(0, |draft| options.bytes(&draft.decoder));
        CacheShape { options, bytes: options.bytes(&config.decoder) + draft_bytes }
    }

    fn start(&mut self, submitted: Submitted, shape: CacheShape) {
        let (model, steps) = (submitted.request.model, self.steps);
        let EngineModel { tokenizer, config, .. } = &self.inbox.shared.models[model];
        let context_length = config.decoder.context_length();
        let reused = match &submitted.request.work {
            // Every position of these has something to say.
            Work::Complete(options) => options.prompt_logprobs.is_none(),
            Work::Embed => false,
        };
        let begun = Answer::new(submitted, tokenizer.as_ref(), context_length);
        let (Some((mut answer, prompt)), Some(resident)) = (begun, &mut self.residents[model]) else {
            self.inbox.shared.lock_statistics().failed += 1;
            return;
        };
        resident.last_used = steps;
        let LoadedModel { decoder, draft } = &resident.loaded;
        let draft = draft.as_ref();
        let draft = draft.map(|draft| Sequence::new(draft, prompt.clone(), shape.options, &self.device));
        let mut sequence = Sequence::new(decoder, prompt, shape.options, &self.device);
        if reused && let Some(prefixes) = &mut resident.prefixes {
            // The last token runs in any case: its logits are wanted.
            let prompt = sequence.tokens()[..sequence.tokens().len() - 1].to_vec();
            let held = prefixes.longest(&prompt, |span, count| sequence.skip(span, count));
            answer.skip(held);
            self.inbox.shared.lock_statistics().cached_prompt_tokens += held as u64;
        }
        let kept = sequence.seen();
        let (capacity, cache_bytes) = (shape.options.capacity, shape.bytes);
        self.running.push(Running {
            model,
            sequence,
            draft,
            answer,
            capacity,
            cache_bytes,
            kept,
            drafted: 0,
            ended: false,
        });
    }

    /// Loads a model, if need be in the place of others that no request uses; false if those that some use leave no
    /// room.
    fn make_resident(&mut self, model: usize) -> Result<bool, GenerateError> {
        if self.residents[model].is_some() {
            return Ok(true);
        }
        let shared = self.inbox.shared.clone();
        let weights = |index: usize| shared.models[index].weights_bytes;
        loop {
            let loaded: Vec<usize> = self.loaded().collect();
            let held: u64 = loaded.iter().map(|index| weights(*index)).sum();
            if held.saturating_add(weights(model)) <= shared.options.weights_bytes || loaded.is_empty() {
                break;
            }
            let idle = |index: &usize| self.running.iter().all(|request| request.model != *index);
            let last_used =
                |index: &usize| self.residents[*index].as_ref().map(|resident| resident.last_used);
            let Some(oldest) = loaded.into_iter().filter(idle).min_by_key(last_used) else {
                return Ok(false);
            };
            self.release(oldest);
        }
        let entry = &shared.models[model];
        let loaded = (self.load)(model, &self.device)
            .map_err(|source| GenerateError::Load { name: entry.name.clone(), source })?;
        let rotary = entry.config.decoder.rotary();
        let keeps =
            self.options().prefix_bytes > 0 && !rotary.iter().any(|config| config.depends_on_length());
        let (config, kv_bits) = (&entry.config.decoder, self.options().kv_bits);
        let prefixes = match &entry.prefix_file {
            Some(file) if keeps => Some(prefix_file::load(file, config, kv_bits, &self.device)?),
            _ => keeps.then(PrefixTree::new),
        };
        let weight_bytes = loaded.decoder.size_bytes() as u64;
        self.residents[model] = Some(Resident { loaded, weight_bytes, prefixes, last_used: self.steps });
        Ok(true)
    }

    /// Takes a model out of memory; its prefixes go to their file, if they have one.
    fn release(&mut self, model: usize) {
        let kv_bits = self.options().kv_bits;
        let file = self.inbox.shared.models[model].prefix_file.clone();
        let prefixes = self.residents[model].take().and_then(|resident| resident.prefixes);
        if let (Some(prefixes), Some(file)) = (prefixes, file)
            && let Err(error) = prefix_file::save(&prefixes, &file, kv_bits)
        {
            // The answers were given: what is lost is time, the next time.
            tracing::warn!("prompts were not kept: {error}");
        }
    }

    fn loaded(&self) -> impl Iterator<Item = usize> {
        (0..self.residents.len()).filter(|index| self.residents[*index].is_some())
    }

    /// The model whose requests take the next step: the one that waits for longest.
    fn turn(&mut self) -> Option<usize> {
        let waits = |model: &usize| self.residents[*model].as_ref().map(|resident| resident.last_used);
        let model = self.running.iter().map(|request| request.model).min_by_key(waits)?;
        if let Some(resident) = &mut self.residents[model] {
            resident.last_used = self.steps + 1;
        }
        Some(model)
    }

    fn cache_bytes(&self) -> u64 {
        self.running.iter().map(|request| request.cache_bytes).sum()
    }

    /// Keeps the prefixes of all models within what is theirs, when `more` bytes are about to be used.
    fn shrink_prefixes(&mut self, more: u64) {
        let options = self.options();
        let limit = options.prefix_bytes.min(options.cache_bytes.saturating_sub(self.cache_bytes() + more));
        let mut others = self.prefix_bytes();
        for resident in self.residents.iter_mut().flatten() {
            let Some(prefixes) = &mut resident.prefixes else { continue };
            others -= prefixes.bytes();
            prefixes.shrink(limit.saturating_sub(others));
            others += prefixes.bytes();
        }
    }

    fn prefix_bytes(&self) -> u64 {
        let trees = self.residents.iter().flatten().filter_map(|resident| resident.prefixes.as_ref());
        trees.map(PrefixTree::bytes).sum()
    }

    /// What is held at the moment, for everyone to see.
    fn publish(&self) {
        let (cache_bytes, prefix_bytes) = (self.cache_bytes(), self.prefix_bytes());
        let mut statistics = self.inbox.shared.lock_statistics();
        statistics.running = self.running.len();
        statistics.cache_bytes = cache_bytes;
        statistics.prefix_bytes = prefix_bytes;
        statistics.loaded_models = self.loaded().collect();
    }
}

/// What the cache of a request must hold, and what that takes.
struct CacheShape {
    options: CacheOptions,
    bytes: u64,
}
