//! Scalings of rotary frequencies: what GGUF says in metadata and tensors, and Hugging Face in `rope_scaling`.

use std::f64::consts::TAU;

use serde_json::{Value as Json, json};
use smelt_backend::kernels::RotaryStyle;
use smelt_model::{RopeLengths, RopeScaling, RotaryConfig};

use super::read_config::shortest;
use super::value::Metadata;
use crate::ConvertError;

/// The tensor of divisors that always apply (Llama 3).
pub(super) const FREQUENCIES: &str = "rope_freqs.weight";
/// The tensors of divisors of LongRoPE.
pub(super) const LONG: &str = "rope_factors_long.weight";
/// For sequences within the original context.
pub(super) const SHORT: &str = "rope_factors_short.weight";

/// Where the bands of Llama 3 end, in rotations over the original context.
const LLAMA3_BANDS: [f64; 2] = [1.0, 4.0];
/// How close a formula must come to the divisors in a file to stand for them.
const CLOSE: f64 = 1e-5;

/// Divisors of frequencies that a file holds as tensors.
#[derive(Debug, Default)]
pub(super) struct RopeFactors {
    pub(super) always: Option<Vec<f32>>,
    pub(super) long: Option<Vec<f32>>,
    pub(super) short: Option<Vec<f32>>,
}

/// `rope_scaling` of a file whose scaling keys begin with `prefix`; `None` if frequencies are as they are.
pub(super) fn read_scaling(
    metadata: &Metadata,
    prefix: &str,
    factors: &RopeFactors,
    theta: f64,
    context: usize,
) -> Result<Option<Json>, ConvertError> {
    let number =
        |name: &str| Ok::<_, ConvertError>(metadata.number(&format!("{prefix}.{name}"))?.map(shortest));
    let original = metadata.count(&format!("{prefix}.original_context_length"))?;
    let factor = number("factor")?;
    if let (Some(long), Some(short)) = (&factors.long, &factors.short) {
        let listed = |factors: &[f32]| factors.iter().map(|it| shortest((*it).into())).collect::<Vec<_>>();
        let original = original.unwrap_or(context);
        let mut scaling = json!({
            "type": "longrope", "long_factor": listed(long), "short_factor": listed(short),
            "original_max_position_embeddings": original,
        });
        // What follows from the contexts is not said again, rounded.
        let attention = number("attn_factor")?.unwrap_or(1.0);
        let usual = longrope_attention(context as f64, original as f64);
        if (attention / usual - 1.0).abs() > CLOSE {
            scaling["attention_factor"] = attention.into();
        }
        return Ok(Some(scaling));
    }
    if let Some(divisors) = &factors.always {
        return Ok(Some(divided(divisors, theta, original, context)));
    }
    let kind = metadata.text(&format!("{prefix}.type"))?.unwrap_or("linear");
    Ok(match (kind, factor) {
        ("yarn", Some(factor)) => {
            let mut scaling = json!({
                "type": "yarn", "factor": factor,
                "original_max_position_embeddings": original.unwrap_or(context),
            });
            if let Some(attention) = number("attn_factor")?.filter(|attention| *attention != 1.0) {
                scaling["attention_factor"] = (attention * yarn_attention(factor)).into();
            }
            for (key, name) in [("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow")] {
                if let Some(beta) = number(name)? {
                    scaling[key] = beta.into();
                }
            }
            Some(scaling)
        }
        ("linear", Some(factor)) if factor != 1.0 => Some(json!({"type": "linear", "factor": factor})),
        _ => None,
    })
}

/// What LongRoPE multiplies cosines and sines with unless told otherwise.
fn longrope_attention(context: f64, original: f64) -> f64 {
    let extends = context > original && original > 1.0;
    if extends { (1.0 + (context / original).ln() / original.ln()).sqrt() } else { 1.0 }
}

/// What YaRN multiplies cosines and sines with unless told otherwise.
pub(super) fn yarn_attention(factor: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * factor.ln() + 1.0 }
}

/// Divisors as Llama 3's formula if it gives them, else as a list.
fn divided(divisors: &[f32], theta: f64, original: Option<usize>, context: usize) -> Json {
    let formula = llama3_constants(divisors, theta, original).map(|[factor, low, high, original]| {
        json!({
            "rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
            "original_max_position_embeddings": original as usize,
        })
    });
    formula.unwrap_or_else(|| {
        let listed: Vec<f64> = divisors.iter().map(|it| shortest((*it).into())).collect();
        json!({
            "type": "longrope", "long_factor": listed, "short_factor": listed, "attention_factor": 1.0,
            "original_max_position_embeddings": context,
        })
    })
}

