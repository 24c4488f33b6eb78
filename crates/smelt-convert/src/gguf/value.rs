//! Metadata of a GGUF file: typed values by key, and complaints that name the key.

use std::collections::BTreeMap;
use std::fmt;

use crate::ConvertError;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any integer type that has no sign.
    Unsigned(u64),
    /// Any integer type that has one.
    Signed(i64),
    /// Of 32 or 64 bits.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// Text.
    Text(String),
    /// Texts.
    Texts(Vec<String>),
    /// Integers of any type.
    Integers(Vec<i64>),
    /// Numbers of 32 or 64 bits.
    Floats(Vec<f64>),
    /// Flags.
    Flags(Vec<bool>),
}

/// All keys of a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata(pub BTreeMap<String, Value>);

/// Longest value that a complaint quotes.
const QUOTED: usize = 60;

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(value) => write!(f, "{value}"),
            Self::Signed(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Text(text) => write!(f, "{:?}", text.chars().take(QUOTED).collect::<String>()),
            Self::Texts(texts) => write!(f, "a list of {} texts", texts.len()),
            Self::Integers(numbers) => write!(f, "a list of {} integers", numbers.len()),
            Self::Floats(numbers) => write!(f, "a list of {} numbers", numbers.len()),
            Self::Flags(flags) => write!(f, "a list of {} flags", flags.len()),
        }
    }
}

impl Metadata {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// A text, or `None` where absent.
    ///
    /// # Errors
    /// [`ConvertError::BadMetadata`] for anything else.
    pub fn text(&self, key: &str) -> Result<Option<&str>, ConvertError> {
        self.read(key, "a text", |value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// Texts, or `None` where absent.
    ///
    /// # Errors
    /// [`ConvertError::BadMetadata`] for anything else.
    pub fn texts(&self, key: &str) -> Result<Option<&[String]>, ConvertError> {
        self.read(key, "a list of texts", |value| match value {
            Value::Texts(texts) => Some(texts.as_slice()),
            _ => None,
        })
    }

    /// A whole number from 0, or `None` where absent; of a list whose entries are all the same, that entry.
    ///
    /// # Errors
    /// [`ConvertError::BadMetadata`] for anything else.
    pub fn count(&self, key: &str) -> Result<Option<usize>, ConvertError> {
        self.read(key, "a whole number, the same for all blocks", |value| match value {
            Value::Unsigned(number) => usize::try_from(*number).ok(),
            Value::Signed(number) => usize::try_from(*number).ok(),
            Value::Integers(numbers) => {
                let first = numbers.first().filter(|first| numbers.iter().all(|number| number == *first))?;
                usize::try_from(*first).ok()
            }
            _ => None,
        })
    }

    /// A whole number from 0 that must be there.
    ///
    /// # Errors
    /// [`ConvertError::BadMetadata`].
    pub fn required_count(&self, key: &str) -> Result<usize, ConvertError> {
        self.count(key)?.ok_or_else(|| missing(key, "a whole number"))
    }

    /// The id of the token for `role`, such as `bos`; `None` where absent, or where no such token is among `vocab_size`:
    /// llama.cpp passes over those.
    ///
    /// # Errors
    /// [`ConvertError::BadMetadata`] for anything else.
    pub fn token(&self, role: &str, vocab_size: usize) -> Result<Option<u32>, ConvertError> {
        let number =
            self.read(
                &format!("tokenizer.ggml.{role}_token_id"),
                "the id of a token",
                |value| match value {
                    Value::Unsigned(number) => Some(i128::from(*number)),
                    Value::Signed(number) => Some(i128::from(*number)),
                    _ => None,
                },
            )?;
        let token = number.and_then(|number| u32::try_from(number).ok());
        Ok(token.filter(|token| (*token as usize) < vocab_size))
    }

    /// A finite number, or `None` where absent.
    ///
    /// # Errors
    /// [`ConvertError::BadMetadata`] for anything else.
    pub fn number(&self, key: &str) -> Result<Option<f64>, ConvertError> {
        self.read(key, "a finite number", |value| match value {
            Value::Float(number) => Some(*number).filter(|number| number.is_finite()),
            Value::Unsigned(number) => Some(*number as f64),
            Value::Signed(number) => Some(*number as f64),
            _ => None,
        })
    }

    /// Numbers, or `None` where absent.
    ///
    /// # Errors
    /// [`ConvertError::BadMetadata`] for anything else.
    pub fn floats(&self, key: &str) -> Result<Option<&[f64]>, ConvertError> {
        self.read(key, "a list of numbers", |value| match value {
            Value::Floats(numbers) => Some(numbers.as_slice()),
            _ => None,
        })
    }

    /// Integers, or `None` where absent.
    ///
    /// # Errors
    /// [`ConvertError::BadMetadata`] for anything else.
    pub fn integers(&self, key: &str) -> Result<Option<&[i64]>, ConvertError> {
        self.read(key, "a list of integers", |value| match value {
            Value::Integers(numbers) => Some(numbers.as_slice()),
            _ => None,
        })
    }

    /// Flags, or `None` where absent.
    ///
    /// # Errors
    /// [`ConvertError::BadMetadata`] for anything else.
    pub fn flags(&self, key: &str) -> Result<Option<&[bool]>, ConvertError> {
        self.read(key, "a list of flags", |value| match value {
            Value::Flags(flags) => Some(flags.as_slice()),
            _ => None,
        })
    }

    /// True or false, or `None` where absent.
    ///
    /// # Errors
    /// [`ConvertError::BadMetadata`] for anything else.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, ConvertError> {
        self.read(key, "true or false", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    /// Sets `key`.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        self.0.insert(key.into(), value.into());
    }

    fn read<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ConvertError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| bad(key, value, expected))
    }
}

/// The complaint that the value of `key` does not fit.
pub(super) fn bad(key: &str, found: &Value, expected: impl Into<String>) -> ConvertError {
    ConvertError::BadMetadata { key: key.to_owned(), found: found.to_string(), expected: expected.into() }
}

/// The complaint that there is no `key`.
pub(super) fn missing(key: &str, expected: impl Into<String>) -> ConvertError {
    let found = "missing".to_owned();
    ConvertError::BadMetadata { key: key.to_owned(), found, expected: expected.into() }
}

macro_rules! into_value {
    ($($from:ty => $make:expr),*) => {
        $(impl From<$from> for Value {
            fn from(value: $from) -> Self {
                ($make)(value)
            }
        })*
    };
}

into_value!(
    u32 => |value: u32| Self::Unsigned(value.into()),
    usize => |value: usize| Self::Unsigned(value as u64),
    f64 => Self::Float,
    bool => Self::Bool,
    &str => |text: &str| Self::Text(text.to_owned()),
    String => Self::Text,
    Vec<String> => Self::Texts,
    Vec<bool> => Self::Flags
);
