//! Every family learns one batch by heart, and takes adapters on quantized weights, on every backend of the build.

use serde_json::{Value, json};
use smelt_backend::Kernels;
use smelt_backend::kernels::QuantizationFormat;
use smelt_data::TokenBatch;
use smelt_model::family::{FAMILIES, Family};
use smelt_model::quantization::QuantizationRules;
use smelt_model::weights::Checkpoint;
use smelt_model::{AdapterConfig, Decoder, ModelConfig, load_quantized, save};
use smelt_testkit::backend_test;
use smelt_train::{Base, LrSchedule, TrainConfig, Trainer};

const VOCABULARY: u32 = 64;
const STEPS: u64 = 40;

backend_test!(every_family_learns_a_batch_by_heart, overfit);
backend_test!(adapters_on_packed_weights_learn_as_on_their_values, qlora);

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

/// Losses of an adapter that is trained on `model`.
fn adapted<B: Kernels>(
    model_config: &ModelConfig,
    model: Decoder<B>,
    gradient_checkpointing: bool,
    device: &B::Device,
) -> (Vec<f64>, Trainer<B>) {
    let adapter = AdapterConfig { r: 4, ..AdapterConfig::default() };
    let settings = TrainConfig {
        batch_size: 2,
        seq_length: 16,
        max_steps: STEPS,
        warmup_steps: 2,
        learning_rate: 1e-2,
        lr_schedule: LrSchedule::Constant,
        gradient_checkpointing,
        ..TrainConfig::default()
    };
    let base = Base { config: model_config.clone(), model, fingerprint: String::new() };
    let mut trainer = Trainer::with_new_adapter(settings, base, &adapter, device.clone()).expect("it fits");
    let losses = (0..12).map(|_| trainer.step(&[batch()]).expect("a step").loss).collect();
    (losses, trainer)
}

fn qlora<B: Kernels>(device: &B::Device) {
    for family in FAMILIES {
        let name = family.model_type;
        let dense = config(family);
        let folder = tempfile::tempdir().expect("a folder");
        save(&dense, &Decoder::<B>::init(&dense, 1, device), folder.path()).expect("a model");
        let rules = QuantizationRules::uniform(QuantizationFormat::new(4, 32).expect("a format"));
        let (quantized, model) = {
            let checkpoint = Checkpoint::open(folder.path()).expect("weights");
            load_quantized::<B>(&dense, &checkpoint, &rules, device).expect("a model")
        };
        let values = {
            let mut model = model.clone();
            model.unpack();
            model
        };
        let packed_bytes = model.size_bytes();
        assert!(packed_bytes < values.size_bytes() / 2, "{name}: {packed_bytes} bytes");
        let (expected, _) = adapted(&quantized.dequantized(), values, false, device);
        assert!(expected[11] < expected[0] - 0.1, "{name}: {expected:?}");
        for gradient_checkpointing in [false, true] {
            let (found, trainer) = adapted(&quantized, model.clone(), gradient_checkpointing, device);
            let apart = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(apart < 1e-4, "{name}: losses differ by {apart:e}");
            let adapter = trainer.trained_parameters().iter().map(|info| 4 * info.elements()).sum::<usize>();
            assert_eq!(trainer.model().size_bytes(), packed_bytes + adapter, "{name}: the base stays packed");
        }
    }
}
