//! GGUF files that llama.cpp wrote.

use smelt_convert::Source;
use smelt_model::weights::TensorFile;
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
