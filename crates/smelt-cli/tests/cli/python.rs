//! What smelt writes, opened by the Python packages that others open it with.
//!
//! Runs where there is a Python that has them: that of `SMELT_PYTHON`, the one that `cargo xtask check-python` makes,
//! or `python3`. Elsewhere it says so.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::smelt::Place;

const PACKAGES: &str = "import torch, transformers, tokenizers, safetensors, peft, tensorboard";

#[test]
fn transformers_peft_and_tensorboard_open_what_is_written() {
    let Some(python) = python_with(PACKAGES) else {
        return println!(
            "skipped: no Python with peft and tensorboard; `cargo xtask check-python` makes one"
        );
    };
    let place = Place::new();
    let shape = ["model.hidden_size=32", "model.num_hidden_layers=2", "model.num_attention_heads=4"];
    let mut base = vec!["train", "--max-steps", "20", "--eval-interval", "5", "--log-interval", "2"];
    base.extend(shape.iter().flat_map(|setting| ["--set", setting]));
    base.extend(["--save-interval", "5", "--keep-last", "4"]);
    base.extend(["--seq-length", "32", "--output", "base", "--quiet"]);
    place.done(&base);
    // As after a kill: what the run wrote after this checkpoint is to be forgotten.
    place.done(&["train", "--resume", "base/checkpoints/step-00000010", "--quiet"]);
    let compares = |folders: &[&Path]| opens(&python, "compare_logits.py", folders);
    let mut said = compares(&[&newest(&place.path("base"))]);
    said += &opens(&python, "read_events.py", &[&place.path("base")]);
    for method in ["lora", "dora"] {
        let mut adapter = vec!["train", "--model", "base", "--method", method, "--lora-rank", "4"];
        adapter.extend(["--max-steps", "5", "--seq-length", "32", "--learning-rate", "0.01"]);
        adapter.extend(["--output", method, "--quiet"]);
        place.done(&adapter);
        said += &compares(&[&newest(&place.path("base")), &newest(&place.path(method))]);
        let fused = format!("fused-{method}");
        place.done(&["fuse", "--model", method, "--output", &fused]);
        said += &compares(&[&place.path(&fused)]);
    }
    println!("{said}");
}

/// A Python that can do the `imports`.
pub fn python_with(imports: &str) -> Option<PathBuf> {
    let made = repository().join("target/check-python/bin/python");
    let named = std::env::var_os("SMELT_PYTHON").map(PathBuf::from);
    let has_packages = |python: &PathBuf| {
        Command::new(python).args(["-c", imports]).output().is_ok_and(|output| output.status.success())
    };
    named.into_iter().chain([made, "python3".into()]).find(has_packages)
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The newest checkpoint of a run.
fn newest(run: &Path) -> PathBuf {
    let folders = std::fs::read_dir(run.join("checkpoints")).unwrap();
    folders.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).max().unwrap()
}

/// What the script says.
fn opens(python: &Path, script: &str, arguments: &[&Path]) -> String {
    let script = repository().join("xtask/python").join(script);
    let output = Command::new(python)
        .arg(script)
        .args(arguments)
        .env("SMELT", env!("CARGO_BIN_EXE_smelt"))
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}\n{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
