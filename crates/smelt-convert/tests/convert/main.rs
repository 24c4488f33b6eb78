//! Formats against the golden fixtures, which come from other implementations.

#![allow(clippy::unwrap_used, reason = "`allow-unwrap-in-tests` does not reach functions that tests call")]

mod gguf;
mod hostile;
mod limits;
mod recipes;
mod round_trips;
mod support;