/// Factor, low and high frequency factors and original context that give `divisors`, if any do.
fn llama3_constants(divisors: &[f32], theta: f64, original: Option<usize>) -> Option<[f64; 4]> {
    let rotary_dim = 2 * divisors.len();
    let plain = RotaryConfig { rotary_dim, theta, scaling: RopeScaling::None, style: RotaryStyle::Half };
    let lengths = RopeLengths { sequence: 1, prompt: 1 };
    let frequencies = plain.inverse_frequencies(lengths);
    let factor = shortest(divisors.iter().copied().fold(1.0f32, f32::max).into());
    if factor <= 1.0 {
        return None;
    }
    // Between the bands a divisor is a straight line in the frequency, from 0 at the lower to 1 at the higher.
    let smooth: Vec<(f64, f64)> = frequencies
        .iter()
        .zip(divisors)
        .map(|(frequency, divisor)| (f64::from(*frequency), f64::from(*divisor)))
        .filter(|(_, divisor)| *divisor > 1.0 && *divisor < factor)
        .map(|(frequency, divisor)| (frequency, (divisor.recip() - factor.recip()) / (1.0 - factor.recip())))
        .collect();
    let candidates = usual_bands(&smooth, original).into_iter().chain(bands_of_line(&smooth, original));
    let gives = |[low, high, original]: &[f64; 3]| {
        let scaling = RopeScaling::Llama3 {
            factor,
            low_freq_factor: *low,
            high_freq_factor: *high,
            original_length: *original as usize,
        };
        let scaled = RotaryConfig { scaling, ..plain.clone() }.inverse_frequencies(lengths);
        let close = |((plain, scaled), divisor): ((&f32, &f32), &f32)| {
            (f64::from(*plain / *scaled) / f64::from(*divisor) - 1.0).abs() < CLOSE
        };
        frequencies.iter().zip(&scaled).zip(divisors).all(close)
    };
    let is_sound = |[low, high, original]: &[f64; 3]| {
        *low > 0.0 && high > low && *original >= 1.0 && *original < f64::from(u32::MAX)
    };
    let [low, high, original] = candidates.filter(is_sound).find(gives)?;
    Some([factor, low, high, original])
}

/// Llama's own bands, with the context that a divisor between them tells.
fn usual_bands(smooth: &[(f64, f64)], original: Option<usize>) -> Option<[f64; 3]> {
    let [low, high] = LLAMA3_BANDS;
    let told = smooth.first().map(|(frequency, share)| (share * (high - low) + low) * TAU / frequency);
    Some([low, high, original.map(|original| original as f64).or(told)?.round()])
}

/// The bands at the ends of the line through two divisors.
fn bands_of_line(smooth: &[(f64, f64)], original: Option<usize>) -> Option<[f64; 3]> {
    let ((x0, y0), (x1, y1)) = (smooth.first()?, smooth.last()?);
    if x0 == x1 {
        return None;
    }
    let slope = (y0 - y1) / (x0 - x1);
    let zero_at = x1 - y1 / slope;
    let ends = [zero_at, zero_at + slope.recip()].map(|frequency| frequency / TAU);
    let original = original.map_or_else(|| (LLAMA3_BANDS[0] / ends[0]).round(), |original| original as f64);
    let [low, high] = ends.map(|end| (end * original * 1000.0).round() / 1000.0);
    Some([low, high, original])
}

/// What is written of a rotation: metadata under `prefix`, divisors, and what llama.cpp does not do.
pub(super) fn write_scaling(rotary: &RotaryConfig, prefix: &str, metadata: &mut Metadata) -> RopeFactors {
    let mut factors = RopeFactors::default();
    let mut set = |name: &str, value: super::value::Value| metadata.set(format!("{prefix}.{name}"), value);
    match &rotary.scaling {
        RopeScaling::None | RopeScaling::Dynamic { .. } => {}
        RopeScaling::Linear { factor } => {
            set("type", "linear".into());
            set("factor", (*factor).into());
        }
        RopeScaling::Yarn(yarn) => {
            set("type", "yarn".into());
            set("factor", yarn.factor.into());
            set("original_context_length", yarn.original_length.into());
            let attention = yarn.attention_factor / yarn_attention(yarn.factor);
            if attention != 1.0 {
                set("attn_factor", attention.into());
            }
            if yarn.beta_fast != 32.0 || yarn.beta_slow != 1.0 {
                set("yarn_beta_fast", yarn.beta_fast.into());
                set("yarn_beta_slow", yarn.beta_slow.into());
            }
        }
        RopeScaling::Llama3 { original_length, .. } => {
            set("original_context_length", (*original_length).into());
            factors.always = Some(divisors(rotary));
        }
        RopeScaling::LongRope { short_factor, long_factor, original_length, attention_factor } => {
            set("type", "longrope".into());
            set("original_context_length", (*original_length).into());
            set("attn_factor", (*attention_factor).into());
            let single = |factors: &[f64]| Some(factors.iter().map(|factor| *factor as f32).collect());
            (factors.long, factors.short) = (single(long_factor), single(short_factor));
        }
        RopeScaling::PromptNtk { original_length } => {
            set("original_context_length", (*original_length).into())
        }
    }
    factors
}

/// By how much each frequency is divided, in f64 and once rounded.
fn divisors(rotary: &RotaryConfig) -> Vec<f32> {
    let RopeScaling::Llama3 { factor, low_freq_factor: low, high_freq_factor: high, original_length } =
        rotary.scaling
    else {
        return Vec::new();
    };
    let plain = RotaryConfig { scaling: RopeScaling::None, ..rotary.clone() };
    let lengths = RopeLengths { sequence: 1, prompt: 1 };
    let divisor = |frequency: f32| {
        let rotations = original_length as f64 * f64::from(frequency) / TAU;
        if rotations > high {
            1.0
        } else if rotations < low {
            factor
        } else {
            let smooth = (rotations - low) / (high - low);
            ((1.0 - smooth) / factor + smooth).recip()
        }
    };
    plain.inverse_frequencies(lengths).into_iter().map(|frequency| divisor(frequency) as f32).collect()
}
