//! The `model` section of a run configuration, turned into a complete `config.json`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::error::{ModelError, nearest};
use crate::family;

/// One quantity that the `model` section may set.
#[derive(Debug)]
pub struct SectionKey {
    /// Its spellings: the family's own, Hugging Face's common one, smelt's aliases.
    pub names: &'static [&'static str],
    /// The keys of `config.json` that receive the value.
    pub writes: &'static [&'static str],
}

/// The family that a section without `model_type` means.
const DEFAULT_FAMILY: &str = "gpt2";

pub(super) fn complete(section: &Map<String, Value>) -> Result<Map<String, Value>, ModelError> {
    let model_type = section.get("model_type").cloned().unwrap_or_else(|| DEFAULT_FAMILY.into());
    let family = family::detect(&Map::from_iter([("model_type".to_owned(), model_type)]))?;
    let mut raw = (family.from_scratch)();
    let mut written: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, value) in section.iter().filter(|(name, _)| *name != "model_type") {
        let Some(key) =
            family.section_keys.iter().copied().flatten().find(|key| key.names.contains(&name.as_str()))
        else {
            let known = family
                .section_keys
                .iter()
                .copied()
                .flatten()
                .flat_map(|key| key.names)
                .copied()
                .chain(["model_type"]);
            return Err(ModelError::UnknownKey { key: name.clone(), nearest: nearest(name, known) });
        };
        for target in key.writes {
            if let Some(first) = written.insert(target, name) {
                return Err(ModelError::KeyTwice { first: first.to_owned(), second: name.clone() });
            }
            raw.insert((*target).to_owned(), value.clone());
        }
    }
    Ok(raw)
}
