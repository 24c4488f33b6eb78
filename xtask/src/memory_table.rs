//! `cargo xtask memory-table`: estimates of training memory against measured peaks, kept in `docs/memory.md`.
//!
//! Runs the release binary over shapes and ways of training that are small, and large enough that the program
//! itself does not decide.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::outcome::{Outcome, Result};
use crate::workspace::Workspace;

const FOLDER: &str = "target/memory-table";
const PAGE: &str = "docs/memory.md";
/// How far an estimate may lie from what was measured.
const TOLERANCE: f64 = 0.10;
const MIB: f64 = (1u64 << 20) as f64;

struct Shape {
    name: &'static str,
    vocab_size: usize,
    batch: [&'static str; 2],
    model: &'static [&'static str],
}

const SHAPES: [Shape; 3] = [
    Shape {
        name: "GPT-2 6 x 256, vocabulary 4096, 8 x 256 tokens",
        vocab_size: 4096,
        batch: ["8", "256"],
        model: &[
            "model_type=gpt2",
            "hidden_size=256",
            "num_hidden_layers=6",
            "num_attention_heads=8",
            "intermediate_size=1024",
            "max_position_embeddings=1024",
        ],
    },
    Shape {
        name: "GPT-2 4 x 512, vocabulary 32000, 4 x 256 tokens",
        vocab_size: 32000,
        batch: ["4", "256"],
        model: &[
            "model_type=gpt2",
            "hidden_size=512",
            "num_hidden_layers=4",
            "num_attention_heads=8",
            "intermediate_size=2048",
            "max_position_embeddings=1024",
        ],
    },
    Shape {
        name: "Llama 8 x 384, vocabulary 4096, 2 x 1024 tokens",
        vocab_size: 4096,
        batch: ["2", "1024"],
        model: &[
            "model_type=llama",
            "hidden_size=384",
            "num_hidden_layers=8",
            "num_attention_heads=6",
            "num_key_value_heads=2",
            "intermediate_size=1024",
            "max_position_embeddings=1024",
        ],
    },
];

/// Name, and flags of `train` and `estimate` alike.
const WAYS: [(&str, &[&str]); 11] = [
    ("full", &[]),
    ("full, checkpointed", &["--gradient-checkpointing"]),
    ("full, 3 micro-batches", &["--gradient-accumulation", "3"]),
    ("full, checkpointed, 3 micro-batches", &["--gradient-checkpointing", "--gradient-accumulation", "3"]),
    ("full, bf16", &["--set", "train.precision=bf16"]),
    ("full, bf16, checkpointed", &["--set", "train.precision=bf16", "--gradient-checkpointing"]),
    ("full, 8-bit AdamW, checkpointed", &["--set", "train.optimizer=adamw_8bit", "--gradient-checkpointing"]),
    ("full, Lion, checkpointed", &["--set", "train.optimizer=lion", "--gradient-checkpointing"]),
    ("full, Adafactor, checkpointed", &["--set", "train.optimizer=adafactor", "--gradient-checkpointing"]),
    ("LoRA", &["--method", "lora"]),
    ("LoRA, checkpointed", &["--method", "lora", "--gradient-checkpointing"]),
];

struct Row {
    shape: &'static str,
    way: &'static str,
    estimated: f64,
    measured: f64,
}

impl Row {
    fn ratio(&self) -> f64 {
        self.estimated / self.measured
    }
}

/// Measures every row and writes the page.
///
/// # Errors
/// If a program cannot be started or a file cannot be written.
pub fn run(workspace: &Workspace) -> Result<Outcome> {
    let mut build = workspace.cargo();
    if !build.args(["build", "--release", "--workspace", "--features", "cpu", "--bins"]).status()?.success() {
        return Ok(Outcome::Failed);
    }
    let folder = workspace.root.join(FOLDER);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(folder.join("text"))?;
    for part in 0..20 {
        fs::write(folder.join(format!("text/{part}.txt")), text(part))?;
    }
    let mut rows = Vec::new();
    for (number, shape) in SHAPES.iter().enumerate() {
        let data = format!("{FOLDER}/data-{}", shape.vocab_size);
        if !workspace.root.join(&data).exists() {
            let vocabulary = shape.vocab_size.to_string();
            let text = format!("{FOLDER}/text");
            let arguments = [
                "data",
                "prepare",
                "--quiet",
                "--input",
                &text,
                "--output",
                &data,
                "--vocab-size",
                &vocabulary,
            ];
            done(workspace.command(workspace.smelt()?).args(arguments))?;
        }
        for (way, flags) in WAYS {
            let row = measured(workspace, shape, &data, (way, flags), &format!("{FOLDER}/base-{number}"))?;
            println!("{}, {way}: {:.3}", shape.name, row.ratio());
            rows.push(row);
        }
    }
    fs::create_dir_all(workspace.root.join("docs"))?;
    fs::write(workspace.root.join(PAGE), page(&rows))?;
    Ok(Outcome::from_passed(rows.iter().all(|row| (row.ratio() - 1.0).abs() <= TOLERANCE)))
}

