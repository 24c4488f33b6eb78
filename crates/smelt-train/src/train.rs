//! The training loop.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use smelt_backend::{Kernels, memory};
use smelt_data::{BatchSource, EvalBatches, TokenBatch};
use smelt_model::Decoder;

use crate::checkpoint_writer::CheckpointWriter;
use crate::{Checkpoints, Evaluation, MetricsLog, Record, StepReport, TrainError, Trainer};

/// What a run trains and validates on.
pub struct Data {
    /// Training batches by number.
    pub train: Arc<dyn BatchSource>,
    /// Validation batches, if there is anything to validate on.
    pub validation: Option<EvalBatches>,
    /// Identifies the data: a run resumes only on the same.
    pub fingerprint: String,
}

/// Watches a run; every method may be left out.
pub trait Observer<B: Kernels> {
    /// After every step.
    fn stepped(&mut self, _report: &StepReport, _tokens_per_second: f64) {}

    /// After every evaluation; the place to sample from the model.
    fn evaluated(&mut self, _model: &Decoder<B>, _step: u64, _evaluation: &Evaluation) {}

    /// After every checkpoint, once it is whole; training went on meanwhile.
    fn saved(&mut self, _checkpoint: &Path) {}

    /// Asked after every step; on true the run saves and ends.
    fn should_stop(&self) -> bool {
        false
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Steps done, those before a resume included.
    pub steps: u64,
    /// The observer stopped it before `max_steps`.
    pub interrupted: bool,
    /// The last validation loss of this process.
    pub evaluation: Option<Evaluation>,
    /// The last checkpoint.
    pub checkpoint: Option<PathBuf>,
}

/// Trains until `max_steps`, evaluating, saving to `checkpoints` and logging to `RUN/metrics.jsonl`.
///
/// # Errors
/// [`TrainError`] of a step, a save or the log; the last checkpoint stays.
pub fn train<B: Kernels>(
    trainer: &mut Trainer<B>,
    data: &Data,
    run: &Path,
    checkpoints: &Checkpoints,
    observer: &mut dyn Observer<B>,
) -> Result<Outcome, TrainError> {
    let config = trainer.config().clone();
    let first = trainer.steps();
    let mut log = MetricsLog::open(run, first)?;
    let mut meter = Meter::new();
    let mut evaluation = None;
    let mut writer = CheckpointWriter::new(checkpoints, B::is_read_by_any_thread(&trainer.device));
    loop {
        let step = trainer.steps();
        let last = step >= config.max_steps;
        let stop = last || observer.should_stop();
        if step > first {
            if last || step.is_multiple_of(config.eval_interval) {
                evaluation = evaluated(trainer, data, &mut log, observer)?;
            }
            if stop || step.is_multiple_of(config.save_interval) {
                tell_saved(observer, writer.wait()?);
                tell_saved(observer, writer.begin(trainer.snapshot(&data.fingerprint)?)?);
            }
        }
        tell_saved(observer, if stop { writer.wait()? } else { writer.finished()? });
        if stop {
            let checkpoint = checkpoints.newest();
            return Ok(Outcome { steps: step, interrupted: !last, evaluation, checkpoint });
        }

        // ---- one step: batch -> forward -> loss -> backward -> accumulate -> clip -> optimizer -> report
        meter.start_step();
        let micro_batches = effective_batch(data, step, config.gradient_accumulation_steps)?;
        let report = trainer.step(&micro_batches)?;
        meter.end_step(&report);
        // ----

        observer.stepped(&report, meter.tokens_per_second());
        if report.step.is_multiple_of(config.log_interval) {
            let tokens_seen = report.step * report.tokens as u64;
            log.write(&meter.record(report, tokens_seen))?;
        }
    }
}

fn tell_saved<B: Kernels>(observer: &mut dyn Observer<B>, checkpoint: Option<PathBuf>) {
    if let Some(checkpoint) = checkpoint {
        observer.saved(&checkpoint);
    }
}

/// The micro-batches of one optimizer step.
fn effective_batch(data: &Data, step: u64, accumulation: usize) -> Result<Vec<TokenBatch>, TrainError> {
    let first = step * accumulation as u64;
    (first..first + accumulation as u64).map(|index| Ok(data.train.batch(index)?)).collect()
}

fn evaluated<B: Kernels>(
    trainer: &Trainer<B>,
    data: &Data,
    log: &mut MetricsLog,
    observer: &mut dyn Observer<B>,
) -> Result<Option<Evaluation>, TrainError> {
    let batches = data.validation.clone();
    let Some(evaluation) = batches.and_then(|batches| trainer.evaluate(batches)) else { return Ok(None) };
    let step = trainer.steps();
    log.write(&Record::Validation { step, evaluation, perplexity: evaluation.perplexity() })?;
    observer.evaluated(&trainer.model(), step, &evaluation);
    Ok(Some(evaluation))
}

/// Training speed, time spent on anything else left out.
struct Meter {
    started: Instant,
    step_started: Instant,
    /// Since the last record.
    tokens: usize,
    seconds: f64,
}

impl Meter {
    fn new() -> Self {
        let now = Instant::now();
        Self { started: now, step_started: now, tokens: 0, seconds: 0.0 }
    }

    fn start_step(&mut self) {
        self.step_started = Instant::now();
    }

    fn end_step(&mut self, report: &StepReport) {
        self.tokens += report.tokens;
        self.seconds += self.step_started.elapsed().as_secs_f64();
    }

    fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.seconds
    }

    fn record(&mut self, report: StepReport, tokens_seen: u64) -> Record {
        let tokens_per_second = self.tokens_per_second();
        (self.tokens, self.seconds) = (0, 0.0);
        Record::Train {
            report,
            tokens_per_second,
            tokens_seen,
            peak_memory_bytes: memory::process_peak_bytes(),
            elapsed_seconds: self.started.elapsed().as_secs_f64(),
        }
    }
}
