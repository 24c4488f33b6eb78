//! What users get wrong, and what they read then.

use crate::smelt::{Place, Ran, snapshot};

const SHAPE: &str = "model: {vocab_size: 300, d_model: 32, n_layers: 1, n_heads: 2, max_seq_len: 32}\n";

fn told(args: &[&str], ran: &Ran) -> String {
    let code = ran.code.map_or("none".to_owned(), |code| code.to_string());
    format!("$ smelt {}\n{}{}exit code {code}\n\n", args.join(" "), ran.stdout, ran.stderr)
}

/// Runs each line as a command and compares the whole conversation with a snapshot.
fn conversation(name: &str, place: &Place, lines: &[&str]) {
    let mut text = String::new();
    for line in lines {
        let args: Vec<&str> = line.split(' ').collect();
        text += &told(&args, &place.smelt(&args));
    }
    snapshot(name, &text);
}

#[test]
fn wrong_usage() {
    conversation(
        "wrong_usage",
        &Place::new(),
        &[
            "trian",
            "train --bath-size 3",
            "train --batch-size many",
            "train --batch-size 0",
            "train --precision bf8",
            "train --optimizer adam",
            "train --lr-schedule exponential",
            "train --set train.optimizer=adam",
            "train --set train.ema_decay=1",
            "train --method lora",
            "train --learning-rate -1",
            "train --resume auto --overwrite",
            "train --set batch_size=3",
            "train --set train.batchsize=3",
            "train --set train.batch_size=three",
            "backends --backend matel",
            "generate --temperature -1",
            "verify",
            "backends --threads 0",
        ],
    );
}

#[test]
fn wrong_configs() {
    let place = Place::new();
    place.write("syntax.yaml", "train:\n  batch_size: [1, 2\n  seed: 3\n");
    place.write("list.yaml", "- a\n- b\n");
    place.write("twice.yaml", "train:\n  seed: 1\n  seed: 2\n");
    place.write("section.yaml", "trian:\n  seed: 1\n");
    place.write("key.yaml", &format!("{SHAPE}train:\n  learning_rat: 1.0e-3\n"));
    place.write("home.yaml", &format!("{SHAPE}train:\n  hidden_size: 64\n"));
    place.write("type.yaml", &format!("{SHAPE}train:\n  batch_size: many\n"));
    place.write("alias.yaml", "model:\n  hidden_size: 64\n  d_model: 64\n");
    place.write("heads.yaml", "model:\n  vocab_size: 300\n  d_model: 770\n  n_heads: 12\n");
    place.write("context.yaml", &format!("{SHAPE}train:\n  seq_length: 64\n"));
    place.write("missing.yaml", "model:\n  hidden_size: 64\n  num_attention_heads: 4\n");
    place.write("family.yaml", "model:\n  model_type: gtp2\n");
    place.write("value.yaml", &format!("{SHAPE}train:\n  seq_length: 32\n  adam_beta2: 1.5\n"));
    place.write("both.yaml", "data: {embedded: true, paths: [a]}\nmodel: {path: b}\n");
    let names = [
        "absent", "syntax", "list", "twice", "section", "key", "home", "type", "alias", "heads", "context",
        "missing", "family", "value", "both",
    ];
    let lines: Vec<String> = names.iter().map(|name| format!("train --config {name}.yaml")).collect();
    conversation("wrong_configs", &place, &lines.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn missing_and_damaged_files() {
    let place = Place::new();
    place.write("empty/readme.txt", "");
    place.write("file", "text");
    place.write("damaged/config.json", "{\"model_type\": \"gpt2\"");
    place.write("other/config.json", "{\"model_type\": \"mamba\"}");
    place.write("cut.safetensors", "0123");
    place.write("blank/a.txt", " \n");
    conversation(
        "missing_and_damaged_files",
        &place,
        &[
            "train --quiet --data absent",
            "train --quiet --data blank",
            "train --quiet --data file --output file/run",
            "train --quiet --model absent --data file",
            "train --quiet --resume absent",
            "generate --model absent --prompt a",
            "generate --model empty --prompt a",
            "info damaged",
            "info other",
            "logits --model other --input absent.safetensors --output out.safetensors",
            "logits --model other --input cut.safetensors --output out.safetensors",
            "verify --quiet absent empty",
        ],
    );
}

#[test]
fn an_absent_backend_is_refused_by_name() {
    // Every backend is in some build, so the one to ask for is looked up; no build has them all.
    let place = Place::new();
    let absent = place.done(&["backends", "--json"]).records();
    let absent = absent.iter().find(|record| record["in_build"] == false).unwrap()["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let ran = place.smelt(&["train", "--backend", &absent]);
    assert_eq!(ran.code, Some(1));
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert!(
        lines[0].starts_with(&format!("error: backend `{absent}` is not in this build (available: cpu")),
        "{lines:?}"
    );
    assert!(
        lines[1]
            .starts_with(&format!("  hint: rebuild with `cargo run --release --features {absent} -- ...`")),
        "{lines:?}"
    );
    assert!(!place.path("runs").exists(), "a refused run leaves nothing behind");
}

#[test]
fn a_precision_that_a_backend_does_not_train_in_is_refused() {
    let place = Place::new();
    for record in place.done(&["backends", "--json"]).records() {
        let name = record["name"].as_str().unwrap();
        if record["self_test"] != true || name == "cpu" {
            continue;
        }
        let ran = place.smelt(&["train", "--backend", name, "--precision", "bf16"]);
        assert_eq!(ran.code, Some(1));
        let expected = format!(
            "error: backend `{name}` cannot be used: does not train in bf16\n  hint: use `--backend cpu`, or train with `--precision f32`"
        );
        assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
    }
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let place = Place::new();
    let mut child = place.command(&["doctor"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
