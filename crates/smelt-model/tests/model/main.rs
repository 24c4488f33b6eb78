//! Models against the golden fixtures, on every backend of the build.

#![allow(clippy::unwrap_used, reason = "`allow-unwrap-in-tests` does not reach functions that tests call")]

mod adapters;
mod autodiff;
mod cache;
mod config;
mod estimates;
mod golden;
mod hostile;
mod initialisation;
mod mutations;
mod quantized;
mod torch_files;
mod weights;

/// An error and what caused it, as the command line prints them.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
