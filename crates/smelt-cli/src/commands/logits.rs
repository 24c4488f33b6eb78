//! `smelt logits`: a model's logits for given token ids, in files.

use std::path::PathBuf;

use clap::Args;
use smelt_backend::{Job, Kernels, dispatch, float_tensor, int_tensor, to_host};
use smelt_data::hub::RepoKind;
use smelt_model::ForwardInput;
use smelt_model::weights::{TensorFile, TensorFileWriter};

use crate::config::BackendSection;
use crate::context::Context;
use crate::error::CliError;
use crate::hub::local_folder;
use crate::model_source::ModelSource;
use crate::token_ids::{TokenIds, positions};

const EXAMPLES: &str = "\
Examples:
  smelt logits --model runs/quickstart --input ids.safetensors --output logits.safetensors";

/// Arguments of `smelt logits`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct LogitsArgs {
    /// Model folder, folder of a run, or hub id
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Folder of an adapter, or of the run that trained it
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// Safetensors with `input_ids` [batch, seq] and, where there is padding, `attention_mask`
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
    /// Safetensors to write: `logits` [batch, seq, vocab] in f32
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
}

pub fn run(args: &LogitsArgs, context: &Context) -> Result<(), CliError> {
    let source =
        ModelSource::find(&local_folder(&args.model, RepoKind::Model, context)?, args.adapter.as_deref())?;
    let input = TensorFile::open(&args.input)?;
    let ids = TokenIds::read(&input, "input_ids")?;
    let mask =
        input.contains("attention_mask").then(|| TokenIds::read(&input, "attention_mask")).transpose()?;
    if let Some(mask) = mask.as_ref().filter(|mask| mask.shape != ids.shape) {
        return Err(CliError::Usage {
            message: format!("`attention_mask` has shape {:?}, `input_ids` has {:?}", mask.shape, ids.shape),
            hint: "both are [batch, seq]".to_owned(),
        });
    }
    let selection = context.select(&BackendSection::default(), None)?;
    let (logits, shape) = dispatch(selection.name, LogitsJob { source, ids, mask })?;
    let mut file = TensorFileWriter::new();
    file.add_f32("logits", &shape, || logits.into());
    file.write(&args.output)?;
    context.output.note(&format!("wrote logits {shape:?} to {}", args.output.display()));
    Ok(())
}

struct LogitsJob {
    source: ModelSource,
    ids: TokenIds,
    mask: Option<TokenIds>,
}

impl Job for LogitsJob {
    type Output = Result<(Vec<f32>, [usize; 3]), CliError>;

    fn run<B: Kernels>(self, device: B::Device) -> Self::Output {
        let (config, model) = self.source.load::<B>(&device)?;
        config.decoder.check_token_ids(&self.ids.values)?;
        let [batch, seq] = self.ids.shape;
        if let Some(positions) = config.decoder.learned_positions() {
            self.ids.fits(positions)?;
        }
        let mut input = ForwardInput::new(int_tensor::<B, 2>(&self.ids.values, [batch, seq], &device));
        if let Some(mask) = &self.mask {
            input.position_ids = Some(positions(mask));
            let mask = mask.values.iter().map(|&keep| keep as f32).collect();
            input.attention_mask = Some(float_tensor::<B, 2>(mask, [batch, seq], &device));
        }
        let logits = model.logits(model.hidden(input));
        let shape = logits.dims();
        Ok((to_host(logits), shape))
    }
}
