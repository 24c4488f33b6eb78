//! What waits to run, and what those that run have taken of the engine's limits. Names no tensor.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use smelt_backend::memory;
use smelt_model::CacheOptions;

use super::handle::{EngineModel, Inbox, Message, Shared, Submitted};
use super::request::{Event, Work};
use crate::error::GenerateError;

/// How long an engine waits for work before it hands memory that was freed back to the system.
const IDLE: Duration = Duration::from_secs(5);

/// Requests in the order in which they came.
pub(super) struct Queue {
    inbox: Inbox,
    waiting: VecDeque<Submitted>,
    /// No more will come.
    closed: bool,
    /// What those that run have taken.
    taken: Taken,
}

/// What requests that run take of the engine's limits.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Taken {
    pub requests: usize,
    /// Memory set aside for keys and values.
    pub cache_bytes: u64,
}

/// The request that waited for longest.
pub(super) struct Front {
    pub model: usize,
    pub cache: CacheShape,
    pub room: Room,
}

/// What the cache of a request must hold, and what that takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct CacheShape {
    pub options: CacheOptions,
    pub bytes: u64,
}

/// Whether the engine's limits allow that a request runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Now,
    /// When others have ended.
    Later,
    /// It is too large.
    Never,
}

impl Queue {
    pub fn new(inbox: Inbox) -> Self {
        Self { inbox, waiting: VecDeque::new(), closed: false, taken: Taken::default() }
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.inbox.shared
    }

    /// Takes in what has come; sleeps while there is nothing to do. False at the end.
    pub fn receive(&mut self) -> bool {
        if self.is_idle() && !self.closed {
            let message = self.wait();
            self.take(message);
        }
        self.take_what_came();
        !(self.is_idle() && self.closed)
    }

    /// Takes in what has come.
    pub fn take_what_came(&mut self) {
        loop {
            match self.inbox.receiver.try_recv() {
                Ok(message) => self.take(Some(message)),
                Err(TryRecvError::Disconnected) => return self.take(None),
                Err(TryRecvError::Empty) => return,
            }
        }
    }

    /// Takes a message in, or that none will come.
    fn take(&mut self, message: Option<Message>) {
        match message {
            Some(Message::Request(submitted)) => self.waiting.push_back(submitted),
            Some(Message::ShutDown) | None => self.closed = true,
        }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.taken.requests == 0
    }

    /// The next message, whenever it comes.
    fn wait(&self) -> Option<Message> {
        let receiver = &self.inbox.receiver;
        match receiver.recv_timeout(IDLE) {
            Err(RecvTimeoutError::Timeout) => {
                memory::release_freed();
                receiver.recv().ok()
            }
            message => message.ok(),
        }
    }

    /// Drops requests whose client left, or whose time is over.
    pub fn drop_unwanted(&mut self) {
        let Self { waiting, inbox, .. } = self;
        waiting.retain_mut(|submitted| {
            let gone = submitted.is_cancelled();
            let over = !gone && submitted.request.deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if gone || over {
                let mut statistics = inbox.shared.lock_statistics();
                statistics.waiting -= 1;
                statistics.count_dropped(gone);
                drop(statistics);
                (submitted.request.on_event)(Event::Failed(GenerateError::Deadline));
            }
            !(gone || over)
        });
    }

    pub fn front(&self) -> Option<Front> {
        let request = &self.waiting.front()?.request;
        let options = &self.inbox.shared.options;
        let EngineModel { config, draft, .. } = &self.inbox.shared.models[request.model];
        let more = match &request.work {
            Work::Complete(completion) => completion.max_tokens,
            Work::Embed => 0,
        };
        let capacity = request.prompt.len().saturating_add(more).min(config.decoder.context_length());
        let max_pass = options.prefill_tokens.max(smelt_model::ROLLBACK);
        let cache = CacheOptions { capacity, max_pass, bits: options.kv_bits };
        let draft_bytes = draft.as_ref().map_or(0, |draft| cache.bytes(&draft.decoder));
        let cache = CacheShape { options: cache, bytes: cache.bytes(&config.decoder) + draft_bytes };
        let Taken { requests, cache_bytes } = self.taken;
        let room = if cache.bytes > options.cache_bytes {
            Room::Never
        } else if requests >= options.max_running || cache_bytes + cache.bytes > options.cache_bytes {
            Room::Later
        } else {
            Room::Now
        };
        Some(Front { model: request.model, cache, room })
    }

    /// The front leaves the queue to run, and takes what `cache` says.
    pub fn take_front(&mut self, cache: CacheShape) -> Option<Submitted> {
        let submitted = self.waiting.pop_front()?;
        self.inbox.shared.lock_statistics().waiting -= 1;
        self.count(|taken| {
            taken.requests += 1;
            taken.cache_bytes += cache.bytes;
        });
        Some(submitted)
    }

    pub fn refuse_front(&mut self, error: GenerateError) {
        if let Some(mut submitted) = self.waiting.pop_front() {
            let mut statistics = self.inbox.shared.lock_statistics();
            statistics.waiting -= 1;
            statistics.failed += 1;
            drop(statistics);
            (submitted.request.on_event)(Event::Failed(error));
        }
    }

    /// Some that ran have ended.
    pub fn give_back(&mut self, given: Taken) {
        self.count(|taken| {
            taken.requests -= given.requests;
            taken.cache_bytes -= given.cache_bytes;
        });
    }

    fn count(&mut self, change: impl FnOnce(&mut Taken)) {
        change(&mut self.taken);
        let mut statistics = self.inbox.shared.lock_statistics();
        statistics.running = self.taken.requests;
        statistics.cache_bytes = self.taken.cache_bytes;
    }

    /// Memory that prefixes may take, besides what those that run have taken.
    pub fn prefix_bytes(&self) -> u64 {
        let options = &self.inbox.shared.options;
        options.prefix_bytes.min(options.cache_bytes.saturating_sub(self.taken.cache_bytes))
    }
}
