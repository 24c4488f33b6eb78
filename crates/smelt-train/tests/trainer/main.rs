//! A trainer and its policies: resuming, skipping, stopping, averaging, and computing in 16 bits.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod mixed_precision;
mod nano;
mod policies;
mod resuming;
