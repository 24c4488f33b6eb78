//! GGUF, the format of llama.cpp, in and out.
//!
//! Reading maps the file and finds every parameter of the model in it: blocks of a quantization become packed matrices
//! or f32, and what llama.cpp's conversion moved goes back to where Hugging Face has it. Writing does the same the other way
//! round, from one table of names and one of layouts.

mod architecture;
mod blocks;
mod generation;
mod header;
mod k_blocks;
mod kind;
mod layout;
mod names;
mod packed;
mod quantize;
mod read;
mod read_config;
mod read_vocabulary;
mod rope;
mod value;
mod weights;
mod write;
mod write_config;

use std::path::Path;

pub use kind::TensorKind;
pub(crate) use layout::reordered;
pub use read::GgufModel;
pub use value::{Metadata, Value};
pub use weights::Blocks;
pub use write::{GgufOptions, write_gguf};

/// How names of files end.
pub const EXTENSION: &str = "gguf";

/// `path` names a GGUF file.
pub fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(EXTENSION)) && path.is_file()
}
