//! Prepared folders: what they hold, that they are the same each time, and what keeps a damaged one out.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use proptest::prelude::*;
use smelt_data::{
    DataError, Dedup, Input, PrepareOptions, PrepareProgress, Prepared, SplitRule, Tally, TokenDtype,
    TokenShard, prepare,
};
use smelt_text::{BpeTraining, train_byte_level_bpe};

fn script(at: usize) -> String {
    format!("#!/bin/sh\n# Script number {at}.\nfor file in *.{at}; do\n    echo \"$file\"\ndone\n")
}

fn texts<S: Into<String>>(texts: impl IntoIterator<Item = S>) -> Vec<Input> {
    let named = |(at, text): (usize, S)| Input::Text { source: at.to_string(), text: text.into() };
    texts.into_iter().enumerate().map(named).collect()
}

fn scripts(count: usize) -> Vec<Input> {
    texts((0..count).map(script))
}

fn options() -> PrepareOptions {
    PrepareOptions { vocab_size: 300, val_fraction: 0.2, dedup: Dedup::Exact, ..PrepareOptions::default() }
}

fn prepare_quietly(inputs: &[Input], folder: &Path, options: &PrepareOptions) -> Result<Prepared, DataError> {
    let progress = &mut |_: PrepareProgress<'_>| ControlFlow::Continue(());
    prepare(inputs, folder, options, progress).map(|done| done.prepared)
}

fn prepared(inputs: &[Input], folder: &Path) -> Prepared {
    prepare_quietly(inputs, folder, &options()).unwrap()
}

/// The documents of a shard, decoded.
fn documents(prepared: &Prepared, shard: &TokenShard) -> Vec<String> {
    let ids = shard.get(0..shard.len());
    let end = prepared.meta.end_of_text.unwrap();
    assert!(ids.last().is_none_or(|&id| id == end));
    let texts = ids.split_inclusive(|&id| id == end);
    texts.map(|ids| prepared.tokenizer.decode(ids).unwrap()).collect()
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let read =
        |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
    fs::read_dir(folder).unwrap().map(|entry| read(entry.unwrap())).collect()
}

/// The numbers of an index.
fn offsets(folder: &Path, name: &str) -> Vec<u64> {
    let bytes = fs::read(folder.join(name)).unwrap();
    bytes.chunks(8).map(|number| u64::from_le_bytes(number.try_into().unwrap())).collect()
}

#[test]
fn every_document_is_in_one_shard_and_ends_with_end_of_text() {
    let folder = tempfile::tempdir().unwrap();
    let mut sifted = Tally::default();
    let mut last = String::new();
    let done = prepare(&scripts(50), folder.path(), &options(), &mut |progress| {
        if let PrepareProgress::Sifted { tally } = progress {
            sifted = tally.clone();
        }
        last = format!("{progress:?}");
        ControlFlow::Continue(())
    });
    let prepared = done.unwrap().prepared;

    let (train, val) = (documents(&prepared, &prepared.train), documents(&prepared, &prepared.val));
    assert!(!train.is_empty() && !val.is_empty());
    assert!(train.iter().all(|text| !val.contains(text)));
    let mut found: Vec<String> = train.iter().chain(&val).cloned().collect();
    let mut expected: Vec<String> = (0..50).map(script).collect();
    let text_bytes: u64 = expected.iter().map(|text| text.len() as u64).sum();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);

    let meta = &prepared.meta;
    assert_eq!((meta.vocab_size, meta.dtype, meta.split), (300, TokenDtype::U16, SplitRule::Documents));
    assert_eq!((meta.train.documents, meta.val.documents), (train.len() as u64, val.len() as u64));
    assert_eq!(meta.train.text_bytes + meta.val.text_bytes, text_bytes);
    assert_eq!((sifted.kept_documents, sifted.kept_bytes), (50, text_bytes));
    assert_eq!(fs::metadata(folder.path().join("train.bin")).unwrap().len(), 2 * meta.train.tokens);
    let tokens = meta.train.tokens + meta.val.tokens;
    assert_eq!(
        last,
        format!("Encoding {{ done_bytes: {text_bytes}, total_bytes: {text_bytes}, tokens: {tokens} }}")
    );
}

