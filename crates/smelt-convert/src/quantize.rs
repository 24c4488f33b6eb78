//! A model into a quantized folder in MLX's layout, each value rounded to the nearest code.

use std::path::Path;

use smelt_model::quantization::{QuantizationPlan, QuantizationRules};
use smelt_model::weights::{QuantizeOptions, quantize_checkpoint};

use crate::folder::FolderOptions;
use crate::output::write_whole_folder;
use crate::{ConvertError, Source};

/// Writes the model of `source` into `folder`, quantized as `rules` say, with all that belongs to it; returns what the
/// rules came to.
///
/// Memory: the largest tensor in f32, and the scales.
///
/// # Errors
/// [`ConvertError::OutputExists`], [`ConvertError::Model`] for rules that fit no module and for weights that cannot be
/// quantized, [`ConvertError::Io`].
pub fn write_quantized(
    source: &Source,
    rules: &QuantizationRules,
    options: FolderOptions,
    folder: &Path,
) -> Result<QuantizationPlan, ConvertError> {
    let plan = rules.plan(&source.config)?;
    let FolderOptions { dtype, max_shard_bytes } = options;
    write_whole_folder(folder, source.companions.names(), |folder| {
        source.companions.write(folder)?;
        let options = QuantizeOptions { dtype, max_shard_bytes };
        Ok(quantize_checkpoint(&source.config, &source.checkpoint, &plan, options, folder)?)
    })?;
    Ok(plan)
}
