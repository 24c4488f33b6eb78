//! Gradients of the whole model against those of the training fixture.

use std::path::Path;

use burn::module::Param;
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use burn_autodiff::Autodiff;
use smelt_backend::kernels::CrossEntropyOptions;
use smelt_backend::{Kernels, float_tensor, int_tensor, to_host};
use smelt_model::{Decoder, DropoutStream, ForwardInput, ParameterInfo, ParameterVisitor, load};
use smelt_testkit::{Golden, Tolerance, backend_test};

backend_test!(gradient_norms_match, gradients);
backend_test!(dropout_follows_its_seed, dropout);
backend_test!(attention_drops_probabilities, attention_dropout);

struct GradientNorms<'a, B: AutodiffBackend> {
    gradients: &'a B::Gradients,
    norms: Vec<(String, f64)>,
}

impl<B: AutodiffBackend> ParameterVisitor<B> for GradientNorms<'_, B> {
    fn visit<const D: usize>(&mut self, info: &ParameterInfo, parameter: &Param<Tensor<B, D>>) {
        let gradient =
            parameter.grad(self.gradients).unwrap_or_else(|| panic!("{} got no gradient", info.path));
        let squares = to_host(gradient).into_iter().map(|value| f64::from(value).powi(2));
        self.norms.push((info.key.clone(), squares.sum::<f64>().sqrt()));
    }
}

fn gradients<B: Kernels>(device: &B::Device) {
    let golden = Golden::open("train_gpt2");
    let (config, model) = load::<B>(&golden.folder, device).unwrap();
    let model: Decoder<Autodiff<B>> = model.into_trainable();
    let batches = golden.tensor("batches");
    let [_, batch, seq] = batches.dims();
    let ids = &batches.ids()[..batch * seq];
    let hidden = model.hidden(ForwardInput::new(int_tensor(ids, [batch, seq], device)));
    let rows = batch * (seq - 1);
    let targets: Vec<u32> = ids.chunks(seq).flat_map(|row| row[1..].to_vec()).collect();
    let loss = model.cross_entropy(
        hidden.narrow(1, 0, seq - 1),
        int_tensor(&targets, [rows], device),
        float_tensor(vec![1.0 / rows as f32; rows], [rows], device),
        CrossEntropyOptions { chunk_tokens: 50, ..Default::default() },
    );
    let gradients = loss.objective.backward();
    let mut norms = GradientNorms { gradients: &gradients, norms: Vec::new() };
    model.visit_parameters(&config.family.names, &mut norms);
    check_norms(&golden, &norms.norms);
}

/// The fixture notes the norms after the clip at 1.
fn check_norms(golden: &Golden, norms: &[(String, f64)]) {
    let total = norms.iter().map(|(_, norm)| norm * norm).sum::<f64>().sqrt();
    let expected_total = golden.meta["grad_norms"][0].as_f64().unwrap();
    let tolerance = f64::from(Tolerance::GradientNorm.value());
    assert!((total / expected_total - 1.0).abs() < tolerance, "norm {total}, expected {expected_total}");
    let expected = golden.meta["step0_param_grad_norms_after_clip"].as_object().unwrap();
    assert_eq!(norms.len(), expected.len());
    for (key, norm) in norms {
        let clipped = norm * (1.0 / total).min(1.0);
        let expected = expected[key].as_f64().unwrap();
        assert!(
            (clipped - expected).abs() <= tolerance * expected.max(1e-3),
            "{key}: {clipped}, not {expected}"
        );
    }
}

fn dropout<B: Kernels>(device: &B::Device) {
    follows_its_seed::<B>(&Golden::open("gpt2_noprefix").folder, device);
}

/// Nothing else drops.
fn attention_dropout<B: Kernels>(device: &B::Device) {
    let folder = Golden::open("gpt2_noprefix").folder;
    let own = tempfile::tempdir().unwrap();
    std::fs::copy(folder.join("model.safetensors"), own.path().join("model.safetensors")).unwrap();
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    for (key, probability) in [("attn_pdrop", 0.4), ("embd_pdrop", 0.0), ("resid_pdrop", 0.0)] {
        config[key] = probability.into();
    }
    std::fs::write(own.path().join("config.json"), config.to_string()).unwrap();
    follows_its_seed::<B>(own.path(), device);
}

fn follows_its_seed<B: Kernels>(folder: &Path, device: &B::Device) {
    let (_, model) = load::<B>(folder, device).unwrap();
    let run = |stream: Option<DropoutStream>| {
        let mut input = ForwardInput::new(int_tensor(&[1, 2, 3, 4], [1, 4], device));
        input.dropout = stream;
        to_host(model.hidden(input))
    };
    let seeded = |seed| run(Some(DropoutStream::new(seed)));
    assert_eq!(seeded(1), seeded(1));
    assert_ne!(seeded(1), seeded(2));
    assert_ne!(seeded(1), run(None));
}
