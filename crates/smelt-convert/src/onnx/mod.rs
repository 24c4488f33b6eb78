//! ONNX out: a decoder as a graph of standard operators, opset 18, with or without a cache of keys and values.
//!
//! Inputs and outputs are called as Hugging Face's optimum calls them. There is one graph builder beside the one
//! decoder: a family needs no code of its own here.

mod decoder;
mod graph;
mod positions;
mod proto;
#[cfg(test)]
mod tests;
mod weights;
mod write;

pub use write::{DATA_FILE, MODEL_FILE, OnnxOptions, write_onnx};
