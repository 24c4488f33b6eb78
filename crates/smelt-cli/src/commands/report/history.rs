//! A run's log, read back.
//!
//! Fields are found by name: logs of other versions may have fewer or more. Lines that are no records are
//! counted, since a kill can cut the last one.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use serde_json::{Map, Value};
use smelt_train::METRICS_FILE;

use crate::error::CliError;

/// The fields of a record.
pub type Fields = Map<String, Value>;

/// Values beyond these are nothing to draw.
const SHOWN: f64 = 1e30;

/// What a run wrote down.
#[derive(Debug, Default)]
pub struct History {
    /// Its processes, the first one first.
    pub starts: Vec<Fields>,
    train: Vec<Fields>,
    validation: Vec<Fields>,
    /// Its texts.
    pub samples: Vec<Fields>,
    /// Steps that changed nothing.
    pub skipped_steps: u64,
    /// Lines that are no records.
    pub damaged_lines: u64,
}

/// A kind of record that holds numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Training steps.
    Train,
    /// Evaluations.
    Validation,
}

impl History {
    /// Reads the log in the folder of a run.
    ///
    /// # Errors
    /// [`CliError::Io`] if it cannot be read, [`CliError::NoRecords`] if it is no log.
    pub fn read(run: &Path) -> Result<Self, CliError> {
        let path = run.join(METRICS_FILE);
        let io = |source| CliError::Io { action: "read", path: path.clone(), source };
        let mut history = Self::default();
        for line in BufReader::new(File::open(&path).map_err(io)?).split(b'\n') {
            history.add(&line.map_err(io)?);
        }
        match history.starts.len() + history.train.len() + history.validation.len() {
            0 => Err(CliError::NoRecords { path }),
            _ => Ok(history),
        }
    }

    /// Takes in a line.
    pub fn add(&mut self, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            return;
        }
        let record = serde_json::from_slice::<Fields>(line).ok();
        let Some(record) = record.filter(|record| step(record).is_some()) else {
            self.damaged_lines += 1;
            return;
        };
        match record.get("kind").and_then(Value::as_str) {
            Some("begins") => self.starts.push(record),
            Some("train") => self.train.push(record),
            Some("validation") => self.validation.push(record),
            Some("sample") => self.samples.push(record),
            Some("skipped") => self.skipped_steps += 1,
            // Kinds of a later version.
            Some(_) => {}
            None => self.damaged_lines += 1,
        }
    }

    /// The last process.
    pub fn start(&self) -> Option<&Fields> {
        self.starts.last()
    }

    /// The values of `key` by step, in order, as far as they can be drawn.
    pub fn series(&self, group: Group, key: &str) -> Vec<(f64, f64)> {
        let records = match group {
            Group::Train => &self.train,
            Group::Validation => &self.validation,
        };
        let point = |record: &Fields| Some((step(record)? as f64, record.get(key)?.as_f64()?));
        let mut points: Vec<(f64, f64)> =
            records.iter().filter_map(point).filter(|(_, value)| value.abs() < SHOWN).collect();
        points.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        points.dedup_by_key(|(step, _)| *step);
        points
    }

    /// The last training record.
    pub fn last_step(&self) -> Option<&Fields> {
        self.train.last()
    }

    /// Training time over all processes, which each count from zero.
    pub fn elapsed_seconds(&self) -> f64 {
        let (mut before, mut now) = (0.0, 0.0);
        for seconds in self.train.iter().filter_map(|record| record.get("elapsed_seconds")?.as_f64()) {
            if seconds < now {
                before += now;
            }
            now = seconds;
        }
        before + now
    }
}

/// The step of a record.
pub fn step(record: &Fields) -> Option<u64> {
    record.get("step")?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(lines: &str) -> History {
        let mut history = History::default();
        lines.lines().for_each(|line| history.add(line.as_bytes()));
        history
    }

    #[test]
    fn numbers_are_found_by_name_and_damaged_lines_counted() {
        let history = history(
            "{\"kind\":\"train\",\"step\":2,\"loss\":3.5,\"elapsed_seconds\":7}\n\
             {\"kind\":\"train\",\"step\":1,\"loss\":4,\"elapsed_seconds\":9}\n\
             {\"kind\":\"train\",\"step\":3,\"loss\":null}\n\
             {\"kind\":\"train\",\"step\":4,\"loss\":1e300,\"elapsed_seconds\":2}\n\
             {\"kind\":\"train\",\"step\":-1,\"loss\":1}\n\
             {\"kind\":\"dream\",\"step\":4}\n\
             \n[1, 2]\n{\"step\":4}\n{\"kind\":\"train\",\"st",
        );
        assert_eq!(history.series(Group::Train, "loss"), [(1.0, 4.0), (2.0, 3.5)]);
        assert_eq!(history.series(Group::Validation, "loss"), []);
        assert_eq!(history.damaged_lines, 4);
        assert_eq!(history.elapsed_seconds(), 11.0);
    }
}
