//! Ids and text against the Python `tokenizers` package (`tests/golden/tokenizer_*`).

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use smelt_text::Tokenizer;

#[derive(serde::Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    ids_no_special: Vec<u32>,
    decoded_skip: String,
}

const NAMES: [&str; 5] = [
    "tokenizer_bytelevel",
    "tokenizer_llama2_style",
    "tokenizer_qwen_style",
    "tokenizer_unigram",
    "tokenizer_wordpiece",
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

fn cases(name: &str) -> Vec<Case> {
    let cases: Vec<Case> =
        serde_json::from_slice(&std::fs::read(folder(name).join("golden.json")).unwrap()).unwrap();
    assert_eq!(cases.len(), 200, "{name}");
    cases
}

#[test]
fn ids_and_text_agree_with_python() {
    for name in NAMES {
        let tokenizer = Tokenizer::from_folder(&folder(name)).unwrap();
        for case in cases(name) {
            let text = &case.text;
            assert_eq!(tokenizer.encode(text).unwrap(), case.ids_no_special, "{name}: {text:?}");
            assert_eq!(tokenizer.encode_with_special_tokens(text).unwrap(), case.ids, "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&case.ids).unwrap(), case.decoded_skip, "{name}: {text:?}");
        }
    }
}

#[test]
fn a_batch_encodes_as_its_texts_do() {
    for name in NAMES {
        let tokenizer = Tokenizer::from_folder(&folder(name)).unwrap();
        let cases = cases(name);
        let texts: Vec<&str> = cases.iter().map(|case| case.text.as_str()).collect();
        let expected: Vec<Vec<u32>> = cases.iter().map(|case| case.ids_no_special.clone()).collect();
        assert_eq!(tokenizer.encode_batch(&texts).unwrap(), expected, "{name}");
    }
}

#[test]
fn streamed_text_equals_the_whole() {
    for name in NAMES {
        let tokenizer = Tokenizer::from_folder(&folder(name)).unwrap();
        for case in cases(name) {
            assert_eq!(streamed(&tokenizer, &case.ids), case.decoded_skip, "{name}: {:?}", case.text);
        }
    }
}

/// Arbitrary ids are seldom UTF-8: incomplete and impossible characters in any order.
#[test]
fn streamed_text_of_arbitrary_ids_equals_the_whole() {
    for name in NAMES {
        let tokenizer = Tokenizer::from_folder(&folder(name)).unwrap();
        let vocab_size = u32::try_from(tokenizer.vocab_size()).unwrap();
        let mut state = 1_u32;
        for _ in 0..300 {
            let ids: Vec<u32> = std::iter::repeat_with(|| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Half of the draws among the low ids, where the bytes are.
                (state >> 8) % if state >> 31 == 0 { vocab_size.min(260) } else { vocab_size }
            })
            .take(40)
            .collect();
            assert_eq!(streamed(&tokenizer, &ids), tokenizer.decode(&ids).unwrap(), "{name}: {ids:?}");
        }
    }
}

fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut stream = tokenizer.stream();
    let mut text = String::new();
    for &id in ids {
        text.extend(stream.push(id).unwrap());
    }
    text.extend(stream.finish());
    text
}

#[test]
fn the_end_of_text_is_found_under_its_name() {
    let expected = [
        ("tokenizer_bytelevel", Some("<|endoftext|>")),
        ("tokenizer_llama2_style", Some("</s>")),
        ("tokenizer_qwen_style", Some("<|endoftext|>")),
        ("tokenizer_unigram", Some("</s>")),
        ("tokenizer_wordpiece", None),
    ];
    for (name, token) in expected {
        let tokenizer = Tokenizer::from_folder(&folder(name)).unwrap();
        let found = tokenizer.end_of_text().and_then(|id| tokenizer.id_to_token(id));
        assert_eq!(found.as_deref(), token, "{name}");
    }
}

#[test]
fn saving_keeps_the_file_byte_for_byte() {
    let target = tempfile::tempdir().unwrap();
    for name in NAMES {
        let source = folder(name).join("tokenizer.json");
        let copy = target.path().join("tokenizer.json");
        Tokenizer::from_file(&source).unwrap().save(&copy).unwrap();
        assert_eq!(std::fs::read(&copy).unwrap(), std::fs::read(&source).unwrap(), "{name}");
    }
}
