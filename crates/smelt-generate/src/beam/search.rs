//! The search itself. Knows no model: whoever calls gives the logits of the beams.

use crate::error::GenerateError;
use crate::sampling::{Sampler, SamplingOptions, largest_tokens, log_softmax};

/// When the search ends, once it has as many finished sequences as beams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EarlyStopping {
    /// When the best unfinished beam, as long as it is, is worse than all finished ones.
    #[default]
    WhenWorse,
    /// At once.
    AtOnce,
    /// When no continuation up to the limit can be better; for a `length_penalty` above 0.
    Never,
}

/// How to search.
#[derive(Debug, Clone, PartialEq)]
pub struct BeamOptions {
    /// Sequences that are followed at a time; one is greedy decoding.
    pub num_beams: usize,
    /// Sequences that are returned, at most `num_beams`.
    pub num_return_sequences: usize,
    /// The log-probability of a sequence is divided by its length to this power: above 0, longer ones gain.
    pub length_penalty: f64,
    /// When to end.
    pub early_stopping: EarlyStopping,
    /// Most tokens of a sequence, its stop token included.
    pub max_tokens: usize,
    /// Tokens that end a sequence; they count in its score and are not returned.
    pub stop_tokens: Vec<u32>,
    /// Penalties, biases and forbidden n-grams; there is no temperature, and so no filter.
    pub sampling: SamplingOptions,
}

impl Default for BeamOptions {
    fn default() -> Self {
        Self {
            num_beams: 4,
            num_return_sequences: 1,
            length_penalty: 1.0,
            early_stopping: EarlyStopping::default(),
            max_tokens: 20,
            stop_tokens: Vec::new(),
            sampling: SamplingOptions::default(),
        }
    }
}

/// A beam whose next logits are wanted.
#[derive(Debug, Clone, Copy)]
pub struct BeamRow<'a> {
    /// The prompt and everything since.
    pub tokens: &'a [u32],
    /// Which row of the call before it continues, by its last token; 0 in the first call, which has one row.
    pub parent: usize,
}

/// A sequence that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct BeamSequence {
    /// Its tokens behind the prompt, without a stop token.
    pub tokens: Vec<u32>,
    /// The sum of its log-probabilities over its length to the power of `length_penalty`.
    pub score: f32,
}

/// The likeliest continuations of `prompt` that the search finds, the best first.
///
/// `logits` is called once per position, with beams of equal length, and gives the logits behind each one's
/// last token, one row after the other.
///
/// # Errors
/// [`GenerateError::BadOption`], [`GenerateError::NotFinite`], [`GenerateError::NothingAllowed`], those of
/// `logits`.
pub fn beam_search(
    prompt: &[u32],
    options: &BeamOptions,
    mut logits: impl FnMut(&[BeamRow<'_>]) -> Result<Vec<f32>, GenerateError>,
) -> Result<Vec<BeamSequence>, GenerateError> {
    options.validate()?;
    if options.max_tokens == 0 {
        return Ok(vec![BeamSequence { tokens: Vec::new(), score: 0.0 }]);
    }
    let sampler = Sampler::new(&options.sampling)?.with_prompt_length(prompt.len());
    let start = Beam { tokens: prompt.to_vec(), parent: 0, score: 0.0 };
    let mut search =
        Search { options, prompt_length: prompt.len(), sampler, beams: vec![start], finished: Vec::new() };
    loop {
        let rows: Vec<BeamRow<'_>> = search.beams.iter().map(Beam::row).collect();
        let logits = logits(&rows)?;
        let continuations = search.continuations(&logits)?;
        search.advance(continuations);
        if !search.goes_on() {
            break;
        }
    }
    search.finished.truncate(options.num_return_sequences);
    Ok(search.finished)
}

impl BeamOptions {
    fn validate(&self) -> Result<(), GenerateError> {
        let bad = |option, found: String, expected| Err(GenerateError::BadOption { option, found, expected });
        if self.num_beams == 0 {
            return bad("num_beams", "0".to_owned(), "a whole number from 1");
        }
        if !(1..=self.num_beams).contains(&self.num_return_sequences) {
            let found = self.num_return_sequences.to_string();
            return bad("num_return_sequences", found, "a whole number from 1 to `num_beams`");
        }
        if !self.length_penalty.is_finite() {
            return bad("length_penalty", self.length_penalty.to_string(), "a finite number");
        }
        if !self.sampling.is_greedy() {
            return bad("temperature", self.sampling.temperature.to_string(), "0, as beams are not drawn");
        }
        Ok(())
    }

    /// Continuations looked at: so many that enough are left if the best of them end.
    fn candidates(&self) -> usize {
        self.num_beams.saturating_mul(self.stop_tokens.len().saturating_add(1).max(2))
    }
}

/// A sequence that may go on.
struct Beam {
    tokens: Vec<u32>,
    parent: usize,
    /// The sum of its log-probabilities.
    score: f32,
}

impl Beam {
    fn row(&self) -> BeamRow<'_> {
        BeamRow { tokens: &self.tokens, parent: self.parent }
    }
}

/// A beam with one more token.
#[derive(Debug, Clone, Copy)]
struct Continuation {
    parent: usize,
    token: u32,
    score: f32,
}

struct Search<'a> {
    options: &'a BeamOptions,
    prompt_length: usize,
    sampler: Sampler,
    /// The best first.
    beams: Vec<Beam>,
    /// The best first, at most `num_beams`.
    finished: Vec<BeamSequence>,
}

