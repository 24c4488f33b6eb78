//! What can be wrong with a run config, said with the place, the key, the value and a way out.

use std::fmt;
use std::path::PathBuf;

/// Where a setting was written.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// Nobody wrote it: a built-in default or a configuration embedded in the binary.
    BuiltIn,
    /// A config file.
    File {
        /// The path as the user gave it.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
    },
    /// A command line flag such as `--batch-size`.
    Flag(&'static str),
    /// `--set section.key=value`.
    Set,
}

impl fmt::Display for Origin {
    /// Writes the prefix of a message: `configs/tiny.yaml:12: `, `--batch-size: ` or nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => Ok(()),
            Self::File { path, line } => write!(f, "{}:{line}: ", path.display()),
            Self::Flag(flag) => write!(f, "`{flag}`: "),
            Self::Set => write!(f, "`--set`: "),
        }
    }
}

/// A value that its key cannot have.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{origin}`{section}.{key}` is {found}, expected {expected}")]
pub struct BadValue {
    /// Where.
    pub origin: Origin,
    /// The section.
    pub section: String,
    /// The key.
    pub key: String,
    /// The value, in backticks where it is one.
    pub found: String,
    /// What it may be.
    pub expected: String,
    /// The nearest right value, where one is known.
    pub nearest: Option<String>,
}

/// Faults of a run config.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read config `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not YAML, or more YAML than a config may use.
    #[error("{origin}{message}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// What is wrong.
        message: String,
    },
    /// A section that is not a mapping of keys.
    #[error("{origin}section `{section}` expects keys with values, found {found}")]
    NotASection {
        /// Where.
        origin: Origin,
        /// The section.
        section: String,
        /// What stands there.
        found: String,
    },
    /// A section that smelt does not have.
    #[error("{origin}unknown section `{section}`")]
    UnknownSection {
        /// Where.
        origin: Origin,
        /// What was written.
        section: String,
        /// The way out.
        hint: String,
    },
    /// A key that the section does not have.
    #[error("{origin}unknown key `{key}` in section `{section}`")]
    UnknownKey {
        /// Where.
        origin: Origin,
        /// The section.
        section: String,
        /// What was written.
        key: String,
        /// The way out.
        hint: String,
    },
    /// Two names of one setting, both given.
    #[error("{origin}`{section}.{alias}` is another name of `{section}.{key}`, which is given as well")]
    GivenTwice {
        /// Where the second one is.
        origin: Origin,
        /// The section.
        section: String,
        /// The second name.
        alias: String,
        /// The first name.
        key: String,
    },
    /// A value that the setting cannot have, alone or beside the others.
    #[error(transparent)]
    Value(Box<BadValue>),
    /// A key that the model's family cannot do without.
    #[error("`{section}.{key}` is missing, expected {expected}")]
    Missing {
        /// The section.
        section: String,
        /// The key.
        key: String,
        /// What it may be.
        expected: String,
    },
    /// The family refuses the shape for another reason.
    #[error("the section `model` describes no model")]
    Model(#[source] Box<smelt_model::ModelError>),
    /// Two settings that exclude each other.
    #[error("{origin}`{key}` and `{other}` cannot both be given")]
    Excluded {
        /// Where.
        origin: Origin,
        /// One of them, with its section.
        key: String,
        /// The other one, with its section.
        other: String,
        /// The way out.
        hint: String,
    },
    /// `--set` with something else than `section.key=value`.
    #[error("`--set {text}` is not of the form `section.key=value`")]
    BadSet {
        /// What was written.
        text: String,
    },
}

impl ConfigError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } => {
                Some("`smelt train` without `--config` runs the embedded quick start".to_owned())
            }
            Self::Syntax { .. } | Self::NotASection { .. } => Some(
                "a config is sections of `key: value` lines, indented with spaces; see `configs/`".to_owned(),
            ),
            Self::UnknownSection { hint, .. }
            | Self::UnknownKey { hint, .. }
            | Self::Excluded { hint, .. } => Some(hint.clone()),
            Self::GivenTwice { key, .. } => Some(format!("keep `{key}`")),
            Self::Value(value) => {
                value.nearest.as_ref().map(|value| format!("the nearest right value is `{value}`"))
            }
            Self::Missing { section, key, .. } => Some(format!("add `{key}:` to the section `{section}:`")),
            Self::Model(_) => None,
            Self::BadSet { .. } => Some("for example `--set train.batch_size=4`".to_owned()),
        }
    }
}
