//! `smelt verify` on the fixtures of the repository.

use std::fs;
use std::path::Path;

use crate::smelt::{Place, golden};

const KINDS: [&str; 3] = ["causal", "training", "sampling"];

fn copy(place: &Place, name: &str) -> String {
    fs::create_dir_all(place.path(name)).unwrap();
    for entry in fs::read_dir(golden(name)).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            copy(place, &format!("{name}/{}", path.file_name().unwrap().display()));
            continue;
        }
        fs::copy(&path, place.path(name).join(path.file_name().unwrap())).unwrap();
    }
    place.path(name).display().to_string()
}

/// Folders of [`KINDS`].
fn folders() -> Vec<String> {
    let kind = |folder: &Path| {
        let meta = fs::read(folder.join("meta.json")).unwrap_or_default();
        serde_json::from_slice::<serde_json::Value>(&meta)
            .map(|meta| meta["kind"].clone())
            .unwrap_or_default()
    };
    let entries = fs::read_dir(golden("")).unwrap().map(|entry| entry.unwrap().path());
    let folders = entries.filter(|folder| KINDS.iter().any(|known| kind(folder) == *known));
    folders.map(|folder| folder.display().to_string()).collect()
}

#[test]
fn the_reference_is_met_on_every_backend() {
    let folders = folders();
    assert!(folders.len() > 35, "{} folders", folders.len());
    for backend in ["cpu", "ndarray", "candle"] {
        let mut args = vec!["verify", "--backend", backend, "--json"];
        args.extend(folders.iter().map(String::as_str));
        let ran = Place::new().smelt(&args);
        if ran.code != Some(0) && ran.stderr.contains("is not in this build") {
            continue;
        }
        let rows = ran.records();
        let failed: Vec<String> =
            rows.iter().filter(|row| row["passed"] != true).map(ToString::to_string).collect();
        assert!(failed.is_empty(), "{backend}: {}", failed.join("\n"));
        let names: Vec<&str> = rows.iter().map(|row| row["check"].as_str().unwrap()).collect();
        for check in [
            "logits",
            "config_v5.json",
            "loss",
            "hidden.2",
            "right.logits",
            "left.logits",
            "greedy",
            "greedy, no cache",
            "greedy_long",
            "batch",
            "gradient norms",
            "final logits",
            "temp_topk_topp",
            "no_repeat_ngram",
            "mlx_f16_unquantized.logits",
            "mlx_4bit.dequant.q_proj0",
            "mlx_4bit_g32_bf16.logits_dequant_f32",
            "mlx_8bit.logits_mlx",
        ] {
            assert!(names.contains(&check), "{check} in {names:?}");
        }
    }
}

#[test]
fn what_differs_or_cannot_be_checked_fails() {
    let place = Place::new();
    let folder = copy(&place, "gpt2");
    // The last tensor of the file is `right.loss`: four bytes at the end.
    let file = place.path("gpt2/golden.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&9.0f32.to_le_bytes());
    fs::write(&file, bytes).unwrap();
    place.write("gpt2/model.gguf", "");
    place.write("later/meta.json", "{\"kind\": \"telepathy\"}");
    let ran = place.smelt(&["verify", "--backend", "cpu", "--json", &folder, "later", "absent"]);
    assert_eq!(ran.code, Some(1));
    let failed: Vec<String> = ran
        .records()
        .iter()
        .filter(|row| row["passed"] == false)
        .map(|row| {
            format!("{}: {}", row["check"].as_str().unwrap(), row["note"].as_str().unwrap_or("differs"))
        })
        .collect();
    assert_eq!(
        failed[..3],
        ["file model.gguf: not supported yet", "right.loss: differs", "kind telepathy: not supported yet"]
    );
    assert!(failed[3].starts_with("load: cannot read `absent/meta.json`"), "{failed:?}");
    assert!(ran.stderr.contains("error: 4 of "), "{}", ran.stderr);
}

#[test]
fn a_quantized_folder_that_does_not_load_is_a_failed_check() {
    let place = Place::new();
    let folder = copy(&place, "mlx_quant");
    place.write("mlx_quant/mlx_8bit/config.json", "{\"model_type\": \"llama\"}");
    place.write("mlx_quant/mlx_2bit/config.json", "{}");
    let ran = place.smelt(&["verify", "--backend", "cpu", "--json", &folder]);
    assert_eq!(ran.code, Some(1));
    let failed = ran.records().into_iter().filter(|row| row["passed"] == false);
    let failed: Vec<String> = failed.map(|row| row["check"].as_str().unwrap().to_owned()).collect();
    assert_eq!(failed, ["file mlx_2bit", "mlx_8bit: load"]);
}

#[test]
fn a_quantized_folder_runs_like_any_other() {
    let place = Place::new();
    let folder = copy(&place, "mlx_quant/mlx_4bit_f32");
    let input = golden("mlx_quant/golden.safetensors").display().to_string();
    place.done(&["logits", "--model", &folder, "--input", &input, "--output", "out.safetensors", "--quiet"]);
    let tensors = |path: &Path| smelt_model::weights::TensorFile::open(path).unwrap();
    let found = tensors(&place.path("out.safetensors")).f32("logits").unwrap();
    let reference = tensors(&golden("mlx_quant/golden_mlx.safetensors"));
    let expected = reference.f32("mlx_4bit_f32.logits_dequant_f32").unwrap();
    assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2e-4));

    let info = place.done(&["info", "--json", &folder]).records().remove(0);
    assert_eq!((&info["parameters"], &info["quantization"]["bits"]), (&53440.into(), &4.into()));
    let bits = info["quantization"]["bits_per_weight"].as_f64().unwrap();
    assert!((5.0..5.2).contains(&bits), "4 bits, and 64 of scale and bias for 64 values: {bits}");
    let text = place.done(&["info", &folder]).stdout;
    assert!(text.contains("4 bits in groups of 64; 5."), "{text}");
}

#[test]
fn logits_equal_the_reference_through_files() {
    let place = Place::new();
    let folder = copy(&place, "gpt2");
    let input = place.path("gpt2/golden.safetensors").display().to_string();
    place.done(&["logits", "--model", &folder, "--input", &input, "--output", "out.safetensors", "--quiet"]);
    let tensors = |path: &str| smelt_model::weights::TensorFile::open(&place.path(path)).unwrap();
    let (found, expected) = (tensors("out.safetensors"), tensors("gpt2/golden.safetensors"));
    assert_eq!(found.shape("logits").unwrap(), expected.shape("logits").unwrap());
    let pairs = found.f32("logits").unwrap().into_iter().zip(expected.f32("logits").unwrap());
    assert!(pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) < 2e-4);
}
