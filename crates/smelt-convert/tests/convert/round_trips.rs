//! Every family from its golden folder to a format and back.

use std::collections::BTreeMap;

use smelt_convert::Source;
use smelt_convert::folder::{FolderOptions, FolderStyle, write_folder};
use smelt_convert::gguf::{GgufOptions, TensorKind, write_gguf};
use smelt_testkit::{Golden, Tolerance, assert_close};

use crate::support::logits;

const WHOLE: FolderOptions = FolderOptions { dtype: None, max_shard_bytes: u64::MAX };

/// Families that llama.cpp has no code for, and options that it has no switch for.
const NOT_IN_LLAMA_CPP: [&str; 2] = ["gptj", "phi2_qknorm_gqa"];
/// Where GGUF cannot say all that the configuration says: `write_gguf` notes it.
const LOSES: [&str; 2] = ["llama_dynamic_rope", "qwen2_dynamic"];
/// Norms are stored as `1 + weight`, which rounds; scales of scores are part of the queries.
const ROUNDS: [&str; 3] = ["gemma", "gemma2", "gemma3_text"];

fn bits(source: &Source) -> BTreeMap<String, Vec<u32>> {
    let bits = |parameter: &smelt_convert::Parameter<'_>| {
        let values = parameter.values();
        (parameter.info().key.clone(), values.into_iter().map(f32::to_bits).collect())
    };
    source.parameters().unwrap().iter().map(bits).collect()
}

fn tensors(source: &Source) -> BTreeMap<String, Vec<u8>> {
    let parameters = source.parameters().unwrap();
    let keys = parameters.iter().map(|parameter| parameter.info().key.clone());
    keys.zip(parameters.iter().map(|parameter| parameter.stored_bytes(parameter.dtype()))).collect()
}

fn check_logits(name: &str, golden: &Golden, source: &Source) {
    let ids = golden.tensor("input_ids");
    let found = logits(source, &ids.ids(), ids.dims());
    assert_close(name, &found, golden.tensor("logits").floats(), Tolerance::Logits);
}

#[test]
fn every_family_comes_back_from_gguf() {
    let scratch = tempfile::tempdir().unwrap();
    let mut seen = 0;
    for golden in Golden::of_kind("causal") {
        let name = golden.name().into_owned();
        let source = Source::open(&golden.folder).unwrap();
        let path = scratch.path().join(format!("{name}.gguf"));
        let written = write_gguf(&source, GgufOptions::default(), &path, &mut |_| ());
        if NOT_IN_LLAMA_CPP.contains(&name.as_str()) {
            let error = written.unwrap_err().to_string();
            assert!(error.starts_with("GGUF cannot hold this model: llama.cpp"), "{name}: {error}");
            continue;
        }
        let notes = written.unwrap();
        let back = Source::open(&path).unwrap();
        if LOSES.contains(&name.as_str()) {
            assert!(notes.iter().any(|note| note.contains("dynamic")), "{name}: {notes:?}");
        } else if ROUNDS.contains(&name.as_str()) {
            check_logits(&name, &golden, &back);
        } else {
            let (mut found, mut expected) = (back.config.decoder.clone(), source.config.decoder.clone());
            // Not known to llama.cpp, which does not train.
            for decoder in [&mut found, &mut expected] {
                decoder.dropout = golden_dropout();
                decoder.initializer_range = 0.02;
                if let Some(experts) = &mut decoder.experts {
                    experts.router_aux_loss_coef = 0.001;
                }
            }
            assert_eq!(found, expected, "{name}");
            assert!(bits(&back) == bits(&source), "{name}");
        }
        seen += 1;
    }
    assert!(seen > 25, "{seen} families");
}

fn golden_dropout() -> smelt_model::DropoutConfig {
    smelt_model::DropoutConfig { embedding: 0.0, residual: 0.0, attention: 0.0 }
}

