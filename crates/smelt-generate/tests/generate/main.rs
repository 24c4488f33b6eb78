//! Generation against the golden fixtures and its own promises, on every backend of the build.

#![allow(clippy::unwrap_used, reason = "`allow-unwrap-in-tests` does not reach functions that tests call")]

mod beams;
mod engine;
mod sampling;
mod sequences;
