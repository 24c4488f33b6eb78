//! Learning rate by step: linear warm-up, then the schedule.

use std::f64::consts::PI;

use crate::{DecayType, LrSchedule, TrainConfig};

/// The learning rate of step `step`, counted from 0.
///
/// The warm-up rises in `warmup_steps` equal parts, the first of them taken by step 0, which would
/// otherwise learn nothing; what falls would reach `min_learning_rate` at step `max_steps`, and stays there.
pub fn learning_rate(config: &TrainConfig, step: u64) -> f64 {
    if step < config.warmup_steps {
        return config.learning_rate * (step + 1) as f64 / config.warmup_steps as f64;
    }
    let after_warmup = config.max_steps.saturating_sub(config.warmup_steps);
    // How far the last `length` steps have come.
    let progress = |length: u64| {
        let first = config.max_steps.saturating_sub(length);
        (step.saturating_sub(first) as f64 / length.max(1) as f64).min(1.0)
    };
    let share = match config.lr_schedule {
        LrSchedule::Constant => return config.learning_rate,
        LrSchedule::Linear => share(DecayType::Linear, progress(after_warmup)),
        LrSchedule::Cosine => share(DecayType::Cosine, progress(after_warmup)),
        LrSchedule::Wsd => share(config.decay_type, progress(config.decay_steps.min(after_warmup))),
    };
    config.min_learning_rate + (config.learning_rate - config.min_learning_rate) * share
}

/// What is left of the height of a decay.
fn share(decay: DecayType, progress: f64) -> f64 {
    match decay {
        DecayType::Linear => 1.0 - progress,
        DecayType::Cosine => 0.5 * (1.0 + (PI * progress).cos()),
        DecayType::OneMinusSqrt => 1.0 - progress.sqrt(),
    }
}

#[cfg(test)]
mod tests {
    use smelt_testkit::Golden;

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

    #[test]
    fn schedules_are_those_of_transformers() {
        let golden = Golden::open("optimizers");
        let to_zero = |lr_schedule| TrainConfig { lr_schedule, min_learning_rate: 0.0, ..config() };
        let wsd = |decay_type| TrainConfig {
            lr_schedule: LrSchedule::Wsd,
            decay_steps: 30,
            decay_type,
            ..config()
        };
        let cases = [
            ("linear", to_zero(LrSchedule::Linear)),
            ("cosine", to_zero(LrSchedule::Cosine)),
            ("wsd 1-sqrt", wsd(DecayType::OneMinusSqrt)),
            ("wsd linear", wsd(DecayType::Linear)),
            ("wsd cosine", wsd(DecayType::Cosine)),
        ];
        for (name, config) in cases {
            let config = TrainConfig { warmup_steps: 0, ..config };
            let expected = golden.meta["schedules"][name].as_array().expect("a list of rates");
            for (step, expected) in expected.iter().enumerate() {
                let (found, expected) =
                    (learning_rate(&config, step as u64), expected.as_f64().expect("a rate"));
                assert!((found - expected).abs() < 1e-9, "{name}, step {step}: {found}, not {expected}");
            }
        }
    }

    #[test]
    fn a_decay_longer_than_the_run_begins_after_the_warm_up() {
        let config = TrainConfig { lr_schedule: LrSchedule::Wsd, decay_steps: 1000, ..config() };
        assert_eq!(learning_rate(&config, 10), 1.0);
        assert!(learning_rate(&config, 12) < 1.0);
    }
}
