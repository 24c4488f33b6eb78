//! Every family learns one batch by heart, on every backend of the build.

use serde_json::{Value, json};
use smelt_backend::Kernels;
use smelt_data::TokenBatch;
use smelt_model::family::{FAMILIES, Family};
use smelt_model::{Decoder, ModelConfig};
use smelt_testkit::backend_test;
use smelt_train::{LrSchedule, TrainConfig, Trainer};

const VOCABULARY: u32 = 64;
const STEPS: u64 = 40;

backend_test!(every_family_learns_a_batch_by_heart, overfit);

/// Nano models with the options of a family turned on, so that each has its gradient.
fn config(family: &Family) -> ModelConfig {
    let takes =
        |name: &str| family.section_keys.iter().copied().flatten().any(|key| key.names.contains(&name));
    let mut section = json!({
        "model_type": family.model_type, "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "intermediate_size": 48, "max_position_embeddings": 32,
    });
    let options: [(&str, Value); 8] = [
        ("num_key_value_heads", 2.into()),
        ("moe_intermediate_size", 24.into()),
        ("shared_expert_intermediate_size", 24.into()),
        ("sliding_window", 6.into()),
        ("use_sliding_window", true.into()),
        ("max_window_layers", 1.into()),
        ("qk_layernorm", true.into()),
        ("attention_bias", true.into()),
    ];
    for (name, value) in options {
        // Families whose projection is one for all heads.
        let grouped = name == "num_key_value_heads" && ["gpt_neox", "qwen"].contains(&family.model_type);
        if takes(name) && !grouped {
            section[name] = value;
        }
    }
    let Value::Object(section) = section else { unreachable!("written as an object") };
    ModelConfig::from_section(&section).expect("the sizes fit every family")
}

/// Two sequences without a pattern.
fn batch() -> TokenBatch {
    let (batch_size, seq_length) = (2, 16);
    let id = |at: u32| (at * at * 7 + at * 13 + 5) % VOCABULARY;
    let input_ids: Vec<u32> = (0..32).map(id).collect();
    let targets = (0..32).map(|at| id(at + 1)).collect();
    TokenBatch {
        batch_size,
        seq_length,
        input_ids,
        targets,
        loss_mask: vec![1.0; 32],
        document_ids: None,
        position_ids: None,
    }
}

fn overfit<B: Kernels>(device: &B::Device) {
    for family in FAMILIES {
        let model_config = config(family);
        let model = Decoder::<B>::init(&model_config, 1, device);
        let settings = TrainConfig {
            batch_size: 2,
            seq_length: 16,
            max_steps: STEPS,
            warmup_steps: 2,
            learning_rate: 1e-2,
            lr_schedule: LrSchedule::Constant,
            weight_decay: 0.0,
            ..TrainConfig::default()
        };
        let mut trainer = Trainer::new(settings, model_config, model, device.clone()).expect("it fits");
        let losses: Vec<f64> = (0..STEPS).map(|_| trainer.step(&[batch()]).expect("a step").loss).collect();
        let (first, last) = (losses[0], losses[losses.len() - 1]);
        let guess = f64::from(VOCABULARY).ln();
        assert!(
            (first - guess).abs() < 0.5,
            "{}: the first loss is {first}, guessing is {guess}",
            family.model_type
        );
        assert!(last < 0.2 * first, "{}: from {first} to {last}", family.model_type);
    }
}
