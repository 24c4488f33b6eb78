//! The estimator counts what the structure holds, and reacts to what is asked.

use serde_json::json;
use smelt_backend::Kernels;
use smelt_model::estimate::{InferenceShape, TrainingShape, inference, parameters, training};
use smelt_model::{Decoder, ModelConfig};
use smelt_testkit::{Golden, backend_test};

backend_test!(parameters_are_counted_exactly, counted);

fn tiny() -> ModelConfig {
    let section = json!({
        "vocab_size": 32000, "d_model": 768, "n_layers": 12, "n_heads": 12, "d_ff": 3072, "max_seq_len": 4096,
    });
    ModelConfig::from_section(section.as_object().unwrap()).unwrap()
}

/// As its structure has them, and as PyTorch counted them.
fn counted<B: Kernels>(device: &B::Device) {
    for golden in Golden::of_kind("causal") {
        let config = ModelConfig::from_folder(&golden.folder).unwrap();
        let structure = Decoder::<B>::structure(&config.decoder, device);
        let listed: usize =
            structure.named_parameters(&config.family.names).iter().map(|p| p.elements()).sum();
        let total = parameters(&config.decoder).total;
        assert_eq!(total, listed as u64, "{}", golden.name());
        if let Some(expected) = golden.meta["params"].as_u64() {
            assert_eq!(total, expected, "{}", golden.name());
        }
    }
}

#[test]
fn training_parts_grow_with_what_causes_them() {
    let config = tiny().decoder;
    let shape = TrainingShape { batch_size: 2, seq_length: 512, gradient_accumulation: 1, chunk_tokens: 256 };
    let one = training(&config, shape);
    assert_eq!(one.weights_bytes, 4 * parameters(&config).total);
    assert_eq!(one.optimizer_bytes, 2 * one.weights_bytes);
    let double = training(&config, TrainingShape { batch_size: 4, ..shape });
    assert_eq!(double.activations_bytes, 2 * one.activations_bytes);
    assert_eq!(double.weights_bytes, one.weights_bytes);
    let accumulated = training(&config, TrainingShape { gradient_accumulation: 4, ..shape });
    assert_eq!(accumulated.peak_bytes, one.peak_bytes + one.gradients_bytes);
    assert!(one.peak_bytes > one.weights_bytes + one.optimizer_bytes + one.activations_bytes);
}

#[test]
fn absurd_requests_do_not_overflow() {
    let most = usize::MAX;
    let shape =
        TrainingShape { batch_size: most, seq_length: most, gradient_accumulation: most, chunk_tokens: most };
    assert_eq!(training(&tiny().decoder, shape).peak_bytes, u64::MAX);
    let shape = InferenceShape { batch_size: most, prompt_length: most, capacity: most };
    assert_eq!(inference(&tiny().decoder, shape).peak_bytes, u64::MAX);
}

#[test]
fn the_cache_is_counted_as_it_is_allocated() {
    let shape = InferenceShape { batch_size: 3, prompt_length: 10, capacity: 100 };
    let expected = 2 * 3 * 12 * 100 * 64 * 12 * 4;
    assert_eq!(inference(&tiny().decoder, shape).kv_cache_bytes, expected);
}
