//! Instruction data: what is learnt of a record, what is left out and said, and what batches hold.

#![allow(clippy::unwrap_used)]

mod batches;
mod fixture;
mod masks;
mod records;