#[test]
fn every_family_keeps_every_byte_as_a_folder() {
    let scratch = tempfile::tempdir().unwrap();
    for golden in Golden::of_kind("causal") {
        let source = Source::open(&golden.folder).unwrap();
        let folder = scratch.path().join(golden.name().as_ref());
        write_folder(&source, FolderStyle::Hf, WHOLE, &folder, &mut |_| ()).unwrap();
        let back = Source::open(&folder).unwrap();
        assert_eq!(back.config.raw, source.config.raw, "{}", golden.name());
        assert!(tensors(&back) == tensors(&source), "{}", golden.name());
    }
}

#[test]
fn every_family_comes_back_from_mlx() {
    let scratch = tempfile::tempdir().unwrap();
    for golden in Golden::of_kind("causal") {
        let name = golden.name();
        let source = Source::open(&golden.folder).unwrap();
        let folder = scratch.path().join(format!("{name}-mlx"));
        write_folder(&source, FolderStyle::Mlx, WHOLE, &folder, &mut |_| ()).unwrap();
        let mlx = Source::open(&folder).unwrap();
        check_logits(&name, &golden, &mlx);
        let back = scratch.path().join(name.as_ref());
        write_folder(&mlx, FolderStyle::Hf, WHOLE, &back, &mut |_| ()).unwrap();
        assert!(tensors(&Source::open(&back).unwrap()) == tensors(&source), "{name}");
    }
}

#[test]
fn packed_folders_become_what_their_codes_stand_for() {
    let scratch = tempfile::tempdir().unwrap();
    let golden = Golden::open("mlx_quant");
    let reference =
        smelt_model::weights::TensorFile::open(&golden.folder.join("golden_mlx.safetensors")).unwrap();
    let ids = golden.tensor("input_ids");
    for tag in ["mlx_4bit", "mlx_8bit", "mlx_4bit_g32_bf16", "mlx_4bit_f32"] {
        let folder = scratch.path().join(tag);
        let source = Source::open(&golden.folder.join(tag)).unwrap();
        write_folder(&source, FolderStyle::Hf, WHOLE, &folder, &mut |_| ()).unwrap();
        let dense = Source::open(&folder).unwrap();
        assert!(dense.config.quantization.is_none(), "{tag}");
        let expected = reference.f32(&format!("{tag}.logits_dequant_f32")).unwrap();
        let rows = expected.len() / (ids.shape[1] * dense.config.decoder.vocab_size);
        let found = logits(&dense, &ids.ids()[..rows * ids.shape[1]], [rows, ids.shape[1]]);
        assert_close(tag, &found, &expected, Tolerance::Logits);
    }
}

#[test]
fn kinds_of_few_bits_lose_only_precision() {
    let scratch = tempfile::tempdir().unwrap();
    let golden = Golden::open("gguf");
    let source = Source::open(&golden.folder).unwrap();
    let ids = golden.tensor("input_ids");
    let expected = golden.tensor("logits").floats();
    let kinds = [
        (TensorKind::F16, 0.004),
        (TensorKind::BF16, 0.04),
        (TensorKind::Q8_0, 0.1),
        (TensorKind::Q5_1, 0.8),
        (TensorKind::Q5_0, 0.8),
        (TensorKind::Q4_1, 1.5),
        (TensorKind::Q4_0, 1.5),
    ];
    for (kind, most) in kinds {
        let path = scratch.path().join(format!("{}.gguf", kind.name()));
        write_gguf(&source, GgufOptions { kind: Some(kind) }, &path, &mut |_| ()).unwrap();
        let found = logits(&Source::open(&path).unwrap(), &ids.ids(), ids.dims());
        let squares: f32 = found.iter().zip(expected).map(|(a, b)| (a - b).powi(2)).sum();
        let difference = (squares / found.len() as f32).sqrt();
        println!("{}: {difference}", kind.name());
        assert!(difference > 1e-5 && difference < most, "{}: {difference}", kind.name());
    }
}
