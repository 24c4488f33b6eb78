//! What is written down of a run: one JSON object per line in `metrics.jsonl`, and the same for TensorBoard.
//!
//! A run that resumes goes on in the files it finds, without what it had written after its last checkpoint.

mod event_file;
mod messages;
mod record;

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use smelt_model::weights::write_atomic;

use self::event_file::EventFile;
pub use self::record::{Record, RunStart, Sample};
use crate::TrainError;

/// File name of the log in the folder of a run.
pub const METRICS_FILE: &str = "metrics.jsonl";

/// Folder of TensorBoard's event files in the folder of a run.
pub const TENSORBOARD: &str = "tensorboard";

/// An open log.
#[derive(Debug)]
pub struct MetricsLog {
    run: PathBuf,
    path: PathBuf,
    file: File,
    /// Steps done before this process.
    steps: u64,
    events: Option<EventFile>,
    peak_tokens_per_second: Option<f64>,
}

impl MetricsLog {
    /// Opens the log of a run that stands after `steps` steps; lines of later steps, which a killed run
    /// wrote after its last checkpoint, are dropped.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn open(run: &Path, steps: u64) -> Result<Self, TrainError> {
        let path = run.join(METRICS_FILE);
        if path.exists() {
            let kept: Vec<String> = lines(&path)?.into_iter().filter(|line| is_of(line, steps)).collect();
            write_atomic(&path, |file| kept.iter().try_for_each(|line| writeln!(file, "{line}")))
                .map_err(TrainError::io("write", &path))?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(TrainError::io("write", &path))?;
        Ok(Self { run: run.to_owned(), path, file, steps, events: None, peak_tokens_per_second: None })
    }

    /// Writes an event file for TensorBoard as well, into `RUN/tensorboard`.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn with_tensorboard(mut self) -> Result<Self, TrainError> {
        self.events = Some(EventFile::create(&self.run.join(TENSORBOARD), self.steps)?);
        Ok(self)
    }

    /// Appends what begins or continues the run; speeds are from then on compared with its device's.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn begin(&mut self, start: RunStart) -> Result<(), TrainError> {
        self.peak_tokens_per_second = start.peak_tokens_per_second();
        self.write(&Record::Begins(Box::new(start)))
    }

    /// Training speed if nothing but matrix products took time, where it is known.
    pub fn peak_tokens_per_second(&self) -> Option<f64> {
        self.peak_tokens_per_second
    }

    /// Appends a line.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn write(&mut self, record: &Record) -> Result<(), TrainError> {
        let mut line = serde_json::to_string(record).expect("a record is plain data");
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(TrainError::io("write", &self.path))?;
        self.events.as_mut().map_or(Ok(()), |events| events.write(record))
    }
}

fn lines(path: &Path) -> Result<Vec<String>, TrainError> {
    let file = File::open(path).map_err(TrainError::io("read", path))?;
    BufReader::new(file).lines().collect::<Result<_, _>>().map_err(TrainError::io("read", path))
}

/// Whether a line is whole and belongs to the first `steps` steps.
fn is_of(line: &str, steps: u64) -> bool {
    #[derive(Deserialize)]
    struct Line {
        step: u64,
    }
    serde_json::from_str::<Line>(line).is_ok_and(|line| line.step <= steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Evaluation;

    fn validation(step: u64) -> Record {
        let evaluation = Evaluation { loss: 2.0, tokens: 8.0 };
        Record::Validation { step, evaluation, perplexity: evaluation.perplexity() }
    }

    #[test]
    fn a_resumed_log_drops_what_came_after_the_checkpoint() {
        let run = tempfile::tempdir().unwrap();
        let mut log = MetricsLog::open(run.path(), 0).unwrap();
        for step in [5, 10, 15] {
            log.write(&validation(step)).unwrap();
        }
        // A kill in the middle of a line.
        log.file.write_all(b"{\"kind\":\"validation\",\"step\":1").unwrap();
        drop(log);
        MetricsLog::open(run.path(), 10).unwrap().write(&validation(12)).unwrap();
        let steps: Vec<u64> = lines(&run.path().join(METRICS_FILE))
            .unwrap()
            .iter()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64().unwrap())
            .collect();
        assert_eq!(steps, [5, 10, 12]);
    }
}
