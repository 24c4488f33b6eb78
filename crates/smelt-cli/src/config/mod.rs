//! The run config: YAML sections, `--set`, flags, and one typed result.
//!
//! A text becomes a tree with lines (`yaml`), the tree becomes settings with origins (`settings`),
//! these become typed sections (`sections`), and `check` judges the values. Nothing here opens a
//! model or a corpus.

mod check;
mod error;
mod keys;
mod model;
mod resolved;
mod sections;
mod settings;
pub(crate) mod yaml;

pub use check::check_context;
pub use error::{BadValue, ConfigError, Origin};
pub use keys::{SECTIONS, keys};
pub use model::ModelSection;
pub use sections::{
    AdapterSection, BackendSection, CheckpointSection, DataSection, LogSection, Method, QuantizationSection,
    RunConfig, TrainSection,
};
pub use settings::Settings;

use std::fmt::Write as _;
use std::path::Path;

use smelt_model::AdapterConfig;
use smelt_model::quantization::QuantizationRules;

use crate::quickstart;

impl RunConfig {
    /// Reads and checks a config file.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line and key.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        Self::from_settings(&Settings::from_file(path)?)
    }

    /// The config of the quick start, to be changed field by field.
    pub fn quick_start() -> Self {
        let settings = quickstart::settings().and_then(|settings| Self::from_settings(&settings));
        settings.expect("a test holds the embedded config to be right")
    }

    /// Types and checks settings.
    ///
    /// # Errors
    /// [`ConfigError`] for the first value that cannot work.
    pub fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let config = settings.typed()?;
        check::check(&config, settings)?;
        Ok(config)
    }

    /// The adapter to train, where the method is to train one.
    pub fn adapter_config(&self) -> Option<AdapterConfig> {
        let use_dora = match self.train.method {
            Method::Full => return None,
            Method::Lora | Method::Qlora => false,
            Method::Dora => true,
        };
        let adapter = self.adapter.clone();
        Some(AdapterConfig {
            base_model_name_or_path: self.model.path.as_ref().map(|path| path.display().to_string()),
            r: adapter.r,
            lora_alpha: adapter.lora_alpha.unwrap_or(2.0 * adapter.r as f64),
            lora_dropout: adapter.lora_dropout,
            target_modules: adapter.target_modules,
            exclude_modules: adapter.exclude_modules,
            layers_to_transform: adapter.layers_to_transform,
            modules_to_save: Some(adapter.modules_to_save).filter(|modules| !modules.is_empty()),
            use_rslora: adapter.use_rslora,
            use_dora,
            ..AdapterConfig::default()
        })
    }

    /// What the model below an adapter becomes while it is loaded, if it is in floats.
    pub fn quantization_rules(&self) -> Option<QuantizationRules> {
        let format = (self.train.method == Method::Qlora).then(|| self.quantization.format().ok());
        format.flatten().map(QuantizationRules::uniform)
    }

    /// The config as YAML that [`RunConfig::from_file`] reads back to the same.
    pub fn to_yaml(&self) -> String {
        let value = serde_json::to_value(self).expect("a config is plain data");
        let mut text = String::new();
        for (section, keys) in value.as_object().into_iter().flatten() {
            let _ = writeln!(text, "{section}:");
            for (key, value) in keys.as_object().into_iter().flatten() {
                // A JSON scalar or list is YAML as it stands.
                let _ = writeln!(text, "  {key}: {value}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_written_is_read_back() {
        let mut config = RunConfig::default();
        config.train.learning_rate = Some(1.25e-4);
        config.train.lr_schedule = smelt_train::LrSchedule::Wsd;
        config.train.optimizer = smelt_train::OptimizerKind::Adamw8bit;
        config.train.min_learning_rate = Some(1e-12);
        config.data.paths = vec!["a b".into(), "c: \"d\"".into()];
        for (key, value) in
            [("vocab_size", 512), ("d_model", 64), ("n_layers", 2), ("n_heads", 4), ("n_positions", 256)]
        {
            config.model.set(key, value);
        }
        config.checkpoint.output_dir = Some("runs/x".into());
        let settings = Settings::from_yaml(&config.to_yaml(), &|_| Origin::BuiltIn).unwrap();
        assert_eq!(RunConfig::from_settings(&settings).unwrap(), config);
    }

    #[test]
    fn every_section_is_written() {
        let text = RunConfig::default().to_yaml();
        for section in SECTIONS {
            assert!(text.contains(&format!("{section}:\n")), "{section}");
        }
    }
}
