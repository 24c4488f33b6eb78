//! What the dashboard knows of the run.

use std::collections::VecDeque;

use smelt_backend::Name;
use smelt_train::{Evaluation, Sample, StepReport};

use super::curve::Curve;
use crate::quantity::count;
use crate::training::{RunFacts, TrainEvent};

/// Lines of the log that are kept.
const LOG_LINES: usize = 200;

/// The run so far.
#[derive(Debug, Clone)]
pub struct Board {
    /// The run and its model.
    pub title: String,
    /// Steps before this process.
    pub first_step: u64,
    /// Steps in all.
    pub max_steps: u64,
    /// Speed if nothing but matrix products took time.
    pub peak_tokens_per_second: Option<f64>,
    /// The last step.
    pub report: Option<StepReport>,
    /// Training speed.
    pub tokens_per_second: f64,
    /// Loss of the steps.
    pub train_loss: Curve,
    /// Loss of the evaluations.
    pub validation_loss: Curve,
    /// Learning rates of the steps.
    pub learning_rate: Curve,
    /// Speeds of the steps.
    pub speed: Curve,
    /// The last evaluation.
    pub evaluation: Option<Evaluation>,
    /// Step and loss of the best evaluation.
    pub best: Option<(u64, f64)>,
    /// The last text.
    pub sample: Option<Sample>,
    log: VecDeque<String>,
}

impl Board {
    /// A run that begins.
    pub fn new(facts: &RunFacts, backend: Option<Name>) -> Self {
        let backend = backend.map_or(String::new(), |name| format!(" on {name}"));
        let (run, parameters) = (facts.run.display(), count(facts.parameters));
        Self {
            title: format!("{run}: {}, {parameters} parameters{backend}", facts.family),
            first_step: facts.first_step,
            max_steps: facts.max_steps,
            peak_tokens_per_second: facts.peak_tokens_per_second,
            report: None,
            tokens_per_second: 0.0,
            train_loss: Curve::new(),
            validation_loss: Curve::new(),
            learning_rate: Curve::new(),
            speed: Curve::new(),
            evaluation: None,
            best: None,
            sample: None,
            log: VecDeque::new(),
        }
    }

    /// Takes note of an event.
    pub fn tell(&mut self, event: &TrainEvent<'_>) {
        match event {
            TrainEvent::Stepped { report, tokens_per_second } => {
                self.train_loss.push(report.step, report.loss);
                self.learning_rate.push(report.step, report.learning_rate);
                self.speed.push(report.step, *tokens_per_second);
                (self.report, self.tokens_per_second) = (Some(*report), *tokens_per_second);
            }
            TrainEvent::Evaluated { step, evaluation } => {
                self.validation_loss.push(*step, evaluation.loss);
                self.evaluation = Some(*evaluation);
                if self.best.is_none_or(|(_, best)| evaluation.loss < best) {
                    self.best = Some((*step, evaluation.loss));
                }
            }
            TrainEvent::Sampled(sample) => self.sample = Some((*sample).clone()),
            _ => {}
        }
    }

    /// Adds a line to the log.
    pub fn log(&mut self, line: String) {
        if self.log.len() == LOG_LINES {
            self.log.pop_front();
        }
        self.log.push_back(line);
    }

    /// The last `count` lines of the log, the newest last.
    pub fn last_lines(&self, count: usize) -> impl Iterator<Item = &str> {
        self.log.iter().skip(self.log.len().saturating_sub(count)).map(String::as_str)
    }

    /// Steps done, those before this process included.
    pub fn step(&self) -> u64 {
        self.report.map_or(self.first_step, |report| report.step)
    }

    /// Seconds of training that are left, by the present speed.
    pub fn seconds_left(&self) -> Option<f64> {
        let report = self.report.filter(|_| self.tokens_per_second > 0.0)?;
        let steps = self.max_steps.saturating_sub(report.step) as f64;
        Some(steps * report.tokens as f64 / self.tokens_per_second)
    }
}
