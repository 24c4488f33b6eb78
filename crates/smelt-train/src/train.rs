//! The training loop.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use smelt_backend::Kernels;
use smelt_backend::profile::phase;
use smelt_data::{BatchSource, EvalBatches, TokenBatch};
use smelt_model::Decoder;

use crate::checkpoint_writer::CheckpointWriter;
use crate::meter::Meter;
use crate::{
    Best, Checkpoints, Evaluation, MetricsLog, Record, Sample, SkippedStep, StepReport, TrainConfig,
    TrainError, Trainer,
};

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

    /// After every step that was skipped because it was not finite.
    fn skipped(&mut self, _skipped: &SkippedStep) {}

    /// After every evaluation.
    fn evaluated(&mut self, _model: &Decoder<B>, _step: u64, _evaluation: &Evaluation) {}

    /// Asked after every step; on true texts are drawn from the model and logged.
    fn wants_samples(&self, _step: u64) -> bool {
        false
    }

    /// Texts from the model after `step` steps.
    fn samples(&mut self, _model: &Decoder<B>, _step: u64) -> Vec<Sample> {
        Vec::new()
    }

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
    /// Patience with the validation loss ran out before `max_steps`.
    pub stopped_early: bool,
    /// The last validation loss of this process.
    pub evaluation: Option<Evaluation>,
    /// The last checkpoint.
    pub checkpoint: Option<PathBuf>,
    /// The lowest validation loss.
    pub best: Option<Best>,
}

/// Trains until `max_steps`, evaluating, saving to `checkpoints` and writing to `log`.
///
/// # Errors
/// [`TrainError`] of a step, a save or the log; the last checkpoint stays.
pub fn train<B: Kernels>(
    trainer: &mut Trainer<B>,
    data: &Data,
    mut log: MetricsLog,
    checkpoints: &Checkpoints,
    observer: &mut dyn Observer<B>,
) -> Result<Outcome, TrainError> {
    let config = trainer.config().clone();
    let first = trainer.steps();
    require_validation(&config, data)?;
    let mut meter = Meter::new(log.peak_tokens_per_second());
    let mut evaluation = None;
    let mut writer = CheckpointWriter::new(checkpoints, B::is_read_by_any_thread(&trainer.device));
    loop {
        let step = trainer.steps();
        let last = step >= config.max_steps;
        let mut best = false;
        if step == 0 && config.eval_on_start {
            evaluation = phase("evaluate", || evaluated(trainer, data, &mut log, observer))?;
        }
        if step > first && (last || step.is_multiple_of(config.eval_interval)) {
            evaluation = phase("evaluate", || evaluated(trainer, data, &mut log, observer))?;
            best = evaluation.is_some_and(|evaluation| trainer.validated(&evaluation)) && config.keep_best;
        }
        let finished = last || trainer.stops_early();
        let stop = finished || observer.should_stop();
        if step > first && (finished || !stop) && observer.wants_samples(step) {
            for sample in phase("sample", || observer.samples(&trainer.best_model(), step)) {
                log.write(&Record::Sample(sample))?;
            }
        }
        if step > first && (stop || best || step.is_multiple_of(config.save_interval)) {
            tell_saved(observer, phase("save", || writer.wait())?);
            let snapshot = phase("save", || trainer.snapshot(&data.fingerprint))?;
            tell_saved(observer, phase("save", || writer.begin(snapshot))?);
        }
        tell_saved(observer, if stop { writer.wait()? } else { writer.finished()? });
        if stop {
            let (checkpoint, best) = (checkpoints.newest(), trainer.progress().best);
            let (interrupted, stopped_early) = (!finished, finished && !last);
            return Ok(Outcome { steps: step, interrupted, stopped_early, evaluation, checkpoint, best });
        }

        // ---- one step: batch -> forward -> loss -> backward -> accumulate -> clip -> optimizer -> report
        meter.start_step();
        let micro_batches =
            phase("data", || effective_batch(data, step, config.gradient_accumulation_steps))?;
        let report = match trainer.step(&micro_batches) {
            Ok(report) => report,
            Err(fault) => {
                let skipped = trainer.skip(fault)?;
                observer.skipped(&skipped);
                log.write(&Record::Skipped(skipped))?;
                continue;
            }
        };
        meter.end_step(&report);
        // ----

        observer.stepped(&report, meter.tokens_per_second());
        if report.step.is_multiple_of(config.log_interval) {
            let tokens_seen = report.step * report.tokens as u64;
            phase("log", || log.write(&meter.record(report, tokens_seen)))?;
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

/// What judges by the validation loss needs one.
fn require_validation(config: &TrainConfig, data: &Data) -> Result<(), TrainError> {
    let keys = [
        ("keep_best", config.keep_best),
        ("early_stopping_patience", config.early_stopping_patience.is_some()),
    ];
    match keys.into_iter().find(|(_, asked)| *asked) {
        Some((key, _)) if data.validation.is_none() => Err(TrainError::NothingToValidate { key }),
        _ => Ok(()),
    }
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
    observer.evaluated(&trainer.best_model(), step, &evaluation);
    Ok(Some(evaluation))
}
