//! Settings as they were written: every value with the place it came from.
//!
//! A config file is read first, then `--set` and the flags replace single keys. Only names and types
//! are checked here; `check` judges the values.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::error::{BadValue, ConfigError, Origin};
use super::keys::{SECTIONS, is_key, key_suggestion, suggestion};
use super::model::{ModelSection, same_key};
use super::sections::RunConfig;
use super::yaml::{self, Content, Field, Node};

/// Raw values by section and key.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    sections: BTreeMap<String, BTreeMap<String, Setting>>,
}

#[derive(Debug, Clone)]
struct Setting {
    value: Value,
    origin: Origin,
}

impl Settings {
    /// Reads a config file.
    ///
    /// # Errors
    /// [`ConfigError`] if the file cannot be read or as [`Settings::from_yaml`].
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::from_yaml(&text, &|line| Origin::File { path: path.to_owned(), line })
    }

    /// Reads a config from text; `origin` says where a line of it is.
    ///
    /// # Errors
    /// [`ConfigError`] for broken YAML, unknown sections and unknown keys.
    pub fn from_yaml(text: &str, origin: &dyn Fn(usize) -> Origin) -> Result<Self, ConfigError> {
        let document = yaml::parse(text)
            .map_err(|error| ConfigError::Syntax { origin: origin(error.line), message: error.message })?;
        let mut settings = Self::default();
        let Some(root) = document else { return Ok(settings) };
        let Content::Mapping(sections) = root.content else {
            let message = "a config holds sections such as `train:`".to_owned();
            return Err(ConfigError::Syntax { origin: origin(root.line), message });
        };
        for section in sections {
            settings.read_section(section, origin)?;
        }
        Ok(settings)
    }

    fn read_section(&mut self, section: Field, origin: &dyn Fn(usize) -> Origin) -> Result<(), ConfigError> {
        let place = origin(section.line);
        known_section(&section.name, &place)?;
        match section.value.content {
            Content::Mapping(fields) => {
                for field in fields {
                    self.insert(&section.name, &field.name, field.value.to_json(), origin(field.line))?;
                }
                Ok(())
            }
            Content::Scalar(Value::Null) => Ok(()),
            // `backend: cpu` is what one wants to write.
            Content::Scalar(name @ Value::String(_)) if section.name == "backend" => {
                self.insert("backend", "name", name, place)
            }
            content => {
                let node = Node { line: section.line, content };
                Err(ConfigError::NotASection {
                    origin: place,
                    section: section.name,
                    found: shown(&node.to_json()),
                })
            }
        }
    }

    fn insert(
        &mut self,
        section: &str,
        written: &str,
        value: Value,
        origin: Origin,
    ) -> Result<(), ConfigError> {
        known_key(section, written, &origin)?;
        let settings = self.sections.entry(section.to_owned()).or_default();
        if let Some(key) = settings.keys().find(|key| same_key(key, written)) {
            let (section, alias, key) = (section.to_owned(), written.to_owned(), key.clone());
            return Err(ConfigError::GivenTwice { origin, section, alias, key });
        }
        settings.insert(written.to_owned(), Setting { value, origin });
        Ok(())
    }

    /// Replaces one key under whatever name it was given, as `--set` and the flags do.
    ///
    /// # Errors
    /// [`ConfigError`] if there is no such section or key.
    pub fn set(
        &mut self,
        section: &str,
        written: &str,
        value: Value,
        origin: Origin,
    ) -> Result<(), ConfigError> {
        known_section(section, &origin)?;
        known_key(section, written, &origin)?;
        let settings = self.sections.entry(section.to_owned()).or_default();
        settings.retain(|key, _| !same_key(key, written));
        settings.insert(written.to_owned(), Setting { value, origin });
        Ok(())
    }

    /// Replaces one key by a text of the form `section.key=value`; the value is read as YAML.
    ///
    /// # Errors
    /// [`ConfigError`] if the text has another form or names what does not exist.
    pub fn set_from_text(&mut self, text: &str) -> Result<(), ConfigError> {
        let bad = || ConfigError::BadSet { text: text.to_owned() };
        let (path, value) = text.split_once('=').ok_or_else(bad)?;
        let (section, key) = path.trim().split_once('.').ok_or_else(bad)?;
        let node = yaml::parse(value)
            .map_err(|error| ConfigError::Syntax { origin: Origin::Set, message: error.message })?;
        let value = node.map_or(Value::Null, |node| node.to_json());
        self.set(section, key, value, Origin::Set)
    }

    /// Forgets a key, so that its default holds.
    pub fn unset(&mut self, section: &str, key: &str) {
        if let Some(settings) = self.sections.get_mut(section) {
            settings.remove(key);
        }
    }

    /// Forgets every key of a section.
    pub fn unset_section(&mut self, section: &str) {
        self.sections.remove(section);
    }

    /// Where a key was written, by its stored name.
    pub fn origin(&self, section: &str, key: &str) -> Origin {
        self.setting(section, key).map_or(Origin::BuiltIn, |setting| setting.origin.clone())
    }

    /// Keys of a section that somebody wrote, in alphabetical order.
    pub fn given(&self, section: &str) -> impl Iterator<Item = &str> {
        self.sections.get(section).into_iter().flat_map(|settings| settings.keys().map(String::as_str))
    }

    fn setting(&self, section: &str, key: &str) -> Option<&Setting> {
        self.sections.get(section)?.get(key)
    }

    /// The typed config: defaults where nothing was written.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for the first value of a wrong type.
    pub fn typed(&self) -> Result<RunConfig, ConfigError> {
        Ok(RunConfig {
            backend: self.section("backend")?,
            model: self.model()?,
            data: self.section("data")?,
            train: self.section("train")?,
            adapter: self.section("adapter")?,
            quantization: self.section("quantization")?,
            checkpoint: self.section("checkpoint")?,
            log: self.section("log")?,
        })
    }

    fn model(&self) -> Result<ModelSection, ConfigError> {
        let mut section = ModelSection::default();
        for (key, setting) in self.sections.get("model").into_iter().flatten() {
            match (key.as_str(), &setting.value) {
                ("path", Value::Null) => {}
                ("path", Value::String(path)) => section.path = Some(path.into()),
                ("path", _) => return Err(wrong_type("model", key, setting, "a path".to_owned())),
                (_, value) => drop(section.shape.insert(key.clone(), value.clone())),
            }
        }
        Ok(section)
    }

    fn section<T: DeserializeOwned>(&self, section: &str) -> Result<T, ConfigError> {
        let mut whole = Map::new();
        for (key, setting) in self.sections.get(section).into_iter().flatten() {
            // Every key has a default, so a section of this key alone fails if and only if this value does.
            let alone = Map::from_iter([(key.clone(), setting.value.clone())]);
            serde_json::from_value::<T>(Value::Object(alone))
                .map_err(|error| wrong_type(section, key, setting, expectation(&error)))?;
            whole.insert(key.clone(), setting.value.clone());
        }
        Ok(serde_json::from_value(Value::Object(whole)).expect("every value was read alone"))
    }
}

