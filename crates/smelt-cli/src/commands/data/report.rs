//! What a preparation did: how much each step removed, with examples, and how fast it was.

use std::time::Duration;

use serde_json::{Value, json};
use smelt_backend::memory;
use smelt_data::{Preparation, Removed, Tally};

use crate::quantity::{bytes, count, seconds};
use crate::table::{Align, facts, render};

/// The report as a JSON record.
pub fn record(done: &Preparation) -> Value {
    let Preparation { prepared, tally, durations, .. } = done;
    let removed: Vec<Value> = tally
        .removed
        .iter()
        .map(|(reason, removal)| {
            json!({"step": reason.step(), "reason": reason, "documents": removal.documents,
                "bytes": removal.bytes, "examples": removal.examples})
        })
        .collect();
    json!({
        "kind": "prepared", "folder": prepared.folder, "read_documents": tally.read_documents,
        "read_bytes": tally.read_bytes, "kept_documents": tally.kept_documents, "kept_bytes": tally.kept_bytes,
        "repaired_documents": tally.repaired_documents, "removed": removed, "scrubbed": tally.scrubbed,
        "scrubbed_documents": tally.scrubbed_documents, "sources": prepared.meta.sources,
        "vocab_size": prepared.meta.vocab_size, "train": prepared.meta.train, "val": prepared.meta.val,
        "read_seconds": durations.gathering.as_secs_f64(),
        "tokenizer_seconds": durations.tokenizer.as_secs_f64(),
        "encode_seconds": durations.encoding.as_secs_f64(),
        "read_mb_per_second": speed(done.read_bytes, durations.gathering),
        "encode_mb_per_second": speed(done.encoded_bytes, durations.encoding),
        "peak_memory_bytes": memory::process_peak_bytes(),
    })
}

/// The report for people.
pub fn page(done: &Preparation) -> String {
    let Preparation { prepared, tally, durations, .. } = done;
    let meta = &prepared.meta;
    let shard = |documents: u64, tokens: u64| format!("{documents} documents, {} tokens", count(tokens));
    let total = durations.gathering + durations.tokenizer + durations.encoding + durations.writing;
    let mut rows = vec![
        ("kept", format!("{} documents, {}", tally.kept_documents, bytes(tally.kept_bytes))),
        ("train", shard(meta.train.documents, meta.train.tokens)),
        ("validation", shard(meta.val.documents, meta.val.tokens)),
        ("vocabulary", format!("{} tokens, {:.2} bytes per token", meta.vocab_size, bytes_per_token(done))),
        ("speed", speeds(done)),
        ("time", seconds(total.as_secs_f64())),
        ("folder", prepared.folder.display().to_string()),
    ];
    if let Some(peak) = memory::process_peak_bytes() {
        rows.insert(6, ("peak memory", bytes(peak)));
    }
    if tally.repaired_documents > 0 {
        rows.insert(1, ("not UTF-8", format!("{} documents taken nevertheless", tally.repaired_documents)));
    }
    if tally.scrubbed.total() > 0 {
        rows.insert(1, ("scrubbed", scrubbed(tally)));
    }
    let read = format!("read {} documents, {}", tally.read_documents, bytes(tally.read_bytes));
    format!("{read}{}\n{}", removals(&tally.removed), facts(&rows))
}

/// What each step removed, as a table; nothing if nothing was.
fn removals(removed: &Removed) -> String {
    if removed.total() == 0 {
        return String::new();
    }
    let header = [
        ("step", Align::Left),
        ("removed", Align::Left),
        ("documents", Align::Right),
        ("size", Align::Right),
        ("such as", Align::Left),
    ];
    let rows: Vec<Vec<String>> = removed
        .iter()
        .map(|(reason, removal)| {
            let example = removal.examples.first().map_or(String::new(), |example| shortened(example));
            let (documents, size) = (removal.documents.to_string(), bytes(removal.bytes));
            vec![reason.step().to_string(), reason.to_string(), documents, size, example]
        })
        .collect();
    format!("\n\n{}\n", render(&header, &rows))
}

fn scrubbed(tally: &Tally) -> String {
    let found = &tally.scrubbed;
    let example =
        tally.scrubbed_examples.first().map_or(String::new(), |one| format!(", such as {}", shortened(one)));
    format!(
        "{} private keys, {} tokens and passwords, {} e-mail addresses in {} documents{example}",
        found.private_keys, found.tokens, found.emails, tally.scrubbed_documents
    )
}

fn speeds(done: &Preparation) -> String {
    let durations = &done.durations;
    format!(
        "read {:.1} MB/s, tokenized {:.1} MB/s",
        speed(done.read_bytes, durations.gathering),
        speed(done.encoded_bytes, durations.encoding)
    )
}

fn speed(bytes: u64, duration: Duration) -> f64 {
    bytes as f64 / 1e6 / duration.as_secs_f64().max(1e-3)
}

fn bytes_per_token(done: &Preparation) -> f64 {
    let tokens = done.prepared.meta.train.tokens + done.prepared.meta.val.tokens;
    done.tally.kept_bytes as f64 / tokens.max(1) as f64
}

/// The end of a long source tells more than its beginning.
fn shortened(source: &str) -> String {
    const SHOWN: usize = 60;
    let length = source.chars().count();
    if length <= SHOWN {
        return source.to_owned();
    }
    let end: String = source.chars().skip(length - SHOWN + 1).collect();
    format!("…{end}")
}
