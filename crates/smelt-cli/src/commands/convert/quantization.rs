//! A model into a quantized folder in MLX's layout: by rules or by a size, with or without a text.

use std::path::Path;

use smelt_backend::dispatch;
use smelt_backend::kernels::QuantizationFormat;
use smelt_convert::folder::FolderOptions;
use smelt_convert::recipes::{Budget, MixedBits};
use smelt_convert::{Source, write_quantized};
use smelt_model::ModelError;
use smelt_model::quantization::{GROUP_SIZE, QuantizationRules};

use super::calibrated::{CalibrateJob, QuantizationReport};
use super::calibration::{CalibrationArgs, Texts};
use super::sensitivity::SearchJob;
use super::{ConvertArgs, Format};
use crate::config::BackendSection;
use crate::context::Context;
use crate::error::CliError;
use crate::quantize;

/// What decides on the bits of each module.
#[derive(Debug)]
pub enum Formats {
    /// Rules.
    Rules(QuantizationRules),
    /// The size that the weights may have.
    Budget(Budget),
}

/// What the flags say, if they say that the result is quantized in MLX's layout.
///
/// # Errors
/// [`CliError::Usage`] for flags of other formats, and those of [`quantize::rules`].
pub fn formats(args: &ConvertArgs) -> Result<Option<Formats>, CliError> {
    let CalibrationArgs { calibration_text, eval_text, target_bits, max_size, .. } = &args.calibration;
    if args.to != Format::Mlx {
        let given = [
            ("--group-size", args.group_size.is_some()),
            ("--calibration-text", calibration_text.is_some()),
            ("--eval-text", eval_text.is_some()),
            ("--target-bits", target_bits.is_some()),
            ("--max-size", max_size.is_some()),
        ];
        return match given.iter().find(|(_, given)| *given) {
            None => Ok(None),
            Some((flag, _)) => Err(CliError::Usage {
                message: format!("`{flag}` is for `--to mlx`"),
                hint: "types of GGUF have groups of their own and are rounded to the nearest; leave it out"
                    .to_owned(),
            }),
        };
    }
    if let Some(bits) = target_bits.filter(|bits| !(bits.is_finite() && *bits > 0.0)) {
        return Err(CliError::Usage {
            message: format!("`--target-bits` is {bits}"),
            hint: "give bits per weight such as 4.5; groups of 64 with scales in 16 bits add half a bit"
                .to_owned(),
        });
    }
    let budget = target_bits.map(Budget::Bits).or(max_size.map(|size| Budget::Bytes(size.0)));
    let rules = args.quantize.as_deref().map(|given| quantize::rules(given, args.group_size)).transpose()?;
    Ok(rules.map(Formats::Rules).or(budget.map(Formats::Budget)))
}

/// Writes a quantized folder; returns what the user should know, and what quantizing cost if there was a text.
///
/// # Errors
/// [`CliError`] for whatever goes wrong; nothing is left behind then.
pub fn quantize(
    args: &ConvertArgs,
    formats: Formats,
    source: &mut Source,
    output: &Path,
    context: &Context,
) -> Result<(Vec<String>, Option<QuantizationReport>), CliError> {
    if source.config.quantization.is_some() {
        return Err(ModelError::Quantized { path: source.path.clone() }.into());
    }
    let texts = args.calibration.texts(source)?;
    let (rules, mixed) = match (formats, &texts) {
        (Formats::Rules(rules), _) => (rules, None),
        (Formats::Budget(budget), Some(texts)) => {
            let mixed = search(args, budget, source, texts, context)?;
            (QuantizationRules::from_json(&mixed.rules)?, Some(mixed))
        }
        (Formats::Budget(_), None) => {
            return Err(CliError::Usage {
                message: "which modules need more bits is found by a text".to_owned(),
                hint: "give one with `--calibration-text FILE`".to_owned(),
            });
        }
    };
    let plan = rules.plan(&source.config)?;
    let mut notes = quantize::notes(&plan);
    let (mut replacements, mut report) = (None, None);
    if let Some(texts) = texts {
        let (method, dtype) = (args.calibration.calibrate, args.stored_dtype());
        let job = CalibrateJob { source, plan: &plan, method, texts: &texts, dtype, context };
        let selection = context.select(&BackendSection::default(), None)?;
        let (made, mut found) = dispatch(selection.name, job)?;
        found.mixed_bits = mixed;
        notes.extend(found.notes());
        found.put_beside(source);
        (replacements, report) = (Some(made), Some(found));
    }
    let options = FolderOptions { dtype: args.stored_dtype(), max_shard_bytes: args.max_shard_size.0 };
    write_quantized(source, &plan, replacements.as_ref(), options, output)?;
    Ok((notes, report))
}

/// The formats for a size.
fn search(
    args: &ConvertArgs,
    budget: Budget,
    source: &Source,
    texts: &Texts,
    context: &Context,
) -> Result<MixedBits, CliError> {
    let format = QuantizationFormat::new(8, args.group_size.unwrap_or(GROUP_SIZE));
    let format = format.map_err(|error| CliError::Usage {
        message: error.to_string(),
        hint: "give another `--group-size`".to_owned(),
    })?;
    let plan = QuantizationRules::uniform(format).plan(&source.config)?;
    let job = SearchJob { source, plan: &plan, texts, budget, dtype: args.stored_dtype(), context };
    let selection = context.select(&BackendSection::default(), None)?;
    dispatch(selection.name, job)
}

/// How far logits may move, as a share of their spread: by the fewest bits of the modules.
pub fn tolerance(written: &Source) -> Option<f64> {
    let quantization = written.config.quantization.as_ref()?;
    let modules = quantization.modules.values().flatten().map(|format| format.bits());
    Some(match modules.chain([quantization.default.bits()]).min()? {
        2 => 4.0,
        3 => 1.6,
        4 => 0.8,
        5 => 0.4,
        6 => 0.2,
        _ => 0.05,
    })
}
