//! Prepared folders: what they hold, that they are the same each time, and what keeps a damaged one out.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use smelt_data::{
    Corpus, DataError, PrepareOptions, PrepareProgress, Prepared, SplitRule, TokenDtype, TokenShard, prepare,
};
use smelt_text::{BpeTraining, train_byte_level_bpe};

fn scripts(count: usize) -> Corpus {
    Corpus::from_texts((0..count).map(|at| {
        let text =
            format!("#!/bin/sh\n# Script number {at}.\nfor file in *.{at}; do\n    echo \"$file\"\ndone\n");
        (format!("{at}.sh"), text)
    }))
}

fn options() -> PrepareOptions {
    PrepareOptions { vocab_size: 300, val_fraction: 0.2, ..PrepareOptions::default() }
}

fn prepared(corpus: &Corpus, folder: &Path) -> Prepared {
    prepare(corpus, folder, &options(), &mut |_| {}).unwrap()
}

/// The documents of a shard, decoded.
fn documents(prepared: &Prepared, shard: &TokenShard) -> Vec<String> {
    let ids = shard.get(0..shard.len());
    assert!(ids.last().is_none_or(|&id| id == prepared.meta.end_of_text));
    let texts = ids.split_inclusive(|&id| id == prepared.meta.end_of_text);
    texts.map(|ids| prepared.tokenizer.decode(ids).unwrap()).collect()
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let read =
        |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
    fs::read_dir(folder).unwrap().map(|entry| read(entry.unwrap())).collect()
}

#[test]
fn every_document_is_in_one_shard_and_ends_with_end_of_text() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = scripts(50);
    let mut reports = Vec::new();
    let prepared = prepare(&corpus, folder.path(), &options(), &mut |report| reports.push(report)).unwrap();

    let (train, val) = (documents(&prepared, &prepared.train), documents(&prepared, &prepared.val));
    assert!(!train.is_empty() && !val.is_empty());
    assert!(train.iter().all(|text| !val.contains(text)));
    let mut found: Vec<String> = train.iter().chain(&val).cloned().collect();
    let mut expected: Vec<String> = corpus.documents.iter().map(|document| document.text.clone()).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);

    let meta = &prepared.meta;
    assert_eq!((meta.vocab_size, meta.dtype, meta.split), (300, TokenDtype::U16, SplitRule::Documents));
    assert_eq!((meta.train.documents, meta.val.documents), (train.len() as u64, val.len() as u64));
    assert_eq!(meta.train.text_bytes + meta.val.text_bytes, corpus.text_bytes());
    assert_eq!(fs::metadata(folder.path().join("train.bin")).unwrap().len(), 2 * meta.train.tokens);
    assert_eq!(reports[0], PrepareProgress::TrainingTokenizer { text_bytes: corpus.text_bytes() });
    let done = PrepareProgress::Encoding {
        done_bytes: corpus.text_bytes(),
        total_bytes: corpus.text_bytes(),
        tokens: meta.train.tokens + meta.val.tokens,
    };
    assert_eq!(reports.last(), Some(&done));
}

#[test]
fn preparing_twice_gives_the_same_files() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    prepared(&scripts(50), first.path());
    prepared(&scripts(50), second.path());
    let expected = files(first.path());
    let names: Vec<&str> = expected.keys().map(String::as_str).collect();
    assert_eq!(names, ["meta.json", "tokenizer.json", "tokenizer_config.json", "train.bin", "val.bin"]);
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
    let prepared = prepared(&Corpus::from_texts([("only", text.as_str())]), folder.path());
    assert_eq!(prepared.meta.split, SplitRule::Tails);
    let (train, val) = (documents(&prepared, &prepared.train), documents(&prepared, &prepared.val));
    assert_eq!((train.len(), val.len()), (1, 1));
    assert_eq!(format!("{}{}", train[0], val[0]), text);
}

#[test]
fn a_document_that_names_the_end_of_text_does_not_end_there() {
    let folder = tempfile::tempdir().unwrap();
    let text = "before <|endoftext|> after, and enough of it to be cut\n".repeat(20);
    let prepared = prepared(&Corpus::from_texts([("tricky", text.as_str())]), folder.path());
    let texts = [documents(&prepared, &prepared.train), documents(&prepared, &prepared.val)].concat();
    assert_eq!((texts.len(), texts.concat()), (2, text));
}

#[test]
fn a_given_tokenizer_is_used_as_it_is() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = prepared(&scripts(50), first.path()).tokenizer.sha256();
    for tokenizer in [first.path().to_owned(), first.path().join("tokenizer.json")] {
        let options = PrepareOptions { tokenizer: Some(tokenizer), ..options() };
        let prepared = prepare(&scripts(20), second.path(), &options, &mut |_| {}).unwrap();
        assert_eq!(prepared.meta.tokenizer_sha256, expected);
    }
}

