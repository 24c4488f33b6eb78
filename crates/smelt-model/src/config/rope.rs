//! `rope_scaling` and `rope_theta` as transformers 4 writes them, `rope_parameters` as 5 does.

use smelt_backend::kernels::RotaryStyle;

use super::Fields;
use crate::error::ModelError;
use crate::limits;
use crate::rotary::{RopeScaling, RotaryConfig, Yarn};

/// Where a family's configuration keeps its rotation, and what it means by leaving things out.
#[derive(Debug, Clone, Copy)]
pub struct RopeKeys {
    /// Spellings of the base outside `rope_parameters`.
    pub theta: &'static [&'static str],
    /// The base where absent.
    pub default_theta: f64,
    /// Spellings of the rotating share of a head outside `rope_parameters`.
    pub partial: &'static [&'static str],
    /// The share where absent.
    pub default_partial: f64,
}

/// The keys of Llama and most others.
pub const ROPE_KEYS: RopeKeys = RopeKeys {
    theta: &["rope_theta"],
    default_theta: 10000.0,
    partial: &["partial_rotary_factor"],
    default_partial: 1.0,
};

const PARAMETERS: &[&str] = &["rope_parameters", "rope_scaling"];
const TYPE: &[&str] = &["rope_type", "type"];
const ORIGINAL: &[&str] = &["original_max_position_embeddings"];
const FACTOR: &[&str] = &["factor"];
const THETA: &[&str] = &["rope_theta"];
const PARTIAL: &[&str] = &["partial_rotary_factor"];

/// The rotation of heads of `head_dim` in a model of `max_position_embeddings`.
///
/// # Errors
/// [`ModelError::BadValue`] for an unknown type or constants that do not fit it.
pub fn rope(
    fields: &Fields<'_>,
    keys: RopeKeys,
    head_dim: usize,
    max_position_embeddings: usize,
) -> Result<RotaryConfig, ModelError> {
    let parameters = fields.object(PARAMETERS)?;
    rope_of(fields, parameters.as_ref(), keys, head_dim, max_position_embeddings)
}

/// As [`rope`], from `parameters` that the caller found: a family may keep one set for each kind of layer.
///
/// # Errors
/// Those of [`rope`].
pub fn rope_of(
    fields: &Fields<'_>,
    parameters: Option<&Fields<'_>>,
    keys: RopeKeys,
    head_dim: usize,
    max_position_embeddings: usize,
) -> Result<RotaryConfig, ModelError> {
    let empty = serde_json::Map::new();
    let none = Fields::new(&empty);
    let parameters = parameters.unwrap_or(&none);
    let theta = parameters.positive(THETA, fields.positive(keys.theta, keys.default_theta)?)?;
    let partial = parameters.positive(PARTIAL, fields.positive(keys.partial, keys.default_partial)?)?;
    let rotary_dim = (head_dim as f64 * partial) as usize;
    if rotary_dim == 0 || rotary_dim > head_dim || !rotary_dim.is_multiple_of(2) {
        let expected = format!("a share that makes an even part of the {head_dim} features of a head rotate");
        return Err(if parameters.has(PARTIAL) {
            parameters.bad(PARTIAL, expected)
        } else {
            fields.bad(keys.partial, expected)
        });
    }
    let original_length = match fields.optional_size(ORIGINAL, limits::POSITIONS)? {
        Some(length) => length,
        None => parameters.optional_size(ORIGINAL, limits::POSITIONS)?.unwrap_or(max_position_embeddings),
    };
    let extension = max_position_embeddings as f64 / original_length as f64;
    let scaling = Scaling { parameters, rotary_dim, original_length, extension, max_position_embeddings };
    Ok(RotaryConfig { rotary_dim, theta, scaling: scaling.read()?, style: RotaryStyle::Half })
}

/// What the kinds of scaling are read from.
struct Scaling<'a> {
    parameters: &'a Fields<'a>,
    rotary_dim: usize,
    original_length: usize,
    /// `max_position_embeddings / original_length`, the factor where none is given.
    extension: f64,
    max_position_embeddings: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Default,
    Linear,
    Dynamic,
    Yarn,
    Llama3,
    LongRope,
}

const KINDS: &[(&str, Kind)] = &[
    ("default", Kind::Default),
    ("linear", Kind::Linear),
    ("dynamic", Kind::Dynamic),
    ("yarn", Kind::Yarn),
    ("llama3", Kind::Llama3),
    ("longrope", Kind::LongRope),
    // Early Phi-3 files.
    ("su", Kind::LongRope),
];

impl Scaling<'_> {
    fn read(&self) -> Result<RopeScaling, ModelError> {
        let parameters = self.parameters;
        let mut kind = parameters.choice(TYPE, KINDS, Kind::Default)?;
        if kind == Kind::Yarn && parameters.has(&["long_factor"]) {
            // So did some Phi-3 files call it.
            kind = Kind::LongRope;
        }
        let original_length = self.original_length;
        Ok(match kind {
            Kind::Default => RopeScaling::None,
            Kind::Linear => RopeScaling::Linear { factor: parameters.required_positive(FACTOR)? },
            Kind::Dynamic => RopeScaling::Dynamic {
                factor: parameters.required_positive(FACTOR)?,
                original_length: self.max_position_embeddings,
            },
            Kind::Yarn => RopeScaling::Yarn(self.yarn()?),
            Kind::Llama3 => {
                let low_freq_factor = parameters.required_positive(&["low_freq_factor"])?;
                let high_freq_factor = parameters.required_positive(&["high_freq_factor"])?;
                if high_freq_factor <= low_freq_factor {
                    let expected = format!("a number above `low_freq_factor` ({low_freq_factor})");
                    return Err(parameters.bad(&["high_freq_factor"], expected));
                }
                let factor = parameters.required_positive(FACTOR)?;
                RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_length }
            }
            Kind::LongRope => RopeScaling::LongRope {
                short_factor: parameters.positives(&["short_factor"], self.rotary_dim / 2)?,
                long_factor: parameters.positives(&["long_factor"], self.rotary_dim / 2)?,
                original_length,
                attention_factor: self.long_attention_factor()?,
            },
        })
    }

    fn yarn(&self) -> Result<Yarn, ModelError> {
        let parameters = self.parameters;
        let factor = parameters.positive(FACTOR, self.extension)?;
        let grown = |share: f64| if factor <= 1.0 { 1.0 } else { 0.1 * share * factor.ln() + 1.0 };
        let share = |key| parameters.optional_number(&[key]).map(|share| share.filter(|share| *share != 0.0));
        let default_factor = match (share("mscale")?, share("mscale_all_dim")?) {
            (Some(share), Some(all)) => grown(share) / grown(all),
            _ => grown(1.0),
        };
        Ok(Yarn {
            factor,
            original_length: self.original_length,
            beta_fast: parameters.positive(&["beta_fast"], 32.0)?,
            beta_slow: parameters.positive(&["beta_slow"], 1.0)?,
            attention_factor: parameters.positive(&["attention_factor"], default_factor)?,
            truncate: parameters.flag("truncate", true)?,
        })
    }

    fn long_attention_factor(&self) -> Result<f64, ModelError> {
        let factor = self.parameters.positive(FACTOR, self.extension)?;
        let default_factor = match factor > 1.0 && self.original_length > 1 {
            true => (1.0 + factor.ln() / (self.original_length as f64).ln()).sqrt(),
            false => 1.0,
        };
        self.parameters.positive(&["attention_factor"], default_factor)
    }
}
