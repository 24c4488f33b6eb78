//! Training from scratch starts the same everywhere, by GPT-2's rule.

use std::collections::BTreeMap;

use burn::module::Param;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use serde_json::json;
use smelt_backend::{Kernels, to_host};
use smelt_model::{Decoder, ModelConfig, ParameterInfo, ParameterVisitor, Role};
use smelt_testkit::backend_test;

backend_test!(values_follow_the_rule, rule);
backend_test!(values_depend_on_seed_and_path_alone, deterministic);
backend_test!(names_roles_and_shapes_are_complete, names);

struct Values(BTreeMap<String, (ParameterInfo, Vec<f32>)>);

impl<B: Backend> ParameterVisitor<B> for Values {
    fn visit<const D: usize>(&mut self, info: &ParameterInfo, parameter: &Param<Tensor<B, D>>) {
        self.0.insert(info.path.clone(), (info.clone(), to_host(parameter.val())));
    }
}

fn config(layers: usize) -> ModelConfig {
    let section = json!({
        "vocab_size": 600, "n_embd": 64, "n_layer": layers, "n_head": 4, "n_positions": 32,
        "tie_word_embeddings": false,
    });
    ModelConfig::from_section(section.as_object().unwrap()).unwrap()
}

fn values<B: Kernels>(layers: usize, seed: u64, device: &B::Device) -> Values {
    let config = config(layers);
    let mut values = Values(BTreeMap::new());
    Decoder::<B>::init(&config, seed, device).visit_parameters(&config.family.names, &mut values);
    values
}

fn rule<B: Kernels>(device: &B::Device) {
    for (path, (info, values)) in values::<B>(8, 3, device).0 {
        let count = values.len() as f64;
        let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
        let std = (values.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>() / count).sqrt();
        let residual = path.ends_with("o_proj.weight") || path.ends_with("down_proj.weight");
        match info.role {
            Role::Bias => assert!(values.iter().all(|value| *value == 0.0), "{path}"),
            Role::Norm => assert!(values.iter().all(|value| *value == 1.0), "{path}"),
            Role::Adapter => panic!("{path}: a new model has no adapter"),
            Role::Matrix | Role::Embedding => {
                let expected = if residual { 0.02 / 16f64.sqrt() } else { 0.02 };
                assert!((std / expected - 1.0).abs() < 0.06, "{path}: std {std}, expected {expected}");
                assert!(mean.abs() < 5.0 * expected / count.sqrt(), "{path}: mean {mean}");
                let largest = values.iter().fold(0f32, |a, b| a.max(b.abs()));
                assert!(f64::from(largest) < 6.0 * expected, "{path}: largest {largest}");
            }
        }
    }
}

fn deterministic<B: Kernels>(device: &B::Device) {
    let (small, large) = (values::<B>(1, 3, device).0, values::<B>(2, 3, device).0);
    for path in ["embed_tokens.weight", "layers.0.self_attn.qkv_proj.weight", "lm_head.weight"] {
        assert_eq!(small[path].1, large[path].1, "{path}");
    }
    assert_ne!(large["layers.0.mlp.up_proj.weight"].1, large["layers.1.mlp.up_proj.weight"].1);
    let other = values::<B>(1, 4, device).0;
    assert_ne!(small["embed_tokens.weight"].1, other["embed_tokens.weight"].1);
}

fn names<B: Kernels>(device: &B::Device) {
    let config = config(1);
    let structure = Decoder::<B>::structure(&config.decoder, device);
    let found: Vec<(String, String, Vec<usize>, Role)> = structure
        .named_parameters(&config.family.names)
        .into_iter()
        .map(|info| (info.path.clone(), info.key.clone(), info.checkpoint_shape(), info.role))
        .collect();
    let expected = [
        ("embed_tokens.weight", "transformer.wte.weight", vec![600, 64], Role::Embedding),
        ("embed_positions.weight", "transformer.wpe.weight", vec![32, 64], Role::Embedding),
        ("layers.0.input_layernorm.weight", "transformer.h.0.ln_1.weight", vec![64], Role::Norm),
        ("layers.0.input_layernorm.bias", "transformer.h.0.ln_1.bias", vec![64], Role::Bias),
        (
            "layers.0.self_attn.qkv_proj.weight",
            "transformer.h.0.attn.c_attn.weight",
            vec![64, 192],
            Role::Matrix,
        ),
        ("layers.0.self_attn.qkv_proj.bias", "transformer.h.0.attn.c_attn.bias", vec![192], Role::Bias),
        (
            "layers.0.self_attn.o_proj.weight",
            "transformer.h.0.attn.c_proj.weight",
            vec![64, 64],
            Role::Matrix,
        ),
        ("layers.0.self_attn.o_proj.bias", "transformer.h.0.attn.c_proj.bias", vec![64], Role::Bias),
        ("layers.0.post_attention_layernorm.weight", "transformer.h.0.ln_2.weight", vec![64], Role::Norm),
        ("layers.0.post_attention_layernorm.bias", "transformer.h.0.ln_2.bias", vec![64], Role::Bias),
        ("layers.0.mlp.up_proj.weight", "transformer.h.0.mlp.c_fc.weight", vec![64, 256], Role::Matrix),
        ("layers.0.mlp.up_proj.bias", "transformer.h.0.mlp.c_fc.bias", vec![256], Role::Bias),
        ("layers.0.mlp.down_proj.weight", "transformer.h.0.mlp.c_proj.weight", vec![256, 64], Role::Matrix),
        ("layers.0.mlp.down_proj.bias", "transformer.h.0.mlp.c_proj.bias", vec![64], Role::Bias),
        ("norm.weight", "transformer.ln_f.weight", vec![64], Role::Norm),
        ("norm.bias", "transformer.ln_f.bias", vec![64], Role::Bias),
        ("lm_head.weight", "lm_head.weight", vec![600, 64], Role::Matrix),
    ];
    let expected = expected.map(|(path, key, shape, role)| (path.to_owned(), key.to_owned(), shape, role));
    assert_eq!(found, expected);
}
