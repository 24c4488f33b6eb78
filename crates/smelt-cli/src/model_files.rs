//! The files of a model by its path, whatever their format: a folder of Hugging Face's, or a GGUF file.

use std::path::Path;

use smelt_backend::Kernels;
use smelt_convert::gguf::{Blocks, GgufModel, is_gguf};
use smelt_model::quantization::QuantizationRules;
use smelt_model::weights::{Checkpoint, HeldIn, LoadOptions, load_weights, load_with};
use smelt_model::{Decoder, ModelConfig};
use smelt_text::{ChatTemplate, TOKENIZER_FILE, Tokenizer};

use crate::error::CliError;

/// What the model is.
///
/// # Errors
/// [`CliError`] if its files are missing or damaged.
pub fn config(path: &Path) -> Result<ModelConfig, CliError> {
    if is_gguf(path) {
        return Ok(GgufModel::open(path)?.config);
    }
    Ok(ModelConfig::from_folder(path)?)
}

/// Its weights, open.
///
/// # Errors
/// [`CliError`] if its files are missing or damaged.
pub fn checkpoint(path: &Path) -> Result<Checkpoint, CliError> {
    if is_gguf(path) {
        return Ok(GgufModel::open(path)?.checkpoint(Blocks::Packed)?.1);
    }
    Ok(Checkpoint::open(path)?)
}

/// The model on `device`.
///
/// # Errors
/// [`CliError`] if its files are missing, damaged or do not fit each other.
pub fn load<B: Kernels>(
    path: &Path,
    options: LoadOptions,
    device: &B::Device,
) -> Result<(ModelConfig, Decoder<B>), CliError> {
    if is_gguf(path) {
        // What trains is dense.
        let blocks = if options.held_in == HeldIn::F32 { Blocks::Dense } else { Blocks::Packed };
        let (config, checkpoint) = GgufModel::open(path)?.checkpoint(blocks)?;
        let model = load_weights(&config, &checkpoint, options, device)?;
        return Ok((config, model));
    }
    Ok(load_with(path, options, device)?)
}

/// The model on `device` with its matrices quantized as `rules` say while they are read, and the configuration of the
/// result; one that is quantized already stays as it is.
///
/// # Errors
/// As [`load`]; for rules that fit no module, and weights that cannot be quantized.
pub fn load_quantized<B: Kernels>(
    path: &Path,
    rules: &QuantizationRules,
    device: &B::Device,
) -> Result<(ModelConfig, Decoder<B>), CliError> {
    let (config, checkpoint) = match is_gguf(path) {
        true => GgufModel::open(path)?.checkpoint(Blocks::Packed)?,
        false => (config(path)?, checkpoint(path)?),
    };
    Ok(smelt_model::load_quantized(&config, &checkpoint, rules, device)?)
}

/// Its tokenizer.
///
/// # Errors
/// [`CliError`] if there is none, or it is damaged.
pub fn tokenizer(path: &Path) -> Result<Tokenizer, CliError> {
    if is_gguf(path) {
        let found = GgufModel::open(path)?.companions()?.tokenizer()?;
        return found.ok_or_else(|| CliError::NoTokenizer { path: path.to_owned() });
    }
    Ok(Tokenizer::from_folder(path)?)
}

/// It brings a tokenizer.
pub fn has_tokenizer(path: &Path) -> bool {
    if is_gguf(path) {
        return GgufModel::open(path).and_then(|file| file.vocabulary()).is_ok_and(|found| found.is_some());
    }
    path.join(TOKENIZER_FILE).is_file()
}

/// Its chat template, or the usual one.
///
/// # Errors
/// [`CliError`] if it does not parse.
pub fn chat_template(path: &Path, tokenizer: &Tokenizer) -> Result<ChatTemplate, CliError> {
    if !is_gguf(path) {
        return Ok(ChatTemplate::from_folder(path, Some(tokenizer))?);
    }
    let file = GgufModel::open(path)?;
    let template = match file.chat_template()? {
        Some(source) => ChatTemplate::from_source(source)?,
        None => ChatTemplate::default_chat(),
    };
    let vocabulary = file.vocabulary()?.unwrap_or_default();
    let tokens = [("bos_token", vocabulary.begin), ("eos_token", vocabulary.end)];
    let named =
        tokens.into_iter().filter_map(|(role, id)| Some((role.to_owned(), vocabulary.token(id)?.into())));
    Ok(template.with_special_tokens(named.collect()))
}
