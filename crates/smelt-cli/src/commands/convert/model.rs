//! A model from one format to another, and the check that both compute the same.

use std::path::{Path, PathBuf};

use safetensors::Dtype as StoredDtype;
use serde::Serialize;
use smelt_backend::dispatch;
use smelt_convert::folder::{FolderOptions, FolderStyle, write_folder};
use smelt_convert::gguf::{EXTENSION, GgufOptions, TensorKind, write_gguf};
use smelt_convert::onnx::{OnnxOptions, write_onnx};
use smelt_convert::{Progress as Written, Source, check_output};

use super::calibrated::QuantizationReport;
use super::quantization::{self, formats, quantize};
use super::{ConvertArgs, Dtype, Format};
use crate::comparison::{CompareJob, Comparison, prompts};
use crate::config::BackendSection;
use crate::context::Context;
use crate::error::CliError;
use crate::folders::size_bytes;
use crate::progress::{Progress, Unit};
use crate::quantity::bytes;

/// Name of a GGUF file in a folder that was given for it.
const GGUF_FILE: &str = "model.gguf";

/// Kinds that `--quantize` knows, and how much of the spread of logits they may cost.
const KINDS: [(TensorKind, f64); 5] = [
    (TensorKind::Q8_0, 0.05),
    (TensorKind::Q5_1, 0.4),
    (TensorKind::Q5_0, 0.4),
    (TensorKind::Q4_1, 0.7),
    (TensorKind::Q4_0, 0.7),
];

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Converted<'a> {
    output: &'a Path,
    to: Format,
    family: &'a str,
    bytes: u64,
    notes: &'a [String],
    quantization: Option<&'a QuantizationReport>,
    check: Option<&'a Comparison>,
}

pub fn run(args: &ConvertArgs, model: &Path, context: &Context) -> Result<(), CliError> {
    let kind = kind(args)?;
    let formats = formats(args)?;
    let output = output(args);
    check_output(&output)?;
    let mut source = Source::open(model)?;
    let (notes, report) = match formats {
        Some(formats) => quantize(args, formats, &mut source, &output, context)?,
        None => (write(args, &source, kind, &output, context)?, None),
    };
    for note in &notes {
        context.output.note(&format!("note: {note}"));
    }
    let size = size_bytes(&output)?;
    // Nothing here runs a graph; `cargo xtask check-python` does.
    let checked = match args.no_check || args.to == Format::Onnx {
        true => None,
        false => {
            let written = Source::open(&output)?;
            let share = match quantization::tolerance(&written) {
                Some(share) => share,
                None => tolerance(args, kind, &source)?,
            };
            Some(compare(&source, &written, share, context)?)
        }
    };
    let family = source.config.family.model_type;
    let to = args.to;
    let check = checked.as_ref();
    let (quantization, notes) = (report.as_ref(), notes.as_slice());
    context.output.record(&Converted {
        output: &output,
        to,
        family,
        bytes: size,
        notes,
        quantization,
        check,
    })?;
    if let Some(report) = &report {
        context.output.line(&report.text())?;
    }
    context.output.line(&format!("wrote {} ({})", output.display(), bytes(size)))?;
    let Some(check) = checked else { return Ok(()) };
    context.output.line(&check.to_string())?;
    match check.passed {
        true => Ok(()),
        false => Err(CliError::ConversionDiffers { output }),
    }
}

