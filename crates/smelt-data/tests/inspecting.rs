//! What `verify_folder` finds in damaged folders, and what `Statistics` counts.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use smelt_data::{FolderCheck, Input, PrepareOptions, Prepared, Statistics, prepare, verify_folder};

fn prepared(folder: &Path) -> Prepared {
    let texts = (0..60).map(|at| Input::Text {
        source: at.to_string(),
        text: format!("# Note {at}\n") + &format!("line of note {at}\n").repeat(at),
    });
    let options = PrepareOptions { vocab_size: 300, val_fraction: 0.2, ..PrepareOptions::default() };
    let done = prepare(&texts.collect::<Vec<_>>(), folder, &options, &mut |_| ControlFlow::Continue(()));
    done.unwrap().prepared
}

/// What is wrong after `damage`.
fn faults(damage: impl FnOnce(&Path, &Prepared)) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let prepared = prepared(folder.path());
    damage(folder.path(), &prepared);
    let failed = verify_folder(folder.path()).into_iter().filter(|check| !check.passed);
    let place = folder.path().display().to_string();
    failed.map(|check| format!("{}: {}", check.subject, check.finding).replace(&place, "DIR")).collect()
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_whole_folder_passes() {
    let folder = tempfile::tempdir().unwrap();
    prepared(folder.path());
    let checks: Vec<FolderCheck> = verify_folder(folder.path());
    assert!(checks.iter().all(|check| check.passed), "{checks:#?}");
    let subjects: Vec<&str> = checks.iter().map(|check| check.subject.as_str()).collect();
    let expected = [
        "meta.json",
        "tokenizer.json",
        "train.bin",
        "train.documents.bin",
        "val.bin",
        "val.documents.bin",
        "counts",
        "train documents",
        "val documents",
        "train and val",
    ];
    assert_eq!(subjects, expected);
}

#[test]
fn every_fault_is_found() {
    let found = faults(|folder, _| {
        edit(&folder.join("train.bin"), |bytes| bytes[10..12].copy_from_slice(&300_u16.to_le_bytes()));
        edit(&folder.join("val.bin"), |bytes| bytes[4] ^= 1);
        fs::remove_file(folder.join("val.documents.bin")).unwrap();
    });
    assert_eq!(
        found[0],
        "train.bin: `DIR/train.bin` has id 300 at token 5, expected ids below `vocab_size` 300"
    );
    assert!(found[1].starts_with("val.bin: `DIR/val.bin` has SHA-256 "), "{}", found[1]);
    assert!(found[2].starts_with("val.documents.bin: cannot read `DIR/val.documents.bin`: "), "{}", found[2]);
    assert_eq!(found.len(), 3);
}

#[test]
fn wrong_counts_are_found() {
    let found = faults(|folder, prepared| {
        let mut meta = prepared.meta.clone();
        meta.read_documents += 1;
        fs::write(folder.join("meta.json"), serde_json::to_vec(&meta).unwrap()).unwrap();
    });
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("counts: "), "{found:?}");
}

/// Hashes agree here: only a look into the documents finds what is wrong.
#[test]
fn shards_that_share_documents_are_found() {
    use sha2::{Digest, Sha256};
    let found = faults(|folder, prepared| {
        let mut meta = prepared.meta.clone();
        let (train, index) = (folder.join("train.bin"), folder.join("train.documents.bin"));
        let document = prepared.val_documents.range(0);
        let ids = prepared.val.get(document.start as usize..document.end as usize);
        edit(&train, |bytes| bytes.extend(ids.iter().flat_map(|&id| (id as u16).to_le_bytes())));
        meta.train.tokens += ids.len() as u64;
        edit(&index, |bytes| bytes.extend(meta.train.tokens.to_le_bytes()));
        meta.train.documents += 1;
        meta.read_documents += 1;
        meta.sources[0].documents += 1;
        let hash = |path: &Path| format!("{:x}", Sha256::digest(fs::read(path).unwrap()));
        (meta.train.sha256, meta.train.documents_sha256) = (hash(&train), hash(&index));
        fs::write(folder.join("meta.json"), serde_json::to_vec(&meta).unwrap()).unwrap();
    });
    assert_eq!(found, ["train and val: 1 documents in common"]);
}

#[test]
fn statistics_count_documents_and_lengths() {
    let folder = tempfile::tempdir().unwrap();
    let prepared = prepared(folder.path());
    let found = Statistics::of(&prepared);
    let documents = found.train.documents + found.val.documents;
    assert_eq!(documents, prepared.meta.train.documents + prepared.meta.val.documents);
    assert_eq!(found.lengths.histogram.iter().map(|bucket| bucket.documents).sum::<u64>(), documents);
    let tokens: u64 = found.lengths.histogram.iter().map(|bucket| bucket.tokens).sum();
    assert_eq!(tokens, found.train.tokens + found.val.tokens);
    assert!(found.fitting_documents >= 0.95 && found.fitting_tokens <= 1.0, "{found:?}");
    assert!(found.suggested_seq_length.is_power_of_two());
    assert!((1.0..9.0).contains(&found.train.bytes_per_token), "{found:?}");
}
