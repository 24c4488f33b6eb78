//! Configurations: lossless, complete, and refused with the key, the value and what fits.

use std::path::PathBuf;

use serde_json::{Map, Value, json};
use smelt_backend::kernels::Activation;
use smelt_model::family::FAMILIES;
use smelt_model::{ModelConfig, ModelError};
use smelt_testkit::Golden;

fn gpt2(changes: Value) -> Result<ModelConfig, ModelError> {
    let mut config = json!({
        "model_type": "gpt2", "vocab_size": 257, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4,
    });
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    ModelConfig::from_json(config)
}

fn section(section: Value) -> Result<ModelConfig, ModelError> {
    let Value::Object(section) = section else { panic!("a section is an object") };
    ModelConfig::from_section(&section)
}

/// `config.json` and `config_v5.json` of every decoder among the fixtures.
fn both_spellings() -> Vec<[PathBuf; 2]> {
    let folders = ["causal", "training"].into_iter().flat_map(Golden::of_kind).map(|golden| golden.folder);
    let both = folders.map(|folder| ["config.json", "config_v5.json"].map(|file| folder.join(file)));
    both.filter(|paths| paths.iter().all(|path| path.exists())).collect()
}

#[test]
fn every_key_survives() {
    for path in both_spellings().iter().flatten() {
        let expected: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let config = ModelConfig::from_file(path).unwrap();
        assert_eq!(config.to_json(), expected);
        let again: Value = serde_json::from_str(&config.to_json_text()).unwrap();
        assert_eq!(again, expected);
    }
    let config = gpt2(json!({"my_own_key": {"nested": [1, null, 2.5]}})).unwrap();
    assert_eq!(config.to_json()["my_own_key"], json!({"nested": [1, null, 2.5]}));
}

#[test]
fn both_spellings_describe_the_same_decoder() {
    let both = both_spellings();
    assert!(both.len() > 30, "{} fixtures", both.len());
    for paths in both {
        let [old, new] = paths.each_ref().map(|path| ModelConfig::from_file(path).unwrap().decoder);
        assert_eq!(old, new, "{}", paths[0].display());
    }
}

#[test]
fn every_family_starts_from_scratch() {
    for family in FAMILIES {
        let mut sizes = json!({
            "model_type": family.model_type, "vocab_size": 97, "d_model": 32, "n_layers": 3, "n_heads": 4,
            "d_ff": 48, "max_seq_len": 64,
        });
        if family
            .section_keys
            .iter()
            .copied()
            .flatten()
            .any(|key| key.names.contains(&"moe_intermediate_size"))
        {
            sizes["moe_intermediate_size"] = 24.into();
        }
        let config = section(sizes).unwrap();
        assert_eq!(config.family.model_type, family.model_type);
        assert_eq!(config.decoder.num_hidden_layers, 3);
        assert_eq!(config.raw["architectures"], json!([family.architectures[0]]));
        let again = ModelConfig::from_json(config.to_json()).unwrap();
        assert_eq!(again.decoder, config.decoder, "{}", family.model_type);
    }
}

#[test]
fn families_are_found_by_type_or_architecture() {
    let sizes = json!({"vocab_size": 5, "n_positions": 4, "n_embd": 4, "n_layer": 1, "n_head": 2});
    let with = |key: &str, value: Value| {
        let mut config = sizes.clone();
        config[key] = value;
        ModelConfig::from_json(config)
    };
    assert_eq!(with("architectures", json!(["GPT2LMHeadModel"])).unwrap().family.model_type, "gpt2");
    let unknown = with("model_type", json!("gtp2")).unwrap_err().to_string();
    let available = FAMILIES.iter().map(|family| family.model_type).collect::<Vec<_>>().join(", ");
    let expected =
        format!("model type `gtp2` is not supported (available: {available}); did you mean `gpt2`?");
    assert_eq!(unknown, expected);
    let absent = ModelConfig::from_json(sizes.clone()).unwrap_err().to_string();
    assert_eq!(absent, format!("the model configuration lacks `model_type`, expected one of {available}"));
    let list = ModelConfig::from_json(json!([])).unwrap_err().to_string();
    assert_eq!(list, "`config.json` is an array in the model configuration, expected a JSON object");
}

#[test]
fn options_reach_the_decoder() {
    let config = gpt2(json!({
        "n_inner": 48, "activation_function": "gelu", "scale_attn_by_inverse_layer_idx": true,
        "layer_norm_epsilon": 1e-6, "tie_word_embeddings": false, "resid_pdrop": 0.25,
    }));
    let decoder = config.unwrap().decoder;
    assert_eq!(decoder.mlp.intermediate_size, 48);
    assert_eq!(decoder.mlp.activation, Activation::Gelu);
    assert_eq!(decoder.norm.epsilon, 1e-6);
    assert_eq!(decoder.dropout.residual, 0.25);
    assert!(!decoder.tie_word_embeddings);
    let scale = 1.0 / 8f64.sqrt();
    assert_eq!(decoder.attention.layer_scale(0), scale);
    assert_eq!(decoder.attention.layer_scale(2), scale / 3.0);
    let unscaled = gpt2(json!({"scale_attn_weights": false, "n_inner": null})).unwrap().decoder;
    assert_eq!(unscaled.attention.layer_scale(1), 1.0);
    assert_eq!(unscaled.mlp.intermediate_size, 128);
}

