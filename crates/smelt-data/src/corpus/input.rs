//! What to read: paths, patterns, standard input, or texts that are in memory already.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::DataError;

/// One thing that documents are read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A file, or a folder with everything below it.
    Path(PathBuf),
    /// A pattern such as `src/**/*.sh`; what it finds is taken in alphabetical order.
    Pattern(String),
    /// Standard input.
    Stdin,
    /// A text with its name.
    Text {
        /// What it is called in messages.
        source: String,
        /// The text.
        text: String,
    },
}

impl Input {
    /// What `typed` means: `-` is standard input, a path that does not exist but has `*`, `?` or `[` in
    /// it a pattern.
    pub fn from_typed(typed: &Path) -> Self {
        if typed == Path::new("-") {
            return Self::Stdin;
        }
        match typed.to_str() {
            Some(text) if text.contains(['*', '?', '[']) && !typed.exists() => Self::Pattern(text.to_owned()),
            _ => Self::Path(typed.to_owned()),
        }
    }

    /// The paths that this input names; none for standard input and texts.
    ///
    /// # Errors
    /// If a path does not exist, or a pattern is none or finds nothing.
    pub(crate) fn paths(&self) -> Result<Vec<PathBuf>, DataError> {
        match self {
            Self::Path(path) => {
                std::fs::metadata(path).map_err(DataError::io("read", path))?;
                Ok(vec![path.clone()])
            }
            Self::Pattern(pattern) => matches_of(pattern),
            Self::Stdin | Self::Text { .. } => Ok(Vec::new()),
        }
    }
}

/// Shown as it was typed.
impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Pattern(pattern) => f.write_str(pattern),
            Self::Stdin => f.write_str("-"),
            Self::Text { source, .. } => f.write_str(source),
        }
    }
}

fn matches_of(pattern: &str) -> Result<Vec<PathBuf>, DataError> {
    let bad = |reason: String| DataError::BadPattern { pattern: pattern.to_owned(), reason };
    let found = glob::glob(pattern).map_err(|error| bad(error.to_string()))?;
    // A folder that cannot be listed hides what is in it, as a shell's pattern does.
    let paths: Vec<PathBuf> = found.filter_map(Result::ok).collect();
    if paths.is_empty() { Err(bad("it finds nothing".to_owned())) } else { Ok(paths) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.sh", "a.sh", "[odd].txt"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        assert_eq!(Input::from_typed(Path::new("-")), Input::Stdin);
        let odd = folder.path().join("[odd].txt");
        assert_eq!(Input::from_typed(&odd), Input::Path(odd.clone()));

        let scripts = Input::from_typed(&folder.path().join("*.sh"));
        assert_eq!(scripts.paths().unwrap(), ["a.sh", "b.sh"].map(|name| folder.path().join(name)));
        let nothing = Input::from_typed(&folder.path().join("*.py")).paths().unwrap_err();
        assert!(nothing.to_string().ends_with("it finds nothing"), "{nothing}");
        let broken = Input::from_typed(Path::new("absent/***")).paths().unwrap_err();
        assert!(broken.to_string().starts_with("pattern `absent/***`: "), "{broken}");
    }
}
