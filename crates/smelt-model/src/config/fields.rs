//! Typed reading of a configuration's JSON: every complaint names the key, the value and what would fit.
//!
//! A getter takes all spellings of its key, the family's own first; `null` counts as absent, as it does
//! in transformers.

use serde_json::{Map, Value};

use crate::error::ModelError;

const POSITIVE: &str = "a number above 0";

/// The keys of one `config.json`.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// Reads from `map`.
    pub fn new(map: &'a Map<String, Value>) -> Self {
        Self { map }
    }

    /// A whole number from 1 to `limit`.
    ///
    /// # Errors
    /// [`ModelError::MissingKey`] without any of `keys`, [`ModelError::BadValue`] for anything else.
    pub fn size(&self, keys: &[&str], limit: usize) -> Result<usize, ModelError> {
        self.optional_size(keys, limit)?
            .ok_or_else(|| ModelError::MissingKey { key: keys[0].to_owned(), expected: whole_number(limit) })
    }

    /// A whole number from 1 to `limit`, or `None` where absent or `null`.
    ///
    /// # Errors
    /// [`ModelError::BadValue`] for anything else.
    pub fn optional_size(&self, keys: &[&str], limit: usize) -> Result<Option<usize>, ModelError> {
        self.find(keys)
            .map(|(key, value)| {
                let size = value.as_u64().and_then(|number| usize::try_from(number).ok());
                size.filter(|size| (1..=limit).contains(size))
                    .ok_or_else(|| bad_value(key, value, whole_number(limit)))
            })
            .transpose()
    }

    /// A whole number from 0 to `limit`, or `None` where absent or `null`.
    ///
    /// # Errors
    /// [`ModelError::BadValue`] for anything else.
    pub fn optional_count(&self, keys: &[&str], limit: usize) -> Result<Option<usize>, ModelError> {
        self.find(keys)
            .map(|(key, value)| {
                let count = value.as_u64().and_then(|number| usize::try_from(number).ok());
                count
                    .filter(|count| *count <= limit)
                    .ok_or_else(|| bad_value(key, value, format!("a whole number from 0 to {limit}")))
            })
            .transpose()
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// [`ModelError::BadValue`] for anything else.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool, ModelError> {
        self.find(&[key]).map_or(Ok(default), |(key, value)| {
            value.as_bool().ok_or_else(|| bad_value(key, value, "`true` or `false`"))
        })
    }

    /// `key` is there, be it as `null`.
    pub fn mentions(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// There is a value for one of `keys`.
    pub fn has(&self, keys: &[&str]) -> bool {
        self.find(keys).is_some()
    }

    /// The keys of a nested object.
    ///
    /// # Errors
    /// [`ModelError::BadValue`] for anything else.
    pub fn object(&self, keys: &[&str]) -> Result<Option<Fields<'a>>, ModelError> {
        self.find(keys)
            .map(|(key, value)| {
                value.as_object().map(Fields::new).ok_or_else(|| bad_value(key, value, "an object"))
            })
            .transpose()
    }

    /// One of the named `choices` for each of `count` entries of a list.
    ///
    /// # Errors
    /// [`ModelError::BadValue`] for anything else, listing the choices.
    pub fn choices<T: Copy>(
        &self,
        keys: &[&str],
        choices: &[(&str, T)],
        count: usize,
    ) -> Result<Option<Vec<T>>, ModelError> {
        let chosen = |value: &Value| {
            choices.iter().find(|(name, _)| value.as_str() == Some(name)).map(|(_, choice)| *choice)
        };
        self.list(keys, count, chosen, || {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            format!("a list of {count}, each one of {}", names.join(", "))
        })
    }

    /// A list of `count` finite numbers above 0.
    ///
    /// # Errors
    /// [`ModelError::MissingKey`] without any of `keys`, [`ModelError::BadValue`] for anything else.
    pub fn positives(&self, keys: &[&str], count: usize) -> Result<Vec<f64>, ModelError> {
        let expected = || format!("a list of {count} numbers above 0");
        let number = |value: &Value| value.as_f64().filter(|number| number.is_finite() && *number > 0.0);
        self.list(keys, count, number, expected)?
            .ok_or_else(|| ModelError::MissingKey { key: keys[0].to_owned(), expected: expected() })
    }

    /// Whole numbers below `limit`, in any number; none where absent.
    ///
    /// # Errors
    /// [`ModelError::BadValue`] for anything else.
    pub fn indices(&self, keys: &[&str], limit: usize) -> Result<Vec<usize>, ModelError> {
        let index = |value: &Value| value.as_u64().map(|index| index as usize).filter(|index| *index < limit);
        let count = self.find(keys).and_then(|(_, value)| value.as_array()).map_or(0, Vec::len);
        let list = self.list(keys, count, index, || format!("a list of whole numbers below {limit}"));
        list.map(Option::unwrap_or_default)
    }

    fn list<T>(
        &self,
        keys: &[&str],
        count: usize,
        read: impl Fn(&Value) -> Option<T>,
        expected: impl Fn() -> String,
    ) -> Result<Option<Vec<T>>, ModelError> {
        self.find(keys)
            .map(|(key, value)| {
                let entries = value.as_array().filter(|entries| entries.len() == count);
                let list = entries.and_then(|entries| entries.iter().map(read).collect());
                list.ok_or_else(|| bad_value(key, value, expected()))
            })
            .transpose()
    }

    /// A finite number above 0 that has no default.
    ///
    /// # Errors
    /// [`ModelError::MissingKey`] without any of `keys`, [`ModelError::BadValue`] for anything else.
    pub fn required_positive(&self, keys: &[&str]) -> Result<f64, ModelError> {
        self.optional_positive(keys)?
            .ok_or_else(|| ModelError::MissingKey { key: keys[0].to_owned(), expected: POSITIVE.to_owned() })
    }

    /// A finite number above 0, or `None` where absent or `null`.
    ///
    /// # Errors
    /// [`ModelError::BadValue`] for anything else.
    pub fn optional_positive(&self, keys: &[&str]) -> Result<Option<f64>, ModelError> {
        self.number(keys, POSITIVE, |number| number > 0.0)
    }

    /// A finite number, or `None` where absent or `null`.
    ///
    /// # Errors
    /// [`ModelError::BadValue`] for anything else.
    pub fn optional_number(&self, keys: &[&str]) -> Result<Option<f64>, ModelError> {
        self.number(keys, "a number", |_| true)
    }

    /// A finite number above 0.
    ///
    /// # Errors
    /// [`ModelError::BadValue`] for anything else.
    pub fn positive(&self, keys: &[&str], default: f64) -> Result<f64, ModelError> {
        Ok(self.optional_positive(keys)?.unwrap_or(default))
    }

    /// A probability: a number from 0 up to but not including 1.
    ///
    /// # Errors
    /// [`ModelError::BadValue`] for anything else.
    pub fn probability(&self, keys: &[&str], default: f64) -> Result<f64, ModelError> {
        let probability =
            self.number(keys, "a number from 0 up to 1 (exclusive)", |number| (0.0..1.0).contains(&number))?;
        Ok(probability.unwrap_or(default))
    }

    /// One of the named `choices`.
    ///
    /// # Errors
    /// [`ModelError::BadValue`] for anything else, listing the choices.
    pub fn choice<T: Copy>(&self, keys: &[&str], choices: &[(&str, T)], default: T) -> Result<T, ModelError> {
        self.find(keys).map_or(Ok(default), |(key, value)| {
            let chosen = choices.iter().find(|(name, _)| value.as_str() == Some(name));
            chosen.map(|(_, choice)| *choice).ok_or_else(|| {
                let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
                bad_value(key, value, format!("one of {}", names.join(", ")))
            })
        })
    }

    /// The complaint that the value of `key` does not fit.
    pub fn bad(&self, keys: &[&str], expected: impl Into<String>) -> ModelError {
        let (key, value) = self.find(keys).unwrap_or((keys[0], &Value::Null));
        bad_value(key, value, expected)
    }

    fn number(
        &self,
        keys: &[&str],
        expected: &str,
        fits: impl Fn(f64) -> bool,
    ) -> Result<Option<f64>, ModelError> {
        self.find(keys)
            .map(|(key, value)| {
                let number = value.as_f64().filter(|number| number.is_finite() && fits(*number));
                number.ok_or_else(|| bad_value(key, value, expected))
            })
            .transpose()
    }

    fn find<'k>(&self, keys: &[&'k str]) -> Option<(&'k str, &'a Value)> {
        keys.iter()
            .find_map(|key| self.map.get(*key).filter(|value| !value.is_null()).map(|value| (*key, value)))
    }
}

fn whole_number(limit: usize) -> String {
    format!("a whole number from 1 to {limit}")
}

fn bad_value(key: &str, value: &Value, expected: impl Into<String>) -> ModelError {
    let mut found = value.to_string();
    if found.len() > 80 {
        found = format!("{}...", found.chars().take(77).collect::<String>());
    }
    ModelError::BadValue { key: key.to_owned(), found, expected: expected.into() }
}
