//! One request of a client as several of the engine: its prompts, each continued so often as was asked.
//!
//! So many run at a time as the engine can; the others wait here, so that a long list neither fills the queue nor is
//! refused for its length. Dropping it cancels what runs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smelt_generate::GenerateError;
use smelt_generate::engine::{CompletionOptions, EngineHandle, Event, Request, Ticket, Work};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Interval, interval, sleep};

/// When to look again for a place in a queue that is full of others' requests.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(20);

/// How often to look after the engine while it says nothing. One timer serves all events of a request: to set one for
/// each takes as long as to tell it.
const LOOKS: Duration = Duration::from_secs(1);

/// How long to wait before it is asked what followed a text, unless a part ends. What a model says faster than that is
/// heard and told at once: nobody reads it one by one, and each time costs wake-ups and calls of the system, of both
/// sides.
const PAUSE: Duration = Duration::from_millis(1);

/// How long the engine may take to say that the time of a request is over.
const ENGINE_PATIENCE: Duration = Duration::from_secs(10);

/// One part: a prompt and what is wanted of it. Parts share what they have in common: a request can ask for many.
#[derive(Debug)]
pub struct Part {
    pub prompt: Arc<[u32]>,
    pub wanted: Wanted,
}

/// What is wanted of a prompt.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// Tokens that continue it, drawn by the generator that starts at this seed.
    Text(Arc<CompletionOptions>, u64),
    /// Its vector.
    Embedding,
}

impl Wanted {
    fn work(&self) -> Work {
        match self {
            Self::Embedding => Work::Embed,
            Self::Text(options, seed) => {
                let mut options = CompletionOptions::clone(options);
                options.sampling.seed = *seed;
                Work::Complete(Box::new(options))
            }
        }
    }
}

/// Parts that run and wait.
#[derive(Debug)]
pub struct Generation {
    handle: EngineHandle,
    model: usize,
    deadline: Instant,
    /// When to look whether the engine is still there, and in time.
    looks: Interval,
    pending: VecDeque<(usize, Part)>,
    tickets: Vec<Option<Ticket>>,
    running: usize,
    /// Text was heard.
    begun: bool,
    /// A part ended, which is worth to be heard early.
    ends: Arc<Notify>,
    /// Kept while there are parts to start: when the engine is gone, nobody can send any more.
    sender: Option<UnboundedSender<(usize, Event)>>,
    events: UnboundedReceiver<(usize, Event)>,
}

impl Generation {
    /// Starts the parts.
    ///
    /// # Errors
    /// What the engine says to the first of them; [`GenerateError::QueueFull`] in particular.
    pub fn start(
        handle: &EngineHandle,
        model: usize,
        parts: Vec<Part>,
        deadline: Instant,
    ) -> Result<Self, GenerateError> {
        let (sender, events) = unbounded_channel();
        let tickets = parts.iter().map(|_| None).collect();
        let pending = parts.into_iter().enumerate().collect();
        let looks = interval(LOOKS);
        let (handle, sender) = (handle.clone(), Some(sender));
        let mut generation = Self {
            handle,
            model,
            deadline,
            looks,
            pending,
            tickets,
            running: 0,
            begun: false,
            ends: Arc::default(),
            sender,
            events,
        };
        generation.submit_one()?;
        generation.submit()?;
        Ok(generation)
    }

    /// The next event and its part; `None` when all parts have ended.
    ///
    /// # Errors
    /// What the engine says to a part that comes later, or what a part failed of.
    pub async fn next(&mut self) -> Result<Option<(usize, Event)>, GenerateError> {
        while self.running == 0 {
            if self.pending.is_empty() {
                return Ok(None);
            }
            if Instant::now() > self.deadline {
                return Err(GenerateError::Deadline);
            }
            sleep(FULL_QUEUE_PAUSE).await;
            self.submit()?;
        }
        loop {
            let event = self.event().await?;
            if let Some(event) = self.taken(event)? {
                return Ok(Some(event));
            }
        }
    }

    /// Waits for an event of any part.
    async fn event(&mut self) -> Result<(usize, Event), GenerateError> {
        if self.pending.is_empty() {
            self.sender = None;
        }
        if self.begun && self.events.is_empty() {
            tokio::select! {
                () = self.ends.notified() => {}
                () = sleep(PAUSE) => {}
            }
        }
        loop {
            tokio::select! {
                biased;
                event = self.events.recv() => return event.ok_or(GenerateError::ShutDown),
                _ = self.looks.tick() => {}
            }
            if Instant::now() > self.deadline + ENGINE_PATIENCE {
                return Err(GenerateError::Deadline);
            }
            // What it said last may have come in the meantime.
            if self.handle.has_ended() {
                return self.events.try_recv().map_err(|_| GenerateError::ShutDown);
            }
        }
    }

