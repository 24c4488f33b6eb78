//! Training of smelt: optimizer, schedules, the loop, checkpoints and metrics.
//!
//! [`Trainer`] is one model with its optimizer, and does single steps; [`train`] is the loop around it,
//! which evaluates, saves and reports. Knows nothing of generation: callers sample in an [`Observer`].

mod checkpoint;
mod checkpoint_writer;
mod config;
mod error;
mod evaluate;
mod gradients;
mod loss;
mod meter;
mod metrics;
mod optimizer;
mod recompute;
mod schedule;
mod train;
mod trainer;

pub use checkpoint::{Base, CHECKPOINTS, Checkpoints, Snapshot, TrainerState};
pub use config::{LrSchedule, TrainConfig};
pub use error::TrainError;
pub use evaluate::{Evaluation, evaluate};
pub use gradients::ParameterNorm;
pub use metrics::{METRICS_FILE, MetricsLog, Record, RunStart, Sample, TENSORBOARD};
pub use schedule::learning_rate;
pub use train::{Data, Observer, Outcome, train};
pub use trainer::{StepReport, Trainer};
