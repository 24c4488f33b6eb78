//! A size for a model, and the formats that its modules get then.

use safetensors::Dtype;
use serde::Serialize;
use serde_json::{Map, Value, json};
use smelt_backend::kernels::QuantizationFormat;
use smelt_model::quantization::{QuantizationPlan, commonest};
use smelt_model::weights::quantized_dtype;

use super::search::{Sensitivity, alike, allocate, totals};
use crate::{ConvertError, Parameter, Source};

/// How large the weights may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// Bits per weight, on average over all parameters, scales and what stays in floats included.
    Bits(f64),
    /// All tensors.
    Bytes(u64),
}

/// Formats of modules that were found for a size.
#[derive(Debug, Clone, Serialize)]
pub struct MixedBits {
    /// Bytes that the weights may take.
    pub most_bytes: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// The same per parameter, in bits.
    pub bits_per_weight: f64,
    /// Nats per token by which predictions are expected to diverge, if losses add up.
    pub expected_divergence: f64,
    /// What each width would cost each module.
    pub sensitivities: Vec<Sensitivity>,
    /// Patterns and formats, as a file of rules has them.
    #[serde(skip)]
    pub rules: Map<String, Value>,
}

/// Formats for the modules of `plan`, in its groups, by their `sensitivities`, so that the model of `source`, stored in
/// `dtype`, stays within `budget`: those that lose least if losses add up, and, as they need not, the widest that all can
/// have if that is another.
///
/// # Errors
/// [`ConvertError::TooSmall`] if it cannot; [`ConvertError::Model`] for a source that does not fit its configuration.
pub fn mixed_bits(
    source: &Source,
    plan: &QuantizationPlan,
    sensitivities: &[Sensitivity],
    budget: Budget,
    dtype: Option<Dtype>,
) -> Result<Vec<MixedBits>, ConvertError> {
    let parameters = source.parameters()?;
    let values: u64 = parameters.iter().map(|parameter| parameter.info().elements() as u64).sum();
    let is_dense = |parameter: &&Parameter<'_>| plan.format_of_parameter(&parameter.info().path).is_none();
    let bytes = |parameter: &Parameter<'_>| {
        (parameter.info().elements() * quantized_dtype(&source.config, dtype, parameter.dtype()).size())
            as u64
    };
    let dense_bytes: u64 = parameters.iter().filter(is_dense).map(bytes).sum();
    let most_bytes = match budget {
        Budget::Bits(bits) => (bits * values as f64 / 8.0) as u64,
        Budget::Bytes(bytes) => bytes,
    };
    let most_packed = most_bytes.saturating_sub(dense_bytes);
    let best = allocate(sensitivities, most_packed);
    let best =
        best.map_err(|smallest| ConvertError::TooSmall { most_bytes, smallest: smallest + dense_bytes })?;
    let alike = alike(sensitivities, most_packed).filter(|alike| *alike != best);
    let mixed = |chosen: Vec<usize>| {
        let (packed_bytes, expected_divergence) = totals(sensitivities, &chosen).unwrap_or_default();
        let bytes = packed_bytes + dense_bytes;
        MixedBits {
            most_bytes,
            bytes,
            bits_per_weight: 8.0 * bytes as f64 / values.max(1) as f64,
            expected_divergence,
            rules: rules(plan, sensitivities, &chosen),
            sensitivities: sensitivities.to_vec(),
        }
    };
    Ok([best].into_iter().chain(alike).map(mixed).collect())
}

/// A rule for each module that differs from the commonest, and one for that.
fn rules(plan: &QuantizationPlan, modules: &[Sensitivity], chosen: &[usize]) -> Map<String, Value> {
    let format = |(module, choice): (&Sensitivity, &usize)| {
        let group_size = plan.format_of(&module.module).map_or(0, QuantizationFormat::group_size);
        (module.choices[*choice].bits, group_size)
    };
    let formats: Vec<(u32, usize)> = modules.iter().zip(chosen).map(format).collect();
    let commonest = commonest(formats.iter().copied());
    let rule = |(bits, group_size): (u32, usize)| json!({"bits": bits, "group_size": group_size});
    let others = modules.iter().zip(formats).filter(|(_, format)| Some(*format) != commonest);
    let mut rules: Map<String, Value> =
        others.map(|(module, format)| (module.module.clone(), rule(format))).collect();
    rules.extend(commonest.map(|format| ("*".to_owned(), rule(format))));
    rules
}
