//! Tokenizers in other files than `tokenizer.json`: SentencePiece models against the `sentencepiece`
//! package (`tests/fixtures/sentencepiece`), `vocab.json` with `merges.txt` against `tests/golden`.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};
use smelt_text::{TextError, Tokenizer};

#[derive(serde::Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    decoded: String,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sentencepiece")
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn sentencepiece_models_give_the_ids_of_the_package() {
    let text = fs::read(fixtures().join("golden.json")).unwrap();
    let models: BTreeMap<String, Vec<Case>> = serde_json::from_slice(&text).unwrap();
    assert_eq!(models.len(), 4);
    for (name, cases) in models {
        let tokenizer = Tokenizer::from_file(&fixtures().join(format!("{name}.model"))).unwrap();
        assert!(cases.len() > 40);
        for Case { text, ids, decoded } in cases {
            assert_eq!(tokenizer.encode(&text).unwrap(), ids, "{name}: {text:?}");
            // The unknown token is special here and decodes to nothing.
            if !decoded.contains('⁇') {
                assert_eq!(tokenizer.decode(&ids).unwrap(), decoded, "{name}: {text:?}");
                let mut stream = tokenizer.stream();
                let parts: String = ids.iter().filter_map(|&id| stream.push(id).unwrap()).collect();
                assert_eq!(parts + &stream.finish().unwrap_or_default(), decoded, "{name}: {text:?}");
            }
        }
    }
}

#[test]
fn a_folder_with_a_sentencepiece_model_loads_and_saves() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fixtures().join("bpe_llama.model"), folder.path().join("tokenizer.model")).unwrap();
    let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
    assert_eq!(tokenizer.end_of_text(), tokenizer.token_to_id("</s>"));
    let plain = tokenizer.encode("Hello").unwrap();
    let whole = tokenizer.encode_with_special_tokens("Hello").unwrap();
    assert_eq!(whole, [&[tokenizer.token_to_id("<s>").unwrap()], &plain[..]].concat());

    let config = json!({
        "add_bos_token": false,
        "add_eos_token": true,
        "added_tokens_decoder": {"700": {"content": "<pad>", "special": true}},
    });
    fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
    let whole = tokenizer.encode_with_special_tokens("Hello").unwrap();
    assert_eq!(whole, [&plain[..], &[tokenizer.token_to_id("</s>").unwrap()]].concat());

    let saved = tempfile::tempdir().unwrap();
    tokenizer.save_folder(saved.path()).unwrap();
    assert_eq!(Tokenizer::from_folder(saved.path()).unwrap().json(), tokenizer.json());
}

/// Llama's later setting: only the start of a text gets a space, not what follows a special token.
#[test]
fn legacy_decides_whether_a_space_follows_special_tokens() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fixtures().join("bpe_llama.model"), folder.path().join("tokenizer.model")).unwrap();
    let spaces = |legacy: bool| {
        let config = json!({"legacy": legacy}).to_string();
        fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
        let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
        tokenizer.decode(&tokenizer.encode("a</s>b").unwrap()).unwrap()
    };
    assert_eq!(spaces(true), "a b");
    assert_eq!(spaces(false), "ab");
}

/// A folder in GPT-2's layout with the vocabulary of a golden `tokenizer.json`.
fn vocab_and_merges(name: &str, config: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let model = &read_json(&golden(name).join("tokenizer.json"))["model"];
    let line = |merge: &Value| match merge.as_array() {
        Some(sides) => format!("{} {}\n", sides[0].as_str().unwrap(), sides[1].as_str().unwrap()),
        None => format!("{}\n", merge.as_str().unwrap()),
    };
    let merges: String = model["merges"].as_array().unwrap().iter().map(line).collect();
    fs::write(folder.path().join("vocab.json"), model["vocab"].to_string()).unwrap();
    fs::write(folder.path().join("merges.txt"), format!("#version: 0.2\n{merges}")).unwrap();
    fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    folder
}

