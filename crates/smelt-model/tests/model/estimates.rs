//! The estimator counts what the structure holds, and reacts to what is asked.

use serde_json::json;
use smelt_backend::Kernels;
use smelt_model::estimate::{
    self, AdapterShape, InferenceShape, OptimizerShape, TrainingShape, inference, parameters, training,
};
use smelt_model::{AdapterConfig, Decoder, ModelConfig, Role};
use smelt_testkit::{Golden, backend_test};

backend_test!(parameters_are_counted_exactly, counted);
backend_test!(adapters_are_counted_exactly, adapters);

fn tiny() -> ModelConfig {
    let section = json!({
        "vocab_size": 32000, "d_model": 768, "n_layers": 12, "n_heads": 12, "d_ff": 3072, "max_seq_len": 4096,
    });
    ModelConfig::from_section(section.as_object().unwrap()).unwrap()
}

fn shape(
    batch_size: usize,
    seq_length: usize,
    gradient_accumulation: usize,
    chunk_tokens: usize,
) -> TrainingShape {
    TrainingShape {
        batch_size,
        seq_length,
        gradient_accumulation,
        chunk_tokens,
        gradient_checkpointing: false,
        adapter: None,
        weights_bytes: None,
        half_precision: false,
        optimizer: OptimizerShape::ADAMW,
        kernels: estimate::Kernels::Fused,
    }
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

/// As many parameters as the adapter of a model of each family asks gradients for.
fn adapters<B: Kernels>(device: &B::Device) {
    for golden in Golden::of_kind("causal") {
        let config = ModelConfig::from_folder(&golden.folder).unwrap();
        for (use_dora, target_modules) in
            [(false, "all-linear"), (true, r".*(down_proj|c_proj|dense|fc2|lm_head)")]
        {
            let adapter = json!({
                "peft_type": "LORA", "r": 3, "target_modules": target_modules, "use_dora": use_dora,
            });
            let adapter = AdapterConfig::from_json(adapter).unwrap();
            let model = Decoder::<B>::structure(&config.decoder, device);
            let (model, _) = model.with_new_adapter(&config, &adapter, 1).unwrap();
            let parameters = model.named_parameters(&config.family.names);
            let of_adapter = parameters.iter().filter(|info| info.role == Role::Adapter);
            let counted: usize = of_adapter.map(|info| info.elements()).sum();
            let shape = AdapterShape::of(&config, &adapter).unwrap();
            assert_eq!(shape.parameters, counted as u64, "{}: {target_modules}", golden.name());
        }
    }
}

#[test]
fn training_parts_grow_with_what_causes_them() {
    let config = tiny().decoder;
    let shape = shape(2, 512, 1, 256);
    let one = training(&config, shape);
    assert_eq!(one.weights_bytes, 4 * parameters(&config).total);
    assert_eq!(one.optimizer_bytes, 2 * one.weights_bytes);
    let double = training(&config, TrainingShape { batch_size: 4, ..shape });
    assert_eq!(double.activations_bytes, 2 * one.activations_bytes);
    let checkpointed = training(&config, TrainingShape { gradient_checkpointing: true, ..shape });
    assert!(checkpointed.activations_bytes < one.activations_bytes / 4);
    assert!(checkpointed.peak_bytes < one.peak_bytes);
    assert_eq!(double.weights_bytes, one.weights_bytes);
    let accumulated = training(&config, TrainingShape { gradient_accumulation: 4, ..shape });
    assert_eq!(accumulated.peak_bytes, one.peak_bytes + one.gradients_bytes);
    assert!(one.peak_bytes > one.weights_bytes + one.optimizer_bytes + one.activations_bytes);
}

#[test]
fn absurd_requests_do_not_overflow() {
    let most = usize::MAX;
    let shape = shape(most, most, most, most);
    assert_eq!(training(&tiny().decoder, shape).peak_bytes, u64::MAX);
    let shape = InferenceShape {
        batch_size: most,
        prompt_length: most,
        capacity: most,
        kv_bits: None,
        weights_bytes: None,
    };
    assert_eq!(inference(&tiny().decoder, shape).peak_bytes, u64::MAX);
}

#[test]
fn the_cache_is_counted_as_it_is_allocated() {
    let shape = InferenceShape {
        batch_size: 3,
        prompt_length: 10,
        capacity: 100,
        kv_bits: None,
        weights_bytes: None,
    };
    let expected = 2 * 3 * 12 * 100 * 64 * 12 * 4;
    assert_eq!(inference(&tiny().decoder, shape).kv_cache_bytes, expected);
}
