//! Folders that mlx-lm quantized: loaded, computed with, saved, made the same; and those that are refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::DType;
use safetensors::Dtype;
use serde_json::{Value, json};
use smelt_backend::kernels::QuantizationFormat;
use smelt_backend::{Kernels, int_tensor, to_host};
use smelt_model::adapter::ModuleNames;
use smelt_model::blocks::Matrix;
use smelt_model::quantization::{QuantizationPlan, QuantizationRules};
use smelt_model::weights::{
    Checkpoint, LoadOptions, NonFinite, QuantizeOptions, TensorFile, load_with, quantize_checkpoint,
};
use smelt_model::{
    Adapter, AdapterConfig, Decoder, ForwardInput, ModelConfig, ModelError, ParameterInfo, load,
    load_for_training, save, save_adapter,
};
use smelt_testkit::{Golden, Tolerance, assert_close, backend_test, golden_folder, max_abs_difference};

use crate::chain;
use crate::weights::{Tensors, read_all, write_all};

backend_test!(folders_of_mlx_lm_compute_the_same, folders);
backend_test!(packed_folders_are_saved_as_they_were, saved);
backend_test!(packed_matrices_stay_packed, packed);
backend_test!(every_layout_of_mlx_lm_computes_the_same, families);
backend_test!(what_adapters_leave_is_described, described);
backend_test!(formats_that_are_not_named_are_told_from_shapes, unnamed);
backend_test!(adapters_may_bring_whole_tables, whole_tables);
backend_test!(scales_that_are_no_numbers_load_where_that_is_allowed, no_numbers);

/// A head that has become its own, a module that was trained whole, and one that is packed again.
fn described<B: Kernels>(device: &B::Device) {
    let (config, base) = load::<B>(&golden_folder("mlx_families").join("qwen2_tied"), device).unwrap();
    let settings = AdapterConfig {
        target_modules: ModuleNames::Pattern(r"(.*\.)?(q_proj|lm_head)".to_owned()),
        modules_to_save: Some(["o_proj"].map(str::to_owned).into()),
        ..AdapterConfig::default()
    };
    let (mut model, _) = base.with_new_adapter(&config, &settings, 5).unwrap();
    let errors = model.merge_adapter_packed(&config).unwrap();
    assert_eq!(errors.len(), 3, "both layers' queries and the head");
    let mut config = model.described(&config);
    assert_eq!(config.raw["quantization"]["model.layers.0.self_attn.o_proj"], false);
    config.raw.insert("tie_word_embeddings".to_owned(), false.into());
    let folder = tempfile::tempdir().unwrap();
    save(&config, &model, folder.path()).unwrap();
    let (_, back) = load::<B>(folder.path(), device).unwrap();
    let of = |model: &Decoder<B>| {
        let ids = int_tensor::<B, 2>(&[3, 1, 4, 1, 5, 9], [1, 6], device);
        to_host(model.logits(model.hidden(ForwardInput::new(ids))))
    };
    assert_close("described", &of(&back), &of(&model), Tolerance::Logits);
}

const FOLDERS: [&str; 4] = ["mlx_4bit", "mlx_8bit", "mlx_4bit_g32_bf16", "mlx_4bit_f32"];

fn logits<B: Kernels>(model: &Decoder<B>, device: &B::Device) -> Vec<f32> {
    let golden = Golden::open("mlx_quant");
    let ids = golden.tensor("input_ids");
    let ids = int_tensor::<B, 2>(&ids.ids(), ids.dims(), device);
    to_host(model.logits(model.hidden(ForwardInput::new(ids))))
}

fn folders<B: Kernels>(device: &B::Device) {
    let folder = golden_folder("mlx_quant");
    let reference = TensorFile::open(&folder.join("golden_mlx.safetensors")).unwrap();
    for tag in FOLDERS {
        let (_, model) = load::<B>(&folder.join(tag), device).unwrap();
        let matrix = model.matrix("layers.0.self_attn.q_proj").unwrap();
        let values = reference.f32(&format!("{tag}.dequant.q_proj0")).unwrap();
        assert!(to_host(matrix.values()) == values, "{tag}: values");
        let expected = reference.f32(&format!("{tag}.logits_dequant_f32")).unwrap();
        assert_close(tag, &logits(&model, device), &expected, Tolerance::Logits);
    }
}