fn wrong_type(section: &str, key: &str, setting: &Setting, expected: String) -> ConfigError {
    ConfigError::Value(Box::new(BadValue {
        origin: setting.origin.clone(),
        section: section.to_owned(),
        key: key.to_owned(),
        found: shown(&setting.value),
        expected,
        nearest: None,
    }))
}

fn known_section(section: &str, origin: &Origin) -> Result<(), ConfigError> {
    if SECTIONS.contains(&section) {
        return Ok(());
    }
    let hint = match SECTIONS.iter().find(|home| is_key(home, section)) {
        Some(home) => format!("`{section}` is a key of section `{home}`"),
        None => suggestion(section, &SECTIONS),
    };
    Err(ConfigError::UnknownSection { origin: origin.clone(), section: section.to_owned(), hint })
}

fn known_key(section: &str, written: &str, origin: &Origin) -> Result<(), ConfigError> {
    if is_key(section, written) {
        return Ok(());
    }
    Err(ConfigError::UnknownKey {
        origin: origin.clone(),
        section: section.to_owned(),
        key: written.to_owned(),
        hint: key_suggestion(section, written),
    })
}

/// A value as the user wrote it, in backticks; lists and mappings by kind.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{text}`"),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(_) => "a section of its own".to_owned(),
        Value::Null => "empty".to_owned(),
        other => format!("`{other}`"),
    }
}

