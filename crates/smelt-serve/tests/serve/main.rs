//! The server over real connections, with the real engine and a nano model.

#![allow(clippy::unwrap_used, reason = "`allow-unwrap-in-tests` does not reach functions that tests call")]

mod browser;
mod chat;
mod client;
mod completions;
mod embeddings;
mod errors;
mod limits;
mod page;
mod setup;
mod stress;