/// As mlx-lm does, the format of a module that the configuration does not name is told from its shapes.
fn unnamed<B: Kernels>(device: &B::Device) {
    let folder = golden_folder("mlx_quant");
    let reference = TensorFile::open(&folder.join("golden_mlx.safetensors")).unwrap();
    let target = tempfile::tempdir().unwrap();
    fs::copy(folder.join("mlx_8bit/model.safetensors"), target.path().join("model.safetensors")).unwrap();
    let mut config = ModelConfig::from_folder(&folder.join("mlx_8bit")).unwrap().raw;
    for default in [json!({"bits": 4, "group_size": 64}), json!({"bits": 8, "group_size": 128})] {
        config.insert("quantization".to_owned(), default);
        fs::write(target.path().join("config.json"), Value::Object(config.clone()).to_string()).unwrap();
        let (config, model) = load::<B>(target.path(), device).unwrap();
        let expected = reference.f32("mlx_8bit.logits_dequant_f32").unwrap();
        assert_close("formats by shapes", &logits(&model, device), &expected, Tolerance::Logits);
        let described = model.described(&config).quantization.unwrap();
        let format = QuantizationFormat::new(8, 64).ok();
        assert_eq!(described.format_of(Q), format);
    }
}

/// PEFT's `save_embedding_layers`: the file of an adapter holds token vectors and head, in full.
fn whole_tables<B: Kernels>(device: &B::Device) {
    let golden = golden_folder("mlx_quant");
    let (config, base) = load::<B>(&golden.join("mlx_8bit"), device).unwrap();
    let (model, settings) = base.clone().with_new_adapter(&config, &AdapterConfig::default(), 5).unwrap();
    let folder = tempfile::tempdir().unwrap();
    save_adapter(&config, &model, &settings, folder.path()).unwrap();
    let path = folder.path().join("adapter_model.safetensors");
    let (mut tensors, dense) = (read_all(&path), read(&golden));
    for name in ["model.embed_tokens.weight", "lm_head.weight"] {
        tensors.insert(format!("base_model.model.{name}"), dense[name].clone());
    }
    write_all(&tensors, &path);
    let adapter = Adapter::open(folder.path(), &config.family.names).unwrap();
    let adapted = base.with_adapter(&config, &adapter).unwrap();
    for (module, name) in [("embed_tokens", "model.embed_tokens.weight"), ("lm_head", "lm_head.weight")] {
        let Some(matrix @ Matrix::Dense(_)) = adapted.matrix(module) else { panic!("{module} is in floats") };
        let expected = TensorFile::open(&golden.join("model.safetensors")).unwrap().f32(name).unwrap();
        assert!(to_host(matrix.values()) == expected, "{module}");
    }
    assert!(matches!(adapted.matrix("layers.0.mlp.up_proj"), Some(Matrix::Quantized(_))));
    assert!(logits(&adapted, device).iter().all(|logit| logit.is_finite()));
}

/// Scales that are no numbers load where the caller allows it, as other weights do.
fn no_numbers<B: Kernels>(device: &B::Device) {
    let (source, target) = (golden_folder("mlx_quant").join("mlx_4bit"), tempfile::tempdir().unwrap());
    let mut weights = read(&source);
    let scales = &mut weights.get_mut(&format!("{Q}.scales")).unwrap().2;
    scales[2..4].copy_from_slice(&half::f16::INFINITY.to_le_bytes());
    write_all(&weights, &target.path().join("model.safetensors"));
    fs::copy(source.join("config.json"), target.path().join("config.json")).unwrap();
    let loaded = |non_finite| {
        let options = LoadOptions { non_finite, ..LoadOptions::default() };
        load_with::<B>(target.path(), options, device).map(|(_, model)| model)
    };
    assert!(matches!(loaded(NonFinite::Refuse), Err(ModelError::NonFinite { .. })));
    let values = loaded(NonFinite::Warn).unwrap().matrix("layers.0.self_attn.q_proj").unwrap().values();
    assert!(to_host(values).iter().any(|value| !value.is_finite()));
}

