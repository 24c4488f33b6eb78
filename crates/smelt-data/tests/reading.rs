//! Documents from real files: formats, order, and what is done about broken ones.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use smelt_data::{
    DataError, Dedup, FileKind, Input, OnBadLine, OnInvalidUtf8, Preparation, PrepareOptions, ReadOptions,
    Reason, Removed, prepare,
};

/// Writes `files` below a temporary folder.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join("in").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    fs::create_dir_all(folder.path().join("in")).unwrap();
    folder
}

fn options(read: ReadOptions) -> PrepareOptions {
    // Bytes as tokens: what is read is looked at, not what a tokenizer makes of it.
    PrepareOptions {
        read,
        vocab_size: 259,
        val_fraction: 0.0,
        dedup: Dedup::Exact,
        ..PrepareOptions::default()
    }
}

fn prepare_paths(
    folder: &Path,
    inputs: &[PathBuf],
    options: &PrepareOptions,
) -> Result<Preparation, DataError> {
    let inputs: Vec<Input> = inputs.iter().map(|path| Input::from_typed(path)).collect();
    prepare(&inputs, &folder.join("out"), options, &mut |_| ControlFlow::Continue(()))
}

fn read_with(folder: &Path, read: ReadOptions) -> Result<Preparation, DataError> {
    prepare_paths(folder, &[folder.join("in")], &options(read))
}

fn read(folder: &Path) -> Preparation {
    read_with(folder, ReadOptions::default()).unwrap()
}

/// The texts of the shard in order.
fn texts(preparation: &Preparation) -> Vec<String> {
    let prepared = &preparation.prepared;
    let (ids, end) = (prepared.train.get(0..prepared.train.len()), prepared.meta.end_of_text.unwrap());
    ids.split_inclusive(|&id| id == end).map(|ids| prepared.tokenizer.decode(ids).unwrap()).collect()
}

fn counts(removed: &Removed) -> Vec<(Reason, u64)> {
    removed.iter().map(|(reason, removal)| (reason, removal.documents)).collect()
}