#[test]
fn the_index_says_where_documents_begin() {
    let folder = tempfile::tempdir().unwrap();
    let prepared = prepared(&scripts(50), folder.path());
    let end = prepared.meta.end_of_text.unwrap();
    for (name, shard) in [("train.documents.bin", &prepared.train), ("val.documents.bin", &prepared.val)] {
        let ids = shard.get(0..shard.len());
        let ends = (1..).zip(&ids).filter(|(_, id)| **id == end).map(|(next, _)| next);
        assert_eq!(offsets(folder.path(), name), std::iter::once(0).chain(ends).collect::<Vec<u64>>());
    }
}

#[test]
fn preparing_twice_gives_the_same_files() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    prepared(&scripts(50), first.path());
    prepared(&scripts(50), second.path());
    let expected = files(first.path());
    let names: Vec<&str> = expected.keys().map(String::as_str).collect();
    let expected_names = [
        "meta.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "train.bin",
        "train.documents.bin",
        "val.bin",
        "val.documents.bin",
    ];
    assert_eq!(names, expected_names);
    assert_eq!(files(second.path()), expected);

    // Over a folder that is there already, with what a killed run may leave.
    fs::write(first.path().join(".train.bin.partial"), b"half").unwrap();
    prepared(&scripts(50), first.path());
    assert_eq!(files(first.path()), expected);
}

#[test]
fn a_single_document_is_in_both_shards_but_no_text_is() {
    let folder = tempfile::tempdir().unwrap();
    let text: String = (0..200).map(|line| format!("line {line} of the only document\n")).collect();
    let prepared = prepared(&texts([text.as_str()]), folder.path());
    assert_eq!(prepared.meta.split, SplitRule::Tails);
    let (train, val) = (documents(&prepared, &prepared.train), documents(&prepared, &prepared.val));
    assert_eq!((train.len(), val.len()), (1, 1));
    assert_eq!(format!("{}{}", train[0], val[0]), text);
}

#[test]
fn a_document_that_names_the_end_of_text_does_not_end_there() {
    let folder = tempfile::tempdir().unwrap();
    let text = "before <|endoftext|> after, and enough of it to be cut\n".repeat(20);
    let prepared = prepared(&texts([text.as_str()]), folder.path());
    let texts = [documents(&prepared, &prepared.train), documents(&prepared, &prepared.val)].concat();
    assert_eq!((texts.len(), texts.concat()), (2, text));
}

#[test]
fn a_given_tokenizer_is_used_as_it_is() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = prepared(&scripts(50), first.path()).tokenizer.sha256();
    for tokenizer in [first.path().to_owned(), first.path().join("tokenizer.json")] {
        let options = PrepareOptions { tokenizer: Some(tokenizer), ..options() };
        let prepared = prepare_quietly(&scripts(20), second.path(), &options).unwrap();
        assert_eq!(prepared.meta.tokenizer_sha256, expected);
    }
}

#[test]
fn without_an_end_of_text_the_index_alone_parts_documents() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let training = BpeTraining { vocab_size: 260, special_tokens: Vec::new(), ..BpeTraining::default() };
    train_byte_level_bpe(["text"].iter(), &training).unwrap().save(&path).unwrap();
    let options = PrepareOptions { tokenizer: Some(path), val_fraction: 0.0, ..options() };
    let out = folder.path().join("out");
    let prepared = prepare_quietly(&scripts(20), &out, &options).unwrap();
    assert_eq!(prepared.meta.end_of_text, None);
    let starts = offsets(&out, "train.documents.bin");
    let ids = prepared.train.get(0..prepared.train.len());
    let found: Vec<String> = starts
        .windows(2)
        .map(|pair| prepared.tokenizer.decode(&ids[pair[0] as usize..pair[1] as usize]).unwrap())
        .collect();
    assert_eq!(found, (0..20).map(script).collect::<Vec<_>>());
}

#[test]
fn a_given_tokenizer_brings_its_config_along() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    prepared(&scripts(20), &first);
    fs::write(first.join("tokenizer_config.json"), "{\"chat_template\": \"x\"}").unwrap();
    let options = PrepareOptions { tokenizer: Some(first.clone()), ..options() };
    prepare_quietly(&scripts(20), &second, &options).unwrap();
    let config = |folder: &Path| fs::read(folder.join("tokenizer_config.json")).unwrap();
    assert_eq!(config(&second), config(&first));
}

