//! Adapters: small trained changes of a model that itself stays as it is.
//!
//! LoRA and DoRA on any projection, in PEFT's folders and vocabulary; those of mlx-lm are read and written too.
//! A model takes one adapter at a time; copies of a model share its weights, so that several adapters of one base
//! are several cheap copies. Knows nothing of how adapters are trained.

mod attach;
mod config;
mod folder;
mod mlx;
mod rules;
mod size;

pub use attach::RoundingError;
pub use config::{ADAPTER_CONFIG_FILE, AdapterBias, AdapterConfig, LayerIndices, ModuleNames};
pub use folder::{ADAPTER_WEIGHTS_FILE, Adapter, adapter_files, save_adapter};
pub use mlx::{MLX_WEIGHTS_FILE, save_mlx_adapter};