/// Other families: joined experts, matrices that Hugging Face turns, tables of positions, heads with biases, widths
/// that do not divide into groups.
fn families<B: Kernels>(device: &B::Device) {
    let golden = Golden::open("mlx_families");
    let cases = golden.meta["cases"].as_object().unwrap();
    assert_eq!(cases.len(), 8);
    for (name, case) in cases {
        let (_, model) = load::<B>(&golden.folder.join(name), device).unwrap();
        let ids = golden.tensor(&format!("{name}.input_ids"));
        let ids = int_tensor::<B, 2>(&ids.ids(), ids.dims(), device);
        let found = to_host(model.logits(model.hidden(ForwardInput::new(ids))));
        let expected = golden.tensor(&format!("{name}.logits")).floats();
        match case["dtype"].as_str() {
            Some("float32") => assert_close(name, &found, expected, Tolerance::Logits),
            _ => assert!(max_abs_difference(&found, expected) < 0.5, "{name}, which mlx computes in bf16"),
        }
    }
}

fn quantized_folders() -> Vec<PathBuf> {
    let families = Golden::open("mlx_families");
    let of_families =
        families.meta["cases"].as_object().unwrap().keys().map(|name| families.folder.join(name));
    FOLDERS.iter().map(|tag| golden_folder("mlx_quant").join(tag)).chain(of_families).collect()
}

fn saved<B: Kernels>(device: &B::Device) {
    for source in quantized_folders() {
        let (tag, target) = (source.display(), tempfile::tempdir().unwrap());
        let (config, model) = load::<B>(&source, device).unwrap();
        save(&config, &model, target.path()).unwrap();
        let (found, mut expected) = (read(target.path()), read(&source));
        if !B::keeps_weights_in(DType::BF16) {
            // What this backend holds in f32, it saves in f32.
            expected.retain(|name, (dtype, _, _)| name.ends_with("s") || *dtype == Dtype::U32);
        }
        for (name, tensor) in &expected {
            assert!(found.get(name) == Some(tensor), "{tag}: {name}");
        }
        assert_eq!(found.len(), read(&source).len(), "{tag}");
        let again = ModelConfig::from_folder(target.path()).unwrap();
        assert_eq!(again.quantization, config.quantization, "{tag}");
        let index = |folder: &Path| -> Value {
            serde_json::from_slice(&fs::read(folder.join("model.safetensors.index.json")).unwrap()).unwrap()
        };
        let (index, expected) = (index(target.path()), index(&source));
        assert_eq!(index["metadata"]["total_parameters"], expected["metadata"]["total_parameters"]);
        assert_eq!(index["weight_map"], expected["weight_map"]);
    }
}

fn packed<B: Kernels>(device: &B::Device) {
    let folder = golden_folder("mlx_quant").join("mlx_4bit");
    let (config, model) = load::<B>(&folder, device).unwrap();
    for path in ["embed_tokens", "layers.0.mlp.down_proj", "lm_head"] {
        assert!(matches!(model.matrix(path), Some(Matrix::Quantized(_))), "{path}");
    }
    let norms = model.named_parameters(&config.family.names);
    assert!(norms.iter().all(|info: &ParameterInfo| info.path.contains("norm")), "{norms:?}");
    // 53440 values in 4 bits, and scales.
    assert!(model.size_bytes() < 53_440, "{}", model.size_bytes());
    let error = load_for_training::<B>(&folder, device).unwrap_err();
    assert!(matches!(error, ModelError::Packed { .. }));
}

