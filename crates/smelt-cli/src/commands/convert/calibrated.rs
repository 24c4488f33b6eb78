//! A model quantized in memory by a text, and measured before and after.

use std::ops::ControlFlow;

use safetensors::Dtype;
use serde::Serialize;
use serde_json::{Map, Value};
use smelt_backend::{Job, Kernels};
use smelt_convert::Source;
use smelt_convert::recipes::{
    Calibration, MixedBits, ModuleReport, Recipe, calibrate, divergence, perplexity,
};
use smelt_model::Decoder;
use smelt_model::quantization::QuantizationPlan;
use smelt_model::weights::{LoadOptions, Replacements, load_weights};

use super::calibration::{Method, Texts};
use super::report_chart;
use crate::context::Context;
use crate::error::CliError;
use crate::progress::{Progress, Unit};
use crate::quantity::bytes;
use crate::table::{Align, render};

/// Names of the report in the folder of the model.
const REPORT_FILE: &str = "quantization_report.json";
const CHART_FILE: &str = "quantization_report.svg";
/// What `--quantize` takes to get the same formats again.
const RULES_FILE: &str = "quantization_rules.yaml";

/// Called with the number of sequences that are measured.
type OnSequence<'a> = dyn FnMut(usize) -> ControlFlow<()> + 'a;

/// Quantizes the model of `source` by `texts`.
pub struct CalibrateJob<'a> {
    pub source: &'a Source,
    pub plan: &'a QuantizationPlan,
    pub method: Option<Method>,
    pub texts: &'a Texts,
    /// What weights are stored in, where it is not as they are.
    pub dtype: Option<Dtype>,
    pub context: &'a Context,
}

/// What quantizing cost.
#[derive(Debug, Serialize)]
pub struct QuantizationReport {
    /// How weights were rounded; each to the nearest value without.
    calibrate: Option<Method>,
    calibration_tokens: usize,
    evaluation_tokens: usize,
    /// The model was measured on what it was calibrated with.
    evaluated_on_calibration_text: bool,
    perplexity_before: f64,
    perplexity_after: f64,
    /// Of the predictions of the quantized model from those of the other, in nats per token.
    mean_divergence: f64,
    /// Where the formats were found for a size.
    pub mixed_bits: Option<MixedBits>,
    modules: Vec<ModuleReport>,
}

impl Job for CalibrateJob<'_> {
    type Output = Result<(Replacements, QuantizationReport), CliError>;

    fn run<B: Kernels>(self, device: B::Device) -> Self::Output {
        let Self { source, plan, method, texts, context, .. } = self;
        let model = load_weights::<B>(&source.config, &source.checkpoint, LoadOptions::default(), &device)?;
        let pieces = texts.evaluation.len() as u64;
        let measured = |label, measure: &dyn Fn(&mut OnSequence<'_>) -> _| {
            let bar = Progress::start(context.output, label, Unit::Steps, pieces, 0);
            measure(&mut |done: usize| {
                bar.advance(done as u64, String::new);
                context.interrupt.flow()
            })
        };
        let perplexity = |label, model: &Decoder<B>| {
            measured(label, &|told| perplexity::<B>(model, &texts.evaluation, told, &device))
        };
        let before = perplexity("perplexity before", &model)?;
        let done = {
            let bar = Progress::start(context.output, "calibrate", Unit::Steps, 0, 0);
            let calibration = Calibration {
                source,
                plan,
                recipe: method.map_or(Recipe::Nearest, Method::recipe),
                sequences: &texts.calibration,
                dtype: self.dtype,
                on_module: &mut shown(&bar, context),
            };
            calibrate(calibration, model.clone(), &device)?
        };
        let after = perplexity("perplexity after", &done.model)?;
        let mean_divergence = measured("divergence", &|told| {
            divergence::<B>(&done.model, &model, &texts.evaluation, told, &device)
        })?;
        let tokens = |pieces: &[Vec<u32>]| pieces.iter().map(Vec::len).sum();
        let report = QuantizationReport {
            calibrate: method,
            calibration_tokens: tokens(&texts.calibration),
            evaluation_tokens: tokens(&texts.evaluation),
            evaluated_on_calibration_text: texts.overlap,
            perplexity_before: before,
            perplexity_after: after,
            mean_divergence,
            mixed_bits: None,
            modules: done.modules,
        };
        Ok((done.replacements, report))
    }
}

