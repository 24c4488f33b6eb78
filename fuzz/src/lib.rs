//! What the targets share: folders of files that a fuzzer wrote, and a small model to hold them against.

use std::fs;

use serde_json::json;
use smelt_model::ModelConfig;
use tempfile::TempDir;

/// A folder with these files, by name.
///
/// # Panics
/// If there is no room for temporary files.
pub fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, contents) in files {
        fs::write(folder.path().join(name), contents).expect("a writable folder");
    }
    folder
}

/// The text before the first NUL, and the bytes after it: two files in one input.
pub fn two_files(bytes: &[u8]) -> (&[u8], &[u8]) {
    let at = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    (&bytes[..at], bytes.get(at + 1..).unwrap_or_default())
}

/// A Llama of one block, 32 wide.
///
/// # Panics
/// Never: the configuration is right.
pub fn small_model() -> ModelConfig {
    let config = json!({
        "model_type": "llama", "vocab_size": 32, "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
        "max_position_embeddings": 16, "rms_norm_eps": 1e-5, "tie_word_embeddings": false,
    });
    ModelConfig::from_json(config).expect("a configuration")
}
