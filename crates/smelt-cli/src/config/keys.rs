//! Names of sections and keys: what exists, and the nearest to a typo.
//!
//! The lists come from the typed sections themselves: serde hands the field names of a struct to the
//! deserializer, so a field added there is a key here. Those of `model` come from the families.

use serde::de::value::Error as NamesError;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

use super::model;
use super::sections::{
    AdapterSection, BackendSection, CheckpointSection, DataSection, LogSection, QuantizationSection,
    TrainSection,
};

/// Sections in the order of a config file.
pub const SECTIONS: [&str; 8] =
    ["backend", "model", "data", "train", "adapter", "quantization", "checkpoint", "log"];

/// Keys of `section` under all their names, or `None` where smelt has no such section.
pub fn keys(section: &str) -> Option<Vec<&'static str>> {
    Some(match section {
        "backend" => field_names::<BackendSection>().to_vec(),
        "model" => model::names(),
        "data" => field_names::<DataSection>().to_vec(),
        "train" => field_names::<TrainSection>().to_vec(),
        "adapter" => field_names::<AdapterSection>().to_vec(),
        "quantization" => field_names::<QuantizationSection>().to_vec(),
        "checkpoint" => field_names::<CheckpointSection>().to_vec(),
        "log" => field_names::<LogSection>().to_vec(),
        _ => return None,
    })
}

/// Whether `section` has `key` under some name.
pub fn is_key(section: &str, key: &str) -> bool {
    keys(section).is_some_and(|keys| keys.contains(&key))
}

/// The way out for a name that does not exist: the nearest one, or all of them.
pub fn suggestion(written: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(written, name), name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, name)| *distance <= 2 + name.len() / 4);
    match nearest {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None => {
            format!("known: {}", known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
        }
    }
}

/// As [`suggestion`] for a key of `section`; a key of another section is pointed to.
pub fn key_suggestion(section: &str, written: &str) -> String {
    if let Some(other) = SECTIONS.iter().find(|other| is_key(other, written)) {
        return format!("`{written}` belongs to section `{other}`");
    }
    suggestion(written, &keys(section).unwrap_or_default())
}

fn field_names<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // The error is the way out of serde once the names are known.
    let _ = T::deserialize(NameReader { names: &mut names });
    names
}

struct NameReader<'a> {
    names: &'a mut &'static [&'static str],
}

impl<'de> Deserializer<'de> for NameReader<'_> {
    type Error = NamesError;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, NamesError> {
        *self.names = fields;
        Err(NamesError::custom("only the names are read"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, NamesError> {
        Err(NamesError::custom("a section is a struct"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_has_keys() {
        for section in SECTIONS {
            assert!(!keys(section).unwrap().is_empty(), "{section}");
        }
        assert!(keys("train").unwrap().contains(&"batch_size"));
        assert_eq!(keys("trian"), None);
    }

    #[test]
    fn model_keys_have_their_other_names() {
        for name in ["d_model", "n_layers", "n_heads", "d_ff", "max_seq_len", "hidden_size", "n_embd", "path"]
        {
            assert!(is_key("model", name), "{name}");
        }
        assert!(model::same_key("d_model", "hidden_size"));
        assert!(!model::same_key("n_layers", "hidden_size"));
        assert!(!is_key("train", "d_model"));
    }

    #[test]
    fn typos_find_the_nearest_name() {
        assert_eq!(key_suggestion("train", "learning_rat"), "did you mean `learning_rate`?");
        assert_eq!(key_suggestion("train", "hidden_size"), "`hidden_size` belongs to section `model`");
        assert!(key_suggestion("log", "qqqqqqqqqqqq").starts_with("known: `log_interval`"));
        assert_eq!(suggestion("trian", &SECTIONS), "did you mean `train`?");
    }
}
