//! What a user asks of the sampler.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::GenerateError;

/// Probability above which XTC looks at tokens, where none is given.
const XTC_THRESHOLD: f64 = 0.1;

/// How tokens are drawn. The default takes the likeliest token each time.
///
/// Names and meanings are those of transformers' `GenerationConfig` and of the OpenAI API. Logits are changed
/// in this order: `logit_bias`, `repetition_penalty`, `frequency_penalty` and `presence_penalty`,
/// `no_repeat_ngram_size`, a grammar; then come the filters in the order of [`Filter`]. Without temperature
/// there are no filters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingOptions {
    /// Divides the logits; 0 takes the likeliest token.
    pub temperature: f64,
    /// Keeps this many of the likeliest tokens, and what equals the last of them; 0 keeps all.
    pub top_k: Option<usize>,
    /// Keeps the likeliest tokens that together reach this probability (Holtzman et al. 2019,
    /// arXiv:1904.09751).
    pub top_p: Option<f64>,
    /// Keeps tokens at least this probable relative to the likeliest (Nguyen et al. 2024, arXiv:2407.01082).
    pub min_p: Option<f64>,
    /// Keeps the tokens whose surprise is nearest to the expected one and that together reach this
    /// probability (Meister et al. 2022, arXiv:2202.00666).
    pub typical_p: Option<f64>,
    /// How often the likeliest of several good tokens are left out, so that a rarer good one is taken
    /// ("exclude top choices", text-generation-webui pull request 6335).
    pub xtc_probability: Option<f64>,
    /// What a token's probability must reach to be good in the sense of `xtc_probability`; 0.1 if not given.
    pub xtc_threshold: Option<f64>,
    /// Divides positive logits of tokens seen before, prompt included, and multiplies negative ones (Keskar
    /// et al. 2019, arXiv:1909.05858).
    pub repetition_penalty: Option<f64>,
    /// Is taken from the logit of a token once if it was generated before.
    pub presence_penalty: Option<f64>,
    /// Is taken from the logit of a token each time it was generated before.
    pub frequency_penalty: Option<f64>,
    /// No sequence of this many tokens comes twice, prompt included; 0 allows all.
    pub no_repeat_ngram_size: Option<usize>,
    /// Is added to the logits of these ids.
    pub logit_bias: BTreeMap<u32, f64>,
    /// The order of the filters, which must name all that are asked for.
    pub order: Option<Vec<Filter>>,
    /// Decides all draws.
    pub seed: u64,
}

/// A step from logits to the distribution that is drawn from, in the order of transformers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// [`SamplingOptions::temperature`]
    Temperature,
    /// [`SamplingOptions::top_k`]
    TopK,
    /// [`SamplingOptions::top_p`]
    TopP,
    /// [`SamplingOptions::min_p`]
    MinP,
    /// [`SamplingOptions::typical_p`]
    TypicalP,
    /// [`SamplingOptions::xtc_probability`]
    Xtc,
}

impl Filter {
    /// All of them; XTC, which transformers has not, last.
    pub const ALL: [Self; 6] =
        [Self::Temperature, Self::TopK, Self::TopP, Self::MinP, Self::TypicalP, Self::Xtc];
}

impl SamplingOptions {
    /// Every token is the likeliest one.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Checks the ids among the options.
    ///
    /// # Errors
    /// [`GenerateError::BadOption`] for one beyond a vocabulary of `vocab_size`.
    pub fn check_vocabulary(&self, vocab_size: usize) -> Result<(), GenerateError> {
        match self.logit_bias.keys().find(|id| **id as usize >= vocab_size) {
            Some(id) => Err(bad("logit_bias", format!("for the id {id}"), "ids of the vocabulary")),
            None => Ok(()),
        }
    }

    /// Checks every option that can be checked without a vocabulary.
    ///
    /// # Errors
    /// [`GenerateError::BadOption`] for the first that does not fit.
    pub fn validate(&self) -> Result<(), GenerateError> {
        let finite = |value: f64| value.is_finite();
        let share = |value: f64| value > 0.0 && value <= 1.0;
        let penalty = |value: f64| (-2.0..=2.0).contains(&value);
        check("temperature", Some(self.temperature), "a number from 0", |t| finite(t) && t >= 0.0)?;
        check("top_p", self.top_p, "a number above 0 and at most 1", share)?;
        check("min_p", self.min_p, "a number from 0 to 1", |p| (0.0..=1.0).contains(&p))?;
        check("typical_p", self.typical_p, "a number above 0 and at most 1", share)?;
        let probability = |p: f64| (0.0..=1.0).contains(&p);
        check("xtc_probability", self.xtc_probability, "a number from 0 to 1", probability)?;
        // Two tokens cannot both have more.
        let threshold = |p: f64| (0.0..=0.5).contains(&p);
        check("xtc_threshold", self.xtc_threshold, "a number from 0 to 0.5", threshold)?;
        check("repetition_penalty", self.repetition_penalty, "a number above 0", |p| finite(p) && p > 0.0)?;
        check("presence_penalty", self.presence_penalty, "a number from -2 to 2", penalty)?;
        check("frequency_penalty", self.frequency_penalty, "a number from -2 to 2", penalty)?;
        for bias in self.logit_bias.values() {
            check("logit_bias", Some(*bias), "a number from -100 to 100 for each id", |b| b.abs() <= 100.0)?;
        }
        self.check_order()
    }

    fn check_order(&self) -> Result<(), GenerateError> {
        let Some(order) = &self.order else { return Ok(()) };
        let found = || serde_json::to_string(order).unwrap_or_default();
        if (1..order.len()).any(|at| order[..at].contains(&order[at])) {
            return Err(bad("order", found(), "each filter at most once"));
        }
        if Filter::ALL.iter().any(|filter| self.wants(*filter) && !order.contains(filter)) {
            return Err(bad("order", found(), "every filter that is asked for"));
        }
        Ok(())
    }

    pub(super) fn wants(&self, filter: Filter) -> bool {
        match filter {
            Filter::Temperature => self.temperature != 1.0 && !self.is_greedy(),
            Filter::TopK => self.top_k.is_some(),
            Filter::TopP => self.top_p.is_some(),
            Filter::MinP => self.min_p.is_some(),
            Filter::TypicalP => self.typical_p.is_some(),
            Filter::Xtc => self.xtc_probability.is_some(),
        }
    }

    pub(super) fn filters(&self) -> &[Filter] {
        self.order.as_deref().unwrap_or(&Filter::ALL)
    }

    pub(super) fn xtc_threshold(&self) -> f64 {
        self.xtc_threshold.unwrap_or(XTC_THRESHOLD)
    }

    /// Some logit may change before the filters.
    pub(super) fn has_adjustments(&self) -> bool {
        self.counts_tokens() || self.ngram_size().is_some() || !self.logit_bias.is_empty()
    }

    /// It matters how often a token came.
    pub(super) fn counts_tokens(&self) -> bool {
        self.repetition_penalty.is_some()
            || self.presence_penalty.is_some()
            || self.frequency_penalty.is_some()
    }

    pub(super) fn ngram_size(&self) -> Option<usize> {
        self.no_repeat_ngram_size.filter(|size| *size > 0)
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

pub(super) fn bad(option: &'static str, found: impl ToString, expected: &'static str) -> GenerateError {
    GenerateError::BadOption { option, found: found.to_string(), expected }
}
