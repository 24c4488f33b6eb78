//! Models from one format to another, on the command line.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::smelt::{Place, Ran};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden");

/// A copy of fixture `name` with the tokenizer of another, as a model folder that can be talked to.
fn model(place: &Place, name: &str, tokenizer: &str) {
    let folder = place.path("model");
    fs::create_dir_all(&folder).unwrap();
    for (fixture, file) in [(name, "config.json"), (name, "model.safetensors"), (tokenizer, "tokenizer.json")]
    {
        fs::copy(Path::new(GOLDEN).join(fixture).join(file), folder.join(file)).unwrap();
    }
    place.write("model/LICENSE", "as you like\n");
}

fn greedy(place: &Place, model: &str) -> Value {
    let arguments = ["generate", "--model", model, "--prompt", "the end of", "--max-tokens", "12"];
    let ran = place.done(&[&arguments[..], &["--temperature", "0", "--quiet", "--json"]].concat());
    ran.records()[0]["text"].clone()
}

fn convert(place: &Place, from: &str, to: &str, output: &str, more: &[&str]) -> Ran {
    let arguments = ["convert", "--model", from, "--to", to, "--output", output, "--json", "--quiet"];
    place.smelt(&[&arguments[..], more].concat())
}

#[test]
fn a_model_goes_to_gguf_and_back_and_says_the_same() {
    let place = Place::new();
    model(&place, "gguf", "tokenizer_bytelevel");
    let expected = greedy(&place, "model");
    let converted = convert(&place, "model", "gguf", "model.gguf", &[]);
    assert_eq!(converted.code, Some(0), "{}", converted.stderr);
    let record = &converted.records()[0];
    assert_eq!(record["check"]["top_1_agreement"], 1.0, "{record}");
    assert_eq!(record["check"]["texts_tokenized_otherwise"], 0, "{record}");
    assert_eq!(greedy(&place, "model.gguf"), expected);
    assert_eq!(convert(&place, "model.gguf", "hf", "back", &[]).code, Some(0));
    assert_eq!(greedy(&place, "back"), expected);
    let weights = |folder: &str| fs::read(place.path(folder).join("model.safetensors")).unwrap();
    assert!(weights("back") == weights("model"), "the weights of the folder that came back");
    let info = &place.done(&["info", "model.gguf", "--json"]).records()[0];
    assert_eq!((&info["family"], &info["tokenizer_vocab_size"]), (&"llama".into(), &512.into()));
}

#[test]
fn dtypes_shards_and_companions_are_as_asked() {
    let place = Place::new();
    model(&place, "gguf", "tokenizer_bytelevel");
    let converted = convert(&place, "model", "hf", "half", &["--dtype", "f16", "--max-shard-size", "40kB"]);
    assert_eq!(converted.code, Some(0), "{}", converted.stderr);
    for file in ["model.safetensors.index.json", "tokenizer.json", "LICENSE", "config.json"] {
        assert!(place.path("half").join(file).is_file(), "{file}");
    }
    let info = &place.done(&["info", "half", "--json"]).records()[0];
    assert_eq!(info["dtypes"], serde_json::json!(["f16"]));
    let config: Value = serde_json::from_slice(&fs::read(place.path("half/config.json")).unwrap()).unwrap();
    assert_eq!(config["torch_dtype"], "float16");
    for (kind, size) in [("q8_0", 70_000), ("q4_0", 56_000)] {
        let file = format!("{kind}.gguf");
        let converted = convert(&place, "model", "gguf", &file, &["--quantize", kind]);
        assert_eq!(converted.code, Some(0), "{}", converted.stderr);
        assert!(fs::metadata(place.path(&file)).unwrap().len() < size, "{kind}");
    }
}

#[test]
fn what_cannot_be_converted_is_said_and_leaves_nothing() {
    let place = Place::new();
    model(&place, "gptj", "tokenizer_bytelevel");
    let refused = |ran: Ran, words: &[&str]| {
        assert_ne!(ran.code, Some(0));
        for word in words {
            assert!(ran.stderr.contains(word), "no `{word}` in\n{}", ran.stderr);
        }
    };
    refused(
        convert(&place, "model", "gguf", "x.gguf", &[]),
        &["llama.cpp does not run the family `gptj`", "--to hf"],
    );
    refused(convert(&place, "model", "hf", "model", &[]), &["already holds a model", "another `--output`"]);
    refused(convert(&place, "model", "gguf", "x.gguf", &["--quantize", "q3_x"]), &["q3_x", "q8_0"]);
    refused(convert(&place, "model", "hf", "x", &["--quantize", "q8_0"]), &["--to gguf"]);
    place.write("cut.gguf", "GGUF\u{3}");
    refused(convert(&place, "cut.gguf", "hf", "x", &[]), &["not a valid GGUF file", "ends at byte 5"]);
    for left in ["x", "x.gguf"] {
        assert!(!place.path(left).exists(), "{left}");
    }
}
