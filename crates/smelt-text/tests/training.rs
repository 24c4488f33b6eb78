//! Learning a tokenizer and using it on texts it never saw.

#![allow(clippy::unwrap_used)]

use std::error::Error;

use proptest::prelude::*;
use smelt_text::{BpeTraining, END_OF_TEXT, TextError, Tokenizer, byte_level_pieces, train_byte_level_bpe};

const TEXTS: [&str; 4] = [
    "#!/bin/bash\nset -euo pipefail\n\n# Copy every file of a folder.\nfor file in \"$1\"/*; do\n    cp \"$file\" \"$2\"\ndone\n",
    "Reading a script is easier when every step says why it is there.\n",
    "#!/bin/sh\n# Count the lines of every file.\nfind . -type f -print0 | xargs -0 wc -l\n",
    "if [ -z \"$1\" ]; then\n    echo \"usage: $0 FILE\" >&2\n    exit 2\nfi\n",
];

fn trained(vocab_size: usize) -> Tokenizer {
    let training = BpeTraining { vocab_size, ..BpeTraining::default() };
    train_byte_level_bpe(TEXTS.iter().cycle().take(40), &training).unwrap()
}

#[test]
fn the_same_texts_give_the_same_file_in_any_order() {
    let first = trained(380);
    assert_eq!(first.vocab_size(), 380);
    for _ in 0..5 {
        assert_eq!(first.json(), trained(380).json());
    }
    let training = BpeTraining { vocab_size: 380, ..BpeTraining::default() };
    let reversed = train_byte_level_bpe(TEXTS.iter().rev().cycle().take(40), &training).unwrap();
    assert_eq!(first.sha256(), reversed.sha256());
}

#[test]
fn pieces_teach_what_the_whole_teaches() {
    let text = TEXTS.concat().repeat(400);
    assert!(byte_level_pieces(&text).count() > 1);
    let training = BpeTraining { vocab_size: 350, ..BpeTraining::default() };
    let whole = train_byte_level_bpe([&text].into_iter(), &training).unwrap();
    let pieces = train_byte_level_bpe(byte_level_pieces(&text), &training).unwrap();
    assert_eq!(whole.json(), pieces.json());
}

#[test]
fn special_tokens_come_first_in_their_order() {
    let special_tokens = vec![END_OF_TEXT.to_owned(), "<|user|>".to_owned()];
    let training = BpeTraining { vocab_size: 300, min_frequency: 2, special_tokens };
    let tokenizer = train_byte_level_bpe(TEXTS.iter(), &training).unwrap();
    assert_eq!(tokenizer.end_of_text(), Some(0));
    assert_eq!(tokenizer.token_to_id("<|user|>"), Some(1));
    assert_eq!(tokenizer.encode("<|user|><|endoftext|>").unwrap(), [1, 0]);
    assert_eq!(tokenizer.decode(&[1, 0]).unwrap(), "");
}

#[test]
fn special_tokens_can_be_read_as_text() {
    let tokenizer = trained(400).with_special_tokens_as_text();
    let text = "it ends with <|endoftext|> they say";
    let ids = tokenizer.encode(text).unwrap();
    assert!(!ids.contains(&0), "{ids:?}");
    assert_eq!(tokenizer.decode(&ids).unwrap(), text);
}

#[test]
fn a_small_corpus_gives_fewer_entries_but_all_bytes() {
    let tokenizer = train_byte_level_bpe(["ab"].iter(), &BpeTraining::default()).unwrap();
    assert_eq!(tokenizer.vocab_size(), 259);
}

#[test]
fn a_vocabulary_without_room_for_the_bytes_is_refused() {
    let training = BpeTraining { vocab_size: 256, ..BpeTraining::default() };
    let error = train_byte_level_bpe(TEXTS.iter(), &training).unwrap_err();
    assert!(matches!(error, TextError::VocabTooSmall { requested: 256, minimum: 259 }), "{error}");
}

#[test]
fn a_saved_folder_loads_again() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = trained(400);
    tokenizer.save_folder(folder.path()).unwrap();
    let loaded = Tokenizer::from_folder(folder.path()).unwrap();
    assert_eq!(loaded.json(), tokenizer.json());
    assert_eq!(loaded.encode(TEXTS[0]).unwrap(), tokenizer.encode(TEXTS[0]).unwrap());

    let config = std::fs::read(folder.path().join("tokenizer_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["tokenizer_class"], "PreTrainedTokenizerFast");
    assert_eq!(config["eos_token"], END_OF_TEXT);
}

#[test]
fn a_tokenizer_config_that_is_there_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("tokenizer_config.json");
    std::fs::write(&config, "{}").unwrap();
    trained(300).save_folder(folder.path()).unwrap();
    assert_eq!(std::fs::read_to_string(&config).unwrap(), "{}");
}

#[test]
fn a_missing_or_broken_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Tokenizer::from_folder(folder.path()).unwrap_err();
    let path = folder.path().join("tokenizer.json");
    assert_eq!(missing.to_string(), format!("cannot read `{}`", path.display()));
    assert!(missing.source().is_some());

    let json = trained(300).json().to_vec();
    for broken in [&json[..json.len() / 2], b"", b"[]", b"{\"model\": null}", b"\xff\xfe"] {
        std::fs::write(&path, broken).unwrap();
        let error = Tokenizer::from_file(&path).unwrap_err();
        assert!(matches!(error, TextError::Parse { .. }), "{error:?}");
        assert!(error.to_string().contains("tokenizer.json"), "{error}");
    }
}

#[test]
fn an_unwritable_target_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("absent/tokenizer.json");
    let error = trained(300).save(&target).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot write `{}`", target.display()));
}

#[test]
fn a_character_over_several_tokens_comes_out_whole() {
    let tokenizer = trained(259);
    let ids = tokenizer.encode("a💧é").unwrap();
    assert_eq!(ids.len(), 7);
    let mut stream = tokenizer.stream();
    let parts: Vec<Option<String>> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
    let expected = [Some("a"), None, None, None, Some("💧"), None, Some("é")];
    assert_eq!(parts, expected.map(|part| part.map(str::to_owned)));
    assert_eq!(stream.finish(), None);
}

#[test]
fn a_character_cut_short_comes_out_at_the_end() {
    let tokenizer = trained(259);
    let ids = tokenizer.encode("💧").unwrap();
    let mut stream = tokenizer.stream();
    for &id in &ids[..3] {
        assert_eq!(stream.push(id).unwrap(), None);
    }
    assert_eq!(stream.finish().as_deref(), Some("\u{FFFD}"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_text_survives_the_round_trip(text in any::<String>()) {
        let tokenizer = tokenizer();
        let ids = tokenizer.encode(&text).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }

    #[test]
    fn streamed_text_equals_the_whole(ids in prop::collection::vec(0_u32..400, 0..60)) {
        let tokenizer = tokenizer();
        let mut stream = tokenizer.stream();
        let mut text = String::new();
        for &id in &ids {
            text.extend(stream.push(id).unwrap());
        }
        text.extend(stream.finish());
        prop_assert_eq!(text, tokenizer.decode(&ids).unwrap());
    }
}

#[test]
fn a_long_text_in_a_batch_encodes_as_the_whole() {
    let text = TEXTS.concat().repeat(400);
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.encode_batch(&[&text, ""]).unwrap(), [tokenizer.encode(&text).unwrap(), vec![]]);
}

/// One for all cases of the properties.
fn tokenizer() -> &'static Tokenizer {
    static TOKENIZER: std::sync::LazyLock<Tokenizer> = std::sync::LazyLock::new(|| trained(400));
    &TOKENIZER
}
