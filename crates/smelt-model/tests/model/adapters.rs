//! Adapters on every family: started, saved, read back, merged. What they compute is held against PEFT by the golden
//! folders `lora` and `train_lora` (`smelt verify`).

use burn::module::Param;
use burn::tensor::Tensor;
use serde_json::{Value, json};
use smelt_backend::{Kernels, float_tensor, int_tensor, to_host};
use smelt_model::adapter::{ADAPTER_CONFIG_FILE, LayerIndices, ModuleNames, save_mlx_adapter};
use smelt_model::{
    Adapter, AdapterConfig, Decoder, ForwardInput, ModelConfig, ModelError, ParameterInfo, ParameterMapper,
    Role, load, save_adapter,
};
use smelt_testkit::{backend_test, golden_folder};

use crate::chain;

backend_test!(every_family_takes_adapters, every_family);
backend_test!(modules_are_trained_whole_beside_adapters, whole_modules);

const FAMILIES: [&str; 16] = [
    "gemma",
    "gemma2",
    "gemma3_text",
    "gpt2",
    "gpt_neox",
    "gptj",
    "llama_gqa_tied",
    "mistral_swa",
    "mixtral",
    "phi2",
    "phi3",
    "qwen2_moe",
    "qwen2_tied",
    "qwen3",
    "qwen3_moe",
    "qwen_v1",
];

fn logits<B: Kernels>(model: &Decoder<B>, config: &ModelConfig, device: &B::Device) -> Vec<f32> {
    let vocab = config.decoder.vocab_size as u32;
    let ids: Vec<u32> = (0..20).map(|at| (at * at + 3 * at + 1) % vocab).collect();
    to_host(model.logits(model.hidden(ForwardInput::new(int_tensor(&ids, [2, 10], device)))))
}

/// As after some training: every parameter of the adapter has values that are not those of its start.
struct Trained<'a, B: Kernels>(&'a B::Device);

impl<B: Kernels> ParameterMapper<B> for Trained<'_, B> {
    fn map<const D: usize>(
        &mut self,
        info: &ParameterInfo,
        parameter: Param<Tensor<B, D>>,
    ) -> Param<Tensor<B, D>> {
        if info.role != Role::Adapter {
            return parameter;
        }
        let noise = (0..info.elements()).map(|at| ((at * 37 + info.path.len()) % 101) as f32 / 500.0 - 0.1);
        let shape: [usize; D] = info.shape.clone().try_into().unwrap();
        parameter.map(|tensor| tensor + float_tensor::<B, D>(noise.collect(), shape, self.0))
    }
}

fn every_family<B: Kernels>(device: &B::Device) {
    for (family, use_dora) in FAMILIES.iter().flat_map(|family| [(family, false), (family, true)]) {
        let (config, base) = load::<B>(&golden_folder(family), device).unwrap();
        let settings = AdapterConfig { r: 3, use_dora, use_rslora: use_dora, ..AdapterConfig::default() };
        let before = logits(&base, &config, device);
        let (model, settings) = base.clone().with_new_adapter(&config, &settings, 5).unwrap();
        close(&format!("{family}: a new adapter"), &logits(&model, &config, device), &before, 1e-5);

        let mut model = model.map_parameters(&config.family.names, &mut Trained::<B>(device));
        let after = logits(&model, &config, device);
        assert!(largest(&after, &before) > 1e-2, "{family}: the adapter changes nothing");
        let folder = tempfile::tempdir().unwrap();
        let (peft, mlx) = (folder.path().join("peft"), folder.path().join("mlx"));
        save_adapter(&config, &model, &settings, &peft).unwrap();
        save_mlx_adapter(&config, &model, &settings, &mlx).unwrap();
        for saved in [peft, mlx] {
            let adapter = Adapter::open(&saved, &config.family.names).unwrap();
            let read = base.clone().with_adapter(&config, &adapter).unwrap();
            // mlx-lm has a scale where PEFT has a quotient.
            close(&format!("{family}: read back"), &logits(&read, &config, device), &after, 1e-5);
        }
        model.merge_adapter();
        close(&format!("{family}: merged"), &logits(&model, &config, device), &after, 1e-4);
    }
}

fn largest(found: &[f32], expected: &[f32]) -> f32 {
    found.iter().zip(expected).fold(0.0, |most, (a, b)| most.max((a - b).abs()))
}

fn close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    // Larger logits round more.
    let scale = expected.iter().fold(1f32, |most, value| most.max(value.abs()));
    let error = largest(found, expected);
    assert!(error <= tolerance * scale, "{what}: {error}, with logits up to {scale}");
}

