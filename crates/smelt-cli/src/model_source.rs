//! What `--model` and `--adapter` mean: the weights of a base, and the adapter on them.

use std::path::{Path, PathBuf};

use smelt_backend::Kernels;
use smelt_model::adapter::ADAPTER_CONFIG_FILE;
use smelt_model::quantization::QuantizationRules;
use smelt_model::weights::LoadOptions;
use smelt_model::{Adapter, CONFIG_FILE, Decoder, ModelConfig, Quantization};
use smelt_text::TOKENIZER_FILE;
use smelt_train::{AVERAGE, TrainerState};

use crate::error::CliError;
use crate::folders::model_folder;
use crate::model_files;

/// A model to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSource {
    /// Folder or GGUF file of the base.
    pub base: PathBuf,
    /// Folder of the adapter.
    pub adapter: Option<PathBuf>,
}

impl ModelSource {
    /// Of a model folder or a run in `path`; an adapter there, or the run of one, stands for itself on its base.
    ///
    /// # Errors
    /// [`CliError::NoModel`], [`CliError::NoBase`] if an adapter's base is not where it says, [`CliError::Usage`] for
    /// two adapters.
    pub fn find(path: &Path, adapter: Option<&Path>) -> Result<Self, CliError> {
        let found = weights_folder(path)?;
        match adapter {
            None if is_adapter(&found) => Ok(Self { base: base_of(&found)?, adapter: Some(found) }),
            None => Ok(Self { base: found, adapter: None }),
            Some(_) if is_adapter(&found) => Err(CliError::Usage {
                message: format!("`{}` is an adapter", found.display()),
                hint: "give the folder of the base with `--model`".to_owned(),
            }),
            Some(adapter) => Ok(Self { base: found, adapter: Some(weights_folder(adapter)?) }),
        }
    }

    /// The configuration of the base.
    ///
    /// # Errors
    /// [`CliError::Model`].
    pub fn config(&self) -> Result<ModelConfig, CliError> {
        model_files::config(&self.base)
    }

    /// The folder with the tokenizer: the adapter's, where it brings one.
    pub fn tokenizer_folder(&self) -> &Path {
        let own = self.adapter.as_deref().filter(|adapter| adapter.join(TOKENIZER_FILE).is_file());
        own.unwrap_or(&self.base)
    }

    /// What the base becomes while it is loaded: what it was when the adapter was trained on it.
    fn quantization(&self) -> Result<Option<QuantizationRules>, CliError> {
        let Some(folder) = self.adapter.as_deref() else { return Ok(None) };
        // An average lies within its checkpoint.
        let around = folder.parent().filter(|_| folder.ends_with(AVERAGE));
        let checkpoint = [Some(folder), around].into_iter().flatten().find(|it| TrainerState::is_in(it));
        let state = checkpoint.map(TrainerState::read).transpose()?;
        let Some(section) = state.and_then(|state| state.quantization) else { return Ok(None) };
        Ok(Quantization::from_json(section)?
            .map(|quantization| QuantizationRules::uniform(quantization.default)))
    }

    /// The model for inference.
    ///
    /// # Errors
    /// [`CliError::Model`].
    pub fn load<B: Kernels>(&self, device: &B::Device) -> Result<(ModelConfig, Decoder<B>), CliError> {
        let (config, model) = match self.quantization()? {
            Some(rules) => model_files::load_quantized::<B>(&self.base, &rules, device)?,
            None => model_files::load::<B>(&self.base, LoadOptions::default(), device)?,
        };
        let Some(folder) = &self.adapter else { return Ok((config, model)) };
        let adapter = Adapter::open(folder, &config.family.names)?;
        let model = model.with_adapter(&config, &adapter)?;
        Ok((config, model))
    }
}

/// `path` itself if it holds a model or an adapter, or else the newest checkpoint of the run in it.
///
/// # Errors
/// As [`model_folder`].
pub fn weights_folder(path: &Path) -> Result<PathBuf, CliError> {
    if is_adapter(path) { Ok(path.to_owned()) } else { model_folder(path) }
}

/// The folder holds an adapter and no model.
fn is_adapter(folder: &Path) -> bool {
    Adapter::is_in(folder) && !folder.join(CONFIG_FILE).is_file()
}

/// The base that the adapter in `folder` was trained on.
fn base_of(folder: &Path) -> Result<PathBuf, CliError> {
    let path = folder.join(ADAPTER_CONFIG_FILE);
    let text =
        std::fs::read(&path).map_err(|source| CliError::Io { action: "read", path: path.clone(), source })?;
    let config: serde_json::Value =
        serde_json::from_slice(&text).map_err(|source| CliError::Json { path, source })?;
    let keys = ["base_model_name_or_path", "model"];
    let base = keys.iter().find_map(|key| config.get(key)?.as_str()).map(PathBuf::from);
    base.as_deref()
        .and_then(|base| model_folder(base).ok())
        .ok_or_else(|| CliError::NoBase { adapter: folder.to_owned(), base })
}
