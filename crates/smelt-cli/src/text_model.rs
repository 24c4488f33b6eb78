//! A model to generate text with: its files, tokenizer, chat template, and the tokens that end a text.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use serde_json::Value;
use smelt_backend::Kernels;
use smelt_generate::PREFILL_POSITIONS;
use smelt_generate::engine::{EngineModel, LoadedModel, PrefixFile};
use smelt_model::adapter::ADAPTER_WEIGHTS_FILE;
use smelt_model::estimate::{InferenceShape, inference};
use smelt_model::weights::{GENERATION_CONFIG_FILE, LoadOptions};
use smelt_model::{CacheBits, ModelConfig};
use smelt_text::{ChatTemplate, Tokenizer};

use crate::error::CliError;
use crate::folders::model_folder;
use crate::memory_plan::held_bytes;
use crate::model_files;
use crate::model_source::ModelSource;

/// Tokens that end a turn in the families' chat templates.
const END_OF_TURN: [&str; 5] = ["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end|>"];

/// All of a model but its weights.
#[derive(Debug, Clone)]
pub struct TextModel {
    /// What it is called.
    pub name: String,
    /// Its files.
    pub source: ModelSource,
    /// What it is.
    pub config: Arc<ModelConfig>,
    /// Text to tokens and back.
    pub tokenizer: Arc<Tokenizer>,
    /// A conversation to text.
    pub template: ChatTemplate,
    /// The tokens that end a text or a turn.
    pub stop_tokens: Vec<u32>,
    /// A smaller model that guesses ahead.
    pub draft: Option<DraftModel>,
    /// Where prompts that were read are kept between runs.
    pub prompt_cache: Option<PathBuf>,
}

/// A model with the same vocabulary as another, which it guesses for.
#[derive(Debug, Clone)]
pub struct DraftModel {
    folder: PathBuf,
    config: Arc<ModelConfig>,
}

impl TextModel {
    /// Reads all but the weights of `source`.
    ///
    /// # Errors
    /// [`CliError`] if a file is missing or damaged.
    pub fn read(name: String, source: ModelSource) -> Result<Self, CliError> {
        let config = source.config()?;
        let folder = source.tokenizer_folder();
        let tokenizer = model_files::tokenizer(folder)?;
        let template = model_files::chat_template(folder, &tokenizer)?;
        let mut ends: BTreeSet<u32> = stop_tokens(&config, &tokenizer).into_iter().collect();
        ends.extend(END_OF_TURN.iter().filter_map(|token| tokenizer.token_to_id(token)));
        ends.extend(of_generation_config(&source.base)?);
        Ok(Self {
            name,
            config: Arc::new(config),
            tokenizer: Arc::new(tokenizer),
            template,
            stop_tokens: ends.into_iter().collect(),
            source,
            draft: None,
            prompt_cache: None,
        })
    }

    /// Has the model in `folder` guess for it.
    ///
    /// # Errors
    /// [`CliError`] if its files are missing or damaged, or its vocabulary is another.
    pub fn set_draft(&mut self, folder: &Path) -> Result<(), CliError> {
        let folder = model_folder(folder)?;
        let config = model_files::config(&folder)?;
        let (own, other) = (self.config.decoder.vocab_size, config.decoder.vocab_size);
        if own != other || model_files::tokenizer(&folder)?.json() != self.tokenizer.json() {
            return Err(CliError::Usage {
                message: format!("the draft model `{}` has another vocabulary", folder.display()),
                hint: format!(
                    "a draft model shares the tokenizer of the model ({own} tokens, found {other})"
                ),
            });
        }
        self.draft = Some(DraftModel { folder, config: Arc::new(config) });
        Ok(())
    }

    /// Tokens of `text`, or of the beginning of a text.
    ///
    /// # Errors
    /// [`CliError::Usage`] if there is no token to begin a text with.
    pub fn prompt(&self, text: Option<&str>) -> Result<Vec<u32>, CliError> {
        match text {
            Some(text) => Ok(self.tokenizer.encode_with_special_tokens(text)?),
            None => {
                Ok(vec![start_of_text(&self.config, &self.tokenizer).ok_or_else(|| CliError::Usage {
                    message: format!(
                        "the tokenizer in `{}` has no token that begins a text",
                        self.source.tokenizer_folder().display()
                    ),
                    hint: "give a `--prompt`".to_owned(),
                })?])
            }
        }
    }

