//! Progress on stderr: a bar on a terminal, plain lines elsewhere, nothing with `--quiet`.

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::Output;

/// The progress of one stage of a command.
#[derive(Debug)]
pub struct Progress {
    output: Output,
    bar: Option<ProgressBar>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Steps.
    Steps,
    /// Bytes, in binary units.
    Bytes,
}

impl Unit {
    fn template(self) -> &'static str {
        match self {
            Self::Steps => "{prefix} {bar:24} {pos}/{len}  {msg}",
            Self::Bytes => "{prefix} {bar:24} {binary_bytes}/{binary_total_bytes}  {msg}",
        }
    }
}

impl Progress {
    /// Starts a stage of `total` units, of which `done` are behind us.
    pub fn start(output: Output, label: &'static str, unit: Unit, total: u64, done: u64) -> Self {
        let bar = output.draws_bars().then(|| {
            let style = ProgressStyle::with_template(unit.template())
                .expect("the template is a constant")
                .progress_chars("━╸─");
            let bar = ProgressBar::new(total).with_style(style).with_prefix(label).with_position(done);
            bar.tick();
            bar
        });
        Self { output, bar }
    }

    /// Says how many units there are in all, where that was not known before.
    pub fn length(&self, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
        }
    }

    /// Moves the bar; `message` stands behind it.
    pub fn advance(&self, position: u64, message: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_message(message());
            bar.set_position(position);
        }
    }

    /// Changes what stands behind the bar.
    pub fn message(&self, message: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_message(message());
        }
    }

    /// A line for the record: above the bar, or as it is where there is none.
    pub fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.output.note(text)),
            None => self.output.note(text),
        }
    }

    /// Whether a bar is drawn, which makes frequent lines superfluous.
    pub fn has_bar(&self) -> bool {
        self.bar.is_some()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