impl Search<'_> {
    /// The best continuations of all beams, the best first.
    fn continuations(&mut self, logits: &[f32]) -> Result<Vec<Continuation>, GenerateError> {
        let count = self.options.candidates();
        let vocabulary = logits.len() / self.beams.len();
        let mut best = Vec::new();
        for (parent, (beam, logits)) in self.beams.iter().zip(logits.chunks(vocabulary.max(1))).enumerate() {
            let logprobs = log_softmax(logits)?;
            let adjusted = self.sampler.adjusted(&logprobs, &beam.tokens)?;
            let continuation = |(token, logprob)| Continuation { parent, token, score: beam.score + logprob };
            let possible =
                largest_tokens(&adjusted, count).into_iter().filter(|(_, logprob)| logprob.is_finite());
            best.extend(possible.map(continuation));
        }
        // A stable sort: of equals, the earlier beam and the lower id.
        best.sort_by(|a, b| b.score.total_cmp(&a.score));
        best.truncate(count);
        if best.is_empty() { Err(GenerateError::NothingAllowed) } else { Ok(best) }
    }

    /// Takes up the finished ones of the best continuations, and goes on with the best that are not.
    fn advance(&mut self, continuations: Vec<Continuation>) {
        let length = self.beams[0].tokens.len() + 1 - self.prompt_length;
        let ends = |continuation: &Continuation| {
            length >= self.options.max_tokens || self.options.stop_tokens.contains(&continuation.token)
        };
        let best = continuations.iter().take(self.options.num_beams);
        for continuation in best.filter(|continuation| ends(continuation)) {
            let tokens = &self.beams[continuation.parent].tokens[self.prompt_length..];
            let stopped = self.options.stop_tokens.contains(&continuation.token);
            let last = (!stopped).then_some(continuation.token);
            let tokens = tokens.iter().copied().chain(last).collect();
            self.finished.push(BeamSequence { tokens, score: self.normalised(continuation.score, length) });
        }
        self.finished.sort_by(|a, b| b.score.total_cmp(&a.score));
        self.finished.truncate(self.options.num_beams);
        let going = continuations.iter().filter(|continuation| !ends(continuation));
        let next = |Continuation { parent, token, score }: &Continuation| {
            let tokens = self.beams[*parent].tokens.iter().copied().chain([*token]).collect();
            Beam { tokens, parent: *parent, score: *score }
        };
        self.beams = going.take(self.options.num_beams).map(next).collect();
    }

    /// Whether the beams may still find something better.
    fn goes_on(&self) -> bool {
        let Some(best) = self.beams.first() else { return false };
        if self.finished.len() < self.options.num_beams {
            return true;
        }
        let length = match self.options.early_stopping {
            _ if self.options.num_beams == 1 => return false,
            EarlyStopping::AtOnce => return false,
            EarlyStopping::Never if self.options.length_penalty > 0.0 => self.options.max_tokens,
            _ => best.tokens.len() - self.prompt_length,
        };
        let worst = self.finished.last().map_or(f32::NEG_INFINITY, |sequence| sequence.score);
        self.normalised(best.score, length) > worst
    }

    fn normalised(&self, score: f32, length: usize) -> f32 {
        score / (length as f64).powf(self.options.length_penalty) as f32
    }
}