    /// The next event if there is one already.
    ///
    /// # Errors
    /// As [`Generation::next`].
    pub fn ready(&mut self) -> Result<Option<(usize, Event)>, GenerateError> {
        while let Ok(event) = self.events.try_recv() {
            if let Some(event) = self.taken(event)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// `event`, unless it is of a part that was cancelled.
    fn taken(&mut self, (part, event): (usize, Event)) -> Result<Option<(usize, Event)>, GenerateError> {
        if self.tickets[part].is_none() {
            return Ok(None);
        }
        match event {
            Event::Failed(error) => return Err(error),
            Event::Token(ref token) => self.begun |= !token.text.is_empty(),
            Event::End(_) => {
                self.tickets[part] = None;
                self.running -= 1;
                self.submit()?;
            }
            _ => {}
        }
        Ok(Some((part, event)))
    }

    /// Cancels a part, of which nothing more is wanted.
    pub fn cancel(&mut self, part: usize) {
        if self.tickets[part].take().is_some() {
            self.running -= 1;
        }
    }

    /// Fills the engine as far as it takes them.
    fn submit(&mut self) -> Result<(), GenerateError> {
        let at_once = self.handle.options().max_running.max(1);
        while self.running < at_once && !self.pending.is_empty() {
            match self.submit_one() {
                Err(GenerateError::QueueFull { .. }) => break,
                submitted => submitted?,
            }
        }
        Ok(())
    }

    fn submit_one(&mut self) -> Result<(), GenerateError> {
        let Some((index, part)) = self.pending.front() else { return Ok(()) };
        let Some(sender) = self.sender.clone() else { return Ok(()) };
        let (index, ends) = (*index, self.ends.clone());
        let request = Request {
            model: self.model,
            prompt: part.prompt.to_vec(),
            work: part.wanted.work(),
            deadline: Some(self.deadline),
            on_event: Box::new(move |event| {
                let is_last = matches!(event, Event::End(_) | Event::Failed(_));
                // A client that is gone hears nothing.
                drop(sender.send((index, event)));
                if is_last {
                    ends.notify_one();
                }
            }),
        };
        self.tickets[index] = Some(self.handle.submit(request)?);
        self.pending.pop_front();
        self.running += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use smelt_generate::engine::{EngineModel, EngineOptions, TokenEvent, engine_channel};
    use smelt_model::ModelConfig;

    use super::*;

    fn model() -> EngineModel {
        let config = json!({
            "model_type": "llama", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
            "num_attention_heads": 1, "num_key_value_heads": 1, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
            "hidden_act": "silu", "tie_word_embeddings": false, "initializer_range": 0.02,
            "max_position_embeddings": 16, "vocab_size": 16,
        });
        EngineModel::without_text("a", Arc::new(ModelConfig::from_json(config).unwrap()))
    }

    fn embedding() -> Part {
        Part { prompt: Arc::from([1]), wanted: Wanted::Embedding }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
    }

    #[test]
    fn an_engine_that_breaks_down_ends_what_waits_for_it() {
        let (handle, inbox) =
            engine_channel(vec![model()], EngineOptions { max_running: 1, ..Default::default() });
        runtime().block_on(async {
            // The second part waits here, ready to be sent.
            let deadline = Instant::now() + Duration::from_secs(600);
            let mut generation =
                Generation::start(&handle, 0, vec![embedding(), embedding()], deadline).unwrap();
            drop(inbox);
            assert!(matches!(generation.next().await, Err(GenerateError::ShutDown)));
        });
    }

    #[test]
    fn what_follows_a_text_at_once_is_heard_together() {
        let (handle, _inbox) = engine_channel(vec![model()], EngineOptions::default());
        runtime().block_on(async {
            let deadline = Instant::now() + Duration::from_secs(600);
            let mut generation = Generation::start(&handle, 0, vec![embedding()], deadline).unwrap();
            let sender = generation.sender.clone().unwrap();
            let say = |text: &str| {
                let event = TokenEvent { token: 0, text: text.to_owned(), logprobs: None };
                sender.send((0, Event::Token(event))).unwrap();
            };
            let text = |event| match event {
                Some((0, Event::Token(token))) => token.text,
                other => panic!("{other:?}"),
            };
            // The first is not held back.
            say("a");
            assert_eq!(text(generation.next().await.unwrap()), "a");
            let hear = async {
                let first = text(generation.next().await.unwrap());
                (first, text(generation.ready().unwrap()))
            };
            let speak = async {
                say("b");
                for _ in 0..4 {
                    tokio::task::yield_now().await;
                }
                say("c");
            };
            let (heard, ()) = tokio::join!(hear, speak);
            assert_eq!(heard, ("b".to_owned(), "c".to_owned()));
        });
    }
}