#[test]
fn too_little_text_for_the_sequences_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let options = PrepareOptions { seq_length: Some(100_000), ..options() };
    let error = prepare_quietly(&scripts(20), folder.path(), &options).unwrap_err();
    assert!(matches!(error, DataError::TooFewTokens { needed: 100_001, .. }), "{error}");
    assert!(!folder.path().join("meta.json").exists());
}

#[test]
fn impossible_options_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for val_fraction in [-0.1, 1.0, f64::NAN] {
        let options = PrepareOptions { val_fraction, ..options() };
        let error = prepare_quietly(&scripts(20), folder.path(), &options).unwrap_err();
        assert!(matches!(error, DataError::InvalidOption { name: "val_fraction", .. }), "{error}");
    }
    let options = PrepareOptions { vocab_size: 10, ..options() };
    let error = prepare_quietly(&scripts(20), folder.path(), &options).unwrap_err();
    assert!(error.to_string().starts_with("`vocab_size` 10 is too small, expected at least"), "{error}");
    assert!(files(folder.path()).is_empty());
}

#[test]
fn an_unwritable_output_is_named_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "kept").unwrap();
    let error = prepare_quietly(&scripts(20), &file.join("out"), &options()).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot create `{}`", file.join("out").display()));
    assert_eq!(fs::read_to_string(&file).unwrap(), "kept");

    let out = folder.path().join("out");
    prepared(&scripts(50), &out);
    let before = files(&out);
    fs::remove_file(out.join("val.bin")).unwrap();
    fs::create_dir(out.join("val.bin")).unwrap();
    let error = prepare_quietly(&scripts(20), &out, &options()).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot write `{}`", out.join("val.bin").display()));
    fs::remove_dir(out.join("val.bin")).unwrap();
    fs::remove_dir_all(out.join(".prepare")).unwrap();
    let after = files(&out);
    assert!(after.iter().all(|(name, bytes)| before[name] == *bytes));
    assert_eq!(after.len(), before.len() - 1);
}

/// Opens a good folder after `damage`; the error's message without the folder.
fn error_after(damage: impl FnOnce(&Path)) -> String {
    let folder = tempfile::tempdir().unwrap();
    prepared(&scripts(50), folder.path());
    damage(folder.path());
    let error = Prepared::open(folder.path()).expect_err("the damage is noticed");
    error.to_string().replace(&folder.path().display().to_string(), "DIR")
}

fn edit_meta(folder: &Path, key: &str, value: serde_json::Value) {
    let path = folder.join("meta.json");
    let mut meta: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    meta[key] = value;
    fs::write(path, meta.to_string()).unwrap();
}

#[test]
fn a_damaged_shard_is_noticed() {
    let cut = error_after(|folder| {
        let path = folder.join("train.bin");
        let bytes = fs::read(&path).unwrap();
        fs::write(path, &bytes[..101]).unwrap();
    });
    assert!(cut.starts_with("`DIR/train.bin` has size in bytes 101, `meta.json` expects "), "{cut}");

    let changed = error_after(|folder| {
        let path = folder.join("val.bin");
        let mut bytes = fs::read(&path).unwrap();
        bytes[4] ^= 1;
        fs::write(path, bytes).unwrap();
    });
    assert!(changed.starts_with("`DIR/val.bin` has SHA-256 "), "{changed}");

    let id = error_after(|folder| {
        let path = folder.join("train.bin");
        let mut bytes = fs::read(&path).unwrap();
        bytes[10..12].copy_from_slice(&300_u16.to_le_bytes());
        fs::write(path, bytes).unwrap();
    });
    assert_eq!(id, "`DIR/train.bin` has id 300 at token 5, expected ids below `vocab_size` 300");

    let missing = error_after(|folder| fs::remove_file(folder.join("val.bin")).unwrap());
    assert_eq!(missing, "cannot read `DIR/val.bin`");
}

