//! Section `model`: a shape in the words of the family, or a folder to start from.
//!
//! Which keys there are, and what their other names are, is the families' business
//! (`smelt_model::family`); this file gives their complaints a line in the user's file.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Map, Value};
use smelt_model::family::FAMILIES;
use smelt_model::{ModelConfig, ModelError, SectionKey};

use super::error::{BadValue, ConfigError};
use super::settings::{Settings, shown};

/// Section `model`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ModelSection {
    /// Folder with the weights to start from; excludes every key of the shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The shape, under the names that were written.
    #[serde(flatten)]
    pub shape: Map<String, Value>,
}

impl ModelSection {
    /// Sets one key of the shape, replacing it under whatever name it was given.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.shape.retain(|given, _| !same_key(given, key));
        self.shape.insert(key.to_owned(), value.into());
    }

    /// The configuration of a model of this shape.
    ///
    /// # Errors
    /// [`ModelError`] for a key or value that the family does not take.
    pub fn model_config(&self) -> Result<ModelConfig, ModelError> {
        ModelConfig::from_section(&self.shape)
    }
}

/// Names of the section's keys, other names of the same key included.
pub(super) fn names() -> Vec<&'static str> {
    let shape = section_keys().flat_map(|key| key.names.iter().copied());
    let mut names: Vec<&str> = ["path", "model_type"].into_iter().chain(shape).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// What the section may set, over all families.
fn section_keys() -> impl Iterator<Item = &'static SectionKey> {
    FAMILIES.iter().flat_map(|family| family.section_keys).copied().flatten()
}

/// Whether two names mean one setting.
pub(super) fn same_key(a: &str, b: &str) -> bool {
    let together = |names: &[&str]| names.contains(&a) && names.contains(&b);
    a == b || section_keys().any(|key| together(key.names))
}

/// The configuration of the shape, or what is wrong with it, where the user wrote it.
pub(super) fn checked(section: &ModelSection, settings: &Settings) -> Result<ModelConfig, ConfigError> {
    heads_share_width(section, settings)?;
    section.model_config().map_err(|error| placed(error, section, settings))
}

/// Comes before the family's own check because it can name the nearest width; a width of heads of its own frees them.
fn heads_share_width(section: &ModelSection, settings: &Settings) -> Result<(), ConfigError> {
    let find = |key| {
        written(section, key).and_then(|(name, value)| Some((name, value.as_u64().filter(|n| *n > 0)?)))
    };
    let (Some((width_key, width)), Some((heads_key, heads))) =
        (find("hidden_size"), find("num_attention_heads"))
    else {
        return Ok(());
    };
    if width % heads == 0 || section.shape.contains_key("head_dim") {
        return Ok(());
    }
    let (below, above) = (width / heads * heads, width.next_multiple_of(heads));
    let nearest = if below > 0 && width - below <= above - width { below } else { above };
    Err(ConfigError::Value(Box::new(BadValue {
        origin: settings.origin("model", width_key),
        section: "model".to_owned(),
        key: width_key.to_owned(),
        found: format!("`{width}`"),
        expected: format!("a multiple of `{heads_key}`, {heads}"),
        nearest: Some(nearest.to_string()),
    })))
}

/// The entry that decides `key` of `config.json`, under whatever name it was given.
fn written<'a>(section: &'a ModelSection, key: &str) -> Option<(&'a str, &'a Value)> {
    let decides = |name: &str| {
        let writes = |known: &SectionKey| known.names.contains(&name) && known.writes.contains(&key);
        same_key(name, key) || section_keys().any(writes)
    };
    section.shape.iter().find(|(name, _)| decides(name)).map(|(name, value)| (name.as_str(), value))
}

/// The model crate's complaint with the user's own name of the key and its line.
fn placed(error: ModelError, section: &ModelSection, settings: &Settings) -> ConfigError {
    let section_name = "model".to_owned();
    match &error {
        ModelError::BadValue { key, found, expected } => {
            let (name, value) = written(section, key).unwrap_or((key, &Value::Null));
            let found = if value.is_null() { format!("`{found}`") } else { shown(value) };
            ConfigError::Value(Box::new(BadValue {
                origin: settings.origin("model", name),
                section: section_name,
                key: name.to_owned(),
                found,
                nearest: nearest(value, expected),
                expected: expected.clone(),
            }))
        }
        ModelError::UnknownFamily { found, available, nearest } => ConfigError::Value(Box::new(BadValue {
            origin: settings.origin("model", "model_type"),
            section: section_name,
            key: "model_type".to_owned(),
            found: format!("`{found}`"),
            expected: format!("one of {available}"),
            nearest: nearest.clone(),
        })),
        ModelError::MissingKey { key, expected } => {
            ConfigError::Missing { section: section_name, key: key.clone(), expected: expected.clone() }
        }
        _ => ConfigError::Model(Box::new(error)),
    }
}

/// The nearest value that fits, read out of what was expected.
fn nearest(value: &Value, expected: &str) -> Option<String> {
    if let (Some(text), Some(list)) = (value.as_str(), expected.strip_prefix("one of ")) {
        let name = list.split(", ").min_by_key(|name| strsim::damerau_levenshtein(name, text))?;
        return Some(name.to_owned());
    }
    let number = value.as_f64()?;
    if let Some((least, most)) =
        expected.strip_prefix("a whole number from ").and_then(|range| range.split_once(" to "))
    {
        let (least, most): (f64, f64) = (least.parse().ok()?, most.parse().ok()?);
        return Some(number.round().clamp(least, most).to_string());
    }
    let probability = expected.starts_with("a number from 0 up to 1");
    probability.then(|| if number < 0.0 { "0" } else { "0.99" }.to_owned())
}
