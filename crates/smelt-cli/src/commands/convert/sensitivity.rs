//! How many bits each module needs, measured on a text.

use safetensors::Dtype;
use smelt_backend::{Job, Kernels};
use smelt_convert::Source;
use smelt_convert::recipes::{Budget, MixedBits, Probe, divergence, mixed_bits, nearest, sensitivities};
use smelt_model::quantization::{QuantizationPlan, QuantizationRules};
use smelt_model::weights::{LoadOptions, load_weights};

use super::calibrated::shown;
use super::calibration::{Texts, spread};
use crate::context::Context;
use crate::error::CliError;
use crate::progress::{Progress, Unit};

/// Tokens that are read for each module.
const TOKENS: usize = 2048;

/// Finds the formats for a size.
pub struct SearchJob<'a> {
    pub source: &'a Source,
    /// Which modules may be quantized, and in which groups.
    pub plan: &'a QuantizationPlan,
    pub texts: &'a Texts,
    pub budget: Budget,
    /// What weights are stored in, where it is not as they are.
    pub dtype: Option<Dtype>,
    pub context: &'a Context,
}

impl Job for SearchJob<'_> {
    type Output = Result<MixedBits, CliError>;

    fn run<B: Kernels>(self, device: B::Device) -> Self::Output {
        let Self { source, plan, texts, budget, dtype, context } = self;
        let model = load_weights::<B>(&source.config, &source.checkpoint, LoadOptions::default(), &device)?;
        let length = texts.calibration[0].len();
        let bar = Progress::start(context.output, "sensitivity", Unit::Steps, 0, 0);
        let sequences = spread(&texts.calibration, TOKENS.div_ceil(length));
        let probe =
            Probe { source, plan, dtype, sequences: &sequences, on_module: &mut shown(&bar, context) };
        let found = sensitivities(probe, &model, &device)?;
        let mut best: Option<(f64, MixedBits)> = None;
        for mixed in mixed_bits(source, plan, &found, budget, dtype)? {
            let plan = QuantizationRules::from_json(&mixed.rules)?.plan(&source.config)?;
            let rounded = nearest(source, &plan, &model, &device)?;
            let loss = divergence(&rounded, &model, &sequences, &mut |_| context.interrupt.flow(), &device)?;
            if best.as_ref().is_none_or(|(least, _)| loss < *least) {
                best = Some((loss, mixed));
            }
        }
        Ok(best.map(|(_, mixed)| mixed).expect("formats that fit, or an error"))
    }
}
