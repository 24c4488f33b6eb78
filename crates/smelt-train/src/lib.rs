//! Training of smelt: optimizer, schedules, the loop, checkpoints and metrics.