#[test]
fn vocab_and_merges_give_the_ids_of_the_golden_tokenizer() {
    let gpt2 = json!({"tokenizer_class": "GPT2Tokenizer", "bos_token": "<s>", "eos_token": "<|endoftext|>",
        "pad_token": "</s>"});
    let qwen = json!({"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|endoftext|>", "added_tokens_decoder": {
        "1": {"content": "<|im_start|>", "special": true}, "2": {"content": "<|im_end|>", "special": true}}});
    for (name, config) in [("tokenizer_bytelevel", gpt2), ("tokenizer_qwen_style", qwen)] {
        let folder = vocab_and_merges(name, &config);
        let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
        for case in read_json(&golden(name).join("golden.json")).as_array().unwrap() {
            let ids: Vec<u32> = serde_json::from_value(case["ids_no_special"].clone()).unwrap();
            let text = case["text"].as_str().unwrap();
            assert_eq!(tokenizer.encode(text).unwrap(), ids, "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&ids).unwrap(), case["decoded_skip"].as_str().unwrap(), "{name}");
        }
    }
}

#[test]
fn broken_vocabularies_are_named_with_their_line() {
    for (file, text, expected) in [
        ("merges.txt", "#version: 0.2\na b c d\n", "merges.txt`, line 2"),
        ("merges.txt", "nonsense\n", "merges.txt`, line 1"),
        ("vocab.json", "{\"a\": -1}", "`a` in"),
        ("vocab.json", "{\"a\": \"b\"}", "`a` in"),
        ("vocab.json", "{\"low</w>\": 1}", "byte-level"),
        ("vocab.json", "[", "cannot parse"),
        ("tokenizer_config.json", "{\"added_tokens_decoder\": {\"x\": {}}}", "`added_tokens_decoder.x` in"),
    ] {
        let folder = vocab_and_merges("tokenizer_bytelevel", &json!({}));
        fs::write(folder.path().join(file), text).unwrap();
        let error = Tokenizer::from_folder(folder.path()).unwrap_err();
        assert!(error.to_string().contains(expected), "{file}: {error}");
    }
    let folder = vocab_and_merges("tokenizer_bytelevel", &json!({}));
    fs::remove_file(folder.path().join("merges.txt")).unwrap();
    let error = Tokenizer::from_folder(folder.path()).unwrap_err();
    assert!(error.to_string().contains("cannot read"), "{error}");
}

#[test]
fn models_that_cannot_be_converted_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.model");
    let config = json!({"tokenizer_class": "XLMRobertaTokenizer"}).to_string();
    fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
    fs::copy(fixtures().join("bpe_llama.model"), &path).unwrap();
    let error = Tokenizer::from_folder(folder.path()).unwrap_err();
    assert!(error.source().unwrap().to_string().contains("numbers the pieces anew"), "{error}");
    // A trainer that made words, field 3 of field 2.
    fs::write(&path, [0x12, 2, 0x18, 3]).unwrap();
    let error = Tokenizer::from_folder(folder.path()).unwrap_err();
    assert!(error.source().unwrap().to_string().contains("neither a unigram nor a BPE"), "{error}");
    fs::write(&path, b"").unwrap();
    assert!(matches!(Tokenizer::from_file(&path), Err(TextError::SentencePiece { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Damage gives an error or a tokenizer that still works, never a panic.
    #[test]
    fn damaged_models_do_no_harm(
        name in prop::sample::select(vec!["bpe_llama", "unigram_t5"]),
        damage in prop::collection::vec((0_usize..300_000, any::<u8>()), 1..12),
        length in prop_oneof![Just(usize::MAX), 0_usize..300_000],
    ) {
        let mut bytes = fs::read(fixtures().join(format!("{name}.model"))).unwrap();
        let whole = bytes.len();
        for (at, byte) in damage {
            bytes[at % whole] = byte;
        }
        bytes.truncate(length);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.model");
        fs::write(&path, bytes).unwrap();
        if let Ok(tokenizer) = Tokenizer::from_file(&path) {
            let _ = tokenizer.encode("Hello ﬁne ① world, 中文 e\u{301}");
        }
    }
}
