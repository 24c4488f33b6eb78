//! Models against the golden fixtures, on every backend of the build.

#![allow(clippy::unwrap_used, reason = "`allow-unwrap-in-tests` does not reach functions that tests call")]

mod autodiff;
mod cache;
mod config;
mod estimates;
mod golden;
mod hostile;
mod initialisation;
mod mutations;
mod torch_files;
mod weights;
