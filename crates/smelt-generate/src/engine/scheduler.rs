//! The engine's loop: takes requests in, starts them, and runs one round after the other.

use std::sync::Arc;

use smelt_backend::{Kernels, memory};

use super::handle::{Inbox, Shared, Submitted};
use super::prefix::PrefixTree;
use super::prefix_file;
use super::queue::{CacheShape, Front, Queue, Room};
use super::running::{Running, dismiss};
use super::{EngineOptions, LoadError, LoadedModel};
use crate::error::GenerateError;

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
    pub(super) queue: Queue,
    load: L,
    pub(super) device: B::Device,
    /// By index; `None` where not loaded.
    pub(super) residents: Vec<Option<Resident<B>>>,
    /// In the order in which they came.
    pub(super) running: Vec<Running<B>>,
    steps: u64,
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
        Self { queue: Queue::new(inbox), load, device, residents, running: Vec::new(), steps: 0 }
    }

    /// Works until the handle says that it is enough, or no handle is left, and all requests are done.
    pub fn run(mut self) {
        // Each pass allocates what the one before freed.
        memory::keep_freed();
        while self.queue.receive() {
            self.queue.drop_unwanted();
            let ended = dismiss(&mut self.running, self.queue.shared());
            self.queue.give_back(ended);
            self.start_waiting();
            if let Some(model) = self.turn() {
                self.steps += 1;
                self.round(model);
            }
            self.shrink_prefixes();
            self.publish();
        }
        (0..self.residents.len()).for_each(|model| self.release(model));
    }

    fn shared(&self) -> &Arc<Shared> {
        self.queue.shared()
    }

    fn options(&self) -> &EngineOptions {
        &self.shared().options
    }

    /// Starts requests in the order in which they came, as far as there is room.
    fn start_waiting(&mut self) {
        while let Some(Front { model, cache, room }) = self.queue.front() {
            match room {
                Room::Now => {}
                Room::Later => return,
                Room::Never => {
                    self.queue.refuse_front(GenerateError::TooLarge {
                        tokens: cache.options.capacity,
                        needed_bytes: cache.bytes,
                        limit_bytes: self.options().cache_bytes,
                    });
                    continue;
                }
            }
            match self.make_resident(model) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    self.queue.refuse_front(error);
                    continue;
                }
            }
            if let Some(submitted) = self.queue.take_front(cache) {
                self.shrink_prefixes();
                self.start(submitted, cache);
            }
        }
    }

    fn start(&mut self, submitted: Submitted, cache: CacheShape) {
        let steps = self.steps;
        let Some(resident) = &mut self.residents[submitted.request.model] else { return };
        resident.last_used = steps;
        let Resident { loaded, prefixes, .. } = resident;
        let shared = self.queue.shared().clone();
        match Running::begin(submitted, cache, &shared, loaded, prefixes.as_mut(), &self.device) {
            Ok(request) => self.running.push(request),
            Err(taken) => self.queue.give_back(taken),
        }
    }

    /// Loads a model, if need be in the place of others that no request uses; false if those that some use leave no
    /// room.
    fn make_resident(&mut self, model: usize) -> Result<bool, GenerateError> {
        if self.residents[model].is_some() {
            return Ok(true);
        }
        let shared = self.shared().clone();
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
        let file = self.shared().models[model].prefix_file.clone();
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

    /// Keeps the prefixes of all models within what is theirs.
    fn shrink_prefixes(&mut self) {
        let limit = self.queue.prefix_bytes();
        let mut others = self.prefix_bytes();
        for resident in self.residents.iter_mut().flatten() {
            let Some(prefixes) = &mut resident.prefixes else { continue };
            others -= prefixes.bytes();
            prefixes.shrink(limit.saturating_sub(others));
            others += prefixes.bytes();
        }
    }

    /// Memory of the prefixes of all models.
    pub(super) fn prefix_bytes(&self) -> u64 {
        let trees = self.residents.iter().flatten().filter_map(|resident| resident.prefixes.as_ref());
        trees.map(PrefixTree::bytes).sum()
    }

    /// What is held at the moment, for everyone to see.
    fn publish(&self) {
        let mut statistics = self.shared().lock_statistics();
        statistics.prefix_bytes = self.prefix_bytes();
        statistics.loaded_models = self.loaded().collect();
    }
}