/// The part of serde's message that says what was expected, in words of a config file.
fn expectation(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let expected = message.split_once("expected ").map_or(message.as_str(), |(_, expected)| expected);
    match expected {
        "usize" | "u64" | "u32" => "a whole number".to_owned(),
        "f64" | "f32" => "a number".to_owned(),
        "a boolean" => "`true` or `false`".to_owned(),
        "path string" => "a path".to_owned(),
        "a sequence" => "a list such as `[a, b]`".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smelt_train::LrSchedule;

    fn settings(text: &str) -> Result<Settings, ConfigError> {
        Settings::from_yaml(text, &|line| Origin::File { path: "run.yaml".into(), line })
    }

    fn message(text: &str) -> String {
        match settings(text).and_then(|settings| settings.typed()) {
            Ok(config) => panic!("accepted: {config:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn layers_replace_single_keys() {
        let mut settings =
            settings("backend: ndarray\ntrain:\n  batch_size: 4\n  lr_schedule: constant\n").unwrap();
        settings.set_from_text("train.batch_size=16").unwrap();
        settings.set_from_text("model.d_model=64").unwrap();
        settings.set_from_text("data.paths=[a, b]").unwrap();
        settings.set("train", "max_steps", 7.into(), Origin::Flag("--max-steps")).unwrap();
        let config = settings.typed().unwrap();
        assert_eq!(config.backend.name, "ndarray");
        assert_eq!((config.train.batch_size, config.train.max_steps), (16, 7));
        assert_eq!(config.train.lr_schedule, LrSchedule::Constant);
        assert_eq!(config.model.shape.get("d_model"), Some(&Value::from(64)));
        assert_eq!(config.data.paths.len(), 2);
        assert_eq!(settings.origin("train", "batch_size"), Origin::Set);
        assert_eq!(settings.origin("train", "seed"), Origin::BuiltIn);
    }

    #[test]
    fn faults_name_file_line_and_key() {
        assert_eq!(
            message("train:\n  batch_sise: 4\n"),
            "run.yaml:2: unknown key `batch_sise` in section `train`"
        );
        assert_eq!(message("trian:\n  batch_size: 4\n"), "run.yaml:1: unknown section `trian`");
        assert_eq!(message("train: 4\n"), "run.yaml:1: section `train` expects keys with values, found `4`");
        assert_eq!(
            message("train:\n  batch_size: many\n"),
            "run.yaml:2: `train.batch_size` is `many`, expected a whole number"
        );
        assert_eq!(
            message("train:\n  batch_size: -1\n"),
            "run.yaml:2: `train.batch_size` is `-1`, expected a whole number"
        );
        assert_eq!(
            message("data:\n  embedded: maybe\n"),
            "run.yaml:2: `data.embedded` is `maybe`, expected `true` or `false`"
        );
        assert_eq!(
            message("train:\n  decay_type: exponential\n"),
            "run.yaml:2: `train.decay_type` is `exponential`, expected one of `1-sqrt`, `linear`, `cosine`"
        );
        assert_eq!(
            message("model:\n  hidden_size: 64\n  d_model: 64\n"),
            "run.yaml:3: `model.d_model` is another name of `model.hidden_size`, which is given as well"
        );
    }

    #[test]
    fn set_wants_section_key_and_value() {
        let mut settings = Settings::default();
        for text in ["train", "batch_size=4", "train.batch_size"] {
            assert!(matches!(settings.set_from_text(text), Err(ConfigError::BadSet { .. })), "{text}");
        }
        let error = settings.set_from_text("train.batchsize=4").unwrap_err();
        assert_eq!(error.to_string(), "`--set`: unknown key `batchsize` in section `train`");
        assert_eq!(error.hint().unwrap(), "did you mean `batch_size`?");
    }
}