#[test]
fn values_that_do_not_fit_are_named() {
    let cases = [
        (
            json!({"n_head": 0}),
            "`n_head` is 0 in the model configuration, expected a whole number from 1 to 4096",
        ),
        (
            json!({"n_head": 5}),
            "`n_head` is 5 in the model configuration, expected a divisor of `n_embd` (32)",
        ),
        (
            json!({"n_embd": "32"}),
            "`n_embd` is \"32\" in the model configuration, expected a whole number from 1 to 131072",
        ),
        (
            json!({"vocab_size": 1e15 as u64}),
            "`vocab_size` is 1000000000000000 in the model configuration, expected a whole number from 1 to 16777216",
        ),
        (
            json!({"n_layer": -1}),
            "`n_layer` is -1 in the model configuration, expected a whole number from 1 to 4096",
        ),
        (
            json!({"n_layer": null}),
            "the model configuration lacks `n_layer`, expected a whole number from 1 to 4096",
        ),
        (
            json!({"activation_function": "tanh"}),
            "`activation_function` is \"tanh\" in the model configuration, expected one of silu, swish, \
             gelu_new, gelu_pytorch_tanh, gelu_fast, gelu, relu",
        ),
        (
            json!({"add_cross_attention": true}),
            "`add_cross_attention` is true in the model configuration, expected `false`: cross-attention is not \
             supported",
        ),
        (
            json!({"scale_attn_weights": 1}),
            "`scale_attn_weights` is 1 in the model configuration, expected `true` or `false`",
        ),
        (
            json!({"embd_pdrop": 1.0}),
            "`embd_pdrop` is 1.0 in the model configuration, expected a number from 0 up to 1 (exclusive)",
        ),
        (
            json!({"layer_norm_epsilon": 0}),
            "`layer_norm_epsilon` is 0 in the model configuration, expected a number above 0",
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(gpt2(change).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_section_becomes_a_complete_config() {
    let config = section(json!({
        "vocab_size": 1000, "d_model": 64, "n_layers": 3, "n_heads": 4, "d_ff": 200, "max_seq_len": 96,
        "dropout": 0.1, "eos_token_id": 7,
    }));
    let config = config.unwrap();
    let raw = config.to_json();
    let expected = [
        ("architectures", json!(["GPT2LMHeadModel"])),
        ("model_type", json!("gpt2")),
        ("n_embd", json!(64)),
        ("n_layer", json!(3)),
        ("n_head", json!(4)),
        ("n_inner", json!(200)),
        ("n_positions", json!(96)),
        ("n_ctx", json!(96)),
        ("embd_pdrop", json!(0.1)),
        ("resid_pdrop", json!(0.1)),
        ("attn_pdrop", json!(0.0)),
        ("eos_token_id", json!(7)),
        ("bos_token_id", json!(null)),
        ("tie_word_embeddings", json!(true)),
    ];
    for (key, value) in expected {
        assert_eq!(raw[key], value, "{key}");
    }
    assert_eq!(config.eos_token_ids(), [7]);
    assert_eq!(ModelConfig::from_json(raw).unwrap().decoder, config.decoder);
}

#[test]
fn a_section_takes_hugging_face_names_and_refuses_the_rest() {
    let sizes = json!({
        "vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
        "max_position_embeddings": 16,
    });
    assert_eq!(section(sizes.clone()).unwrap().decoder.hidden_size, 8);
    let with = |key: &str, value: Value| {
        let mut changed = sizes.clone();
        changed[key] = value;
        section(changed).unwrap_err().to_string()
    };
    assert_eq!(
        with("n_layer_", json!(2)),
        "unknown key `n_layer_` in the model section; did you mean `n_layer`?"
    );
    assert_eq!(with("qqqqqqqqqqqq", json!(2)), "unknown key `qqqqqqqqqqqq` in the model section");
    assert_eq!(
        with("d_model", json!(8)),
        "`hidden_size` and `d_model` in the model section mean the same, give one of them"
    );
    let unknown = with("model_type", json!("lama"));
    assert!(unknown.ends_with("did you mean `llama`?"), "{unknown}");
    let empty = ModelConfig::from_section(&Map::new()).unwrap_err().to_string();
    assert_eq!(empty, "the model configuration lacks `n_embd`, expected a whole number from 1 to 131072");
}

#[test]
fn ids_outside_the_vocabulary_are_found() {
    let decoder = gpt2(json!({})).unwrap().decoder;
    assert!(decoder.check_token_ids(&[0, 256]).is_ok());
    let error = decoder.check_token_ids(&[0, 257, 300]).unwrap_err().to_string();
    assert_eq!(error, "token id 257 at position 1 is outside the vocabulary of 257");
}