/// Shows on `bar` how many modules are done, and which is next.
pub fn shown<'a>(
    bar: &'a Progress,
    context: &'a Context,
) -> impl FnMut(usize, usize, &str) -> ControlFlow<()> + 'a {
    |done, modules, next| {
        bar.length(modules as u64);
        bar.advance(done as u64, || next.to_owned());
        context.interrupt.flow()
    }
}

impl QuantizationReport {
    /// Lets the report go along with the model, as JSON and as a picture.
    pub fn put_beside(&self, source: &mut Source) {
        let report = serde_json::to_value(self).expect("a report is plain data");
        source.companions.insert_json(REPORT_FILE, &report);
        source.companions.insert(CHART_FILE, report_chart::draw(&self.modules).into_bytes());
        if let Some(mixed) = &self.mixed_bits {
            source.companions.insert(RULES_FILE, rules_text(&mixed.rules).into_bytes());
        }
    }

    /// What the user should know.
    pub fn notes(&self) -> Option<String> {
        let is_expert = |module: &&ModuleReport| module.module.contains(".experts.");
        let unseen =
            self.modules.iter().filter(is_expert).filter(|module| module.output_error.is_none()).count();
        (unseen > 0 && self.calibrate.is_some()).then(|| {
            format!(
                "no token of the text reached {unseen} projections of experts, which are rounded to the nearest values; \
                 more text reaches more of them"
            )
        })
    }

    /// The report for people.
    pub fn text(&self) -> String {
        let header = [
            ("module", Align::Left),
            ("bits", Align::Right),
            ("group", Align::Right),
            ("size", Align::Right),
            ("weights", Align::Right),
            ("outputs", Align::Right),
            ("to nearest", Align::Right),
        ];
        let percent = |error: f64| format!("{:.2} %", 100.0 * error);
        let measured = |error: Option<f64>| error.map_or("-".to_owned(), percent);
        let row = |module: &ModuleReport| {
            vec![
                module.module.clone(),
                module.bits.to_string(),
                module.group_size.to_string(),
                bytes(module.bytes as u64),
                percent(module.weight_error),
                measured(module.output_error),
                measured(module.nearest_output_error),
            ]
        };
        let rows: Vec<_> = self.modules.iter().map(row).collect();
        let Self { perplexity_before: before, perplexity_after: after, evaluation_tokens, .. } = self;
        let place = if self.evaluated_on_calibration_text { ", which it was calibrated with" } else { "" };
        let mixed = self.mixed_bits.as_ref().map(|mixed| {
            let MixedBits { bits_per_weight, bytes: size, most_bytes, .. } = mixed;
            format!("{} of {}, {bits_per_weight:.3} bits per weight\n", bytes(*size), bytes(*most_bytes))
        });
        format!(
            "{}\n{}perplexity {before:.4} before, {after:.4} after ({:+.2} %), on {evaluation_tokens} tokens{place}; predictions \
             diverge by {:.5} nats",
            render(&header, &rows),
            mixed.unwrap_or_default(),
            100.0 * (after / before - 1.0),
            self.mean_divergence,
        )
    }
}

/// Rules as a file has them.
fn rules_text(rules: &Map<String, Value>) -> String {
    let quoted = |pattern: &str| if pattern == "*" { "\"*\"".to_owned() } else { pattern.to_owned() };
    let rule = |(pattern, format): (&String, &Value)| {
        format!("{}: {{bits: {}, group_size: {}}}\n", quoted(pattern), format["bits"], format["group_size"])
    };
    rules.iter().map(rule).collect()
}
