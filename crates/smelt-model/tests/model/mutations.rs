//! Thousands of damaged headers, pickles, configurations, folders, adapters and indices: each is read or refused, none panics.
//!
//! The same entry points as `fuzz/`, for every run of the tests: seeded, bounded, without its coverage.

use std::fs;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use smelt_model::family::FAMILIES;
use smelt_model::weights::{Checkpoint, TensorFile, locate};
use smelt_model::{Adapter, ModelConfig, RopeLengths};
use smelt_testkit::golden_folder;

const DAMAGED_FILES: usize = 2000;
const DAMAGED_CONFIGS: usize = 20_000;

/// Bytes that change much: ends of ranges, and instructions of pickles.
const TELLING: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'(', b'R', b'.'];

/// `whole` with a few bytes changed, removed or repeated.
fn damaged(whole: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..random.random_range(1..5) {
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..5) {
            0 => bytes[at] = random.random(),
            1 => bytes[at] ^= 1 << random.random_range(0..8),
            2 => bytes[at] = TELLING[random.random_range(0..TELLING.len())],
            3 => drop(bytes.drain(at..(at + random.random_range(1..9)).min(bytes.len()))),
            _ => {
                let part = bytes[at..(at + random.random_range(1..40)).min(bytes.len())].to_vec();
                bytes.splice(at..at, part);
            }
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

fn read_all(path: &Path) -> usize {
    let Ok(file) = TensorFile::open(path) else { return 0 };
    let names = file.names();
    let values = names.iter().filter(|name| file.f32(name).is_ok() || file.i64(name).is_ok());
    values.filter(|name| file.bytes(name).is_ok()).count()
}

/// Damages `source` in its first `part` bytes and in its last, where headers and tables are.
fn damage(source: &Path, part: usize, seed: u64) {
    let whole = fs::read(source).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(source.file_name().unwrap());
    let mut random = StdRng::seed_from_u64(seed);
    let mut read = 0;
    for round in 0..DAMAGED_FILES {
        let part = part.min(whole.len());
        let bytes = match round % 3 {
            0 => [&whole[..whole.len() - part], &damaged(&whole[whole.len() - part..], &mut random)].concat(),
            _ => [damaged(&whole[..part], &mut random), whole[part..].to_vec()].concat(),
        };
        fs::write(&path, bytes).unwrap();
        read += read_all(&path).min(1);
    }
    assert!(read > 0 && read < DAMAGED_FILES, "{read} of {DAMAGED_FILES} were still read");
}

#[test]
fn damaged_headers() {
    damage(&golden_folder("torch_files").join("dtypes.safetensors"), 900, 1);
}

#[test]
fn damaged_archives() {
    damage(&golden_folder("torch_files").join("layouts.bin"), 1500, 2);
    damage(&golden_folder("torch_files").join("protocol4.bin"), 1500, 3);
    damage(&golden_folder("torch_files").join("dtypes.bin"), 1500, 4);
}

/// Values that a configuration may have for a key, one more absurd than the other.
fn absurd(random: &mut StdRng) -> Value {
    let values = json!([
        0, 1, -1, 2, 3, 7, 64, 4096, 131_072, 16_777_216, 67_108_864, u64::MAX, i64::MIN, 0.0, -0.5, 0.5, 1.5,
        1e-300, 1e300, f64::MAX, null, true, false, "", "x", "yarn", "linear", "longrope", [], [0], [1, 1, 1],
        ["full_attention"], {}, {"rope_type": "yarn", "factor": 1e300}, {"rope_type": "dynamic", "factor": 1e-9},
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1e-300, "high_freq_factor": 1e300}
    ]);
    values[random.random_range(0..values.as_array().unwrap().len())].clone()
}

/// Changes one key of `config`, or of an object in it.
fn change(config: &mut Value, random: &mut StdRng) {
    let Value::Object(object) = config else { return };
    let keys: Vec<String> = object.keys().filter(|key| *key != "model_type").cloned().collect();
    let Some(key) = keys.get(random.random_range(0..keys.len().max(1))) else { return };
    match &mut object[key] {
        nested @ Value::Object(_) if random.random() => change(nested, random),
        Value::Array(list) if random.random() && !list.is_empty() => {
            let at = random.random_range(0..list.len());
            list[at] = absurd(random);
        }
        _ if random.random_ratio(1, 8) => drop(object.remove(key)),
        value => *value = absurd(random),
    }
}

#[test]
fn damaged_configurations() {
    let folders = fs::read_dir(golden_folder("")).unwrap().map(|entry| entry.unwrap().path());
    let files = folders.flat_map(|folder| [folder.join("config.json"), folder.join("config_v5.json")]);
    let configs: Vec<Value> = files
        .filter_map(|file| fs::read(file).ok())
        .map(|text| serde_json::from_slice(&text).unwrap())
        .collect();
    assert!(configs.len() > 2 * FAMILIES.len(), "{} configurations", configs.len());
    let mut random = StdRng::seed_from_u64(5);
    let mut read = 0;
    for round in 0..DAMAGED_CONFIGS {
        let mut config = configs[round % configs.len()].clone();
        for _ in 0..random.random_range(1..4) {
            change(&mut config, &mut random);
        }
        let Ok(config) = ModelConfig::from_json(config) else { continue };
        read += 1;
        assert!(config.decoder.context_length() > 0);
        for rotary in config.decoder.rotary().iter().filter(|rotary| rotary.rotary_dim <= 256) {
            let lengths = RopeLengths { sequence: 100, prompt: 60 };
            assert_eq!(rotary.inverse_frequencies(lengths).len(), rotary.rotary_dim / 2);
        }
        let parameters = smelt_model::estimate::parameters(&config.decoder);
        assert!(parameters.total >= parameters.embed_tokens);
        let _ = config.eos_token_ids();
    }
    assert!(
        read > DAMAGED_CONFIGS / 10 && read < DAMAGED_CONFIGS,
        "{read} of {DAMAGED_CONFIGS} were still read"
    );
}

/// Half of the rounds change a key of `config`, half the header of `weights`; `read` is told to read what comes of it.
fn damaged_folders(source: &Path, files: [&str; 2], seed: u64, read: impl Fn(&Path) -> bool) {
    let whole = files.map(|name| fs::read(source.join(name)).unwrap());
    let config: Value = serde_json::from_slice(&whole[0]).unwrap();
    let header = 8 + u64::from_le_bytes(whole[1][..8].try_into().unwrap()) as usize;
    let folder = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(seed);
    let mut accepted = 0;
    for round in 0..DAMAGED_FILES {
        let (mut config, mut weights) = (config.clone(), whole[1].clone());
        if round % 2 == 0 {
            (0..random.random_range(1..3)).for_each(|_| change(&mut config, &mut random));
        } else {
            weights = [damaged(&weights[..header], &mut random), weights[header..].to_vec()].concat();
        }
        fs::write(folder.path().join(files[0]), config.to_string()).unwrap();
        fs::write(folder.path().join(files[1]), weights).unwrap();
        accepted += usize::from(read(folder.path()));
    }
    assert!(accepted > 0 && accepted < DAMAGED_FILES, "{accepted} of {DAMAGED_FILES} were still read");
}

#[test]
fn damaged_packed_folders() {
    let read = |folder: &Path| {
        let (Ok(config), Ok(checkpoint)) = (ModelConfig::from_folder(folder), Checkpoint::open(folder))
        else {
            return false;
        };
        let Ok(sources) = locate(&config, &checkpoint) else { return false };
        sources
            .iter()
            .all(|source| source.values().is_ok_and(|values| values.len() == source.info.elements()))
    };
    let folder = golden_folder("mlx_quant").join("mlx_4bit");
    damaged_folders(&folder, ["config.json", "model.safetensors"], 6, read);
}

#[test]
fn damaged_adapters() {
    for (folder, seed) in [("adapter", 7), ("adapter_dora", 8), ("adapter_modules_to_save", 9)] {
        let names = &ModelConfig::from_folder(&golden_folder("lora")).unwrap().family.names;
        let files = ["adapter_config.json", "adapter_model.safetensors"];
        damaged_folders(&golden_folder("lora").join(folder), files, seed, |folder| {
            Adapter::open(folder, names).is_ok_and(|adapter| adapter.parameters() > 0)
        });
    }
}

#[test]
fn damaged_indices() {
    let source = golden_folder("llama_sharded");
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(&source).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let path = folder.path().join("model.safetensors.index.json");
    let whole = fs::read(&path).unwrap();
    let mut random = StdRng::seed_from_u64(10);
    let mut read = 0;
    for _ in 0..DAMAGED_FILES {
        fs::write(&path, damaged(&whole, &mut random)).unwrap();
        let Ok(checkpoint) = Checkpoint::open(folder.path()) else { continue };
        assert!(checkpoint.names().all(|name| checkpoint.file_of(name).is_some()));
        read += 1;
    }
    assert!(read > 0 && read < DAMAGED_FILES, "{read} of {DAMAGED_FILES} were still read");
}
