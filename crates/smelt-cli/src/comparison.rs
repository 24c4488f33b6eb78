//! Two models on the same prompts: how far their logits lie apart.

use std::fmt;

use serde::Serialize;
use smelt_backend::{Job, Kernels, int_tensor, to_host};
use smelt_convert::Source;
use smelt_model::weights::{LoadOptions, load_weights};
use smelt_model::{Decoder, DecoderConfig, ForwardInput};
use smelt_text::Tokenizer;

use crate::error::CliError;

/// Texts that models are compared on, where they have a tokenizer.
const TEXTS: [&str; 4] = [
    "The quick brown fox jumps over the lazy dog. It was a bright cold day in April, and the clocks were",
    "#!/bin/bash\nfor file in *.txt; do\n  echo \"$file\"\ndone\n",
    "def add(a, b):\n    return a + b  # 12 + 34 = 46\n",
    "Fünf größere Städte: Köln, 北京, Москва, São Paulo \u{1f980}",
];
/// Tokens of a prompt.
const TOKENS: usize = 64;

/// How far two models lie apart.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Texts, or runs of ids that stand for no text.
    pub prompts: usize,
    /// Positions of all.
    pub positions: usize,
    /// Largest difference of logits.
    pub largest_difference: f64,
    /// Root of the mean square of differences, as a share of the spread of logits.
    pub relative_difference: f64,
    /// Largest share that passes.
    pub tolerance: f64,
    /// Share of positions whose likeliest token is the same.
    pub top_1_agreement: f64,
    /// Texts that become other ids.
    pub texts_tokenized_otherwise: usize,
    /// The difference is within the tolerance, and texts become the same ids.
    pub passed: bool,
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { prompts, positions, largest_difference, relative_difference, tolerance, .. } = self;
        let verdict = if self.passed { "check passed" } else { "check FAILED" };
        write!(
            f,
            "{verdict}: on {prompts} prompts logits differ by at most {largest_difference:.1e}, by {:.3} % of their \
             spread (allowed {:.1} %), the likeliest token is the same in {:.1} % of {positions} places",
            100.0 * relative_difference,
            100.0 * tolerance,
            100.0 * self.top_1_agreement
        )?;
        match self.texts_tokenized_otherwise {
            0 => Ok(()),
            count => write!(f, "; {count} texts become other tokens"),
        }
    }
}

impl Comparison {
    /// Also fails if a text becomes other ids.
    ///
    /// # Errors
    /// [`CliError::Text`] if a text cannot be encoded.
    pub fn with_tokenizers(mut self, before: &Tokenizer, after: &Tokenizer) -> Result<Self, CliError> {
        for text in TEXTS {
            if before.encode_with_special_tokens(text)? != after.encode_with_special_tokens(text)? {
                self.texts_tokenized_otherwise += 1;
            }
        }
        self.passed &= self.texts_tokenized_otherwise == 0;
        Ok(self)
    }
}

/// Prompts for the model of `source`: texts if it has a tokenizer, else ids without sense.
///
/// # Errors
/// [`CliError`] if the tokenizer is damaged.
pub fn prompts(source: &Source) -> Result<Vec<Vec<u32>>, CliError> {
    let config = &source.config.decoder;
    let length = TOKENS.min(config.context_length());
    if source.companions.tokenizer()?.is_none() {
        return Ok((0..TEXTS.len()).map(|row| meaningless(config.vocab_size, length, row)).collect());
    }
    encoded(source, &TEXTS, TOKENS)
}

/// A run of ids that stand for no text, another for each `row`.
pub fn meaningless(vocab_size: usize, length: usize, row: usize) -> Vec<u32> {
    (0..length).map(|at| ((at * 7919 + row * 104_729 + 13) % vocab_size) as u32).collect()
}

/// `texts` as the tokenizer of `source` has them: of each the first `most` tokens, as far as the context goes.
///
/// # Errors
/// [`CliError::NoTokenizer`], and [`CliError::Text`] if it is damaged.
pub fn encoded<T: AsRef<str>>(source: &Source, texts: &[T], most: usize) -> Result<Vec<Vec<u32>>, CliError> {
    let config = &source.config.decoder;
    let length = most.min(config.context_length());
    let tokenizer = source.companions.tokenizer()?;
    let tokenizer = tokenizer.ok_or_else(|| CliError::NoTokenizer { path: source.path.clone() })?;
    let mut prompts = Vec::new();
    for text in texts.iter().map(AsRef::as_ref) {
        let mut ids = tokenizer.encode_with_special_tokens(text)?;
        ids.truncate(length);
        ids.retain(|id| (*id as usize) < config.vocab_size);
        prompts.extend((!ids.is_empty()).then_some(ids));
    }
    Ok(prompts)
}

