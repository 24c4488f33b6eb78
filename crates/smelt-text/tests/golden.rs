//! Ids and text against the Python `tokenizers` package (`tests/golden/tokenizer_*`).

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proptest::prelude::*;
use smelt_text::Tokenizer;

#[derive(serde::Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    ids_no_special: Vec<u32>,
    decoded: String,
    decoded_skip: String,
    /// In characters, of the ids without special tokens.
    offsets: Vec<(usize, usize)>,
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
            let decoded = tokenizer.decode_with_special_tokens(&case.ids_no_special).unwrap();
            assert_eq!(decoded, case.decoded, "{name}: {text:?}");
        }
    }
}

#[test]
fn offsets_agree_with_python() {
    for name in NAMES {
        let tokenizer = Tokenizer::from_folder(&folder(name)).unwrap();
        for case in cases(name) {
            let text = &case.text;
            let (ids, offsets) = tokenizer.encode_with_offsets(text).unwrap();
            assert_eq!(ids, case.ids_no_special, "{name}: {text:?}");
            let characters = |bytes: usize| text[..bytes].chars().count();
            let offsets: Vec<(usize, usize)> =
                offsets.iter().map(|range| (characters(range.start), characters(range.end))).collect();
            assert_eq!(offsets, case.offsets, "{name}: {text:?}");
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Arbitrary ids are seldom UTF-8: incomplete and impossible characters in any order, more often
    /// among the low ids, where the bytes are.
    #[test]
    fn streamed_text_of_arbitrary_ids_equals_the_whole(
        name in prop::sample::select(&NAMES[..]),
        ids in prop::collection::vec(prop_oneof![0_u32..260, 0_u32..900], 0..40),
    ) {
        let tokenizer = loaded(name);
        prop_assert_eq!(streamed(tokenizer, &ids), tokenizer.decode(&ids).unwrap());
    }

    /// The fast encoder against the pipeline, which gives the ids together with their offsets.
    #[test]
    fn ids_are_those_of_the_pipeline(
        name in prop::sample::select(&NAMES[..]),
        parts in prop::collection::vec("\\PC{0,6}|[a-e '.\n\t0-9]{0,8}|<\\|endoftext\\|>|[e\u{301}ſ'S\u{a0}]{0,4}", 0..12),
    ) {
        let (tokenizer, text) = (loaded(name), parts.concat());
        prop_assert_eq!(tokenizer.encode(&text).unwrap(), tokenizer.encode_with_offsets(&text).unwrap().0);
        let plain = tokenizer.with_special_tokens_as_text();
        prop_assert_eq!(plain.encode(&text).unwrap(), plain.encode_with_offsets(&text).unwrap().0);
    }
}

/// Texts put together from the bytes of their tokens, but for the space that some decoders drop at the start.
#[test]
fn the_bytes_of_tokens_make_up_the_text() {
    for name in NAMES {
        let tokenizer = loaded(name);
        let bytes = tokenizer.token_bytes();
        assert_eq!(bytes.len(), tokenizer.vocab_size());
        let mut same = 0;
        for case in cases(name) {
            let known = case.ids_no_special.iter().filter_map(|id| bytes[*id as usize].clone());
            let text = String::from_utf8_lossy(&known.collect::<Vec<_>>().concat()).into_owned();
            let equal = text == case.decoded_skip || text.strip_prefix(' ') == Some(&case.decoded_skip);
            // BERT's decoder joins contractions, in which the space of a token depends on the next.
            assert!(equal || name == "tokenizer_wordpiece", "{name}: {text:?} for {:?}", case.decoded_skip);
            same += usize::from(equal);
        }
        assert!(same > 150, "{name}: {same}");
    }
}

#[test]
fn special_tokens_have_no_bytes_and_parts_of_characters_have() {
    for name in ["tokenizer_bytelevel", "tokenizer_llama2_style", "tokenizer_qwen_style"] {
        let tokenizer = loaded(name);
        let bytes = tokenizer.token_bytes();
        assert_eq!(bytes[tokenizer.end_of_text().unwrap() as usize], None, "{name}");
        for byte in 0..=u8::MAX {
            assert!(bytes.contains(&Some(vec![byte])), "{name} has no token of the byte {byte}");
        }
    }
}

/// Each tokenizer once for all cases of the properties.
fn loaded(name: &str) -> &'static Tokenizer {
    static LOADED: LazyLock<HashMap<&str, Tokenizer>> =
        LazyLock::new(|| NAMES.map(|name| (name, Tokenizer::from_folder(&folder(name)).unwrap())).into());
    &LOADED[name]
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