/// The error of loading `mlx_4bit` with changed tensors and configuration.
fn refused(tensors: impl FnOnce(&mut Tensors), config: impl FnOnce(&mut Value)) -> String {
    let (source, target) = (golden_folder("mlx_quant").join("mlx_4bit"), tempfile::tempdir().unwrap());
    let mut weights = read_all(&source.join("model.safetensors"));
    tensors(&mut weights);
    write_all(&weights, &target.path().join("model.safetensors"));
    let mut value: Value = serde_json::from_slice(&fs::read(source.join("config.json")).unwrap()).unwrap();
    config(&mut value);
    fs::write(target.path().join("config.json"), value.to_string()).unwrap();
    struct Case<'a>(&'a Path);
    impl smelt_backend::Job for Case<'_> {
        type Output = String;
        fn run<B: Kernels>(self, device: B::Device) -> String {
            chain(&load::<B>(self.0, &device).expect_err("a damaged folder"))
        }
    }
    smelt_backend::dispatch(smelt_backend::Name::Cpu, Case(target.path()))
}

const Q: &str = "model.layers.0.self_attn.q_proj";

fn read(folder: &Path) -> Tensors {
    read_all(&folder.join("model.safetensors"))
}

#[test]
fn quantizing_gives_the_bits_of_mlx_lm() {
    let mut cases: Vec<(PathBuf, PathBuf)> = FOLDERS
        .iter()
        .map(|tag| (golden_folder("mlx_quant"), golden_folder("mlx_quant").join(tag)))
        .collect();
    let families = Golden::open("mlx_families");
    let names = families.meta["cases"].as_object().unwrap().keys();
    cases.extend(names.map(|name| (golden_folder(name), families.folder.join(name))));
    for (source, quantized) in cases {
        let expected = ModelConfig::from_folder(&quantized).unwrap();
        let format = expected.quantization.as_ref().unwrap().default;
        let dtype = match expected.raw["torch_dtype"].as_str() {
            Some("float16") => Dtype::F16,
            Some("bfloat16") => Dtype::BF16,
            _ => Dtype::F32,
        };
        let config = ModelConfig::from_folder(&source).unwrap();
        let plan = QuantizationRules::uniform(format).plan(&config).unwrap();
        let mut noted = config.clone();
        noted.raw.insert("torch_dtype".to_owned(), expected.raw["torch_dtype"].clone());
        // By the option, or because the configuration notes it.
        for (config, dtype) in [(config, Some(dtype)), (noted, None)] {
            let options = QuantizeOptions { dtype, ..QuantizeOptions::default() };
            let (checkpoint, target) = (Checkpoint::open(&source).unwrap(), tempfile::tempdir().unwrap());
            quantize_checkpoint(&config, &checkpoint, &plan, options, target.path()).unwrap();
            let (found, reference) = (read(target.path()), read(&quantized));
            let name = quantized.display();
            assert!(found.keys().eq(reference.keys()), "{name}: {:?}", found.keys());
            for (tensor, expected) in &reference {
                assert!(found[tensor] == *expected, "{name}: {tensor}");
            }
            let written = ModelConfig::from_folder(target.path()).unwrap();
            for key in ["quantization", "quantization_config", "torch_dtype"] {
                assert_eq!(written.raw[key], expected.raw[key], "{name}: {key}");
            }
        }
    }
}

