//! The log of a run: one JSON object per line in `metrics.jsonl`.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use smelt_model::weights::write_atomic;

use crate::{Evaluation, StepReport, TrainError};

/// File name of the log in the folder of a run.
pub const METRICS_FILE: &str = "metrics.jsonl";

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// A training step.
    Train {
        /// What the step did.
        #[serde(flatten)]
        report: StepReport,
        /// Training speed since the last line.
        tokens_per_second: f64,
        /// Positions trained on so far.
        tokens_seen: u64,
        /// Largest resident memory of the process so far.
        peak_memory_bytes: Option<u64>,
        /// Training time of this process so far, evaluation and saving included.
        elapsed_seconds: f64,
    },
    /// An evaluation.
    Validation {
        /// Steps done before it.
        step: u64,
        /// What it found.
        #[serde(flatten)]
        evaluation: Evaluation,
        /// `exp(loss)`.
        perplexity: f64,
    },
}

impl Record {
    fn step(&self) -> u64 {
        match self {
            Record::Train { report, .. } => report.step,
            Record::Validation { step, .. } => *step,
        }
    }
}

/// An open log.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
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
            let kept: Vec<String> = lines(&path)?
                .into_iter()
                .filter(|line| {
                    serde_json::from_str::<Record>(line).is_ok_and(|record| record.step() <= steps)
                })
                .collect();
            write_atomic(&path, |file| kept.iter().try_for_each(|line| writeln!(file, "{line}")))
                .map_err(TrainError::io("write", &path))?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(TrainError::io("write", &path))?;
        Ok(Self { path, file })
    }

    /// Appends a line.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn write(&mut self, record: &Record) -> Result<(), TrainError> {
        let mut line = serde_json::to_string(record).expect("a record is plain data");
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(TrainError::io("write", &self.path))
    }
}

fn lines(path: &Path) -> Result<Vec<String>, TrainError> {
    let file = File::open(path).map_err(TrainError::io("read", path))?;
    BufReader::new(file).lines().collect::<Result<_, _>>().map_err(TrainError::io("read", path))
}
