//! Checks of GGUF files beside a model: values of their blocks, logits with these, and llama.cpp's logits.

use smelt_backend::{Job, Kernels};
use smelt_convert::gguf::EXTENSION;
use smelt_convert::{Parameter, Source};
use smelt_model::weights::{LoadOptions, TensorFile, load_weights};

use super::checks::Checks;
use super::golden::{Golden, Variants};
use crate::comparison::logits;
use crate::error::CliError;

/// File of the reference outputs.
pub const GOLDEN_FILE: &str = "golden_gguf.safetensors";

/// What there is of each file; llama.cpp itself also quantizes what it multiplies the weights with.
const VALUES: &str = "dequant.q_proj0_hf_order";
const LOGITS: &str = "logits_dequant_f32";
const LLAMA_CPP: &str = "logits_llamacpp";
/// Largest difference from llama.cpp's logits in f32; its cache is f16.
const PLAIN_TOLERANCE: f64 = 0.02;
/// The same where it rounds what it multiplies the weights with to their kind.
const ROUNDED_TOLERANCE: f64 = 0.5;

/// The checks of all GGUF files of a folder.
pub struct GgufJob<'a> {
    pub golden: &'a Golden,
    pub checks: &'a mut Checks,
}

impl Job for GgufJob<'_> {
    type Output = Result<(), CliError>;

    fn run<B: Kernels>(self, device: B::Device) -> Self::Output {
        let found = self.golden.variants(GOLDEN_FILE, tag, &[], self.checks)?;
        let Some(Variants { reference, tags }) = found else { return Ok(()) };
        let files = std::fs::read_dir(&self.golden.folder).into_iter().flatten().flatten();
        let names = files.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let extra =
            names.filter(|name| name.ends_with(&format!(".{EXTENSION}")) && !tags.contains(kind_of(name)));
        self.checks.unread("file", extra);
        for tag in &tags {
            if let Err(error) = check::<B>(self.golden, self.checks, &reference, tag, &device) {
                self.checks.fail_with(&format!("{tag} load"), &error);
            }
        }
        Ok(())
    }
}

fn check<B: Kernels>(
    golden: &Golden,
    checks: &mut Checks,
    reference: &TensorFile,
    tag: &str,
    device: &B::Device,
) -> Result<(), CliError> {
    let source = Source::open(&golden.folder.join(format!("model-{tag}.{EXTENSION}")))?;
    let name = |what: &str| format!("{tag}.{what}");
    if reference.contains(&name(VALUES)) {
        let parameters = source.parameters()?;
        let q_proj = parameters.iter().find(|it| it.info().path == "layers.0.self_attn.q_proj.weight");
        let values = q_proj.map(Parameter::values).unwrap_or_default();
        checks.close(&name("values"), &values, &reference.f32(&name(VALUES))?, 0.0);
    }
    let ids = golden.ids("input_ids")?;
    let model = load_weights::<B>(&source.config, &source.checkpoint, LoadOptions::default(), device)?;
    let logits = logits(&model, &source.config.decoder, ids.row(0), device)?;
    if reference.contains(&name(LOGITS)) {
        let tolerance = golden.tolerance("logits_abs", 2e-4);
        checks.close(&name("logits"), &logits, &reference.f32(&name(LOGITS))?, tolerance);
    }
    if reference.contains(&name(LLAMA_CPP)) {
        let tolerance = if tag == "f32" { PLAIN_TOLERANCE } else { ROUNDED_TOLERANCE };
        checks.close(&name("llama.cpp"), &logits, &reference.f32(&name(LLAMA_CPP))?, tolerance);
    }
    Ok(())
}

/// The kind of file that a tensor of the reference belongs to.
fn tag(name: &str) -> Option<&str> {
    let (tag, what) = name.split_once('.')?;
    [VALUES, LOGITS, LLAMA_CPP].contains(&what).then_some(tag)
}

/// The kind in the name of a file.
fn kind_of(name: &str) -> &str {
    let stem = name.strip_suffix(".gguf").unwrap_or(name);
    stem.strip_prefix("model-").unwrap_or(stem)
}
