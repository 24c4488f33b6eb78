//! `smelt convert`: a model or an adapter from one format to another.

mod adapter;
mod calibrated;
mod calibration;
mod model;
mod quantization;
mod report_chart;
mod sensitivity;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use safetensors::Dtype as StoredDtype;
use serde::Serialize;
use smelt_data::hub::RepoKind;

use self::calibration::CalibrationArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::hub::local_folder;
use crate::model_source::ModelSource;
use crate::quantity::ByteSize;

const EXAMPLES: &str = "\
Examples:
  smelt convert --model ~/models/llama --to mlx --quantize q4_bit --output models/llama-4bit
  smelt convert --model ~/models/llama --to mlx --quantize q4_bit --calibrate gptq --calibration-text notes.txt \
    --output models/llama-gptq
  smelt convert --model ~/models/llama --to mlx --target-bits 4.5 --calibration-text notes.txt --output models/llama-mixed
  smelt convert --model ~/models/llama --to gguf --quantize q8_0 --output llama-q8_0.gguf
  smelt convert --model llama-q4_k_m.gguf --to hf --dtype bf16 --output models/llama
  smelt convert --model ~/models/old --to hf --max-shard-size 5GB --output models/new
  smelt convert --model ~/models/llama --to onnx --output models/llama-onnx
  smelt convert --model runs/lora --to mlx --output adapters/mlx";

/// The group of flags that say how many bits weights get.
const FEW_BITS: &str = "few_bits";

/// Arguments of `smelt convert`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ConvertArgs {
    /// Model folder, GGUF file, hub id or run; or an adapter, or the run that trained one
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Convert this adapter of the model: its folder, or that of the run that trained it
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// What to write
    #[arg(long, value_enum)]
    pub to: Format,
    /// Folder to write to, or a file that ends in `.gguf`
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
    /// How weights are stored [default: as they are]
    #[arg(long, value_enum)]
    pub dtype: Option<Dtype>,
    /// Few bits: q4_bit, q8_bit (also q2_bit, q3_bit, q5_bit, q6_bit) or a YAML file of rules for MLX; q8_0, q5_1, q5_0,
    /// q4_1 or q4_0 for GGUF
    #[arg(long, value_name = "TYPE|FILE", group = FEW_BITS)]
    pub quantize: Option<String>,
    /// For MLX, weights that share a scale: 32, 64 or 128 [default: 64]
    #[arg(long, value_name = "N", requires = FEW_BITS)]
    pub group_size: Option<u64>,
    #[command(flatten)]
    pub calibration: CalibrationArgs,
    /// Weights beyond this go into several files
    #[arg(long, value_name = "SIZE", default_value = "50GB")]
    pub max_shard_size: ByteSize,
    /// An ONNX graph without a cache of keys and values as inputs and outputs
    #[arg(long)]
    pub no_kv_cache: bool,
    /// Do not run the result against the source
    #[arg(long)]
    pub no_check: bool,
}

/// Formats of models and adapters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Hugging Face's: transformers and PEFT
    Hf,
    /// That of mlx-lm
    Mlx,
    /// That of llama.cpp
    Gguf,
    /// A graph for onnxruntime and others
    Onnx,
}

/// Dtypes of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32 bits
    F32,
    /// 16 bits, of which 5 are an exponent
    F16,
    /// 16 bits, of which 8 are an exponent
    Bf16,
}

impl ConvertArgs {
    /// How weights are stored, as files call it.
    fn stored_dtype(&self) -> Option<StoredDtype> {
        self.dtype.map(|dtype| match dtype {
            Dtype::F32 => StoredDtype::F32,
            Dtype::F16 => StoredDtype::F16,
            Dtype::Bf16 => StoredDtype::BF16,
        })
    }
}

pub fn run(args: &ConvertArgs, context: &Context) -> Result<(), CliError> {
    let model = local_folder(&args.model, RepoKind::Model, context)?;
    let source = ModelSource::find(&model, args.adapter.as_deref())?;
    match source.adapter.as_deref() {
        Some(adapter) => adapter::run(args, &source.base, adapter, context),
        None => model::run(args, &source.base, context),
    }
}
