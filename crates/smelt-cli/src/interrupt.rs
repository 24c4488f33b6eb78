//! Ctrl-C: the first asks the running command to stop cleanly, the second ends the process.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::output::Output;
use crate::terminal;

/// Whether the user asked to stop; clones share the answer.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    requested: Arc<AtomicBool>,
}

impl Interrupt {
    /// Listens for Ctrl-C (and SIGTERM) from here on, and answers through `output`.
    pub fn install(output: Output) -> Self {
        let interrupt = Self::default();
        let heard = interrupt.clone();
        let handler = move || heard.request(output);
        if let Err(error) = ctrlc::set_handler(handler) {
            tracing::warn!("Ctrl-C will end the process at once: {error}");
        }
        interrupt
    }

    /// What Ctrl-C does.
    pub fn request(&self, output: Output) {
        if self.requested.swap(true, Ordering::SeqCst) {
            terminal::give_back();
            std::process::exit(1);
        }
        output.note("stopping cleanly; Ctrl-C again stops at once");
    }

    /// Whether Ctrl-C was pressed, which is forgotten: it stopped a part of the work, and the command goes on.
    pub fn take(&self) -> bool {
        self.requested.swap(false, Ordering::SeqCst)
    }

    /// Whether Ctrl-C was pressed.
    pub fn requested(&self) -> bool {
        self.requested.load(Ordering::SeqCst)
    }

    /// What long work that asks is told: to end once Ctrl-C was pressed.
    pub fn flow(&self) -> ControlFlow<()> {
        if self.requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