/// Runs one way of training for three steps; the first of a shape leaves the base of the adapters.
fn measured(
    workspace: &Workspace,
    shape: &Shape,
    data: &str,
    (way, flags): (&'static str, &'static [&'static str]),
    base: &str,
) -> Result<Row> {
    let mut settings: Vec<String> = vec!["--backend".into(), "cpu".into(), "--json".into(), "--quiet".into()];
    settings.extend(["--batch-size", shape.batch[0], "--seq-length", shape.batch[1]].map(str::to_owned));
    if flags.contains(&"lora") {
        settings.extend(["--model".into(), base.into()]);
    } else {
        let own = [format!("vocab_size={}", shape.vocab_size)];
        let keys = shape.model.iter().map(|key| (*key).to_owned()).chain(own);
        settings.extend(keys.flat_map(|key| ["--set".to_owned(), format!("model.{key}")]));
    }
    settings.extend(flags.iter().map(|flag| (*flag).to_owned()));
    let output = if way == WAYS[0].0 { base.to_owned() } else { format!("{FOLDER}/run") };
    let smelt = workspace.smelt()?;
    let estimate = record(workspace.command(&smelt).arg("estimate").args(&settings))?;
    let steps = ["--max-steps", "3", "--warmup-steps", "1", "--set", "train.eval_batches=1", "--overwrite"];
    let mut train = workspace.command(&smelt);
    train.arg("train").args(&settings).args(steps).args(["--data", data, "--output", &output]);
    let done = record(&mut train)?;
    let number = |value: &Value, name: &str| value.as_f64().ok_or(format!("`{name}` is no number"));
    Ok(Row {
        shape: shape.name,
        way,
        estimated: number(&estimate["training"]["peak_bytes"], "peak_bytes")? / MIB,
        measured: number(&done["peak_memory_bytes"], "peak_memory_bytes")? / MIB,
    })
}

fn done(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The last JSON line that a command prints.
fn record(command: &mut Command) -> Result<Value> {
    let text = done(command)?;
    Ok(serde_json::from_str(text.lines().last().unwrap_or_default())?)
}

/// Words without a pattern, enough of them for the largest vocabulary.
fn text(part: u64) -> String {
    let mut state = part + 1;
    let mut next = |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let mut text = String::new();
    for word in 0..30_000 {
        let length = 3 + next(6);
        text.extend((0..length).map(|_| char::from(b'a' + next(26) as u8)));
        text.push(if word % 12 == 11 { '\n' } else { ' ' });
    }
    text
}

fn page(rows: &[Row]) -> String {
    let mut page = "\
# Memory of training: estimates and measurements

Made by `cargo xtask memory-table`, which runs each way of training for three steps on the backend `cpu`. The
estimate is that of `smelt estimate`; the measurement is the largest resident memory of the whole
process. Without another word, training is in f32 with AdamW. Ratios within 10 % of 1 are what the estimator is held to.
"
    .to_owned();
    let mut shape = "";
    for row in rows {
        if row.shape != shape {
            shape = row.shape;
            let _ = write!(
                page,
                "\n## {shape}\n\n| training | estimate | measured | ratio |\n|---|---:|---:|---:|\n"
            );
        }
        let _ = writeln!(
            page,
            "| {} | {:.0} MiB | {:.0} MiB | {:.2} |",
            row.way,
            row.estimated,
            row.measured,
            row.ratio()
        );
    }
    page
}