#[test]
fn a_tokenizer_without_an_end_of_text_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let training = BpeTraining { vocab_size: 260, special_tokens: Vec::new(), ..BpeTraining::default() };
    train_byte_level_bpe(["text"].iter(), &training).unwrap().save(&path).unwrap();
    let options = PrepareOptions { tokenizer: Some(path.clone()), ..options() };
    let error = prepare(&scripts(20), &folder.path().join("out"), &options, &mut |_| {}).unwrap_err();
    assert!(error.to_string().starts_with(&format!("tokenizer `{}` has no", path.display())), "{error}");
}

#[test]
fn impossible_options_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for val_fraction in [-0.1, 1.0, f64::NAN] {
        let options = PrepareOptions { val_fraction, ..options() };
        let error = prepare(&scripts(20), folder.path(), &options, &mut |_| {}).unwrap_err();
        assert!(matches!(error, DataError::InvalidOption { name: "val_fraction", .. }), "{error}");
    }
    let error =
        prepare(&scripts(20), folder.path(), &PrepareOptions { vocab_size: 10, ..options() }, &mut |_| {});
    assert!(error.unwrap_err().to_string().starts_with("`vocab_size` 10 is too small, expected at least"));
    assert!(files(folder.path()).is_empty());
}

#[test]
fn an_unwritable_output_is_named_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "kept").unwrap();
    let error = prepare(&scripts(20), &file.join("out"), &options(), &mut |_| {}).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot create `{}`", file.join("out").display()));
    assert_eq!(fs::read_to_string(&file).unwrap(), "kept");

    let out = folder.path().join("out");
    prepared(&scripts(50), &out);
    let before = files(&out);
    fs::remove_file(out.join("val.bin")).unwrap();
    fs::create_dir(out.join("val.bin")).unwrap();
    let error = prepare(&scripts(20), &out, &options(), &mut |_| {}).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot write `{}`", out.join("val.bin").display()));
    fs::remove_dir(out.join("val.bin")).unwrap();
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

    let version = error_after(|folder| edit_meta(folder, "version", 2.into()));
    assert_eq!(version, "`DIR/meta.json` has version 2, expected 1");

    let dtype = error_after(|folder| edit_meta(folder, "dtype", "u32".into()));
    assert_eq!(dtype, "`DIR/meta.json` has dtype u32, `vocab_size` 300 needs u16");

    let vocab_size = error_after(|folder| edit_meta(folder, "vocab_size", 299.into()));
    assert_eq!(vocab_size, "`DIR/tokenizer.json` has vocabulary size 300, `meta.json` expects 299");

    let unknown = error_after(|folder| edit_meta(folder, "sources", "x".into()));
    assert_eq!(unknown, "cannot parse `DIR/meta.json`");

    let nowhere = Prepared::open(Path::new("absent/folder")).unwrap_err();
    assert_eq!(nowhere.to_string(), "cannot read `absent/folder/meta.json`");
}

#[test]
fn another_tokenizer_is_noticed() {
    let error = error_after(|folder| {
        let training = BpeTraining { vocab_size: 300, ..BpeTraining::default() };
        let texts: Vec<String> =
            scripts(50).documents.iter().map(|document| document.text.to_uppercase()).collect();
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
    let small = train_byte_level_bpe(scripts(9).documents.iter().map(|one| &one.text), &training).unwrap();
    let mut json: serde_json::Value = serde_json::from_slice(small.json()).unwrap();
    json["model"]["vocab"]["far"] = 70_000.into();
    fs::write(&path, json.to_string()).unwrap();

    let options = PrepareOptions { tokenizer: Some(path), ..options() };
    let prepared = prepare(&scripts(50), &folder.path().join("out"), &options, &mut |_| {}).unwrap();
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

    /// Shards decode to the corpus, whatever it holds and however it is split.
    #[test]
    fn no_token_is_lost(
        texts in prop::collection::vec(any::<String>(), 1..20), val_fraction in 0.0..0.5, seed: u64
    ) {
        let corpus = Corpus::from_texts(texts.into_iter().map(|text| ("", text)));
        prop_assume!(!corpus.documents.is_empty());
        let folder = tempfile::tempdir().unwrap();
        let options = PrepareOptions { vocab_size: 260, tokenizer: None, val_fraction, seed };
        let prepared = prepare(&corpus, folder.path(), &options, &mut |_| {}).unwrap();
        let (train, val) = (documents(&prepared, &prepared.train), documents(&prepared, &prepared.val));
        let mut found: Vec<char> = train.concat().chars().chain(val.concat().chars()).collect();
        let mut expected: Vec<char> =
            corpus.documents.iter().flat_map(|document| document.text.chars()).collect();
        found.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(found, expected);
    }
}
