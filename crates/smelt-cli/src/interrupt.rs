//! Ctrl-C: the first asks the running command to stop cleanly, the second ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::output::Output;

/// Whether the user asked to stop; clones share the answer.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    requested: Arc<AtomicBool>,
}

impl Interrupt {
    /// Listens for Ctrl-C (and SIGTERM) from here on, and answers through `output`.
    pub fn install(output: Output) -> Self {
        let interrupt = Self::default();
        let requested = Arc::clone(&interrupt.requested);
        let handler = move || {
            if requested.swap(true, Ordering::SeqCst) {
                std::process::exit(1);
            }
            output.note("stopping cleanly; Ctrl-C again stops at once");
        };
        if let Err(error) = ctrlc::set_handler(handler) {
            tracing::warn!("Ctrl-C will end the process at once: {error}");
        }
        interrupt
    }

    /// Whether Ctrl-C was pressed.
    pub fn requested(&self) -> bool {
        self.requested.load(Ordering::SeqCst)
    }
}
