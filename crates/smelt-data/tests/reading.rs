//! Documents from real files in temporary folders.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use smelt_data::{
    Corpus, DataError, FileKind, OnBadLine, OnInvalidUtf8, ReadOptions, SkipReason, read_documents,
};

/// Writes `files` below a temporary folder.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

fn read(folder: &Path, options: &ReadOptions) -> Corpus {
    read_documents(&[folder.to_owned()], options).unwrap()
}

/// The sources, relative to `folder`.
fn sources(corpus: &Corpus, folder: &Path) -> Vec<String> {
    let prefix = format!("{}/", folder.display());
    corpus.documents.iter().map(|document| document.source.replacen(&prefix, "", 1)).collect()
}

#[test]
fn folders_are_read_in_order_of_names() {
    let folder = folder(&[
        ("b.txt", b"two"),
        ("a/z.sh", b"#!/bin/sh\n"),
        ("a/b/deep.md", b"# One\n"),
        (".git/config", b"hidden folder"),
        (".bashrc", b"alias l=ls"),
        ("c", b"three"),
    ]);
    let corpus = read(folder.path(), &ReadOptions::default());
    assert_eq!(sources(&corpus, folder.path()), [".bashrc", "a/b/deep.md", "a/z.sh", "b.txt", "c"]);
    assert_eq!(corpus.skipped.total(), 0);
}

#[test]
fn what_is_no_text_is_skipped_and_counted() {
    let folder = folder(&[
        ("binary.txt", b"text\0text"),
        ("blank.txt", b" \n\n"),
        ("copy.txt", b"good\n"),
        ("empty.txt", b""),
        ("good.txt", b"good\n"),
        ("latin1.txt", b"caf\xe9\n"),
        ("packed.txt.gz", b"\x1f\x8b"),
        ("large.txt", &[b'x'; 101]),
    ]);
    let corpus = read(folder.path(), &ReadOptions { max_file_bytes: 100, ..ReadOptions::default() });
    assert_eq!(sources(&corpus, folder.path()), ["copy.txt"]);
    let expected = [
        (SkipReason::Compressed, 1),
        (SkipReason::Binary, 1),
        (SkipReason::InvalidUtf8, 1),
        (SkipReason::Empty, 2),
        (SkipReason::Duplicate, 1),
        (SkipReason::TooLarge, 1),
    ];
    assert_eq!(corpus.skipped.iter().collect::<Vec<_>>(), expected);
    assert_eq!(
        corpus.skipped.to_string(),
        "1 compressed, 1 binary, 1 not UTF-8, 2 empty, 1 duplicates, 1 too large"
    );
}

#[test]
fn invalid_utf8_can_be_replaced() {
    let folder = folder(&[("latin1.txt", b"caf\xe9\n"), ("mark.txt", b"\xef\xbb\xbfmarked\n")]);
    let options = ReadOptions { invalid_utf8: OnInvalidUtf8::Replace, ..ReadOptions::default() };
    let corpus = read(folder.path(), &options);
    let texts: Vec<&str> = corpus.documents.iter().map(|document| document.text.as_str()).collect();
    assert_eq!(texts, ["caf\u{FFFD}\n", "marked\n"]);
    assert_eq!(corpus.repaired, 1);
}

#[test]
fn records_of_a_jsonl_are_documents() {
    let folder = folder(&[("data.jsonl", b"{\"text\": \"one\"}\n\n{\"text\": \"two\"}\n")]);
    let corpus = read(folder.path(), &ReadOptions::default());
    assert_eq!(sources(&corpus, folder.path()), ["data.jsonl:1", "data.jsonl:3"]);
}

#[test]
fn a_bad_line_is_an_error_or_counted() {
    let folder = folder(&[("data.jsonl", b"{\"text\": \"one\"}\n{\"text\": 2}\n")]);
    let inputs = [folder.path().to_owned()];
    let error = read_documents(&inputs, &ReadOptions::default()).unwrap_err();
    let expected = format!(
        "`{}` line 2: expected a string as `text`, found a number",
        folder.path().join("data.jsonl").display()
    );
    assert_eq!(error.to_string(), expected);

    let options = ReadOptions { bad_line: OnBadLine::Skip, ..ReadOptions::default() };
    let corpus = read_documents(&inputs, &options).unwrap();
    assert_eq!((corpus.documents.len(), corpus.skipped.count(SkipReason::BadLine)), (1, 1));
}

