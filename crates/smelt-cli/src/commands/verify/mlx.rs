//! Checks of the quantized folders that mlx-lm made of a model: the values that are packed, and logits.

use std::collections::BTreeSet;

use smelt_backend::{Kernels, to_host};
use smelt_model::weights::TensorFile;
use smelt_model::{ModelConfig, load};

use super::causal::Causal;
use super::golden::Variants;
use crate::error::CliError;

/// File of the reference outputs.
pub const GOLDEN_FILE: &str = "golden_mlx.safetensors";

/// What there is of each folder.
const TENSORS: [&str; 3] = ["logits_dequant_f32", "logits_mlx", "dequant.q_proj0"];
/// Logits of mlx on the model itself, in f16.
const UNQUANTIZED: &str = "mlx_f16_unquantized.logits";
/// The module whose values are compared one by one.
const MODULE: &str = "layers.0.self_attn.q_proj";
/// How far logits may lie from those that mlx computes in these formats.
const NATIVE_TOLERANCES: [(&str, f64); 3] = [("float32", 1e-4), ("float16", 0.1), ("bfloat16", 0.5)];

/// The folders that the reference `file` has outputs of.
pub fn tags(file: &TensorFile) -> BTreeSet<&str> {
    file.names().into_iter().filter_map(tag).collect()
}

/// The folder that a tensor of the reference belongs to.
fn tag(name: &str) -> Option<&str> {
    TENSORS.iter().find_map(|tensor| name.strip_suffix(tensor)?.strip_suffix('.'))
}

impl<B: Kernels> Causal<'_, B> {
    /// Every quantized folder that the reference has outputs of.
    pub fn mlx_folders(&mut self) -> Result<(), CliError> {
        let found = self.golden.variants(GOLDEN_FILE, tag, &[UNQUANTIZED], self.checks)?;
        let Some(Variants { reference, tags }) = found else { return Ok(()) };
        if reference.contains(UNQUANTIZED) {
            let logits = self.logits()?;
            self.checks.close(UNQUANTIZED, &logits, &reference.f32(UNQUANTIZED)?, NATIVE_TOLERANCES[1].1);
        }
        for tag in &tags {
            if let Err(error) = self.mlx_folder(tag, &reference) {
                self.checks.fail_with(&format!("{tag}: load"), &error);
            }
        }
        Ok(())
    }

    fn mlx_folder(&mut self, tag: &str, reference: &TensorFile) -> Result<(), CliError> {
        let (config, model) = load::<B>(&self.golden.folder.join(tag), &self.device)?;
        let native = native_tolerance(&config);
        if let Some(matrix) = model.matrix(MODULE) {
            let name = format!("{tag}.dequant.q_proj0");
            self.checks.close(&name, &to_host(matrix.values()), &reference.f32(&name)?, 0.0);
        }
        let base = std::mem::replace(&mut self.model, model);
        let logits = self.logits();
        self.model = base;
        let logits = logits?;
        for (tensor, tolerance) in
            [("logits_dequant_f32", Some(self.logits_tolerance())), ("logits_mlx", native)]
        {
            let name = format!("{tag}.{tensor}");
            match tolerance {
                Some(tolerance) => self.checks.close(&name, &logits, &reference.f32(&name)?, tolerance),
                None => {
                    self.checks.fail(&name, "`config.json` has no `torch_dtype` to tell the tolerance by")
                }
            }
        }
        Ok(())
    }

    fn logits(&self) -> Result<Vec<f32>, CliError> {
        let ids = self.golden.ids("input_ids")?;
        Ok(to_host(self.model.logits(self.hidden(&ids, None, None))))
    }
}

fn native_tolerance(config: &ModelConfig) -> Option<f64> {
    let dtype = config.noted_dtype()?;
    NATIVE_TOLERANCES.iter().find(|(name, _)| *name == dtype).map(|(_, tolerance)| *tolerance)
}

#[cfg(test)]
mod tests {
    use super::tag;

    #[test]
    fn a_tensor_names_its_folder() {
        assert_eq!(tag("mlx_4bit.dequant.q_proj0"), Some("mlx_4bit"));
        assert_eq!(tag("mlx_4bit_g32_bf16.logits_mlx"), Some("mlx_4bit_g32_bf16"));
        assert_eq!(tag("mlx_f16_unquantized.logits"), None);
        assert_eq!(tag("logits_mlx"), None);
    }
}
