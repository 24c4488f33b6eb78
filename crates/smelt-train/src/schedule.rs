//! Learning rate by step: linear warm-up, then the schedule.

use std::f64::consts::PI;

use crate::{LrSchedule, TrainConfig};

/// The learning rate of step `step`, counted from 0.
///
/// The warm-up rises in `warmup_steps` equal parts, the first of them taken by step 0, which would
/// otherwise learn nothing; the cosine would reach `min_learning_rate` at step `max_steps`.
pub fn learning_rate(config: &TrainConfig, step: u64) -> f64 {
    if step < config.warmup_steps {
        return config.learning_rate * (step + 1) as f64 / config.warmup_steps as f64;
    }
    match config.lr_schedule {
        LrSchedule::Constant => config.learning_rate,
        LrSchedule::Cosine => {
            let length = config.max_steps.saturating_sub(config.warmup_steps).max(1);
            let progress = ((step - config.warmup_steps) as f64 / length as f64).min(1.0);
            let share = 0.5 * (1.0 + (PI * progress).cos());
            config.min_learning_rate + (config.learning_rate - config.min_learning_rate) * share
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> TrainConfig {
        TrainConfig {
            max_steps: 100,
            warmup_steps: 10,
            learning_rate: 1.0,
            min_learning_rate: 0.1,
            ..TrainConfig::default()
        }
    }

    #[test]
    fn warm_up_is_linear_and_the_cosine_ends_at_the_minimum() {
        let config = config();
        assert_eq!(learning_rate(&config, 0), 0.1);
        assert_eq!(learning_rate(&config, 4), 0.5);
        assert_eq!(learning_rate(&config, 9), 1.0);
        assert_eq!(learning_rate(&config, 10), 1.0);
        assert!((learning_rate(&config, 55) - 0.55).abs() < 1e-12);
        assert!((learning_rate(&config, 100) - 0.1).abs() < 1e-12);
        assert!((learning_rate(&config, 1000) - 0.1).abs() < 1e-12, "no restart");
    }

    #[test]
    fn constant_stays() {
        let config = TrainConfig { lr_schedule: LrSchedule::Constant, warmup_steps: 0, ..config() };
        assert_eq!(learning_rate(&config, 0), 1.0);
        assert_eq!(learning_rate(&config, 99), 1.0);
    }
}
