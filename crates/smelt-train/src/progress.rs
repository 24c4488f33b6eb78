//! What the policies of a run remember from step to step: skipped steps, the loss scale, the best validation loss.

use serde::{Deserialize, Serialize};
use smelt_backend::Precision;

use crate::{NonFinitePolicy, TrainConfig};

/// How far a run has come, besides its step; part of `trainer_state.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Steps that changed nothing, because their loss or gradient was not finite.
    pub skipped_steps: u64,
    /// The last of them without a step in between.
    pub consecutive_skipped_steps: u64,
    /// The loss scale of f16; without it, gradients are not scaled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<LossScale>,
    /// The lowest validation loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
    /// Evaluations since the validation loss fell by more than `early_stopping_min_delta`.
    pub evaluations_without_improvement: u64,
}

/// The checkpoint with the lowest validation loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Steps done then.
    pub step: u64,
    /// The loss.
    pub loss: f64,
    /// The loss that the next one must beat by `early_stopping_min_delta` to count as progress.
    pub reference_loss: f64,
}

/// The factor that keeps gradients within the range of f16 (Micikevicius et al. 2018, arXiv:1710.03740).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    /// The factor.
    pub scale: f64,
    /// Steps since it last changed.
    pub steps: u64,
}

/// A step that changed nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SkippedStep {
    /// Steps done, this one included.
    pub step: u64,
    /// The loss, or the gradient of a tensor by name.
    pub what: String,
    /// Its value, which JSON cannot say.
    #[serde(skip)]
    pub value: f64,
    /// Steps skipped in a row.
    pub consecutive: u64,
    /// The loss scale of the next step, in f16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f64>,
}

impl Progress {
    /// At the beginning of a run.
    pub(crate) fn new(config: &TrainConfig) -> Self {
        let scale = LossScale { scale: config.loss_scale_init, steps: 0 };
        Self { loss_scale: (config.precision == Precision::F16).then_some(scale), ..Self::default() }
    }

    /// What the loss is multiplied by before the backward pass.
    pub(crate) fn scale(&self) -> f64 {
        self.loss_scale.map_or(1.0, |scale| scale.scale)
    }

    /// After a step that changed the model.
    pub(crate) fn updated(&mut self, config: &TrainConfig) {
        self.consecutive_skipped_steps = 0;
        if let Some(scale) = &mut self.loss_scale {
            scale.grow(config.loss_scale_growth_interval);
        }
    }

    /// Whether the policy lets a step pass that was not finite.
    ///
    /// In f16 it usually means that the scale was too high, which is nobody's mistake.
    pub(crate) fn may_skip(&self, config: &TrainConfig) -> bool {
        let overflows = self.loss_scale.is_some_and(|scale| scale.scale > 1.0);
        let allowed = overflows || config.non_finite == NonFinitePolicy::Skip;
        allowed && self.consecutive_skipped_steps < config.max_skipped_steps
    }

    /// After a step that was skipped.
    pub(crate) fn skipped(&mut self) {
        self.skipped_steps += 1;
        self.consecutive_skipped_steps += 1;
        if let Some(scale) = &mut self.loss_scale {
            scale.back_off();
        }
    }

    /// Takes note of a validation loss; true if it is the best one so far.
    pub(crate) fn validated(&mut self, step: u64, loss: f64, config: &TrainConfig) -> bool {
        let reference = self.best.map_or(f64::INFINITY, |best| best.reference_loss);
        let improved = loss < reference - config.early_stopping_min_delta;
        self.evaluations_without_improvement =
            if improved { 0 } else { self.evaluations_without_improvement + 1 };
        if self.best.is_some_and(|best| loss >= best.loss) || !loss.is_finite() {
            return false;
        }
        self.best = Some(Best { step, loss, reference_loss: if improved { loss } else { reference } });
        true
    }

    /// Patience has run out.
    pub(crate) fn stops_early(&self, config: &TrainConfig) -> bool {
        config.early_stopping_patience.is_some_and(|most| self.evaluations_without_improvement >= most)
    }
}

impl LossScale {
    const FACTOR: f64 = 2.0;

    fn grow(&mut self, interval: u64) {
        self.steps += 1;
        if self.steps >= interval {
            *self = Self { scale: self.scale * Self::FACTOR, steps: 0 };
        }
    }

    fn back_off(&mut self) {
        *self = Self { scale: self.scale / Self::FACTOR, steps: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_scale_grows_after_good_steps_and_backs_off_after_a_bad_one() {
        let config = TrainConfig {
            precision: Precision::F16,
            loss_scale_init: 1024.0,
            loss_scale_growth_interval: 3,
            ..TrainConfig::default()
        };
        let mut progress = Progress::new(&config);
        progress.updated(&config);
        progress.updated(&config);
        assert_eq!(progress.scale(), 1024.0);
        progress.updated(&config);
        assert_eq!(progress.scale(), 2048.0);
        progress.updated(&config);
        assert!(progress.may_skip(&config), "an overflow is skipped whatever the policy");
        progress.skipped();
        assert_eq!(progress.loss_scale, Some(LossScale { scale: 1024.0, steps: 0 }));
        assert_eq!(Progress::new(&TrainConfig::default()).scale(), 1.0);
    }

    #[test]
    fn skipping_is_bounded_and_starts_anew_after_a_good_step() {
        let config =
            TrainConfig { non_finite: NonFinitePolicy::Skip, max_skipped_steps: 2, ..TrainConfig::default() };
        let mut progress = Progress::new(&config);
        progress.skipped();
        assert!(progress.may_skip(&config));
        progress.skipped();
        assert!(!progress.may_skip(&config));
        progress.updated(&config);
        assert!(progress.may_skip(&config));
        assert_eq!(progress.skipped_steps, 2);
        let stop = TrainConfig { non_finite: NonFinitePolicy::Stop, ..config };
        assert!(!progress.may_skip(&stop));
    }

    #[test]
    fn patience_counts_evaluations_without_enough_improvement() {
        let config = TrainConfig {
            early_stopping_patience: Some(3),
            early_stopping_min_delta: 0.1,
            ..TrainConfig::default()
        };
        let mut progress = Progress::new(&config);
        assert!(progress.validated(10, 2.0, &config));
        // Better, but not by enough: the best checkpoint, and no progress.
        assert!(progress.validated(20, 1.95, &config));
        assert!(progress.validated(30, 1.92, &config));
        assert_eq!(progress.evaluations_without_improvement, 2);
        assert!(!progress.stops_early(&config));
        // Small steps add up.
        assert!(progress.validated(40, 1.89, &config));
        assert_eq!(progress.evaluations_without_improvement, 0);
        for step in [50, 60, 70] {
            assert!(!progress.stops_early(&config));
            assert!(!progress.validated(step, 1.9, &config));
        }
        assert!(progress.stops_early(&config));
        assert_eq!(progress.best.map(|best| (best.step, best.loss)), Some((40, 1.89)));
        assert!(!progress.stops_early(&TrainConfig::default()), "nobody asked for it");
    }

    #[test]
    fn a_loss_that_is_not_finite_is_never_the_best() {
        let config = TrainConfig::default();
        let mut progress = Progress::new(&config);
        assert!(!progress.validated(10, f64::NAN, &config));
        assert!(progress.best.is_none());
    }
}