#[test]
fn rules_choose_formats_by_module() {
    let config = ModelConfig::from_folder(&golden_folder("mlx_quant")).unwrap();
    let plan = |rules: Value| QuantizationRules::from_json(rules.as_object().unwrap()).unwrap().plan(&config);
    let found = plan(json!({
        "layers.0.attention.q_proj": false,
        "layers.0-10.attention": {"bits": 8, "group_size": 32},
        "layers.*.mlp": {"bits": 3},
        "layers.7": {"bits": 2},
        "lm_head": {"bits": 6, "group_size": 128},
    }));
    let found = found.unwrap();
    let format = |bits, group_size| QuantizationFormat::new(bits, group_size).ok();
    assert_eq!(found.format_of("layers.0.self_attn.q_proj"), None);
    assert_eq!(found.format_of("layers.0.self_attn.k_proj"), format(8, 32));
    assert_eq!(found.format_of("layers.0.mlp.gate_proj"), format(3, 64));
    assert_eq!(found.format_of("embed_tokens"), None, "what no rule matches stays as it is");
    assert_eq!((found.format_of("lm_head"), found.indivisible), (None, vec!["lm_head".to_owned()]));
    assert_eq!(found.idle_rules, ["layers.7"]);

    let (source, target) =
        (Checkpoint::open(&golden_folder("mlx_quant")).unwrap(), tempfile::tempdir().unwrap());
    let options = QuantizeOptions::default();
    let rules =
        json!({"attention": {"bits": 8, "group_size": 32}, "mlp": {"bits": 3}, "embed_tokens": {"bits": 6}});
    let found = plan(rules).unwrap();
    quantize_checkpoint(&config, &source, &found, options, target.path()).unwrap();
    struct Case<'a>(&'a Path, &'a QuantizationPlan);
    impl smelt_backend::Job for Case<'_> {
        type Output = ();
        fn run<B: Kernels>(self, device: B::Device) {
            let (_, model) = load::<B>(self.0, &device).unwrap();
            for path in ["layers.0.self_attn.o_proj", "layers.0.mlp.up_proj", "embed_tokens"] {
                let Some(Matrix::Quantized(weight)) = model.matrix(path) else { panic!("{path} is packed") };
                assert_eq!(Some(weight.format()), self.1.format_of(path));
            }
            assert!(matches!(model.matrix("lm_head"), Some(Matrix::Dense(_))));
        }
    }
    smelt_backend::dispatch(smelt_backend::Name::Cpu, Case(target.path(), &found));
    let nothing = plan(json!({"lm_head": false})).unwrap_err();
    assert!(matches!(nothing, ModelError::NothingQuantized));
    let packed = ModelConfig::from_folder(target.path()).unwrap();
    let again = quantize_checkpoint(
        &packed,
        &Checkpoint::open(target.path()).unwrap(),
        &found,
        options,
        target.path(),
    );
    assert!(matches!(again, Err(ModelError::Quantized { .. })));
}

#[test]
fn what_is_no_number_is_not_quantized() {
    let source = golden_folder("mlx_quant");
    let config = ModelConfig::from_folder(&source).unwrap();
    let plan = QuantizationRules::uniform(QuantizationFormat::new(4, 32).unwrap()).plan(&config).unwrap();
    for (tensor, value) in [(format!("{Q}.weight"), f32::NAN), ("model.norm.weight".to_owned(), 1e30)] {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut weights = read(&source);
        weights.get_mut(&tensor).unwrap().2[8..12].copy_from_slice(&value.to_le_bytes());
        write_all(&weights, &from.path().join("model.safetensors"));
        let checkpoint = Checkpoint::open(from.path()).unwrap();
        let options = QuantizeOptions { dtype: Some(Dtype::F16), ..QuantizeOptions::default() };
        let error = quantize_checkpoint(&config, &checkpoint, &plan, options, to.path()).unwrap_err();
        assert!(chain(&error).contains(&format!("tensor `{tensor}` holds")), "{}", chain(&error));
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0, "no half of a file is left");
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let message = refused(|tensors| drop(tensors.remove(&format!("{Q}.scales"))), |_| ());
    assert!(message.contains(&format!("missing: `{Q}.scales`")), "{message}");
    let lone = |tensors: &mut Tensors| {
        tensors.remove(&format!("{Q}.scales"));
        tensors.remove(&format!("{Q}.biases"));
    };
    let message = refused(lone, |_| ());
    assert!(message.contains(&format!("missing: `{Q}.scales`, `{Q}.biases`")), "{message}");
    let named = |bits: u32, group_size: u32| {
        move |config: &mut Value| {
            config["quantization"][Q] = json!({"bits": bits, "group_size": group_size});
        }
    };
    let message = refused(|_| (), named(8, 64));
    assert!(
        message.contains(&format!("`{Q}.weight` has shape [64, 8], the config expects [64, 16]")),
        "{message}"
    );
    let message = refused(|_| (), named(4, 128));
    assert!(message.contains("rows of 64 values do not divide into groups of 128"), "{message}");
    let message = refused(|_| (), |config| config["quantization"]["mode"] = "mxfp4".into());
    assert!(message.contains("`quantization.mode` is \"mxfp4\""), "{message}");
    for no in [json!(false), json!({})] {
        let message = refused(|_| (), |config| config["quantization"][Q] = no);
        assert!(message.contains(&format!("unexpected: `{Q}.biases`, `{Q}.scales`")), "{message}");
    }
    let unnamed = |config: &mut Value| {
        config.as_object_mut().unwrap().retain(|key, _| !key.starts_with("quantization"));
    };
    let message = refused(|_| (), unnamed);
    assert!(message.contains("unexpected: `lm_head.biases`"), "{message}");
}