/// The kind of a GGUF file's matrices, from `--quantize` or `--dtype`.
fn kind(args: &ConvertArgs) -> Result<Option<TensorKind>, CliError> {
    let Some(name) = args.quantize.as_deref().filter(|_| args.to != Format::Mlx) else {
        return Ok(args.dtype.map(|dtype| match dtype {
            Dtype::F32 => TensorKind::F32,
            Dtype::F16 => TensorKind::F16,
            Dtype::Bf16 => TensorKind::BF16,
        }));
    };
    let names: Vec<&str> = KINDS.iter().map(|(kind, _)| kind.name()).collect();
    let usage = |message: String, hint: String| Err(CliError::Usage { message, hint });
    let found = KINDS.iter().find(|(kind, _)| kind.name().eq_ignore_ascii_case(name));
    match found {
        _ if args.to != Format::Gguf => usage(
            format!("`--quantize {name}` is for `--to gguf` and `--to mlx`"),
            "leave it out, or give `--dtype`".to_owned(),
        ),
        _ if args.dtype.is_some() => {
            usage("`--quantize` and `--dtype` exclude each other".to_owned(), "give one of them".to_owned())
        }
        Some((kind, _)) => Ok(Some(*kind)),
        None => usage(format!("no type `{name}` for GGUF"), format!("there are {}", names.join(", "))),
    }
}

/// Where the result goes: a folder that is given for a GGUF file gets one.
fn output(args: &ConvertArgs) -> PathBuf {
    let is_file = args.output.extension().is_some_and(|extension| extension == EXTENSION);
    if args.to == Format::Gguf && !is_file { args.output.join(GGUF_FILE) } else { args.output.clone() }
}

fn write(
    args: &ConvertArgs,
    source: &Source,
    kind: Option<TensorKind>,
    output: &Path,
    context: &Context,
) -> Result<Vec<String>, CliError> {
    let bar = Progress::start(context.output, "convert", Unit::Bytes, 0, 0);
    let mut told = |written: Written<'_>| {
        bar.length(written.total_bytes);
        bar.advance(written.done_bytes, || written.tensor.to_owned());
    };
    let dtype = args.stored_dtype();
    let options = FolderOptions { dtype, max_shard_bytes: args.max_shard_size.0 };
    match args.to {
        Format::Hf => write_folder(source, FolderStyle::Hf, options, output, &mut told).map(|()| Vec::new()),
        Format::Mlx => {
            write_folder(source, FolderStyle::Mlx, options, output, &mut told).map(|()| Vec::new())
        }
        Format::Onnx => {
            let options = OnnxOptions { dtype: dtype.unwrap_or(StoredDtype::F32), cache: !args.no_kv_cache };
            write_onnx(source, options, output, &mut told).map(|()| Vec::new())
        }
        Format::Gguf => {
            if let Some(folder) = output.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                let failed = |error| CliError::Io { action: "write", path: folder.to_owned(), source: error };
                std::fs::create_dir_all(folder).map_err(failed)?;
            }
            write_gguf(source, GgufOptions { kind }, output, &mut told)
        }
    }
    .map_err(CliError::from)
}

/// How far logits may move, as a share of their spread: rounding to few bits costs some of it, and a tensor in the
/// wrong place more than all.
fn tolerance(args: &ConvertArgs, kind: Option<TensorKind>, source: &Source) -> Result<f64, CliError> {
    let quantized = KINDS.iter().find(|(known, _)| Some(*known) == kind);
    let is_f32 = source.parameters()?.iter().all(|parameter| parameter.dtype() == StoredDtype::F32);
    Ok(match (quantized, args.dtype) {
        (Some((_, share)), _) => *share,
        (None, Some(Dtype::Bf16)) => 0.05,
        (None, Some(Dtype::F16)) => 5e-3,
        // All matrices get one kind, and llama.cpp's scale of scores goes into some: they are rounded again.
        (None, None) if args.to == Format::Gguf && !is_f32 => 0.05,
        (None, _) => 1e-4,
    })
}

fn compare(source: &Source, written: &Source, share: f64, context: &Context) -> Result<Comparison, CliError> {
    let selection = context.select(&BackendSection::default(), None)?;
    let prompts = prompts(source)?;
    let compared =
        dispatch(selection.name, CompareJob { models: [source, written], prompts: &prompts, share })?;
    let tokenizers = (source.companions.tokenizer()?, written.companions.tokenizer()?);
    Ok(match tokenizers {
        (Some(before), Some(after)) => compared.with_tokenizers(&before, &after)?,
        _ => compared,
    })
}
