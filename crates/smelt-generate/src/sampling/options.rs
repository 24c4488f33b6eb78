//! What a user asks of the sampler.

use serde::{Deserialize, Serialize};

use crate::error::GenerateError;

/// How tokens are drawn. The default takes the likeliest token each time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingOptions {
    /// Divides the logits; 0 takes the likeliest token.
    pub temperature: f64,
    /// Keeps this many of the likeliest tokens.
    pub top_k: Option<usize>,
    /// Keeps the likeliest tokens that together reach this probability (Holtzman et al. 2019,
    /// arXiv:1904.09751).
    pub top_p: Option<f64>,
    /// Keeps tokens at least this probable relative to the likeliest (Nguyen et al. 2024, arXiv:2407.01082).
    pub min_p: Option<f64>,
    /// Divides positive logits of tokens seen before, and multiplies negative ones (Keskar et al. 2019,
    /// arXiv:1909.05858).
    pub repetition_penalty: Option<f64>,
    /// Decides all draws.
    pub seed: u64,
}

impl SamplingOptions {
    /// Every token is the likeliest one.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Checks every option.
    ///
    /// # Errors
    /// [`GenerateError::BadOption`] for the first that does not fit.
    pub fn validate(&self) -> Result<(), GenerateError> {
        let finite = |value: f64| value.is_finite();
        check("temperature", Some(self.temperature), "a number from 0", |t| finite(t) && t >= 0.0)?;
        check("top_p", self.top_p, "a number above 0 and at most 1", |p| p > 0.0 && p <= 1.0)?;
        check("min_p", self.min_p, "a number from 0 to 1", |p| (0.0..=1.0).contains(&p))?;
        check("repetition_penalty", self.repetition_penalty, "a number above 0", |p| finite(p) && p > 0.0)?;
        match self.top_k {
            Some(0) => Err(bad("top_k", 0, "a whole number from 1")),
            _ => Ok(()),
        }
    }
}

fn check(
    option: &'static str,
    value: Option<f64>,
    expected: &'static str,
    fits: impl Fn(f64) -> bool,
) -> Result<(), GenerateError> {
    match value.filter(|value| !fits(*value)) {
        Some(value) => Err(bad(option, value, expected)),
        None => Ok(()),
    }
}

fn bad(option: &'static str, found: impl ToString, expected: &'static str) -> GenerateError {
    GenerateError::BadOption { option, found: found.to_string(), expected }
}
