//! What other programs cannot run is refused, and settings that no fixture has come back.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use smelt_convert::folder::{FolderOptions, FolderStyle, write_folder};
use smelt_convert::gguf::{GgufOptions, write_gguf};
use smelt_convert::{ConvertError, Source};
use smelt_testkit::golden_folder;

const WHOLE: FolderOptions = FolderOptions { dtype: None, max_shard_bytes: u64::MAX };

/// A copy of a golden folder whose configuration has other values under some keys.
fn changed(fixture: &str, keys: Value, folder: &Path) -> Source {
    changed_folder(&golden_folder(fixture), keys, folder)
}

/// A folder with a tokenizer, made from a file of llama.cpp's.
fn with_tokenizer(folder: &Path) {
    let source = Source::open(&golden_folder("gguf").join("model-f32.gguf")).unwrap();
    write_folder(&source, FolderStyle::Hf, WHOLE, folder, &mut |_| ()).unwrap();
}

fn changed_folder(from: &Path, keys: Value, folder: &Path) -> Source {
    fs::create_dir_all(folder).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "model.safetensors" || name.starts_with("tokenizer") {
            fs::copy(&path, folder.join(name)).unwrap();
        }
    }
    let config = fs::read(from.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    for (key, value) in keys.as_object().unwrap() {
        config[key] = value.clone();
    }
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    Source::open(folder).unwrap()
}

fn written(source: &Source, folder: &Path) -> Result<PathBuf, ConvertError> {
    let path = folder.join("model.gguf");
    write_gguf(source, GgufOptions::default(), &path, &mut |_| ()).map(|_| path)
}

#[test]
fn what_llama_cpp_would_compute_otherwise_is_refused() {
    let llama3 = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    });
    for (fixture, keys, reason) in [
        ("gemma2", json!({"final_logit_softcapping": null}), "logits without a soft-cap"),
        ("gemma3_text", json!({"attn_logit_softcapping": 30.0}), "soft-cap on scores"),
        ("llama_mha", json!({"partial_rotary_factor": 0.5}), "rotation of a part of each head"),
        ("qwen3", json!({"rope_scaling": llama3}), "lists of divisors"),
    ] {
        let scratch = tempfile::tempdir().unwrap();
        let source = changed(fixture, keys, &scratch.path().join("model"));
        let error = written(&source, scratch.path()).unwrap_err().to_string();
        assert!(error.contains(reason), "{fixture}: {error}");
    }
}

#[test]
fn layers_without_windows_come_back_without() {
    for fixture in ["gemma2", "gemma3_text"] {
        let scratch = tempfile::tempdir().unwrap();
        let layers = Source::open(&golden_folder(fixture)).unwrap().config.decoder.num_hidden_layers;
        let keys = json!({"layer_types": vec!["full_attention"; layers]});
        let source = changed(fixture, keys, &scratch.path().join("model"));
        assert!(source.config.decoder.layers.iter().all(|layer| layer.sliding_window.is_none()));
        let back = Source::open(&written(&source, scratch.path()).unwrap()).unwrap();
        assert_eq!(back.config.decoder.layers, source.config.decoder.layers, "{fixture}");
    }
}

#[test]
fn ids_beyond_the_vocabulary_name_no_token() {
    let scratch = tempfile::tempdir().unwrap();
    let keys = json!({"bos_token_id": 50256, "eos_token_id": [2, 50256], "pad_token_id": -1});
    with_tokenizer(&scratch.path().join("hf"));
    let source = changed_folder(&scratch.path().join("hf"), keys, &scratch.path().join("model"));
    assert!(source.companions.tokenizer().unwrap().is_some());
    let back = Source::open(&written(&source, scratch.path()).unwrap()).unwrap();
    assert_eq!(back.config.raw["eos_token_id"], 2);
    assert!(back.config.raw["bos_token_id"].is_null());
    assert!(back.companions.tokenizer().unwrap().is_some());
}

#[test]
fn files_that_are_there_stay_as_they_are() {
    let scratch = tempfile::tempdir().unwrap();
    with_tokenizer(&scratch.path().join("hf"));
    let source = Source::open(&scratch.path().join("hf")).unwrap();
    let output = scratch.path().join("output");
    fs::create_dir(&output).unwrap();
    fs::write(output.join("tokenizer.json"), "mine").unwrap();
    let refused = write_folder(&source, FolderStyle::Hf, WHOLE, &output, &mut |_| ()).unwrap_err();
    assert!(refused.to_string().contains("is there already"), "{refused}");
    assert_eq!(fs::read_to_string(output.join("tokenizer.json")).unwrap(), "mine");
    assert_eq!(fs::read_dir(&output).unwrap().count(), 1);
    fs::remove_file(output.join("tokenizer.json")).unwrap();
    fs::write(output.join("notes.txt"), "mine").unwrap();
    write_folder(&source, FolderStyle::Hf, WHOLE, &output, &mut |_| ()).unwrap();
    assert!(Source::open(&output).is_ok() && output.join("notes.txt").exists());
}
