//! The rows that `smelt verify` prints.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// One comparison with a reference.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// The folder under test.
    pub folder: PathBuf,
    /// What was compared.
    pub check: String,
    /// Largest error; absent where values are equal or not, or nothing could be compared.
    pub error: Option<f64>,
    /// Largest error that passes.
    pub tolerance: Option<f64>,
    /// Whether it passed.
    pub passed: bool,
    /// Why not, or what was counted.
    pub note: Option<String>,
}

/// The rows of one folder.
#[derive(Debug)]
pub struct Checks {
    folder: PathBuf,
    /// The rows so far.
    pub rows: Vec<Check>,
}

impl Checks {
    /// No rows yet.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), rows: Vec::new() }
    }

    /// Passes if no value is farther from its reference than `tolerance`.
    pub fn close(&mut self, check: &str, found: &[f32], expected: &[f32], tolerance: f64) {
        if found.len() != expected.len() {
            return self.fail(check, format!("{} values, expected {}", found.len(), expected.len()));
        }
        let errors = found.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b));
        self.within(check, errors, tolerance);
    }

    /// Passes if no value is farther from its reference than the `tolerance`-fold of it.
    pub fn relative(&mut self, check: &str, found: &[f64], expected: &[f64], tolerance: f64) {
        let errors = found.iter().zip(expected).map(|(a, b)| (a - b) / b.abs().max(f64::MIN_POSITIVE));
        self.within(check, errors, tolerance);
    }

    fn within(&mut self, check: &str, errors: impl Iterator<Item = f64>, tolerance: f64) {
        // A NaN would lose every comparison, so it counts as infinite.
        let largest = errors
            .map(f64::abs)
            .fold(0.0, |most, error| if error.is_nan() { f64::INFINITY } else { error.max(most) });
        self.push(check, Some(largest), Some(tolerance), largest <= tolerance, None);
    }

    /// Passes if two lists are the same; otherwise the note says where they part.
    pub fn equal(&mut self, check: &str, found: &[u32], expected: &[u32]) {
        let parting = found.iter().zip(expected).position(|(a, b)| a != b);
        let note = match parting {
            Some(at) => Some(format!("element {at} is {}, expected {}", found[at], expected[at])),
            None if found.len() != expected.len() => {
                Some(format!("{} elements, expected {}", found.len(), expected.len()))
            }
            None => None,
        };
        self.push(check, None, None, note.is_none(), note);
    }

    /// Passes if no difference was found; otherwise the note says which.
    pub fn same(&mut self, check: &str, difference: Option<String>) {
        self.push(check, None, None, difference.is_none(), difference);
    }

    /// A failure to compare at all.
    pub fn fail(&mut self, check: &str, note: impl Into<String>) {
        self.push(check, None, None, false, Some(note.into()));
    }

    /// A failure with the chain of its causes.
    pub fn fail_with(&mut self, check: &str, error: &dyn Error) {
        let mut note = error.to_string();
        let mut cause = error.source();
        while let Some(current) = cause {
            note += &format!(": {current}");
            cause = current.source();
        }
        self.fail(check, note);
    }

    /// A failing row for each of `names` that no check reads.
    pub fn unread(&mut self, what: &str, names: impl IntoIterator<Item = String>) {
        for name in BTreeSet::from_iter(names) {
            self.fail(&format!("{what} {name}"), "not supported yet");
        }
    }

    fn push(
        &mut self,
        check: &str,
        error: Option<f64>,
        tolerance: Option<f64>,
        passed: bool,
        note: Option<String>,
    ) {
        let (folder, check) = (self.folder.clone(), check.to_owned());
        self.rows.push(Check { folder, check, error, tolerance, passed, note });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(checks: &Checks) -> (bool, Option<f64>) {
        let row = checks.rows.last().unwrap();
        (row.passed, row.error)
    }

    #[test]
    fn only_what_is_close_passes() {
        let mut checks = Checks::new(Path::new("folder"));
        checks.close("a", &[1.0, 2.0], &[1.0, 2.25], 0.25);
        assert_eq!(last(&checks), (true, Some(0.25)));
        checks.close("b", &[1.0, 2.0], &[1.0, 2.25], 0.2);
        assert_eq!(last(&checks), (false, Some(0.25)));
        checks.close("c", &[f32::NAN, 2.0], &[1.0, 2.0], 1e9);
        assert_eq!(last(&checks), (false, Some(f64::INFINITY)));
        checks.close("d", &[1.0], &[1.0, 2.0], 1e9);
        assert_eq!(last(&checks), (false, None));
        checks.relative("e", &[101.0], &[100.0], 0.02);
        assert!(last(&checks).0);
    }

    #[test]
    fn lists_say_where_they_part() {
        let mut checks = Checks::new(Path::new("folder"));
        checks.equal("same", &[1, 2], &[1, 2]);
        checks.equal("other", &[1, 3], &[1, 2]);
        checks.equal("short", &[1], &[1, 2]);
        let notes: Vec<Option<&str>> = checks.rows.iter().map(|row| row.note.as_deref()).collect();
        assert_eq!(notes, [None, Some("element 1 is 3, expected 2"), Some("1 elements, expected 2")]);
    }
}
