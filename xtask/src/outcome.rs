//! How a chore ended, and the error type of all of them.

use std::error::Error;

/// Errors of chores are read by people who are about to mend the cause: text is enough.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The end of a chore that ran; `main` turns it into an exit code.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything that was looked at is as it should be.
    Passed,
    /// Something is not; it has been printed.
    Failed,
    /// The arguments make no sense.
    WrongUsage(String),
    /// This machine lacks what the check needs, so nothing is known.
    NotChecked(String),
}

impl Outcome {
    /// [`Outcome::Passed`] if `passed`, else [`Outcome::Failed`].
    pub fn from_passed(passed: bool) -> Self {
        if passed { Self::Passed } else { Self::Failed }
    }
}
