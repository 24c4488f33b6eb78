//! `smelt data`: one command from files to shards, killed or not; what is checked and counted.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use crate::smelt::{Place, snapshot};

fn script(seed: usize) -> String {
    let line = |at: usize| format!("echo \"word{} word{}\"  # says {}\n", seed * 31 + at, seed * at, at % 7);
    (0..60).fold("#!/usr/bin/env bash\n".to_owned(), |text, at| text + &line(at))
}

fn write_scripts(place: &Place, count: usize) {
    for seed in 0..count {
        place.write(&format!("in/{seed:03}"), &script(seed));
    }
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let read =
        |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
    fs::read_dir(folder).unwrap().map(|entry| read(entry.unwrap())).collect()
}

#[test]
fn a_folder_is_prepared_checked_counted_and_trained_on() {
    let place = Place::new();
    write_scripts(&place, 40);
    place.write("in/copy.sh", &script(3));
    place.write("in/broken.sh", "#!/bin/sh\nif then )) fi ((\ncase esac in {{ done\n}\n");
    place.write("in/notes.txt", "no script");
    let prepare =
        ["data", "prepare", "--input", "in", "--output", "out", "--recipe", "bash", "--vocab-size", "400"];
    let ran = place.done(&[&prepare[..], &["--json", "--scrub-secrets"]].concat());
    let record = ran.record("prepared");
    assert_eq!((&record["read_documents"], &record["kept_documents"]), (&43.into(), &40.into()));
    let reasons: Vec<&str> =
        record["removed"].as_array().unwrap().iter().map(|one| one["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["other_kind", "syntax_errors", "duplicate"]);

    let page = place.done(&prepare).stdout;
    for part in ["read 43 documents", "with syntax errors", "in/broken.sh", "kept", "MB/s"] {
        assert!(page.contains(part), "{part} in\n{page}");
    }
    assert_eq!(place.done(&["data", "verify", "out"]).stdout.matches(" ok ").count(), 10);
    let stats = place.done(&["data", "stats", "out", "--svg", "out.svg"]).stdout;
    assert!(stats.contains("suggested --seq-length") && stats.contains('█'), "{stats}");
    assert!(fs::read_to_string(place.path("out.svg")).unwrap().contains("suggested"));

    let shape = ["model.hidden_size=32", "model.num_hidden_layers=1", "model.num_attention_heads=2"];
    let mut train =
        vec!["train", "--data", "out", "--output", "run", "--max-steps", "2", "--seq-length", "16"];
    train.extend(["--backend", "cpu", "--warmup-steps", "1", "--json"]);
    train.extend(shape.iter().flat_map(|setting| ["--set", setting]));
    let trained = place.done(&train).record("begins");
    assert_eq!(trained["train_tokens"], record["train"]["tokens"]);
    assert!(!place.path("run/data").exists(), "prepared data is used where it lies");

    let mut bytes = fs::read(place.path("out/val.bin")).unwrap();
    bytes[4] ^= 1;
    fs::write(place.path("out/val.bin"), bytes).unwrap();
    let damaged = place.smelt(&["data", "verify", "out"]);
    assert_eq!(damaged.code, Some(1));
    assert!(damaged.stdout.contains("FAILED"), "{}", damaged.stdout);
}

#[test]
fn a_killed_preparation_goes_on_to_the_same_files() {
    let place = Place::new();
    write_scripts(&place, 1500);
    let args =
        |output| ["data", "prepare", "--quiet", "--input", "in", "--output", output, "--vocab-size", "2000"];
    place.done(&args("whole"));
    let mut kills = 0;
    for attempt in 0..12_u64 {
        let mut command = place.command(&args("killed"));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        sleep(Duration::from_millis(20 + attempt * 43 % 400));
        kills += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    place.done(&args("killed"));
    assert!(kills > 0, "no preparation was killed before it ended");
    assert!(files(&place.path("killed")) == files(&place.path("whole")), "files differ after {kills} kills");
}

#[test]
fn standard_input_is_read() {
    let place = Place::new();
    let mut command = place.command(&[
        "data",
        "prepare",
        "--input",
        "-",
        "--output",
        "out",
        "--vocab-size",
        "300",
        "--json",
    ]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let records: String = (0..20).map(|at| format!("{{\"text\": \"record number {at}\"}}\n")).collect();
    child.stdin.take().unwrap().write_all(records.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let record: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(record["kept_documents"], 20);
}

/// A line without an end takes no more memory than its limit, and is named.
#[test]
fn an_endless_line_is_left_out_in_little_memory() {
    let place = Place::new();
    write_scripts(&place, 20);
    let mut file = fs::File::create(place.path("in/endless.txt")).unwrap();
    for _ in 0..400 {
        file.write_all(&[b'x'; 1 << 20]).unwrap();
    }
    drop(file);
    let ran = place
        .done(&["data", "prepare", "--input", "in", "--output", "out", "--vocab-size", "300", "--json"])
        .record("prepared");
    assert_eq!(ran["removed"][0]["reason"], "long_line");
    assert_eq!(ran["removed"][0]["examples"][0], "in/endless.txt:1");
    if let Some(peak) = ran["peak_memory_bytes"].as_u64() {
        assert!(peak < 200 << 20, "{peak} bytes at the peak");
    }
}

#[test]
fn broken_data_is_explained() {
    let place = Place::new();
    place.write("lines.jsonl", "{\"text\": \"a\"}\n[\"b\"]\n");
    place.write("fields.jsonl", "{\"content\": \"a\"}\n");
    place.write("cut.txt.gz", "no gzip");
    place.write("table.parquet", "PAR1 no table");
    place.write("blank/a.txt", " \n");
    fs::write(place.path("latin.txt"), b"caf\xe9\n").unwrap();
    fs::create_dir(place.path("empty")).unwrap();
    let inputs = [
        "lines.jsonl",
        "fields.jsonl",
        "cut.txt.gz",
        "table.parquet",
        "blank",
        "latin.txt",
        "empty",
        "*.zip",
    ];
    let mut text = String::new();
    for input in inputs {
        let ran = place.smelt(&["data", "prepare", "--quiet", "--input", input, "--output", "out"]);
        text += &format!("$ smelt data prepare --input {input} --output out\n{}", ran.stderr);
        assert_eq!(ran.code, Some(1), "{input}");
    }
    for args in [["data", "verify", "blank"], ["data", "stats", "blank"]] {
        let ran = place.smelt(&args);
        text += &format!("$ smelt {}\n{}{}", args.join(" "), ran.stdout, ran.stderr);
        assert_eq!(ran.code, Some(1));
    }
    snapshot("broken_data", &text);
}
