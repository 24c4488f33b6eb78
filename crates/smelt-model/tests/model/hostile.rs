//! Damaged and hostile files end in an error that names the file, without panics or large allocations.

use std::fs;
use std::path::Path;

use smelt_model::weights::{Checkpoint, TensorFile};
use smelt_model::{ModelConfig, ModelError};
use smelt_testkit::golden_folder;

use crate::chain;

fn open(bytes: &[u8]) -> Result<TensorFile, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    fs::write(&path, bytes).unwrap();
    TensorFile::open(&path)
}

fn with_header(length: u64, header: &str, data: usize) -> Vec<u8> {
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[track_caller]
fn assert_refused(bytes: &[u8]) {
    let error = open(bytes).unwrap_err();
    assert!(matches!(error, ModelError::BadTensorFile { .. }), "{error}");
    assert!(error.to_string().contains("model.safetensors"));
}

#[test]
fn every_truncation_is_refused() {
    let whole = fs::read(golden_folder("gpt2").join("model.safetensors")).unwrap();
    assert!(open(&whole).is_ok());
    for length in (0..64).chain((64..whole.len()).step_by(1013)) {
        assert_refused(&whole[..length]);
    }
    assert_refused(&[whole.as_slice(), b"x"].concat());
}

#[test]
fn headers_that_lie_are_refused() {
    let header = |tensors: &str, data: usize| with_header(tensors.len() as u64, tensors, data);
    let one = |shape: &str, offsets: &str| {
        format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    assert!(open(&header(&one("[2]", "[0,8]"), 8)).is_ok());
    assert_refused(&with_header(u64::MAX, "{}", 0));
    assert_refused(&with_header(1 << 62, "{}", 0));
    assert_refused(&with_header(99_000_000, "{}", 100));
    assert_refused(&header("{\"a\":", 0));
    assert_refused(&header("\u{0}\u{1}", 8));
    assert_refused(&header("[]", 0));
    assert_refused(&header(&"[".repeat(100_000), 0));
    assert_refused(&header(&one("[2]", "[0,12]"), 12));
    assert_refused(&header(&one("[2]", "[8,0]"), 8));
    assert_refused(&header(&one("[2]", "[4,12]"), 12));
    assert_refused(&header(&one("[2]", "[0,8]"), 4));
    assert_refused(&header(&one("[4611686018427387904,4]", "[0,0]"), 0));
    assert_refused(&header(&one("[18446744073709551615,18446744073709551615]", "[0,8]"), 8));
    assert_refused(&header(&one("[-1]", "[0,8]"), 8));
    assert_refused(&header(r#"{"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}"#, 8));
    let twice = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#;
    assert!(chain(&open(&header(twice, 16)).unwrap_err()).ends_with("tensor `a` is there twice"));
    let metadata = r#"{"__metadata__":{},"__metadata__":{}}"#;
    assert_refused(&header(metadata, 0));
    let overlap = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
    assert_refused(&header(overlap, 12));
    let not_utf8 = [&8u64.to_le_bytes()[..], &[0xff; 8]].concat();
    assert_refused(&not_utf8);
}

#[test]
fn flipped_header_bytes_never_panic() {
    let whole = fs::read(golden_folder("gpt2").join("model.safetensors")).unwrap();
    for position in 0..400 {
        for flip in [0x01, 0x20, 0x80] {
            let mut bytes = whole.clone();
            bytes[position] ^= flip;
            if let Ok(file) = open(&bytes) {
                for name in file.names() {
                    let _ = file.f32(name);
                }
            }
        }
    }
}

#[test]
fn folders_without_weights_say_what_they_lack() {
    let folder = tempfile::tempdir().unwrap();
    let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
    let expected =
        "has neither `model.safetensors` nor `pytorch_model.bin`, nor the index of shards of either";
    assert!(error.ends_with(expected), "{error}");
    fs::create_dir(folder.path().join("model.safetensors")).unwrap();
    let error = Checkpoint::open(folder.path()).unwrap_err();
    assert!(matches!(error, ModelError::Io { .. }), "{error}");
    let error = ModelConfig::from_folder(folder.path()).unwrap_err();
    assert!(matches!(error, ModelError::Io { action: "read", .. }), "{error}");
}

#[test]
fn damaged_json_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let refuse = |file: &Path, text: &str| {
        fs::write(file, text).unwrap();
        match file.ends_with("config.json") {
            true => ModelConfig::from_folder(folder.path()).map(|_| ()).unwrap_err(),
            false => Checkpoint::open(folder.path()).map(|_| ()).unwrap_err(),
        }
    };
    let config = folder.path().join("config.json");
    let index = folder.path().join("model.safetensors.index.json");
    assert!(matches!(refuse(&config, "{\"model_type\": "), ModelError::Json { .. }));
    assert!(matches!(refuse(&config, &"[".repeat(100_000)), ModelError::Json { .. }));
    assert!(matches!(refuse(&index, "{}"), ModelError::Json { .. }));
    let absolute = r#"{"weight_map": {"a": "/etc/passwd"}}"#;
    assert!(matches!(refuse(&index, absolute), ModelError::BadIndex { .. }));
    let absent = r#"{"weight_map": {"a": "model-1.safetensors"}}"#;
    assert!(matches!(refuse(&index, absent), ModelError::Io { .. }));
}

#[test]
fn configurations_of_absurd_sizes_are_refused() {
    let mixtral = |key: &str, value: serde_json::Value| {
        let text = fs::read(golden_folder("mixtral").join("config.json")).unwrap();
        let mut config: serde_json::Value = serde_json::from_slice(&text).unwrap();
        config[key] = value;
        ModelConfig::from_json(config)
    };
    assert!(mixtral("num_hidden_layers", 2.into()).is_ok());
    for key in ["num_attention_heads", "num_key_value_heads", "hidden_size", "num_local_experts"] {
        for value in [0.into(), (-1).into(), u64::MAX.into(), 1e300.into(), "8".into()] {
            let error = mixtral(key, value).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{key}` is ")), "{error}");
        }
    }
    let experts = mixtral("num_hidden_layers", 4096.into()).map(|_| ());
    assert!(experts.is_ok(), "few experts in many layers");
    let text = fs::read(golden_folder("mixtral").join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&text).unwrap();
    (config["num_hidden_layers"], config["num_local_experts"]) = (4096.into(), 4096.into());
    let error = ModelConfig::from_json(config).unwrap_err().to_string();
    assert_eq!(
        error,
        "`num_local_experts` is 4096 in the model configuration, expected at most 131072 in all 4096 layers"
    );
}

#[cfg(unix)]
#[test]
fn an_endless_configuration_is_not_read_to_its_end() {
    let error = ModelConfig::from_file(Path::new("/dev/zero")).unwrap_err();
    assert!(matches!(error, ModelError::TooLarge { .. }), "{error}");
}
