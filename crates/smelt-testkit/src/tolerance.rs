//! The one table of tolerances.
//!
//! Reference logits have a standard deviation of about 2, and two transformers versions differ by 8.6e-6 on
//! them. A looser row needs its reason in the commit that adds it.

/// How far a value may lie from the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tolerance {
    /// Logits, any family, f32, absolute.
    Logits,
    /// Hidden states, f32, absolute.
    Hidden,
    /// Mean cross-entropy, absolute.
    Loss,
    /// Probabilities of the sampling fixture, absolute.
    Probabilities,
    /// Loss of the first training step, absolute.
    FirstTrainingLoss,
    /// Loss of the twentieth training step, absolute.
    LastTrainingLoss,
    /// Gradient norms in training, relative.
    GradientNorm,
    /// Logits after twenty training steps, absolute.
    TrainedLogits,
    /// Parameters and state after twenty steps of an optimizer in f32, absolute.
    OptimizerStep,
    /// The same, where the reference rounds an iteration to bf16: twenty updates of at most 0.013 per element,
    /// each off by a few units of bf16 (1/256).
    MuonInBf16,
}

impl Tolerance {
    /// The largest difference that passes.
    pub const fn value(self) -> f32 {
        match self {
            Self::Logits | Self::Hidden => 2e-4,
            Self::Loss => 1e-5,
            Self::Probabilities => 1e-6,
            Self::FirstTrainingLoss => 2e-5,
            Self::LastTrainingLoss => 2e-3,
            Self::GradientNorm => 2e-3,
            Self::TrainedLogits => 2e-2,
            Self::OptimizerStep => 2e-6,
            Self::MuonInBf16 => 1e-3,
        }
    }
}

/// The largest absolute difference; NaN counts as infinite.
///
/// # Panics
/// If the lengths differ.
pub fn max_abs_difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len(), "number of values");
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, |largest, difference| {
        if difference.is_nan() { f32::INFINITY } else { f32::max(largest, difference) }
    })
}

/// Passes if no value of `found` is farther from `expected` than `tolerance`.
///
/// # Panics
/// Otherwise, saying `what` differs and by how much.
pub fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: Tolerance) {
    let difference = max_abs_difference(found, expected);
    let allowed = tolerance.value();
    assert!(difference <= allowed, "{what} differs by {difference:e}, {allowed:e} is allowed");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nan_never_passes() {
        assert_eq!(max_abs_difference(&[1.0, f32::NAN, 1.0], &[1.0, 1.0, 1.0]), f32::INFINITY);
        assert_eq!(max_abs_difference(&[1.0, 0.5], &[1.0, 0.75]), 0.25);
    }
}
