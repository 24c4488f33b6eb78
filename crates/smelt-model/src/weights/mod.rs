//! Weights in and out of Hugging Face folders.
//!
//! Values pass one tensor at a time between a memory map and the device, so that loading peaks at the
//! model and its largest tensor. All that does not fit is reported at once, before anything is loaded.

mod atomic;
mod checkpoint;
mod dtype;
mod load;
mod names;
mod reader;
mod save;
mod transpose;
mod writer;

pub use atomic::write_atomic;
pub use checkpoint::{Checkpoint, INDEX_FILE, WEIGHTS_FILE};
pub use load::{load, load_weights};
pub use names::NameMap;
pub use reader::TensorFileReader;
pub use save::{GENERATION_CONFIG_FILE, save};
pub use writer::TensorFileWriter;