#[test]
fn kinds_choose_among_found_files_but_not_named_ones() {
    let folder = folder(&[
        ("icon.svg", b"<svg/>"),
        ("notes.txt", b"notes"),
        ("run", b"#!/usr/bin/env bash\n"),
        ("tool.py", b"import sys\n"),
    ]);
    let options = ReadOptions { kinds: vec![FileKind::Shell], ..ReadOptions::default() };
    let inputs = [folder.path().to_owned(), folder.path().join("notes.txt")];
    let corpus = read_documents(&inputs, &options).unwrap();
    assert_eq!(sources(&corpus, folder.path()), ["run", "notes.txt"]);
    assert_eq!(corpus.skipped.count(SkipReason::OtherKind), 3);
}

#[test]
fn reading_stops_at_the_total_limit_and_says_so() {
    let folder = folder(&[("a", b"12345"), ("b", b"12345"), ("b2", b"1234567"), ("c", b"1"), ("d", b"22")]);
    let corpus = read(folder.path(), &ReadOptions { max_total_bytes: 10, ..ReadOptions::default() });
    assert_eq!(sources(&corpus, folder.path()), ["a"]);
    assert_eq!(corpus.skipped.count(SkipReason::OverTotal), 3);
    assert_eq!(corpus.skipped.count(SkipReason::Duplicate), 1);
}

#[test]
fn a_missing_input_is_named_before_anything_is_read() {
    let folder = folder(&[("a", b"text")]);
    let missing = folder.path().join("absent");
    let error = read_documents(&[folder.path().to_owned(), missing.clone()], &ReadOptions::default());
    assert_eq!(error.unwrap_err().to_string(), format!("cannot read `{}`", missing.display()));
}

#[test]
fn a_folder_without_text_says_what_it_holds() {
    let folder = folder(&[("a.bin", b"\0"), ("b.gz", b"x")]);
    let error = read_documents(&[folder.path().to_owned()], &ReadOptions::default()).unwrap_err();
    let expected = format!("no documents in `{}` (skipped: 1 compressed, 1 binary)", folder.path().display());
    assert_eq!(error.to_string(), expected);
    assert!(matches!(read_documents(&[], &ReadOptions::default()), Err(DataError::NoDocuments { .. })));
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn loops_of_links_end_and_broken_links_are_counted() {
        let folder = folder(&[("a/text", b"text")]);
        let at = |name: &str| folder.path().join(name);
        symlink("..", at("a/up")).unwrap();
        symlink("self", at("self")).unwrap();
        symlink("absent", at("broken")).unwrap();
        symlink("a", at("b")).unwrap();
        let corpus = read(folder.path(), &ReadOptions::default());
        assert_eq!(sources(&corpus, folder.path()), ["a/text"]);
        assert_eq!(corpus.skipped.iter().collect::<Vec<_>>(), [(SkipReason::Unreadable, 2)]);
        let [broken, _] = corpus.skipped.examples(SkipReason::Unreadable) else { panic!("two examples") };
        assert!(broken.contains("broken: No such file"), "{broken}");
    }

    #[test]
    fn links_to_other_places_are_followed() {
        let (target, folder) = (folder(&[("text", b"text")]), folder(&[]));
        symlink(target.path(), folder.path().join("link")).unwrap();
        let corpus = read(folder.path(), &ReadOptions::default());
        assert_eq!(sources(&corpus, folder.path()), ["link/text"]);
    }

    /// Opening a pipe would wait forever for a writer.
    #[test]
    fn sockets_are_not_opened() {
        let folder = folder(&[("a", b"text")]);
        let _socket = UnixListener::bind(folder.path().join("socket")).unwrap();
        let corpus = read(folder.path(), &ReadOptions::default());
        assert_eq!(corpus.skipped.iter().collect::<Vec<_>>(), [(SkipReason::NotAFile, 1)]);
    }
}

#[test]
fn an_input_given_twice_is_read_once() {
    let folder = folder(&[("a/x", b"x"), ("b/y", b"y")]);
    let inputs: Vec<PathBuf> = vec![folder.path().join("b"), folder.path().to_owned()];
    let corpus = read_documents(&inputs, &ReadOptions::default()).unwrap();
    assert_eq!(sources(&corpus, folder.path()), ["b/y", "a/x"]);
    assert_eq!(corpus.skipped.total(), 0);
}
