//! The fields that chat and completions share: how tokens are drawn, where a text ends, what is answered.

use std::collections::BTreeMap;

use serde::Deserialize;
use smelt_generate::SamplingOptions;

use crate::error::ApiError;

/// Stop strings that a request may give.
const MOST_STOPS: usize = 16;
/// Bytes that each of them may have.
const MOST_STOP_BYTES: usize = 1 << 10;
/// Continuations of a prompt that a request may ask for.
const MOST_CHOICES: usize = 128;
/// Alternatives of a token that a request may ask for.
pub const MOST_ALTERNATIVES: usize = 20;

/// Fields of OpenAI's, and those that many clients send besides (`top_k`, `min_p`, `typical_p`,
/// `repetition_penalty`, `stop_token_ids`, `ignore_eos`).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GenerationFields {
    pub model: Option<String>,
    pub max_tokens: Option<usize>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub top_k: Option<i64>,
    pub min_p: Option<f64>,
    pub typical_p: Option<f64>,
    pub repetition_penalty: Option<f64>,
    pub presence_penalty: Option<f64>,
    pub frequency_penalty: Option<f64>,
    pub logit_bias: Option<BTreeMap<String, f64>>,
    pub seed: Option<i64>,
    pub stop: Option<OneOrMany<String>>,
    pub stop_token_ids: Vec<u32>,
    pub ignore_eos: bool,
    pub n: Option<usize>,
    pub stream: bool,
    pub stream_options: Option<StreamOptions>,
    pub user: Option<String>,
}

/// Names of the fields of [`GenerationFields`].
pub const GENERATION_FIELDS: [&str; 19] = [
    "model",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "seed",
    "stop",
    "stop_token_ids",
    "ignore_eos",
    "n",
    "stream",
    "stream_options",
    "user",
];

/// `"a"` or `["a", "b"]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "expected a value or a list of values")]
pub enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// The values.
    pub fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(value) => vec![value],
            Self::Many(values) => values,
        }
    }
}

/// What a stream says besides its text.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreamOptions {
    pub include_usage: bool,
    pub include_obfuscation: bool,
}

impl GenerationFields {
    /// Checks what the engine does not.
    ///
    /// # Errors
    /// [`ApiError`] naming the field.
    pub fn validate(&self) -> Result<(), ApiError> {
        if !(1..=MOST_CHOICES).contains(&self.n.unwrap_or(1)) {
            return Err(ApiError::invalid("n", format!("`n` must lie between 1 and {MOST_CHOICES}")));
        }
        self.check_stops()?;
        if self.stream_options.is_some() && !self.stream {
            return Err(ApiError::invalid(
                "stream_options",
                "`stream_options` is for requests with `stream`",
            ));
        }
        if self.stream_options.as_ref().is_some_and(|options| options.include_obfuscation) {
            let why = "streams are not obfuscated";
            return Err(ApiError::unsupported("stream_options.include_obfuscation", why));
        }
        self.sampling()?.validate().map_err(ApiError::from)
    }

    fn check_stops(&self) -> Result<(), ApiError> {
        let stops = match &self.stop {
            None => &[][..],
            Some(OneOrMany::One(stop)) => std::slice::from_ref(stop),
            Some(OneOrMany::Many(stops)) => stops,
        };
        let refused = if stops.len() > MOST_STOPS {
            format!("has {} texts, at most {MOST_STOPS} are taken", stops.len())
        } else if let Some(long) = stops.iter().map(String::len).find(|bytes| *bytes > MOST_STOP_BYTES) {
            format!("has a text of {long} bytes, at most {MOST_STOP_BYTES} are taken")
        } else {
            return Ok(());
        };
        Err(ApiError::invalid("stop", format!("`stop` {refused}")))
    }

    /// How tokens are drawn, by a generator whose seed is not told.
    ///
    /// # Errors
    /// [`ApiError`] naming the field.
    pub fn sampling(&self) -> Result<SamplingOptions, ApiError> {
        let top_k = match self.top_k {
            // All of them, as vLLM has it.
            None | Some(-1 | 0) => None,
            Some(k) => match usize::try_from(k) {
                Ok(k) => Some(k),
                Err(_) => return Err(ApiError::invalid("top_k", "`top_k` must be a whole number from 1")),
            },
        };
        Ok(SamplingOptions {
            temperature: self.temperature.unwrap_or(1.0),
            top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical_p,
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            logit_bias: self.logit_bias()?,
            ..SamplingOptions::default()
        })
    }

    /// JSON has no numbers for keys.
    fn logit_bias(&self) -> Result<BTreeMap<u32, f64>, ApiError> {
        let entry = |(key, bias): (&String, &f64)| match key.parse() {
            Ok(id) => Ok((id, *bias)),
            Err(_) => Err(ApiError::invalid(format!("logit_bias.{key}"), format!("`{key}` is no token id"))),
        };
        self.logit_bias.iter().flatten().map(entry).collect()
    }

    /// The seed of the first choice; another one each time where none was asked for.
    pub fn first_seed(&self) -> u64 {
        self.seed.map_or_else(rand::random, i64::cast_unsigned)
    }

    /// Texts that end a choice.
    pub fn stops(&self) -> Vec<String> {
        self.stop.clone().map(OneOrMany::into_vec).unwrap_or_default()
    }

    /// Tokens that end a choice, with the model's own.
    pub fn stop_tokens(&self, of_model: &[u32]) -> Vec<u32> {
        let of_model = if self.ignore_eos { &[] } else { of_model };
        [of_model, &self.stop_token_ids].concat()
    }

    /// The usage is to be told at the end of the stream.
    pub fn includes_usage(&self) -> bool {
        self.stream_options.as_ref().is_some_and(|options| options.include_usage)
    }
}