#[test]
fn a_wrong_meta_is_noticed() {
    let absent = error_after(|folder| fs::remove_file(folder.join("meta.json")).unwrap());
    assert_eq!(absent, "`DIR` is not a prepared data folder: it has no `meta.json`");

    let cut = error_after(|folder| fs::write(folder.join("meta.json"), "{\"version\": 1").unwrap());
    assert_eq!(cut, "cannot parse `DIR/meta.json`");

    let version = error_after(|folder| edit_meta(folder, "version", 1.into()));
    assert_eq!(version, "`DIR/meta.json` has version 1, expected 2");

    let dtype = error_after(|folder| edit_meta(folder, "dtype", "u32".into()));
    assert_eq!(dtype, "`DIR/meta.json` has dtype u32, `vocab_size` 300 needs u16");

    let vocab_size = error_after(|folder| edit_meta(folder, "vocab_size", 299.into()));
    assert_eq!(vocab_size, "`DIR/tokenizer.json` has vocabulary size 300, `meta.json` expects 299");

    let unknown = error_after(|folder| edit_meta(folder, "unknown", "x".into()));
    assert_eq!(unknown, "cannot parse `DIR/meta.json`");

    let nowhere = Prepared::open(Path::new("absent/folder")).unwrap_err();
    assert_eq!(nowhere.to_string(), "cannot read `absent/folder/meta.json`");
}

#[test]
fn another_tokenizer_is_noticed() {
    let error = error_after(|folder| {
        let training = BpeTraining { vocab_size: 300, ..BpeTraining::default() };
        let texts: Vec<String> = (0..50).map(|at| script(at).to_uppercase()).collect();
        let other = train_byte_level_bpe(texts.iter(), &training).unwrap();
        other.save(&folder.join("tokenizer.json")).unwrap();
    });
    assert!(error.starts_with("`DIR/tokenizer.json` has SHA-256 "), "{error}");
}

#[test]
fn a_large_vocabulary_is_stored_in_32_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let training = BpeTraining { vocab_size: 300, ..BpeTraining::default() };
    let small = train_byte_level_bpe((0..9).map(script), &training).unwrap();
    let mut json: serde_json::Value = serde_json::from_slice(small.json()).unwrap();
    json["model"]["vocab"]["far"] = 70_000.into();
    fs::write(&path, json.to_string()).unwrap();

    let options = PrepareOptions { tokenizer: Some(path), ..options() };
    let prepared = prepare_quietly(&scripts(50), &folder.path().join("out"), &options).unwrap();
    assert_eq!((prepared.meta.vocab_size, prepared.meta.dtype), (70_001, TokenDtype::U32));
    assert_eq!(documents(&prepared, &prepared.val).len() as u64, prepared.meta.val.documents);
}

#[test]
fn a_shard_that_ends_within_an_id_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.bin");
    fs::write(&path, [0; 6]).unwrap();
    assert_eq!(TokenShard::open(&path, TokenDtype::U16).unwrap().len(), 3);
    let error = TokenShard::open(&path, TokenDtype::U32).unwrap_err();
    let expected = format!("`{}` has 6 bytes, expected a multiple of 4 for ids of u32", path.display());
    assert_eq!(error.to_string(), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    /// Shards decode to the corpus, whatever it holds and however it is split; what is in one shard is not
    /// in the other, and every document was kept or removed.
    #[test]
    fn no_token_is_lost(
        corpus in prop::collection::vec(any::<String>(), 1..20), val_fraction in 0.0..0.5, seed: u64
    ) {
        let kept = |text: &String| !text.trim().is_empty() && !text.contains('\0');
        let mut expected: Vec<String> = Vec::new();
        for text in corpus.iter().filter(|text| kept(text)) {
            let text = text.strip_prefix('\u{FEFF}').unwrap_or(text).replace("\r\n", "\n");
            if !expected.contains(&text) && !text.trim().is_empty() {
                expected.push(text);
            }
        }
        prop_assume!(!expected.is_empty());
        let folder = tempfile::tempdir().unwrap();
        let options = PrepareOptions { vocab_size: 260, val_fraction, seed, ..options() };
        let progress = &mut |_: PrepareProgress<'_>| ControlFlow::Continue(());
        let done = prepare(&texts(corpus.clone()), folder.path(), &options, progress).unwrap();
        let prepared = &done.prepared;
        let (train, val) = (documents(prepared, &prepared.train), documents(prepared, &prepared.val));

        prop_assert_eq!(done.tally.read_documents, corpus.len() as u64);
        prop_assert_eq!(done.tally.kept_documents + done.tally.removed.total(), corpus.len() as u64);
        if prepared.meta.split == SplitRule::Documents {
            prop_assert!(train.iter().all(|text| !val.contains(text)));
        }
        let characters = |texts: &[String]| {
            let mut found: Vec<char> = texts.iter().flat_map(|text| text.chars()).collect();
            found.sort_unstable();
            found
        };
        prop_assert_eq!(characters(&[train, val].concat()), characters(&expected));
    }
}
