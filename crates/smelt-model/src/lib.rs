//! Models of smelt: configurations, building blocks, families, and weights in and out.
//!
//! One parametrised [`Decoder`] serves all families: a family file turns a Hugging Face `config.json` into
//! a [`DecoderConfig`] and lists the exceptions of its tensor names. Knows nothing of tokenizers, losses or
//! sampling, and names no concrete backend.

pub mod adapter;
pub mod blocks;
mod cache;
pub mod calibration;
mod config;
mod decoder;
mod error;
pub mod estimate;
pub mod family;
mod flops;
mod folding;
mod init;
mod json;
mod limits;
mod mask;
mod parameters;
mod positions;
pub mod quantization;
mod rotary;
pub mod weights;

pub use adapter::{Adapter, AdapterConfig, adapter_files, save_adapter};
pub use blocks::DropoutStream;
pub use cache::{CacheBits, CacheOptions, KvCache, KvSpan, LayerCache, ROLLBACK};
pub use config::{
    AttentionConfig, CONFIG_FILE, DecoderConfig, DropoutConfig, ExpertsConfig, Fields, Gate, HeadConfig,
    LayerConfig, MlpConfig, ModelConfig, NormConfig, NormKind, Positions, Projections, Residual, SectionKey,
};
pub use decoder::{Decoder, Extension, ForwardInput};
pub use error::{Damage, Differences, MisShaped, ModelError};
pub use family::Family;
pub use flops::{Trained, training_flops_per_token};
pub use folding::Folding;
pub use init::Distribution;
pub use parameters::{ParameterInfo, ParameterMapper, ParameterValues, ParameterVisitor, Role};
pub use quantization::Quantization;
pub use rotary::{RopeLengths, RopeScaling, RotaryConfig, Yarn};
pub use weights::{NameMap, load, load_for_training, load_quantized, save};
