//! The engine on the main thread, and what is done with it on another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use clap::Args;
use smelt_backend::{Job, Kernels, Name, dispatch};
use smelt_generate::engine::{
    CompletionOptions, Engine, EngineHandle, EngineOptions, Event, Inbox, LoadError, LoadedModel, Request,
    Work, engine_channel,
};
use smelt_model::CacheBits;

use super::Served;
use crate::error::CliError;
use crate::quantity::ByteSize;

/// Limits of the engine.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits of the engine")]
pub struct EngineArgs {
    /// Most requests that run at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_running: u32,
    /// Most requests that wait; further ones are refused
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_waiting: u32,
    /// Most tokens of prompts in one pass: more reads prompts faster, fewer keeps others going meanwhile
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    pub prefill_tokens: u32,
    /// Memory for keys and values
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    pub cache_memory: ByteSize,
    /// Of this, at most so much for prompts that may come again; 0 keeps none [default: half of it]
    #[arg(long, value_name = "SIZE")]
    pub prefix_memory: Option<String>,
    /// Memory for weights: a model that nobody uses makes room for another [default: no limit]
    #[arg(long, value_name = "SIZE")]
    pub model_memory: Option<ByteSize>,
    /// Keep keys and values in 8 or 4 bits
    #[arg(long, value_name = "BITS", value_parser = ["8", "4"])]
    pub kv_bits: Option<String>,
}

impl EngineArgs {
    fn options(&self) -> Result<EngineOptions, CliError> {
        let cache_bytes = self.cache_memory.0;
        let prefix_bytes = match self.prefix_memory.as_deref() {
            None => cache_bytes / 2,
            Some("0") => 0,
            Some(size) => {
                let size: ByteSize = size.parse().map_err(|error| CliError::Usage {
                    message: format!("`--prefix-memory {size}`: {error}"),
                    hint: "such as `512MiB`, or 0".to_owned(),
                })?;
                size.0.min(cache_bytes)
            }
        };
        Ok(EngineOptions {
            max_running: self.max_running as usize,
            max_waiting: self.max_waiting as usize,
            prefill_tokens: self.prefill_tokens as usize,
            weights_bytes: self.model_memory.as_ref().map_or(u64::MAX, |size| size.0),
            cache_bytes,
            prefix_bytes,
            kv_bits: self
                .kv_bits
                .as_deref()
                .map(|bits| if bits == "8" { CacheBits::Eight } else { CacheBits::Four }),
            ..EngineOptions::default()
        })
    }
}

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
        let (sender, events) = channel();
        let request = Request {
            model: 0,
            prompt: vec![0],
            work: Work::Complete(Box::new(CompletionOptions {
                max_tokens: 0,
                ..CompletionOptions::default()
            })),
            deadline: None,
            // Whoever waited is gone if this cannot be sent.
            on_event: Box::new(move |event| drop(sender.send(event))),
        };
        let _ticket = self.handle.submit(request)?;
        for event in events {
            if let Event::Failed(error) = event {
                return Err(error.into());
            }
        }
        Ok(())
    }
}

/// Runs an engine for `served` on `backend` while `work` goes on, on a thread of its own; returns what that returns.
///
/// # Errors
/// Those of `work`, and [`CliError::Usage`].
pub fn with_engine<T: Send>(
    backend: Name,
    served: &Served,
    args: &EngineArgs,
    work: impl FnOnce(&EngineThread) -> Result<T, CliError> + Send,
) -> Result<T, CliError> {
    let (handle, inbox) = engine_channel(served.for_engine(), args.options()?);
    let ended = Arc::new(AtomicBool::new(false));
    let engine = EngineThread { handle: handle.clone(), ended: ended.clone() };
    thread::scope(|scope| {
        let worker = scope.spawn(move || {
            // Also where `work` panics: the engine would wait for ever.
            let _end = AtEnd(|| engine.handle.shut_down());
            work(&engine)
        });
        let _end = AtEnd(|| ended.store(true, Ordering::Release));
        dispatch(backend, EngineJob { inbox, served });
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
    served: &'a Served,
}

impl Job for EngineJob<'_> {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        let load = |index: usize, device: &B::Device| {
            let (_, decoder) = self
                .served
                .source(index)
                .load::<B>(device)
                .map_err(|error| -> LoadError { Box::new(error) })?;
            Ok(LoadedModel { decoder, draft: None })
        };
        Engine::<B, _>::new(self.inbox, load, device).run();
    }
}
