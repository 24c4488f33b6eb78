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

/// Fixtures of every kind of decoder.
const FAMILIES: [&str; 24] = [
    "llama_mha",
    "llama_mqa_headdim_bias",
    "llama3_rope",
    "llama_linear_rope",
    "llama_dynamic_rope",
    "llama_yarn",
    "mistral_swa",
    "mixtral",
    "phi2",
    "phi2_qknorm_gqa",
    "phi3",
    "phi3_longrope",
    "phi3_partial_rotary",
    "qwen2_swa",
    "qwen2_yarn",
    "qwen2_moe",
    "qwen3",
    "qwen3_moe",
    "gpt2",
    "gptj",
    "gpt_neox",
    "gemma",
    "gemma2",
    "gemma3_text",
];

fn golden(name: &str) -> PathBuf {
    repository().join("tests/golden").join(name)
}

#[test]
fn onnxruntime_computes_what_the_model_computes() {
    let Some(python) = python_with("import onnx, onnxruntime, numpy, safetensors") else {
        return println!(
            "skipped: no Python with onnx and onnxruntime; `cargo xtask check-python` makes one"
        );
    };
    let place = Place::new();
    for name in FAMILIES {
        let model = golden(name);
        let from = model.to_str().unwrap();
        let convert = ["convert", "--model", from, "--to", "onnx", "--quiet", "--output"];
        place.done(&[&convert[..], &[name]].concat());
        println!("{name}: {}", opens(&python, "check_onnx.py", &[&model, &place.path(name)]).trim());
    }
    let model = golden("qwen_v1");
    let from = model.to_str().unwrap();
    place.done(&["convert", "--model", from, "--to", "onnx", "--no-kv-cache", "--quiet", "--output", "qwen"]);
    println!("qwen_v1: {}", opens(&python, "check_onnx.py", &[&model, &place.path("qwen")]).trim());
}

#[test]
fn mlx_lm_computes_what_the_model_computes() {
    let Some(python) = python_with("import mlx.core, mlx_lm, numpy, safetensors") else {
        return println!("skipped: no Python with mlx-lm");
    };
    let place = Place::new();
    // Not those that mlx-lm computes otherwise, or has no place for: `docs/formats.md`.
    let others =
        ["mistral_swa", "phi2_qknorm_gqa", "qwen2_swa", "gpt_neox", "gemma", "gemma2", "gemma3_text"];
    for name in FAMILIES.into_iter().filter(|name| !others.contains(name)) {
        let model = golden(name);
        let from = model.to_str().unwrap();
        place.done(&["convert", "--model", from, "--to", "mlx", "--quiet", "--output", name]);
        println!("{name}: {}", opens(&python, "check_mlx.py", &[&model, &place.path(name)]).trim());
    }
}

#[test]
fn llama_cpp_computes_what_the_model_computes() {
    let Some(python) = python_with("from llama_cpp import llama_cpp; import numpy, safetensors") else {
        return println!("skipped: no Python with llama-cpp-python");
    };
    let place = Place::new();
    // Not those that llama.cpp refuses, or is known to compute otherwise: `docs/formats.md`.
    let others = ["llama_dynamic_rope", "mistral_swa", "phi2_qknorm_gqa", "qwen2_swa", "gptj"];
    for name in FAMILIES.into_iter().filter(|name| !others.contains(name)) {
        let (model, file) = (golden(name), format!("{name}.gguf"));
        let from = model.to_str().unwrap();
        place.done(&["convert", "--model", from, "--to", "gguf", "--quiet", "--output", &file]);
        println!("{name}: {}", opens(&python, "check_gguf.py", &[&model, &place.path(&file)]).trim());
    }
}

#[test]
fn python_mlx_lm_opens_what_is_quantized() {
    let Some(python) = python_with("import mlx.core, mlx_lm, safetensors, numpy") else {
        return println!("skipped: no Python with mlx-lm");
    };
    let golden = repository().join("tests/golden");
    let place = Place::new();
    let mut said = String::new();
    for (name, preset, group_size) in [
        ("mlx_quant", "q4_bit", "64"),
        ("llama_mha", "q8_bit", "32"),
        ("gpt2_noprefix", "q3_bit", "32"),
        ("mixtral", "q6_bit", "32"),
        ("llama_bf16", "q4_bit", "32"),
    ] {
        let source = golden.join(name);
        let (output, model) = (format!("{name}-quantized"), source.display().to_string());
        let quantize = ["--quantize", preset, "--group-size", group_size];
        place.done(
            &[&["convert", "--model", &model, "--to", "mlx", "--output", &output, "--quiet"], &quantize[..]]
                .concat(),
        );
        said += &opens(&python, "check_mlx_quantized.py", &[&place.path(&output), &source]);
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
