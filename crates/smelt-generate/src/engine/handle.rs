//! The side of the engine that any thread may hold: requests go in here. Names no tensor.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;
use smelt_model::ModelConfig;
use smelt_text::Tokenizer;

use super::request::{Request, Work};
use super::{EngineOptions, PrefixFile};
use crate::error::GenerateError;
use crate::generate::checked_context;

/// What is known of a model before it is loaded.
#[derive(Debug, Clone)]
pub struct EngineModel {
    /// Its name.
    pub name: String,
    /// Turns its tokens into text; without one, events have none and stop strings do not stop.
    pub tokenizer: Option<Arc<Tokenizer>>,
    /// What it is.
    pub config: Arc<ModelConfig>,
    /// What its draft model is, if it has one.
    pub draft: Option<Arc<ModelConfig>>,
    /// Memory of the weights, of the draft model's too.
    pub weights_bytes: u64,
    /// Where its prefixes are kept between runs.
    pub prefix_file: Option<PrefixFile>,
}

impl EngineModel {
    /// A model whose tokens are all that is wanted.
    pub fn without_text(name: &str, config: Arc<ModelConfig>) -> Self {
        Self {
            name: name.to_owned(),
            tokenizer: None,
            config,
            draft: None,
            weights_bytes: 0,
            prefix_file: None,
        }
    }

    /// Most tokens of a prompt and what follows it.
    pub fn context_length(&self) -> usize {
        self.config.decoder.context_length()
    }
}

/// Counts since the start, and what is held at the moment. What a request is told was counted before.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct EngineStatistics {
    /// Requests that wait to be started.
    pub waiting: usize,
    /// Requests that run.
    pub running: usize,
    /// Requests that came to their end.
    pub finished: u64,
    /// Requests whose client left.
    pub cancelled: u64,
    /// Requests that failed, or whose deadline came.
    pub failed: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Tokens of prompts that were computed.
    pub prompt_tokens: u64,
    /// Tokens of prompts that were held from earlier requests.
    pub cached_prompt_tokens: u64,
    /// Tokens handed out.
    pub generated_tokens: u64,
    /// Tokens that drafts proposed.
    pub drafted_tokens: u64,
    /// Of these, the ones that were taken.
    pub accepted_tokens: u64,
    /// Passes through a model.
    pub passes: u64,
    /// Seconds in these, those of threads side by side added up.
    pub forward_seconds: f64,
    /// Seconds between them: sampling, text, bookkeeping.
    pub host_seconds: f64,
    /// Memory of the keys and values of running requests.
    pub cache_bytes: u64,
    /// Memory of those kept for later requests.
    pub prefix_bytes: u64,
    /// Indices of the models in memory.
    pub loaded_models: Vec<usize>,
}

impl EngineStatistics {
    /// A request was dropped: its client is gone, or its time is over.
    pub(super) fn count_dropped(&mut self, gone: bool) {
        self.cancelled += u64::from(gone);
        self.failed += u64::from(!gone);
    }
}

/// Hands requests to the engine's thread. Copies are the same engine.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    shared: Arc<Shared>,
    sender: Sender<Message>,
}

/// The other end, for [`Engine::new`](super::Engine::new).
#[derive(Debug)]
pub struct Inbox {
    pub(super) shared: Arc<Shared>,
    pub(super) receiver: Receiver<Message>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub models: Vec<EngineModel>,
    pub options: EngineOptions,
    pub statistics: Mutex<EngineStatistics>,
    /// No request is taken any more.
    closed: AtomicBool,
    /// Nobody works on those that were taken any more.
    ended: AtomicBool,
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
    }
}

/// What the engine's thread is told.
#[derive(Debug)]
pub(super) enum Message {
    Request(Submitted),
    ShutDown,
}

/// A request on its way.
#[derive(Debug)]
pub(super) struct Submitted {
    pub request: Request,
    pub cancelled: Arc<AtomicBool>,
    pub at: Instant,
}

impl Submitted {
    /// Nobody waits for it any more.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// A request that waits or runs; dropping it cancels the request.
#[derive(Debug)]
#[must_use = "dropping it cancels the request"]
pub struct Ticket {
    cancelled: Arc<AtomicBool>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

/// The two ends of an engine for `models`.
///
/// The engine itself is built from the [`Inbox`] on the thread that will own the models.
pub fn engine_channel(models: Vec<EngineModel>, options: EngineOptions) -> (EngineHandle, Inbox) {
    let (sender, receiver) = channel();
    let statistics = Mutex::new(EngineStatistics::default());
    let ended = AtomicBool::new(false);
    let shared = Arc::new(Shared { models, options, statistics, closed: AtomicBool::new(false), ended });
    (EngineHandle { shared: shared.clone(), sender }, Inbox { shared, receiver })
}

impl EngineHandle {
    /// The models by index.
    pub fn models(&self) -> &[EngineModel] {
        &self.shared.models
    }

    /// What the engine was told at its start.
    pub fn options(&self) -> &EngineOptions {
        &self.shared.options
    }

    /// Queues `request`, after checking what can be checked without the model.
    ///
    /// # Errors
    /// [`GenerateError::QueueFull`], [`GenerateError::ShutDown`], and those of
    /// [`generate`](crate::generate) for a prompt or option that does not fit; nothing is sent to `on_event` then.
    pub fn submit(&self, request: Request) -> Result<Ticket, GenerateError> {
        let refused = self.checked(&request).err();
        let mut statistics = self.shared.lock_statistics();
        let limit = self.shared.options.max_waiting;
        let refused =
            refused.or_else(|| (statistics.waiting >= limit).then_some(GenerateError::QueueFull { limit }));
        if let Some(error) = refused {
            statistics.refused += 1;
            return Err(error);
        }
        let cancelled = Arc::new(AtomicBool::new(false));
        let submitted = Submitted { request, cancelled: cancelled.clone(), at: Instant::now() };
        // Under the lock, so that it is counted before it is taken out.
        self.sender.send(Message::Request(submitted)).map_err(|_| GenerateError::ShutDown)?;
        statistics.waiting += 1;
        Ok(Ticket { cancelled })
    }

    fn checked(&self, request: &Request) -> Result<(), GenerateError> {
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(GenerateError::ShutDown);
        }
        let models = &self.shared.models;
        let model = models
            .get(request.model)
            .ok_or(GenerateError::NoModel { index: request.model, models: models.len() })?;
        checked_context(&model.config, &request.prompt)?;
        match &request.work {
            Work::Complete(options) => {
                options.sampling.validate()?;
                options.sampling.check_vocabulary(model.config.decoder.vocab_size)
            }
            Work::Embed => Ok(()),
        }
    }

    /// A copy of the counts.
    pub fn statistics(&self) -> EngineStatistics {
        self.shared.lock_statistics().clone()
    }

    /// Whether the engine is gone: it was told to end and is done, or it broke down.
    pub fn has_ended(&self) -> bool {
        self.shared.ended.load(Ordering::Acquire)
    }

    /// Takes no more requests; the engine ends when those it has are done.
    pub fn shut_down(&self) {
        self.shared.closed.store(true, Ordering::Release);
        // An engine that is gone has ended already.
        let _ = self.sender.send(Message::ShutDown);
    }
}

impl Shared {
    pub(super) fn lock_statistics(&self) -> MutexGuard<'_, EngineStatistics> {
        self.statistics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
