//! Training of smelt: optimizers, schedules, the loop, checkpoints and metrics.
//!
//! [`Trainer`] is one model with its optimizer, and does single steps; [`train`] is the loop around it,
//! which evaluates, saves and reports. Knows nothing of generation: callers sample in an [`Observer`].

mod average;
mod checkpoint;
mod checkpoint_writer;
mod config;
mod error;
mod evaluate;
mod gradients;
mod loss;
mod master_weights;
mod meter;
mod metrics;
mod optimizer;
mod progress;
mod recompute;
mod schedule;
mod train;
mod trainer;

pub use checkpoint::{AVERAGE, Base, CHECKPOINTS, Checkpoints, Snapshot, TrainerState};
pub use config::{
    DecayType, LrSchedule, MuonAdjustLrFn, NonFinitePolicy, OptimizerDefaults, OptimizerKind, TrainConfig,
};
pub use error::TrainError;
pub use evaluate::{Evaluation, evaluate};
pub use gradients::ParameterNorm;
pub use metrics::{METRICS_FILE, MetricsLog, Record, RunStart, Sample, TENSORBOARD};
pub use progress::{Best, LossScale, Progress, SkippedStep};
pub use schedule::learning_rate;
pub use train::{Data, Observer, Outcome, train};
pub use trainer::{StepReport, Trainer};