#[test]
fn tensors_of_other_kinds_are_refused_by_name() {
    let with = |part: &str, dtype: Dtype, bytes: fn(&[u8]) -> Vec<u8>| {
        let name = format!("{Q}.{part}");
        refused(
            move |tensors| {
                let (found, _, data) = tensors.get_mut(&name).unwrap();
                (*found, *data) = (dtype, bytes(data));
            },
            |_| (),
        )
    };
    let same = |data: &[u8]| data.to_vec();
    let message = with("weight", Dtype::I32, same);
    assert!(message.contains(&format!("`{Q}.weight` has dtype I32")), "{message}");
    let message = with("scales", Dtype::I16, same);
    assert!(message.contains(&format!("`{Q}.scales` has dtype I16")), "{message}");
    let message = with("biases", Dtype::BF16, same);
    assert!(message.contains(&format!("`{Q}.biases` has dtype BF16")), "{message}");
    let infinite = |data: &[u8]| [&data[..2], &half::f16::INFINITY.to_le_bytes(), &data[4..]].concat();
    let message = with("scales", Dtype::F16, infinite);
    assert!(message.contains(&format!("`{Q}.scales` holds inf at index 1")), "{message}");
}

/// The same weights, with the head tied: the packed embedding is the head.
#[test]
fn a_packed_embedding_is_the_head_where_it_is_tied() {
    let (source, target) = (golden_folder("mlx_quant").join("mlx_8bit"), tempfile::tempdir().unwrap());
    let write = |heads: bool, embedding_as_head: bool| {
        let mut weights: BTreeMap<_, _> = read_all(&source.join("model.safetensors"));
        for part in ["weight", "scales", "biases"] {
            let embedding = weights[&format!("model.embed_tokens.{part}")].clone();
            match (heads, embedding_as_head) {
                (false, _) => drop(weights.remove(&format!("lm_head.{part}"))),
                (true, true) => drop(weights.insert(format!("lm_head.{part}"), embedding)),
                (true, false) => {}
            }
        }
        write_all(&weights, &target.path().join("model.safetensors"));
        let mut config: Value =
            serde_json::from_slice(&fs::read(source.join("config.json")).unwrap()).unwrap();
        config["tie_word_embeddings"] = json!(!(heads && embedding_as_head));
        fs::write(target.path().join("config.json"), config.to_string()).unwrap();
    };
    struct Case<'a>(&'a Path);
    impl smelt_backend::Job for Case<'_> {
        type Output = Result<Vec<f32>, String>;
        fn run<B: Kernels>(self, device: B::Device) -> Self::Output {
            let (_, model) = load::<B>(self.0, &device).map_err(|error| chain(&error))?;
            Ok(logits(&model, &device))
        }
    }
    let run = || smelt_backend::dispatch(smelt_backend::Name::Cpu, Case(target.path()));
    write(false, false);
    let tied = run().unwrap();
    write(true, true);
    assert_eq!(run().unwrap(), tied, "a head of its own that equals the embedding");
    write(true, false);
    assert!(run().unwrap_err().contains("`lm_head.weight` differs from `model.embed_tokens.weight`"));
}
