//! Weights in and out: identity, names, shards, dtypes, and every difference reported at once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::DType;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use smelt_backend::{Kernels, int_tensor, to_host};
use smelt_model::weights::{
    Checkpoint, LoadOptions, NonFinite, SaveOptions, TensorFile, TensorFileWriter, load_weights, save_with,
};
use smelt_model::{Decoder, ForwardInput, ModelConfig, ModelError, load, load_for_training, save};
use smelt_testkit::{Golden, backend_test, golden_folder};

backend_test!(load_then_save_is_byte_identical, identity);
backend_test!(files_without_the_prefix_are_saved_with_it, prefix);
backend_test!(a_reloaded_model_computes_the_same, reload);
backend_test!(shards_load_like_one_file, shards);
backend_test!(half_precision_files_load, half_precision);
backend_test!(an_untied_head_is_saved_and_loaded, untied);
backend_test!(all_differences_are_reported_at_once, differences);
backend_test!(a_head_that_contradicts_the_tie_is_refused, tied_head);
backend_test!(weights_that_are_no_numbers_are_refused, non_finite);
backend_test!(shards_are_those_of_transformers, saved_shards);
backend_test!(a_save_replaces_the_one_before, replaced);

pub type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

pub fn read_all(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    file.iter()
        .map(|(name, view)| (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
        .collect()
}

pub fn write_all(tensors: &Tensors, path: &Path) {
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    safetensors::serialize_to_file(views, None, path).unwrap();
}

/// A copy of the `gpt2` fixture with changed tensors and configuration.
fn changed(tensors: impl FnOnce(&mut Tensors), config: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let (source, target) = (golden_folder("gpt2"), tempfile::tempdir().unwrap());
    let mut weights = read_all(&source.join("model.safetensors"));
    tensors(&mut weights);
    write_all(&weights, &target.path().join("model.safetensors"));
    let mut value: Value = serde_json::from_slice(&fs::read(source.join("config.json")).unwrap()).unwrap();
    config(&mut value);
    fs::write(target.path().join("config.json"), value.to_string()).unwrap();
    target
}

fn logits<B: Kernels>(model: &Decoder<B>, device: &B::Device) -> Vec<f32> {
    let ids: Vec<u32> = (0..24).map(|id| id * 7 % 250).collect();
    to_host(model.logits(model.hidden(ForwardInput::new(int_tensor(&ids, [2, 12], device)))))
}

/// Every decoder whose file is one file under the names we write, in dtypes that the backend holds.
fn identity<B: Kernels>(device: &B::Device) {
    let plain = |golden: &Golden| {
        let half = golden.name() == "llama_bf16" || golden.name() == "llama_f16";
        golden.folder.join("model.safetensors").exists()
            && golden.name() != "gpt2_noprefix"
            && (!half || B::keeps_weights_in(DType::BF16))
    };
    let fixtures: Vec<Golden> =
        ["causal", "training"].into_iter().flat_map(Golden::of_kind).filter(plain).collect();
    assert!(fixtures.len() > 30, "{} fixtures", fixtures.len());
    for golden in fixtures {
        let target = tempfile::tempdir().unwrap();
        let (config, model) = load::<B>(&golden.folder, device).unwrap();
        save(&config, &model, target.path()).unwrap();
        let written = fs::read(target.path().join("model.safetensors")).unwrap();
        let name = golden.name();
        assert!(written == fs::read(golden.folder.join("model.safetensors")).unwrap(), "{name}: file bytes");
        let read = |folder: &Path| ModelConfig::from_folder(folder).unwrap().to_json();
        assert_eq!(read(target.path()), read(&golden.folder), "{name}");
        let generation: Value =
            serde_json::from_slice(&fs::read(target.path().join("generation_config.json")).unwrap()).unwrap();
        assert_eq!(generation["_from_model_config"], true);
        assert_eq!(generation.get("eos_token_id"), config.raw.get("eos_token_id"), "{name}");
    }
}

fn prefix<B: Kernels>(device: &B::Device) {
    let source = golden_folder("gpt2_noprefix");
    let target = tempfile::tempdir().unwrap();
    let (config, model) = load::<B>(&source, device).unwrap();
    save(&config, &model, target.path()).unwrap();
    let expected: Tensors = read_all(&source.join("model.safetensors"))
        .into_iter()
        .filter(|(name, _)| !name.ends_with(".attn.bias"))
        .map(|(name, tensor)| (format!("transformer.{name}"), tensor))
        .collect();
    assert!(read_all(&target.path().join("model.safetensors")) == expected);
}

fn reload<B: Kernels>(device: &B::Device) {
    let (config, model) = load::<B>(&golden_folder("gpt2_noprefix"), device).unwrap();
    let target = tempfile::tempdir().unwrap();
    save(&config, &model, target.path()).unwrap();
    let (_, again) = load::<B>(target.path(), device).unwrap();
    assert_eq!(logits(&model, device), logits(&again, device));
}

fn shards<B: Kernels>(device: &B::Device) {
    let folder = changed(|_| (), |_| ());
    let all = read_all(&folder.path().join("model.safetensors"));
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let mut map = serde_json::Map::new();
    for (number, part) in [("wte", 0..20), ("rest", 20..all.len())] {
        let file = format!("model-{number}.safetensors");
        let some: Tensors = all.clone().into_iter().skip(part.start).take(part.len()).collect();
        map.extend(some.keys().map(|name| (name.clone(), json!(file))));
        write_all(&some, &folder.path().join(file));
    }
    let index = folder.path().join("model.safetensors.index.json");
    fs::write(&index, json!({"metadata": {}, "weight_map": map}).to_string()).unwrap();
    let (_, whole) = load::<B>(&golden_folder("gpt2"), device).unwrap();
    let (_, sharded) = load::<B>(folder.path(), device).unwrap();
    assert_eq!(logits(&whole, device), logits(&sharded, device));

    map.insert("transformer.wpe.weight".into(), json!("../model-rest.safetensors"));
    fs::write(&index, json!({"weight_map": map}).to_string()).unwrap();
    let outside = load::<B>(folder.path(), device).unwrap_err();
    assert!(outside.to_string().contains("`../model-rest.safetensors` is not a file name"), "{outside}");
    map.insert("transformer.wpe.weight".into(), json!("model-wte.safetensors"));
    fs::write(&index, json!({"weight_map": map}).to_string()).unwrap();
    let misplaced = load::<B>(folder.path(), device).unwrap_err().to_string();
    assert!(misplaced.ends_with("`transformer.wpe.weight` is not in `model-wte.safetensors`"), "{misplaced}");
}

fn half_precision<B: Kernels>(device: &B::Device) {
    let round = |bytes: &[u8]| -> Vec<half::bf16> {
        let values = bytes.as_chunks::<4>().0.iter();
        values.map(|raw| half::bf16::from_f32(f32::from_le_bytes(*raw))).collect()
    };
    let rounded = |to: Dtype| {
        changed(
            |tensors| {
                for (dtype, _, data) in tensors.values_mut() {
                    let values = round(data);
                    *data = match to {
                        Dtype::BF16 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
                        _ => values.iter().flat_map(|value| value.to_f32().to_le_bytes()).collect(),
                    };
                    *dtype = to;
                }
            },
            |config| config["torch_dtype"] = "bfloat16".into(),
        )
    };
    let (config, from_bf16) = load::<B>(rounded(Dtype::BF16).path(), device).unwrap();
    let (_, from_f32) = load::<B>(rounded(Dtype::F32).path(), device).unwrap();
    assert_eq!(logits(&from_bf16, device), logits(&from_f32, device));
    let noted = |model: &Decoder<B>| {
        let target = tempfile::tempdir().unwrap();
        save(&config, model, target.path()).unwrap();
        ModelConfig::from_folder(target.path()).unwrap().to_json()["torch_dtype"].clone()
    };
    let held = if B::keeps_weights_in(DType::BF16) { "bfloat16" } else { "float32" };
    assert_eq!(noted(&from_bf16), held);
    let (_, to_train) = load_for_training::<B>(rounded(Dtype::BF16).path(), device).unwrap();
    assert_eq!(noted(&to_train), "float32");
}

fn untied<B: Kernels>(device: &B::Device) {
    let head = |tensors: &mut Tensors| {
        let (dtype, shape, mut data) = tensors["transformer.wte.weight"].clone();
        data.rotate_left(4);
        tensors.insert("lm_head.weight".into(), (dtype, shape, data));
    };
    let folder = changed(head, |config| config["tie_word_embeddings"] = false.into());
    let (config, model) = load::<B>(folder.path(), device).unwrap();
    let (_, tied) = load::<B>(&golden_folder("gpt2"), device).unwrap();
    assert_ne!(logits(&model, device), logits(&tied, device));
    let target = tempfile::tempdir().unwrap();
    save(&config, &model, target.path()).unwrap();
    let tensors = |folder: &Path| read_all(&folder.join("model.safetensors"));
    assert!(tensors(target.path()) == tensors(folder.path()));

    let without = changed(|_| (), |config| config["tie_word_embeddings"] = false.into());
    let error = load::<B>(without.path(), device).unwrap_err().to_string();
    assert!(error.ends_with("missing: `lm_head.weight`"), "{error}");
}

fn differences<B: Kernels>(device: &B::Device) {
    let folder = changed(
        |tensors| {
            tensors.remove("transformer.h.0.ln_1.bias");
            tensors.remove("transformer.wpe.weight");
            let extra = tensors["transformer.ln_f.bias"].clone();
            tensors.insert("transformer.h.2.ln_1.bias".into(), extra);
        },
        |config| config["n_inner"] = 64.into(),
    );
    let ModelError::Mismatch { differences, .. } = load::<B>(folder.path(), device).unwrap_err() else {
        panic!("expected a mismatch")
    };
    assert_eq!(differences.missing, ["transformer.wpe.weight", "transformer.h.0.ln_1.bias"]);
    assert_eq!(differences.unexpected, ["transformer.h.2.ln_1.bias"]);
    let shapes: Vec<(&str, &[usize], &[usize])> = differences
        .mis_shaped
        .iter()
        .map(|one| (one.name.as_str(), one.found.as_slice(), one.expected.as_slice()))
        .collect();
    let fc = "transformer.h.0.mlp.c_fc.weight";
    assert!(shapes.contains(&(fc, &[32, 128], &[32, 64])), "{shapes:?}");
    assert!(shapes.contains(&("transformer.h.1.mlp.c_proj.weight", &[128, 32], &[64, 32])), "{shapes:?}");
    assert_eq!(shapes.len(), 6);
    let text = differences.to_string();
    assert!(text.starts_with("missing: `transformer.wpe.weight`, `transformer.h.0.ln_1.bias`; unexpected: "));
    assert!(text.contains(&format!("`{fc}` has shape [32, 128], the config expects [32, 64]")), "{text}");
}

fn tied_head<B: Kernels>(device: &B::Device) {
    let head = |rotate: usize| {
        changed(
            |tensors| {
                let (dtype, shape, mut data) = tensors["transformer.wte.weight"].clone();
                data.rotate_left(rotate);
                tensors.insert("lm_head.weight".into(), (dtype, shape, data));
            },
            |_| (),
        )
    };
    assert!(load::<B>(head(0).path(), device).is_ok(), "a repeated embedding is harmless");
    let error = load::<B>(head(4).path(), device).unwrap_err();
    assert!(matches!(error, ModelError::TiedHeadDiffers { .. }), "{error}");
}

fn non_finite<B: Kernels>(device: &B::Device) {
    let key = "transformer.h.1.mlp.c_fc.weight";
    let folder = changed(
        |tensors| {
            let (_, _, data) = tensors.get_mut(key).unwrap();
            data[400..404].copy_from_slice(&f32::INFINITY.to_le_bytes());
        },
        |_| (),
    );
    let error = load::<B>(folder.path(), device).unwrap_err().to_string();
    assert_eq!(error, format!("tensor `{key}` holds inf at index 100, expected finite numbers"));
    let config = ModelConfig::from_folder(folder.path()).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let options = LoadOptions { non_finite: NonFinite::Warn, ..LoadOptions::default() };
    assert!(load_weights::<B>(&config, &checkpoint, options, device).is_ok());
}

/// Against the index that transformers made of the same fixtures.
fn saved_shards<B: Kernels>(device: &B::Device) {
    let indices = fs::read_dir(golden_folder("shards")).unwrap().map(|entry| entry.unwrap().path());
    let indices: Vec<PathBuf> =
        indices.filter(|path| path.to_string_lossy().ends_with(".index.json")).collect();
    assert_eq!(indices.len(), 5);
    for path in indices {
        let name = path.file_name().unwrap().to_string_lossy();
        let (config, model) =
            load::<B>(&golden_folder(name.trim_end_matches(".index.json")), device).unwrap();
        let target = tempfile::tempdir().unwrap();
        save_with(&config, &model, SaveOptions { max_shard_bytes: 40_000 }, target.path()).unwrap();
        let found = fs::read_to_string(target.path().join("model.safetensors.index.json")).unwrap();
        assert_eq!(found, fs::read_to_string(&path).unwrap(), "{name}");
        let (_, again) = load::<B>(target.path(), device).unwrap();
        assert_eq!(logits(&model, device), logits(&again, device), "{name}");
    }
}

/// Whatever an earlier save left would be preferred by readers, or be mistaken for shards.
fn replaced<B: Kernels>(device: &B::Device) {
    let (config, model) = load::<B>(&golden_folder("gpt2"), device).unwrap();
    let target = tempfile::tempdir().unwrap();
    let weights = || {
        let names = fs::read_dir(target.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("model")).count()
    };
    save(&config, &model, target.path()).unwrap();
    save_with(&config, &model, SaveOptions { max_shard_bytes: 30_000 }, target.path()).unwrap();
    assert!(!target.path().join("model.safetensors").exists());
    let many = weights();
    save_with(&config, &model, SaveOptions { max_shard_bytes: 60_000 }, target.path()).unwrap();
    assert!(weights() < many, "shards of another number are gone");
    assert!(load::<B>(target.path(), device).is_ok());
    save(&config, &model, target.path()).unwrap();
    assert_eq!(weights(), 1);
}

#[test]
fn tensor_files_keep_values_shapes_and_metadata() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("optimizer.safetensors");
    let mut writer = TensorFileWriter::new().metadata("step", "12");
    writer.add_f32("b.first_moment", &[2, 2], || vec![1.0, -2.0, 3.5, f32::MIN_POSITIVE].into());
    writer.add_f32("a.first_moment", &[3], || [0.5, 0.25, 0.125].as_slice().into());
    writer.add_i64("ids", &[2], &[-1, i64::MAX]);
    writer.write(&path).unwrap();
    let reader = TensorFile::open(&path).unwrap();
    assert_eq!(reader.names(), ["a.first_moment", "b.first_moment", "ids"]);
    assert_eq!(reader.metadata()["step"], "12");
    assert_eq!(reader.f32("b.first_moment").unwrap(), [1.0, -2.0, 3.5, f32::MIN_POSITIVE]);
    assert_eq!(reader.f32_of_shape("a.first_moment", &[3]).unwrap(), [0.5, 0.25, 0.125]);
    assert_eq!(reader.i64("ids").unwrap(), [-1, i64::MAX]);
    let shape = reader.f32_of_shape("a.first_moment", &[4]).unwrap_err().to_string();
    assert_eq!(shape, "tensor `a.first_moment` has shape [3], expected [4]");
    assert!(reader.f32("c").unwrap_err().to_string().ends_with("has no tensor `c`"));
    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["optimizer.safetensors"], "no temporary file stays");
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let mut writer = TensorFileWriter::new();
    writer.add_f32("a", &[1], || vec![1.0].into());
    writer.write(&path).unwrap();
    let before = fs::read(&path).unwrap();
    let mut twice = TensorFileWriter::new();
    twice.add_f32("a", &[1], || vec![2.0].into());
    twice.add_i64("a", &[1], &[2]);
    assert!(matches!(twice.write(&path).unwrap_err(), ModelError::TensorTwice { .. }));
    let failed = smelt_model::weights::write_atomic(&path, |_| Err(std::io::ErrorKind::StorageFull.into()));
    assert!(failed.is_err());
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
}

#[test]
fn an_unwritable_folder_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let error = TensorFileWriter::new().write(&file.join("model.safetensors")).unwrap_err();
    assert!(matches!(error, ModelError::Io { action: "write", .. }), "{error}");
}

#[test]
fn fixtures_are_what_their_metadata_says() {
    assert_eq!(Golden::open("gpt2").meta["kind"], "causal");
}
