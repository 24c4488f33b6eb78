//! Weights in and out of Hugging Face folders.
//!
//! Values pass between memory maps and the device a few tensors at a time, so that loading peaks at the
//! model and its largest tensor. All that does not fit is reported at once, before anything is loaded.
//! Files come from strangers: each is checked before it is believed, and none is executed.

mod atomic;
mod check;
mod checkpoint;
mod dtype;
mod file;
mod header;
mod huge_pages;
mod load;
mod location;
mod map;
mod names;
mod packed;
mod pending;
mod place;
mod quantize;
mod read_ahead;
mod replacements;
mod save;
mod shards;
mod torch;
mod transpose;
mod unwritten;
mod writer;

pub use atomic::write_atomic;
pub use checkpoint::{Checkpoint, INDEX_FILE, TORCH_INDEX_FILE, TORCH_WEIGHTS_FILE, WEIGHTS_FILE};
pub(crate) use dtype::dtype_name;
pub use dtype::{file_dtype, float_bytes, round_to};
pub use file::TensorFile;
pub use load::{LoadOptions, load, load_for_training, load_quantized, load_weights, load_with, locate};
pub use location::Location;
pub use map::FileMap;
pub use names::NameMap;
pub use place::{Made, Make, Place, StoredTensor, Strided};
pub use quantize::{QuantizeOptions, quantize_checkpoint, quantized_dtype};
pub use read_ahead::{HeldIn, NonFinite, Source};
pub use replacements::Replacements;
pub use save::{GENERATION_CONFIG_FILE, SaveOptions, generation_config, model_files, save, save_with};
pub use shards::{Weight, divide, index};
pub use transpose::transposed;
pub use unwritten::UnwrittenFiles;
pub use writer::TensorFileWriter;
