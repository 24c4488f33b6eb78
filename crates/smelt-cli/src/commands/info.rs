//! `smelt info`: what is in a model folder, without loading it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use smelt_data::hub::RepoKind;
use smelt_model::weights::NameMap;
use smelt_model::{Adapter, estimate};

use crate::context::Context;
use crate::error::CliError;
use crate::folders::size_bytes;
use crate::hub::local_folder;
use crate::model_files;
use crate::model_source::ModelSource;
use crate::quantity::{bytes, count};
use crate::table::facts;

const EXAMPLES: &str = "\
Examples:
  smelt info runs/quickstart
  smelt info ~/models/gpt2 --json";

/// Arguments of `smelt info`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct InfoArgs {
    /// Model folder, folder of a run, or hub id
    #[arg(value_name = "DIR")]
    pub model: PathBuf,
}

#[derive(Debug, Serialize)]
struct ModelFacts {
    folder: PathBuf,
    family: &'static str,
    parameters: u64,
    dtypes: BTreeSet<String>,
    quantization: Option<QuantizationFacts>,
    num_hidden_layers: usize,
    hidden_size: usize,
    num_attention_heads: usize,
    vocab_size: usize,
    context: usize,
    tie_word_embeddings: bool,
    tokenizer_vocab_size: Option<usize>,
    size_bytes: u64,
    adapter: Option<AdapterFacts>,
}

#[derive(Debug, Serialize)]
struct QuantizationFacts {
    bits: u32,
    group_size: usize,
    /// Modules with a format of their own.
    exceptions: usize,
    /// Scales, biases and what is not quantized included.
    bits_per_weight: f64,
}

#[derive(Debug, Serialize)]
struct AdapterFacts {
    folder: PathBuf,
    method: &'static str,
    r: usize,
    lora_alpha: f64,
    parameters: u64,
}

pub fn run(args: &InfoArgs, context: &Context) -> Result<(), CliError> {
    let facts = gather(&ModelSource::find(&local_folder(&args.model, RepoKind::Model, context)?, None)?)?;
    context.output.record(&facts)?;
    context.output.line(&page(&facts))
}

fn gather(source: &ModelSource) -> Result<ModelFacts, CliError> {
    let (folder, config) = (source.base.as_path(), source.config()?);
    let checkpoint = model_files::checkpoint(folder)?;
    let (mut stored, mut stored_bytes) = (0, 0);
    let mut dtypes = BTreeSet::new();
    for name in checkpoint.names().filter(|name| !config.family.names.is_ignored(name)) {
        let Some(file) = checkpoint.file_of(name) else { continue };
        stored += file.shape(name)?.iter().product::<usize>() as u64;
        stored_bytes += file.size_bytes(name)?;
        dtypes.insert(file.dtype(name)?.to_lowercase());
    }
    // Codes are not parameters: several lie in a number of the file.
    let parameters = match config.quantization {
        Some(_) => estimate::parameters(&config.decoder).total,
        None => stored,
    };
    let tokenizer = model_files::has_tokenizer(folder).then(|| model_files::tokenizer(folder)).transpose()?;
    Ok(ModelFacts {
        folder: folder.to_owned(),
        family: config.family.model_type,
        parameters,
        dtypes,
        quantization: config.quantization.as_ref().map(|quantization| QuantizationFacts {
            bits: quantization.default.bits(),
            group_size: quantization.default.group_size(),
            exceptions: quantization.modules.len(),
            bits_per_weight: 8.0 * stored_bytes as f64 / parameters.max(1) as f64,
        }),
        num_hidden_layers: config.decoder.num_hidden_layers,
        hidden_size: config.decoder.hidden_size,
        num_attention_heads: config.decoder.attention.num_attention_heads,
        vocab_size: config.decoder.vocab_size,
        context: config.decoder.context_length(),
        tie_word_embeddings: config.decoder.tie_word_embeddings,
        tokenizer_vocab_size: tokenizer.map(|tokenizer| tokenizer.vocab_size()),
        size_bytes: size_bytes(folder)?,
        adapter: source
            .adapter
            .as_deref()
            .map(|folder| adapter_facts(folder, &config.family.names))
            .transpose()?,
    })
}

fn adapter_facts(folder: &Path, names: &NameMap) -> Result<AdapterFacts, CliError> {
    let adapter = Adapter::open(folder, names)?;
    Ok(AdapterFacts {
        folder: folder.to_owned(),
        method: if adapter.config.use_dora { "dora" } else { "lora" },
        r: adapter.config.r,
        lora_alpha: adapter.config.lora_alpha,
        parameters: adapter.parameters(),
    })
}

fn quantization(facts: &QuantizationFacts) -> String {
    let QuantizationFacts { bits, group_size, exceptions, bits_per_weight } = facts;
    let others = match exceptions {
        0 => String::new(),
        1 => ", 1 module otherwise".to_owned(),
        count => format!(", {count} modules otherwise"),
    };
    format!("{bits} bits in groups of {group_size}{others}; {bits_per_weight:.2} bits per weight in all")
}

fn page(model: &ModelFacts) -> String {
    let head = if model.tie_word_embeddings { "tied to the embedding" } else { "its own" };
    let tokenizer = match model.tokenizer_vocab_size {
        Some(size) => format!("{size} tokens"),
        None => "none in the folder".to_owned(),
    };
    let mut lines = vec![
        ("folder", model.folder.display().to_string()),
        ("family", model.family.to_owned()),
        ("parameters", format!("{} ({})", count(model.parameters), model.parameters)),
        ("dtype", model.dtypes.iter().cloned().collect::<Vec<_>>().join(", ")),
        ("quantization", model.quantization.as_ref().map_or("none".to_owned(), quantization)),
        ("layers", model.num_hidden_layers.to_string()),
        ("hidden size", model.hidden_size.to_string()),
        ("heads", model.num_attention_heads.to_string()),
        ("vocabulary", model.vocab_size.to_string()),
        ("context", model.context.to_string()),
        ("head", head.to_owned()),
        ("tokenizer", tokenizer),
        ("size", bytes(model.size_bytes)),
    ];
    if let Some(adapter) = &model.adapter {
        let AdapterFacts { method, r, lora_alpha, parameters, .. } = adapter;
        lines.push(("adapter", adapter.folder.display().to_string()));
        lines.push((
            "method",
            format!("{method}, rank {r}, alpha {lora_alpha}, {} parameters", count(*parameters)),
        ));
    }
    facts(&lines)
}