/// Runs both models on all prompts, one after the other.
pub struct CompareJob<'a> {
    pub models: [&'a Source; 2],
    pub prompts: &'a [Vec<u32>],
    /// Differences up to this share of the spread of logits pass.
    pub share: f64,
}

impl Job for CompareJob<'_> {
    type Output = Result<Comparison, CliError>;

    fn run<B: Kernels>(self, device: B::Device) -> Self::Output {
        let [expected, found] = self.models;
        let vocab_size = expected.config.decoder.vocab_size;
        let expected = all_logits::<B>(expected, self.prompts, &device)?;
        let found = all_logits::<B>(found, self.prompts, &device)?;
        Ok(compared(&expected, &found, vocab_size, self.share))
    }
}

fn all_logits<B: Kernels>(
    source: &Source,
    prompts: &[Vec<u32>],
    device: &B::Device,
) -> Result<Vec<Vec<f32>>, CliError> {
    let model = load_weights::<B>(&source.config, &source.checkpoint, LoadOptions::default(), device)?;
    let config = &source.config.decoder;
    prompts.iter().map(|prompt| logits(&model, config, prompt, device)).collect()
}

/// Logits at each position of `prompt`.
///
/// # Errors
/// [`CliError::Model`] for an id beyond the vocabulary.
pub fn logits<B: Kernels>(
    model: &Decoder<B>,
    config: &DecoderConfig,
    prompt: &[u32],
    device: &B::Device,
) -> Result<Vec<f32>, CliError> {
    config.check_token_ids(prompt)?;
    let ids = int_tensor::<B, 2>(prompt, [1, prompt.len()], device);
    Ok(to_host(model.logits(model.hidden(ForwardInput::new(ids)))))
}

/// How far the logits `found` lie from those `expected`, one list for each prompt.
pub fn compared(expected: &[Vec<f32>], found: &[Vec<f32>], vocab_size: usize, share: f64) -> Comparison {
    let (mut largest, mut squares, mut same, mut positions) = (0.0f64, 0.0, 0, 0);
    let best = |row: &[f32]| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b]));
    for (expected, found) in expected.iter().zip(found) {
        for (a, b) in expected.iter().zip(found) {
            let difference = f64::from((a - b).abs());
            // A NaN counts as infinite: it would lose every comparison.
            let difference = if difference.is_nan() { f64::INFINITY } else { difference };
            largest = largest.max(difference);
            squares += difference * difference;
        }
        let rows = expected.chunks(vocab_size).zip(found.chunks(vocab_size));
        same += rows.clone().filter(|(a, b)| best(a) == best(b)).count();
        positions += rows.count();
    }
    let values = (positions * vocab_size).max(1) as f64;
    let relative = (squares / values).sqrt() / spread(expected).max(f64::MIN_POSITIVE);
    let same_sizes = expected.iter().map(Vec::len).eq(found.iter().map(Vec::len));
    Comparison {
        prompts: expected.len(),
        positions,
        largest_difference: largest,
        relative_difference: relative,
        tolerance: share,
        top_1_agreement: same as f64 / positions.max(1) as f64,
        texts_tokenized_otherwise: 0,
        passed: same_sizes && relative <= share,
    }
}

/// The standard deviation of logits.
fn spread(logits: &[Vec<f32>]) -> f64 {
    let values = || logits.iter().flatten().map(|value| f64::from(*value));
    let count = values().count().max(1) as f64;
    let mean = values().sum::<f64>() / count;
    (values().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_too_much_fails() {
        let expected = vec![vec![0.0, 1.0, 2.0, 0.0, 1.0, 2.0]];
        let mut found = expected.clone();
        assert!(compared(&expected, &found, 3, 0.1).passed);
        found[0][5] = 0.5;
        let comparison = compared(&expected, &found, 3, 0.1);
        assert!(!comparison.passed && comparison.largest_difference == 1.5);
        assert!(compared(&expected, &found, 3, 0.8).passed);
        assert_eq!(comparison.top_1_agreement, 0.5);
        found[0][5] = f32::NAN;
        assert!(!compared(&expected, &found, 3, 1e9).passed);
    }
}
