//! How fast a run trains.

use std::time::Instant;

use smelt_backend::memory;

use crate::{Record, StepReport};

/// Training speed, time spent on anything else left out.
pub(crate) struct Meter {
    started: Instant,
    step_started: Instant,
    /// Since the last record.
    tokens: usize,
    seconds: f64,
    /// Speed if nothing but matrix products took time.
    peak_tokens_per_second: Option<f64>,
}

impl Meter {
    pub fn new(peak_tokens_per_second: Option<f64>) -> Self {
        let now = Instant::now();
        Self { started: now, step_started: now, tokens: 0, seconds: 0.0, peak_tokens_per_second }
    }

    pub fn start_step(&mut self) {
        self.step_started = Instant::now();
    }

    pub fn end_step(&mut self, report: &StepReport) {
        self.tokens += report.tokens;
        self.seconds += self.step_started.elapsed().as_secs_f64();
    }

    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.seconds
    }

    /// The line of a step; the next one counts from here.
    pub fn record(&mut self, report: StepReport, tokens_seen: u64) -> Record {
        let tokens_per_second = self.tokens_per_second();
        (self.tokens, self.seconds) = (0, 0.0);
        let memory_bytes = memory::process_current_bytes();
        Record::Train {
            report,
            perplexity: report.loss.exp(),
            tokens_per_second,
            mfu: self.peak_tokens_per_second.map(|peak| tokens_per_second / peak),
            tokens_seen,
            memory_bytes,
            // The system may count the peak a little later than what is resident.
            peak_memory_bytes: memory::process_peak_bytes().max(memory_bytes),
            elapsed_seconds: self.started.elapsed().as_secs_f64(),
        }
    }
}
