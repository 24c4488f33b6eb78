//! What became of the records of a file.

use std::fmt;

/// Counts of what was taken, shortened and left out, so that none of it is silent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstructionReport {
    /// Records that were taken, whole or shortened.
    pub taken: usize,
    /// Conversations that lost whole turns at their end to fit.
    pub shortened: usize,
    /// Messages that they lost.
    pub removed_messages: usize,
    /// Texts that were cut into several sequences to fit.
    pub cut_texts: usize,
    /// Records left out because not even their first answer fits.
    pub too_long: usize,
    /// Records left out because nothing in them counts.
    pub nothing_to_learn: usize,
    /// Lines left out because they are no record of the file's kind.
    pub bad_lines: usize,
    /// The first few of these: line number and what is wrong.
    pub bad_line_examples: Vec<(usize, String)>,
}

impl InstructionReport {
    const EXAMPLES: usize = 3;

    pub(super) fn add_bad_line(&mut self, line: usize, reason: String) {
        self.bad_lines += 1;
        if self.bad_line_examples.len() < Self::EXAMPLES {
            self.bad_line_examples.push((line, reason));
        }
    }

    /// Whether every line was taken as it is.
    pub fn is_complete(&self) -> bool {
        *self == Self { taken: self.taken, ..Self::default() }
    }
}

/// Shown as a list such as `200 taken, 3 shortened by 8 messages, 1 too long`.
impl fmt::Display for InstructionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} taken", self.taken)?;
        if self.shortened > 0 {
            write!(f, ", {} shortened by {} messages", self.shortened, self.removed_messages)?;
        }
        let counts = [
            (self.cut_texts, "cut into pieces"),
            (self.too_long, "too long"),
            (self.nothing_to_learn, "with nothing to learn"),
            (self.bad_lines, "bad lines"),
        ];
        for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        for (line, reason) in &self.bad_line_examples {
            write!(f, "; line {line}: {reason}")?;
        }
        Ok(())
    }
}
