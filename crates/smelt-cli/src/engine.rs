//! The engine on the main thread, and what is done with it on another.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use smelt_backend::{Job, Kernels, Name, dispatch};
use smelt_generate::engine::{
    CompletionOptions, EndReport, Engine, EngineHandle, EngineOptions, Event, Inbox, LoadError, PromptReport,
    Request, Ticket, Work, engine_channel,
};
use smelt_generate::{GenerateError, StopReason};

use crate::error::CliError;
use crate::text_model::TextModel;

/// How often someone who waits is asked whether they still want to.
const PATIENCE: Duration = Duration::from_millis(50);

/// The engine as other threads see it.
#[derive(Debug)]
pub struct EngineThread {
    /// Takes requests.
    pub handle: EngineHandle,
    ended: Arc<AtomicBool>,
}

impl EngineThread {
    /// The engine takes no more requests, whatever the reason.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Brings the first model into memory, so that nobody waits for it and damaged files are found now.
    ///
    /// # Errors
    /// [`CliError::Generate`] if it cannot be loaded.
    pub fn load_first(&self) -> Result<(), CliError> {
        let nothing = CompletionOptions { max_tokens: 0, ..CompletionOptions::default() };
        self.ask(vec![0], nothing, &mut |_| ControlFlow::Continue(())).map(drop)
    }

    /// Hands in a prompt of the first model.
    ///
    /// # Errors
    /// [`CliError::Generate`] if it does not fit the model.
    pub fn submit(&self, prompt: Vec<u32>, options: CompletionOptions) -> Result<Asked, CliError> {
        let (sender, events) = channel();
        let request = Request {
            model: 0,
            prompt,
            work: Work::Complete(Box::new(options)),
            deadline: None,
            // Whoever waited is gone if this cannot be sent.
            on_event: Box::new(move |event| drop(sender.send(event))),
        };
        Ok(Asked { _ticket: self.handle.submit(request)?, events, answer: Answer::default() })
    }

    /// Continues a prompt of the first model; text goes to `on_text` as soon as it is certain, and now and then none,
    /// until that breaks.
    ///
    /// # Errors
    /// [`CliError::Generate`] if it cannot be done.
    pub fn ask(
        &self,
        prompt: Vec<u32>,
        options: CompletionOptions,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Answer, CliError> {
        let mut asked = self.submit(prompt, options)?;
        while asked.listen(on_text)?.is_continue() {}
        Ok(asked.answer)
    }
}

/// A prompt that was handed in; dropping it takes it back.
#[derive(Debug)]
pub struct Asked {
    _ticket: Ticket,
    events: Receiver<Event>,
    answer: Answer,
}

/// What became of a prompt.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The text, without the prompt.
    pub text: String,
    /// Tokens that were handed out, with their log-probabilities where they were asked for.
    pub logprobs: Vec<f32>,
    /// How the prompt was read.
    pub prompt: PromptReport,
    /// How it ended; `None` where the caller wanted no more.
    pub end: Option<EndReport>,
    /// Tokens handed out.
    pub generated_tokens: usize,
}

impl Answer {
    /// Why it ended.
    pub fn stop_reason(&self) -> StopReason {
        self.end.as_ref().map_or(StopReason::Caller, |end| end.reason)
    }
}

impl Asked {
    /// Waits a little for what comes next. Breaks when nothing more will come, or `on_text` wants no more.
    ///
    /// # Errors
    /// [`CliError::Generate`] if it cannot be done.
    pub fn listen(
        &mut self,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, CliError> {
        match self.events.recv_timeout(PATIENCE) {
            Ok(Event::Prompt(report)) => self.answer.prompt = report,
            Ok(Event::Token(event)) => {
                self.answer.generated_tokens += 1;
                self.answer.logprobs.extend(event.logprobs.map(|logprobs| logprobs.logprob));
                self.answer.text += &event.text;
                return Ok(on_text(&event.text));
            }
            Ok(Event::Embedding(_)) => {}
            Ok(Event::End(end)) => {
                self.answer.text += &end.text;
                // The text has ended: nothing is left to break off.
                let _ = on_text(&end.text);
                self.answer.end = Some(end);
                return Ok(ControlFlow::Break(()));
            }
            Ok(Event::Failed(error)) => return Err(error.into()),
            Err(RecvTimeoutError::Timeout) => return Ok(on_text("")),
            Err(RecvTimeoutError::Disconnected) => return Err(GenerateError::ShutDown.into()),
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Waits for the whole text; `None` if `wanted` says in the meantime that nobody wants it any more.
    ///
    /// # Errors
    /// [`CliError::Generate`] if it cannot be done.
    pub fn finished(mut self, wanted: impl Fn() -> bool) -> Result<Option<Answer>, CliError> {
        let mut go_on = |_: &str| if wanted() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
        while self.listen(&mut go_on)?.is_continue() {}
        Ok(wanted().then_some(self.answer))
    }
}

/// Runs an engine for `models` on `backend` while `work` goes on, on a thread of its own; returns what that returns.
///
/// # Errors
/// Those of `work`, and of [`TextModel::for_engine`].
pub fn with_engine<T: Send>(
    backend: Name,
    models: &[TextModel],
    options: EngineOptions,
    work: impl FnOnce(&EngineThread) -> Result<T, CliError> + Send,
) -> Result<T, CliError> {
    let entries = models.iter().map(TextModel::for_engine).collect::<Result<_, _>>()?;
    let (handle, inbox) = engine_channel(entries, options);
    let ended = Arc::new(AtomicBool::new(false));
    let engine = EngineThread { handle: handle.clone(), ended: ended.clone() };
    thread::scope(|scope| {
        let worker = scope.spawn(move || {
            // Also where `work` panics: the engine would wait for ever.
            let _end = AtEnd(|| engine.handle.shut_down());
            work(&engine)
        });
        let _end = AtEnd(|| ended.store(true, Ordering::Release));
        dispatch(backend, EngineJob { inbox, models });
        drop(_end);
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Does something when it is dropped.
struct AtEnd<F: FnMut()>(F);

impl<F: FnMut()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

struct EngineJob<'a> {
    inbox: Inbox,
    models: &'a [TextModel],
}

impl Job for EngineJob<'_> {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        let load = |index: usize, device: &B::Device| {
            self.models[index].load::<B>(device).map_err(|error| -> LoadError { Box::new(error) })
        };
        Engine::<B, _>::new(self.inbox, load, device).run();
    }
}
