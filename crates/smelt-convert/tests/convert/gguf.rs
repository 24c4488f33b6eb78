//! GGUF files that llama.cpp wrote.

use serde_json::{Value, json};
use smelt_convert::Source;
use smelt_convert::gguf::{GgufModel, GgufOptions, write_gguf};
use smelt_model::weights::{GENERATION_CONFIG_FILE, TensorFile};
use smelt_testkit::{Golden, Tolerance, assert_close, golden_folder};

use crate::support::{logits, values};

const KINDS: [&str; 9] = ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl"];

#[test]
fn files_of_llama_cpp_give_the_values_and_logits_of_their_blocks() {
    let golden = Golden::open("gguf");
    let reference = TensorFile::open(&golden_folder("gguf").join("golden_gguf.safetensors")).unwrap();
    let ids = golden.tensor("input_ids");
    let seq = ids.shape[1];
    for kind in KINDS {
        let source = Source::open(&golden.folder.join(format!("model-{kind}.gguf"))).unwrap();
        assert_eq!(source.config.family.model_type, "llama");
        let q_proj = values(&source, "model.layers.0.self_attn.q_proj.weight");
        assert_eq!(q_proj, reference.f32(&format!("{kind}.dequant.q_proj0_hf_order")).unwrap(), "{kind}");
        let found = logits(&source, &ids.ids()[..seq], [1, seq]);
        let expected = reference.f32(&format!("{kind}.logits_dequant_f32")).unwrap();
        assert_close(kind, &found, &expected, Tolerance::Logits);
    }
}

#[test]
fn a_file_tells_what_its_configuration_was() {
    let folder = golden_folder("gguf");
    let source = Source::open(&folder.join("model-f32.gguf")).unwrap();
    let original = smelt_model::ModelConfig::from_folder(&folder).unwrap();
    assert_eq!(source.config.decoder, original.decoder);
    assert_eq!(source.config.eos_token_ids(), original.eos_token_ids());
}

#[test]
fn the_tokenizer_of_a_file_gives_the_ids_of_the_one_it_was_made_from() {
    let source = Source::open(&golden_folder("gguf").join("model-q8_0.gguf")).unwrap();
    let tokenizer = source.companions.tokenizer().unwrap().unwrap();
    let original = smelt_text::Tokenizer::from_folder(&golden_folder("tokenizer_bytelevel")).unwrap();
    let golden: serde_json::Value = serde_json::from_slice(
        &std::fs::read(golden_folder("tokenizer_bytelevel").join("golden.json")).unwrap(),
    )
    .unwrap();
    let mut compared = 0;
    for case in golden.as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        assert_eq!(tokenizer.encode(text).unwrap(), original.encode(text).unwrap(), "{text:?}");
        compared += 1;
    }
    assert!(compared > 100, "{compared} texts");
}

#[test]
fn settings_for_generation_go_into_a_file_and_come_back() {
    let mut source = Source::open(&golden_folder("gguf").join("model-f32.gguf")).unwrap();
    let end = source.config.eos_token_ids()[0];
    let settings = json!({
        "do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.05,
        "repetition_penalty": 1.1, "eos_token_id": [end, end + 5], "pad_token_id": null,
    });
    source.companions.insert_json(GENERATION_CONFIG_FILE, &settings);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    write_gguf(&source, GgufOptions::default(), &path, &mut |_| ()).unwrap();
    let metadata = GgufModel::open(&path).unwrap().metadata;
    assert_eq!(metadata.count("general.sampling.top_k").unwrap(), Some(20));
    assert_eq!(metadata.number("general.sampling.temp").unwrap(), Some(f64::from(0.6f32)));
    assert_eq!(metadata.number("general.sampling.penalty_repeat").unwrap(), Some(f64::from(1.1f32)));

    let back = Source::open(&path).unwrap();
    assert_eq!(back.config.eos_token_ids(), [end, end + 5], "chat models list more ends here");
    let found: Value = serde_json::from_slice(back.companions.get(GENERATION_CONFIG_FILE).unwrap()).unwrap();
    for key in ["do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "eos_token_id"] {
        assert_eq!(found[key], settings[key], "{key}");
    }
    assert_eq!(found.get("_from_model_config"), None);
}