/// An error's message without the folder.
fn message(folder: &Path, error: Result<Preparation, DataError>) -> String {
    let prefix = format!("{}/in/", folder.display());
    error.expect_err("the input is broken").to_string().replace(&prefix, "")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Texts as a Parquet file with columns `id` and `text`; None is a row without a text.
fn parquet(texts: &[Option<&str>]) -> Vec<u8> {
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;

    let schema = "message rows { REQUIRED INT64 id; OPTIONAL BYTE_ARRAY text (STRING); }";
    let schema = std::sync::Arc::new(parquet::schema::parser::parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder().set_compression(parquet::basic::Compression::SNAPPY).build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties.into()).unwrap();
    for group in texts.chunks(40) {
        let mut rows = writer.next_row_group().unwrap();
        let mut ids = rows.next_column().unwrap().unwrap();
        ids.typed::<Int64Type>().write_batch(&vec![7; group.len()], None, None).unwrap();
        ids.close().unwrap();
        let levels: Vec<i16> = group.iter().map(|text| i16::from(text.is_some())).collect();
        let values: Vec<ByteArray> = group.iter().flatten().map(|text| ByteArray::from(*text)).collect();
        let mut column = rows.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
        column.close().unwrap();
        rows.close().unwrap();
    }
    writer.into_inner().unwrap()
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
    let done = read(folder.path());
    assert_eq!(texts(&done), ["alias l=ls", "# One\n", "#!/bin/sh\n", "two", "three"]);
    assert_eq!(done.tally.removed.total(), 0);
}

#[test]
fn every_format_is_read() {
    let rows: Vec<String> = (0..100).map(|row| format!("row {row}")).collect();
    let mut cells: Vec<Option<&str>> = rows.iter().map(|row| Some(row.as_str())).collect();
    cells[50] = None;
    let folder = folder(&[
        ("a.jsonl", b"{\"text\": \"record one\"}\n\n{\"id\": 2, \"text\": \"record two\"}\n"),
        ("b.jsonl.gz", &gzip(b"{\"text\": \"packed record\"}\n")),
        ("c.parquet", &parquet(&cells)),
        ("d.1.gz", &[gzip(b"first member, "), gzip(b"second member\r\n")].concat()),
        ("e.txt.zst", &zstd::encode_all(&b"zstandard"[..], 1).unwrap()),
        ("f.txt", b"\xFF\xFEs\0i\0x\0t\0e\0e\0n\0"),
    ]);
    let done = read(folder.path());
    let mut expected: Vec<String> = ["record one", "record two", "packed record"].map(String::from).to_vec();
    expected.extend(rows.into_iter().enumerate().filter(|(row, _)| *row != 50).map(|(_, text)| text));
    expected.extend(["first member, second member\n", "zstandard", "sixteen"].map(String::from));
    assert_eq!(texts(&done), expected);
    assert_eq!(counts(&done.tally.removed), [(Reason::Empty, 1)]);
    assert!(done.tally.removed.examples(Reason::Empty)[0].ends_with("c.parquet:51"));
}

#[test]
fn patterns_choose_files() {
    let folder = folder(&[("b.sh", b"echo b"), ("a.sh", b"echo a"), ("c/d.sh", b"echo d"), ("e.txt", b"e")]);
    let inputs = [folder.path().join("in/**/*.sh")];
    let done = prepare_paths(folder.path(), &inputs, &options(ReadOptions::default())).unwrap();
    assert_eq!(texts(&done), ["echo a", "echo b", "echo d"]);
    let source = &done.prepared.meta.sources[0];
    assert_eq!((source.documents, source.text_bytes), (3, 18));
}

#[test]
fn what_is_no_text_is_counted() {
    let folder = folder(&[
        ("binary.txt", b"text\0text"),
        ("blank.txt", b" \n\n"),
        ("copy.txt", b"good\n"),
        ("empty.txt", b""),
        ("good.txt", b"good\r\n"),
        ("latin1.txt", b"one\ncaf\xe9\n"),
        ("packed.tar.gz", b"\x1f\x8b"),
    ]);
    let done = read(folder.path());
    assert_eq!(texts(&done), ["good\n"]);
    let removed = &done.tally.removed;
    let expected = [
        (Reason::Archive, 1),
        (Reason::Binary, 1),
        (Reason::NotUtf8, 1),
        (Reason::Empty, 2),
        (Reason::Duplicate, 1),
    ];
    assert_eq!(counts(removed), expected);
    assert_eq!(done.tally.read_documents, done.tally.kept_documents + removed.total());
    assert_eq!(removed.to_string(), "1 archives, 1 binary, 1 not UTF-8, 2 empty, 1 duplicates");
    let example = &removed.examples(Reason::NotUtf8)[0];
    assert!(example.ends_with("latin1.txt: line 2 is not UTF-8"), "{example}");
}

#[test]
fn text_that_is_not_utf8_can_be_taken() {
    let folder = folder(&[("latin1.txt", b"caf\xe9\n"), ("mark.txt", b"\xef\xbb\xbfmarked\n")]);
    for (invalid_utf8, expected) in
        [(OnInvalidUtf8::Latin1, "café\n"), (OnInvalidUtf8::Replace, "caf\u{FFFD}\n")]
    {
        let done = read_with(folder.path(), ReadOptions { invalid_utf8, ..ReadOptions::default() }).unwrap();
        assert_eq!(texts(&done), [expected, "marked\n"]);
        assert_eq!(done.tally.repaired_documents, 1);
    }
}

#[test]
fn a_bad_record_is_an_error_or_counted() {
    let cases: [(&str, &[u8], &str); 4] = [
        ("kind", b"{\"text\": 2}\n", "expected a string as `text`, found a number"),
        ("name", b"{\"body\": \"b\"}\n", "expected a string `text`, found `body`"),
        ("array", b"[1, 2]\n", "expected an object with a string `text`, found an array"),
        ("utf8", b"{\"text\": \"\xff\"}\n", "not UTF-8: "),
    ];
    for (name, line, reason) in cases {
        let bytes = [b"{\"text\": \"one\"}\n\n", line].concat();
        let folder = folder(&[("data.jsonl", &bytes)]);
        let error = message(folder.path(), read_with(folder.path(), ReadOptions::default()));
        assert!(error.starts_with(&format!("`data.jsonl` line 3: {reason}")), "{name}: {error}");

        let skip = ReadOptions { bad_input: OnBadLine::Skip, ..ReadOptions::default() };
        let done = read_with(folder.path(), skip).unwrap();
        assert_eq!(counts(&done.tally.removed), [(Reason::BadRecord, 1)]);
        let example = &done.tally.removed.examples(Reason::BadRecord)[0];
        assert!(example.contains(&format!("data.jsonl:3: {reason}")), "{example}");
    }
}

#[test]
fn damaged_files_are_errors_or_counted() {
    let text = "some text that is not too short ".repeat(4000);
    let gz = gzip(text.as_bytes());
    let zst = zstd::encode_all(text.as_bytes(), 1).unwrap();
    let cells: Vec<Option<&str>> = vec![Some(text.as_str()); 9];
    let table = parquet(&cells);
    let mut garbled = table.clone();
    garbled[40..3000].fill(0xAA);
    let cases: [(&str, &[u8]); 6] = [
        ("cut.txt.gz", &gz[..gz.len() / 2]),
        ("cut.txt.zst", &zst[..zst.len() / 2]),
        ("cut.parquet", &table[..table.len() / 2]),
        ("garbled.parquet", &garbled),
        ("no.txt.gz", b"this is no gzip file"),
        ("no.parquet", b"this is no parquet file"),
    ];
    for (name, bytes) in cases {
        let folder = folder(&[(name, bytes), ("z.txt", b"whole")]);
        let error = message(folder.path(), read_with(folder.path(), ReadOptions::default()));
        assert!(error.starts_with(&format!("cannot read `{name}`: ")), "{error}");
        let skip = ReadOptions { bad_input: OnBadLine::Skip, ..ReadOptions::default() };
        let done = read_with(folder.path(), skip).unwrap();
        assert_eq!(texts(&done), ["whole"], "{name}");
        assert_eq!(counts(&done.tally.removed), [(Reason::Damaged, 1)]);
    }
}

#[test]
fn a_table_without_the_column_says_what_it_has() {
    let folder = folder(&[("a.parquet", &parquet(&[Some("x")]))]);
    let error = |text_field: &str| {
        let read = ReadOptions { text_field: text_field.to_owned(), ..ReadOptions::default() };
        message(folder.path(), read_with(folder.path(), read))
    };
    assert_eq!(error("content"), "cannot read `a.parquet`: expected a column `content`, found `id`, `text`");
    assert_eq!(error("id"), "cannot read `a.parquet`: expected strings in column `id`, found INT64");
}

#[test]
fn long_files_are_cut_at_lines_and_long_lines_left_out() {
    let long = "0123456789".repeat(30);
    let text = format!("{}{long}\n{}", "short line\n".repeat(20), "another line\n".repeat(3));
    let folder = folder(&[("a.txt", text.as_bytes()), ("b.txt", long.as_bytes())]);
    let done = read_with(folder.path(), ReadOptions { max_document_bytes: 100, ..ReadOptions::default() });
    let done = done.unwrap();
    assert_eq!(texts(&done).concat(), format!("{}{}", "short line\n".repeat(11), "another line\n".repeat(3)));
    assert_eq!(counts(&done.tally.removed), [(Reason::LongLine, 2), (Reason::Duplicate, 1)]);
    let [a, b] = done.tally.removed.examples(Reason::LongLine) else { panic!("two examples") };
    assert!(a.ends_with("a.txt:21") && b.ends_with("b.txt:1"), "{a} {b}");

    fs::write(folder.path().join("in/c.jsonl"), format!("{{\"text\": \"{long}\"}}\n")).unwrap();
    let read = ReadOptions { max_document_bytes: 100, ..ReadOptions::default() };
    let error = message(folder.path(), read_with(folder.path(), read));
    assert_eq!(error, "cannot read `c.jsonl`: line 1 is longer than 100 bytes");
}

#[test]
fn kinds_choose_among_found_files_but_not_named_ones() {
    let folder = folder(&[
        ("icon.svg", b"<svg/>"),
        ("notes.txt", b"notes"),
        ("run", b"#!/usr/bin/env bash\n"),
        ("tool.py", b"import sys\n"),
        ("x.jsonl", b"{\"text\": \"#!/usr/bin/python\\n\"}\n{\"text\": \"who knows\"}\n"),
    ]);
    let options = options(ReadOptions { kinds: vec![FileKind::Shell], ..ReadOptions::default() });
    let inputs = [folder.path().join("in"), folder.path().join("in/notes.txt")];
    let done = prepare_paths(folder.path(), &inputs, &options).unwrap();
    assert_eq!(texts(&done), ["#!/usr/bin/env bash\n", "who knows", "notes"]);
    assert_eq!(counts(&done.tally.removed), [(Reason::OtherKind, 4)]);
}

#[test]
fn a_missing_input_is_named_before_anything_is_read() {
    let folder = folder(&[("a", b"text")]);
    let missing = folder.path().join("absent");
    let inputs = [folder.path().join("in"), missing.clone()];
    let error = prepare_paths(folder.path(), &inputs, &options(ReadOptions::default())).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read `{}`", missing.display()));
    assert!(!folder.path().join("out").exists());
}

#[test]
fn a_folder_without_text_says_what_it_holds() {
    let folder = folder(&[("a.bin", b"\0"), ("b.zip", b"x")]);
    let error = read_with(folder.path(), ReadOptions::default()).unwrap_err().to_string();
    let input = folder.path().join("in");
    let folder_name = input.display();
    let expected = format!(
        "no documents in `{folder_name}` (removed: 1 archives, 1 binary; first `{folder_name}/b.zip`)"
    );
    assert_eq!(error, expected);
    fs::remove_dir_all(&input).unwrap();
    fs::create_dir(&input).unwrap();
    let error = read_with(folder.path(), ReadOptions::default()).unwrap_err().to_string();
    assert_eq!(error, format!("no documents in `{}` (removed: nothing)", input.display()));
}

#[test]
fn the_output_is_not_read_as_input() {
    let folder = folder(&[("a.txt", b"text")]);
    for _ in 0..2 {
        let inputs = [folder.path().to_owned()];
        let done = prepare_paths(folder.path(), &inputs, &options(ReadOptions::default())).unwrap();
        assert_eq!(texts(&done), ["text"]);
        assert_eq!(done.tally.read_documents, 1);
    }
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn loops_of_links_end_and_broken_links_are_counted() {
        let folder = folder(&[("a/text", b"text")]);
        let at = |name: &str| folder.path().join("in").join(name);
        symlink("..", at("a/up")).unwrap();
        symlink("self", at("self")).unwrap();
        symlink("absent", at("broken")).unwrap();
        symlink("a", at("b")).unwrap();
        let done = read(folder.path());
        assert_eq!(texts(&done), ["text"]);
        assert_eq!(counts(&done.tally.removed), [(Reason::Unreadable, 2)]);
        let [broken, _] = done.tally.removed.examples(Reason::Unreadable) else { panic!("two examples") };
        assert!(broken.contains("broken: No such file"), "{broken}");
    }

    #[test]
    fn links_to_other_places_are_followed() {
        let (target, folder) = (folder(&[("text", b"text")]), folder(&[]));
        symlink(target.path(), folder.path().join("in/link")).unwrap();
        assert_eq!(texts(&read(folder.path())), ["text"]);
    }

    /// Opening a pipe would wait forever for a writer.
    #[test]
    fn sockets_are_not_opened() {
        let folder = folder(&[("a", b"text")]);
        let _socket = UnixListener::bind(folder.path().join("in/socket")).unwrap();
        assert_eq!(counts(&read(folder.path()).tally.removed), [(Reason::NotAFile, 1)]);
    }
}