/// A tied head and GPT-2's turned matrices, saved whole.
fn whole_modules<B: Kernels>(device: &B::Device) {
    for (family, modules) in [("llama_gqa_tied", ["lm_head", "norm"]), ("gpt2", ["c_fc", "wte"])] {
        let (config, base) = load::<B>(&golden_folder(family), device).unwrap();
        let settings = AdapterConfig {
            modules_to_save: Some(modules.map(str::to_owned).into()),
            target_modules: ModuleNames::Pattern(r".*\.(o_proj|c_attn)".to_owned()),
            ..AdapterConfig::default()
        };
        let before = logits(&base, &config, device);
        let (model, settings) = base.clone().with_new_adapter(&config, &settings, 5).unwrap();
        close(family, &logits(&model, &config, device), &before, 1e-6);
        let folder = tempfile::tempdir().unwrap();
        save_adapter(&config, &model, &settings, folder.path()).unwrap();
        let text = std::fs::read(folder.path().join(ADAPTER_CONFIG_FILE)).unwrap();
        let saved: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(saved["fan_in_fan_out"], family == "gpt2");
        let adapter = Adapter::open(folder.path(), &config.family.names).unwrap();
        let read = base.clone().with_adapter(&config, &adapter).unwrap();
        assert!(read.lm_head.is_some(), "{family}: the head is one of its own now");
        close(family, &logits(&read, &config, device), &before, 1e-6);
        let error = save_mlx_adapter(&config, &model, &settings, folder.path()).unwrap_err();
        assert!(chain(&error).contains("`modules_to_save`"), "{error}");
    }
}

fn refused(change: impl FnOnce(&mut Value)) -> String {
    let mut value = AdapterConfig::default().to_json();
    change(&mut value);
    chain(&AdapterConfig::from_json(value).expect_err("a bad configuration"))
}

#[test]
fn configurations_are_read_as_peft_writes_them() {
    let text =
        std::fs::read(golden_folder("lora").join("adapter_modules_to_save/adapter_config.json")).unwrap();
    let config = AdapterConfig::from_json(serde_json::from_slice(&text).unwrap()).unwrap();
    assert_eq!((config.r, config.lora_alpha), (3, 6.0));
    assert_eq!(config.layers_to_transform, Some(LayerIndices::Several(vec![1])));
    assert_eq!(config.modules_to_save, Some(vec!["lm_head".to_owned()]));
    assert_eq!(AdapterConfig::from_json(config.to_json()).unwrap(), config);
    let short = json!({"peft_type": "LORA", "target_modules": "all-linear"});
    let config = AdapterConfig::from_json(short).unwrap();
    assert_eq!((config.r, config.lora_alpha), (8, 8.0), "PEFT's defaults, not ours");
}

#[test]
fn what_is_not_supported_is_named() {
    let cases: [(&str, Value); 9] = [
        ("peft_type", "IA3".into()),
        ("r", 0.into()),
        ("r", json!(1u64 << 40)),
        ("lora_alpha", json!("much")),
        ("lora_dropout", json!(1.0)),
        ("init_lora_weights", "pissa".into()),
        ("use_qalora", true.into()),
        ("target_parameters", json!(["mlp.experts.gate_up_proj"])),
        ("trainable_token_indices", json!([1, 2])),
    ];
    for (key, value) in cases {
        let message = refused(|config| config[key] = value);
        assert!(message.contains("in the adapter configuration"), "{key}: {message}");
    }
}

#[test]
fn adapters_that_do_not_fit_say_all_that_does_not() {
    struct Case;
    impl smelt_backend::Job for Case {
        type Output = ();
        fn run<B: Kernels>(self, device: B::Device) {
            let (config, base) = load::<B>(&golden_folder("gpt2"), &device).unwrap();
            let unknown = AdapterConfig {
                target_modules: ModuleNames::Names(vec!["q_proj".to_owned()]),
                ..AdapterConfig::default()
            };
            let error = base.clone().with_new_adapter(&config, &unknown, 1).unwrap_err();
            assert!(chain(&error).contains("c_attn, c_fc, c_proj"), "{error}");

            let of_llama = golden_folder("lora").join("adapter");
            let adapter = Adapter::open(&of_llama, &config.family.names).unwrap();
            assert!(base.clone().with_adapter(&config, &adapter).is_err());

            let (llama, base) = load::<B>(&golden_folder("lora"), &device).unwrap();
            let mut adapter = Adapter::open(&of_llama, &llama.family.names).unwrap();
            adapter.config.r = 5;
            let Err(ModelError::Mismatch { differences, .. }) = base.clone().with_adapter(&llama, &adapter)
            else {
                panic!("another rank fits")
            };
            assert_eq!(differences.mis_shaped.len(), 28);
            adapter.config.r = 4;
            adapter.config.target_modules = ModuleNames::Names(vec!["q_proj".to_owned()]);
            let Err(ModelError::Mismatch { differences, .. }) = base.with_adapter(&llama, &adapter) else {
                panic!("other modules fit")
            };
            assert_eq!(differences.unexpected.len(), 24);
        }
    }
    smelt_backend::dispatch(smelt_backend::Name::Cpu, Case);
    let empty = tempfile::tempdir().unwrap();
    std::fs::write(empty.path().join(ADAPTER_CONFIG_FILE), "{}").unwrap();
    let names = smelt_model::family::FAMILIES[0].names;
    assert!(matches!(Adapter::open(empty.path(), &names), Err(ModelError::NoAdapter { .. })));
}