    /// Memory of `sequences` sequences of up to `tokens` tokens, by estimate.
    pub fn required_bytes(&self, sequences: usize, tokens: usize, kv_bits: Option<CacheBits>) -> u64 {
        let of = |config: &ModelConfig, folder: &Path| {
            let shape = InferenceShape {
                batch_size: sequences,
                prompt_length: tokens.min(PREFILL_POSITIONS),
                capacity: tokens.min(config.decoder.context_length()),
                kv_bits,
                weights_bytes: held_bytes(folder, None),
            };
            inference(&config.decoder, shape).peak_bytes
        };
        let draft = self.draft.as_ref().map_or(0, |draft| of(&draft.config, &draft.folder));
        of(&self.config, &self.source.base).saturating_add(draft)
    }

    /// What the engine is told of it.
    ///
    /// # Errors
    /// [`CliError::Model`] if prompts are to be kept and the weights cannot be told from others.
    pub fn for_engine(&self) -> Result<EngineModel, CliError> {
        let of_draft = self.draft.as_ref().and_then(|draft| held_bytes(&draft.folder, None)).unwrap_or(0);
        Ok(EngineModel {
            name: self.name.clone(),
            tokenizer: Some(self.tokenizer.clone()),
            config: self.config.clone(),
            draft: self.draft.as_ref().map(|draft| draft.config.clone()),
            weights_bytes: held_bytes(&self.source.base, None).unwrap_or(0).saturating_add(of_draft),
            prefix_file: self.prompt_cache.clone().map(|path| self.prefix_file(path)).transpose()?,
        })
    }

    fn prefix_file(&self, path: PathBuf) -> Result<PrefixFile, CliError> {
        let mut fingerprint = model_files::checkpoint(&self.source.base)?.fingerprint()?;
        if let Some(adapter) = &self.source.adapter {
            let written =
                fs::metadata(adapter.join(ADAPTER_WEIGHTS_FILE)).and_then(|file| file.modified()).ok();
            let written = written.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
            fingerprint += &format!("+{}@{}", adapter.display(), written.as_nanos());
        }
        Ok(PrefixFile { path, fingerprint })
    }

    /// The model for inference.
    ///
    /// # Errors
    /// [`CliError::Model`].
    pub fn load<B: Kernels>(&self, device: &B::Device) -> Result<LoadedModel<B>, CliError> {
        let (_, decoder) = self.source.load::<B>(device)?;
        let load = |draft: &DraftModel| model_files::load::<B>(&draft.folder, LoadOptions::default(), device);
        let draft = self.draft.as_ref().map(load).transpose()?;
        Ok(LoadedModel { decoder: decoder.unrounded(), draft: draft.map(|(_, decoder)| decoder.unrounded()) })
    }
}

/// Where no text is given to continue: the token that ends one begins the next in training.
pub fn start_of_text(config: &ModelConfig, tokenizer: &Tokenizer) -> Option<u32> {
    let begins = config.raw.get("bos_token_id").and_then(Value::as_u64);
    let begins = begins.and_then(|id| u32::try_from(id).ok());
    begins.or(tokenizer.end_of_text())
}

/// The tokens that end a text.
pub fn stop_tokens(config: &ModelConfig, tokenizer: &Tokenizer) -> Vec<u32> {
    let mut stop_tokens = config.eos_token_ids();
    stop_tokens.extend(tokenizer.end_of_text());
    stop_tokens
}

/// `eos_token_id` of `generation_config.json`, where chat models list more than in `config.json`.
fn of_generation_config(folder: &Path) -> Result<Vec<u32>, CliError> {
    let path = folder.join(GENERATION_CONFIG_FILE);
    let Ok(text) = fs::read(&path) else { return Ok(Vec::new()) };
    let config: Value = serde_json::from_slice(&text).map_err(|source| CliError::Json { path, source })?;
    let ids = match &config["eos_token_id"] {
        Value::Array(ids) => ids.clone(),
        id => vec![id.clone()],
    };
    Ok(ids.iter().filter_map(Value::as_u64).filter_map(|id| u32::try_from(id).ok()).collect())
}
