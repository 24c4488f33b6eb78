//! Checks of a base's adapters: logits, loss and greedy decoding with each, and merged into the weights.

use std::ops::ControlFlow;

use burn::module::Param;
use burn::tensor::Tensor;
use smelt_backend::{Kernels, to_host};
use smelt_generate::generate;
use smelt_model::weights::TensorFile;
use smelt_model::{Adapter, ParameterInfo, ParameterVisitor};

use super::causal::{Causal, greedy_options};
use super::golden::Variants;
use crate::error::CliError;
use crate::token_ids::TokenIds;

/// File of the reference outputs.
pub const GOLDEN_FILE: &str = "golden_lora.safetensors";

/// Largest difference between logits of an adapter beside the weights and in them.
const MERGED_TOLERANCE: f64 = 1e-4;
/// Largest error of a merged weight.
const WEIGHT_TOLERANCE: f64 = 1e-6;

/// What there is of each adapter.
const TENSORS: [&str; 5] = ["logits", "loss", "greedy.ids", "merged_logits", "merged.q_proj0"];

impl<B: Kernels> Causal<'_, B> {
    /// Every adapter that the reference has outputs of.
    pub fn adapters(&mut self) -> Result<(), CliError> {
        let found = self.golden.variants(GOLDEN_FILE, tag, &[], self.checks)?;
        let Some(Variants { reference, tags }) = found else { return Ok(()) };
        for tag in &tags {
            let adapter = Adapter::open(&self.golden.folder.join(tag), &self.config.family.names)?;
            let adapted = self.model.clone().with_adapter(&self.config, &adapter)?;
            let base = std::mem::replace(&mut self.model, adapted);
            let checked = self.adapter(tag, &reference);
            self.model = base;
            checked?;
        }
        Ok(())
    }

    /// The model carries the adapter `tag`, which becomes part of its weights.
    fn adapter(&mut self, tag: &str, reference: &TensorFile) -> Result<(), CliError> {
        let name = |tensor: &str| format!("{tag}.{tensor}");
        let ids = self.golden.ids("input_ids")?;
        let mask = TokenIds { values: vec![1; ids.values.len()], shape: ids.shape };
        let hidden = self.hidden(&ids, None, None);
        let loss = self.loss(hidden.clone(), &ids, &mask);
        let logits = to_host(self.model.logits(hidden));
        let expected = reference.f32(&name("logits"))?;
        self.checks.close(&name("logits"), &logits, &expected, self.logits_tolerance());
        self.checks.close(&name("loss"), &[loss], &reference.f32(&name("loss"))?, self.loss_tolerance());

        let prompt = self.golden.ids("greedy.prompt_ids")?;
        let expected = TokenIds::read(reference, &name("greedy.ids"))?.values;
        let mut found = Vec::new();
        let mut on_token = |token| {
            found.push(token);
            ControlFlow::Continue(())
        };
        let options = greedy_options(expected.len());
        generate(&self.model, &self.config, prompt.row(0), &options, &mut on_token, &self.device)?;
        self.checks.equal(&name("greedy"), &found, &expected);

        self.model.merge_adapter();
        let merged = to_host(self.model.logits(self.hidden(&ids, None, None)));
        self.checks.close(&name("merged against adapted"), &merged, &logits, MERGED_TOLERANCE);
        let expected = reference.f32(&name("merged_logits"))?;
        self.checks.close(&name("merged_logits"), &merged, &expected, self.logits_tolerance());
        let mut weight = Find { path: "layers.0.self_attn.q_proj.weight", values: Vec::new() };
        self.model.visit_parameters(&self.config.family.names, &mut weight);
        let expected = reference.f32(&name("merged.q_proj0"))?;
        self.checks.close(&name("merged.q_proj0"), &weight.values, &expected, WEIGHT_TOLERANCE);
        Ok(())
    }
}

/// The adapter that a tensor of the reference belongs to.
fn tag(name: &str) -> Option<&str> {
    TENSORS.iter().find_map(|tensor| name.strip_suffix(tensor)?.strip_suffix('.'))
}

/// Downloads one parameter.
struct Find {
    path: &'static str,
    values: Vec<f32>,
}

impl<B: Kernels> ParameterVisitor<B> for Find {
    fn visit<const D: usize>(&mut self, info: &ParameterInfo, parameter: &Param<Tensor<B, D>>) {
        if info.path == self.path {
            self.values = to_host(parameter.val());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::tag;

    #[test]
    fn a_tensor_names_its_adapter() {
        assert_eq!(tag("adapter_dora.greedy.ids"), Some("adapter_dora"));
        assert_eq!(tag("adapter.merged_logits"), Some("adapter"));
        assert_eq!(tag("adapter.other"), None);
        assert_eq!(tag("logits"), None);
    }
}
