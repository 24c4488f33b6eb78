//! A model into a quantized folder in MLX's layout.

use std::path::Path;

use smelt_model::quantization::QuantizationPlan;
use smelt_model::weights::{QuantizeOptions, Replacements, quantize_checkpoint};

use crate::folder::FolderOptions;
use crate::output::write_whole_folder;
use crate::{ConvertError, Source};

/// Writes the model of `source` into `folder`, quantized as `plan` says, with all that belongs to it. What
/// `replacements` hold is taken from there; every other value is rounded to the nearest code.
///
/// Memory: the largest tensor in f32, and the scales.
///
/// # Errors
/// [`ConvertError::OutputExists`], [`ConvertError::Model`] for weights that cannot be quantized, [`ConvertError::Io`].
pub fn write_quantized(
    source: &Source,
    plan: &QuantizationPlan,
    replacements: Option<&Replacements>,
    options: FolderOptions,
    folder: &Path,
) -> Result<(), ConvertError> {
    let FolderOptions { dtype, max_shard_bytes } = options;
    write_whole_folder(folder, source.companions.names(), |folder| {
        source.companions.write(folder)?;
        let options = QuantizeOptions { dtype, max_shard_bytes, replacements };
        Ok(quantize_checkpoint(&source.config, &source.checkpoint, plan, options, folder)?)
    })
}
