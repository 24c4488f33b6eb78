//! Grammars: whatever a model would like to write, what comes out follows.

#![allow(clippy::unwrap_used, reason = "`allow-unwrap-in-tests` does not reach functions that tests call")]

mod hostile;
mod outputs;
mod schemas;
mod writing;
