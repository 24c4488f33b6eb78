//! The HTTP server of smelt: OpenAI's API, a few routes that others have besides, and a chat page.
//!
//! Turns requests into those of [`smelt_generate::engine`] and its events into answers. Names no tensor, loads no
//! model and knows no command line: whoever starts it brings the engine, on a thread of its own.

mod answer;
mod app;
mod chat;
mod choice;
mod completions;
mod constraint;
mod embeddings;
mod error;
mod fields;
mod generation;
mod health;
mod host;
mod identifier;
mod log;
mod logprobs;
mod metrics;
mod models;
mod options;
mod page;
mod request;
mod router;
mod server;
mod shape;
mod spelling;
mod sse;
mod tokens;
mod tool_calls;
mod usage;

pub use app::ServedModel;
pub use options::{Limits, ServeOptions};
pub use server::{ServeError, Server};
