//! Quantizing by a text, on the command line.

use std::fs;

use serde_json::Value;

use crate::smelt::Place;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden");

/// A small Llama that has learned something, with two texts, in `model`.
fn trained() -> Place {
    let place = Place::new();
    fs::create_dir(place.path("model")).unwrap();
    for file in fs::read_dir(format!("{GOLDEN}/trained_llama")).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), place.path("model").join(file.file_name())).unwrap();
    }
    place
}

fn quantized(place: &Place, output: &str, more: &[&str]) -> Value {
    let arguments = ["convert", "--model", "model", "--to", "mlx", "--output", output, "--json", "--quiet"];
    let calibration = ["--calibration-text", "model/text.txt", "--calibration-length", "64"];
    let texts = [&calibration[..], &["--eval-text", "model/unseen.txt"]].concat();
    place.done(&[&arguments[..], &texts, more].concat()).records()[0].clone()
}

fn perplexity(record: &Value) -> f64 {
    record["quantization"]["perplexity_after"].as_f64().unwrap()
}

/// Bytes of all tensors of a model.
fn tensor_bytes(place: &Place, model: &str) -> u64 {
    let file = fs::read(place.path(model).join("model.safetensors")).unwrap();
    let header = u64::from_le_bytes(file[..8].try_into().unwrap());
    file.len() as u64 - 8 - header
}

fn divergence(record: &Value) -> f64 {
    record["quantization"]["mean_divergence"].as_f64().unwrap()
}

#[test]
fn recipes_keep_more_of_a_trained_model_than_rounding_to_the_nearest() {
    let place = trained();
    for bits in ["3", "4"] {
        let preset = format!("q{bits}_bit");
        let few_bits = ["--quantize", &preset, "--group-size", "32"];
        let nearest = quantized(&place, &format!("nearest-{bits}"), &few_bits);
        let [awq, gptq] = ["awq", "gptq"].map(|method| {
            quantized(
                &place,
                &format!("{method}-{bits}"),
                &[&few_bits[..], &["--calibrate", method]].concat(),
            )
        });
        for (name, record) in [("nearest", &nearest), ("awq", &awq), ("gptq", &gptq)] {
            println!("{bits} bits, {name}: {:.4}, {:.5}", perplexity(record), divergence(record));
        }
        assert!(
            gptq["quantization"]["perplexity_before"].as_f64().unwrap() < 30.0,
            "it has learned something"
        );
        assert!(perplexity(&gptq) < perplexity(&nearest), "{bits} bits, by GPTQ");
        assert!(divergence(&gptq) < 0.97 * divergence(&nearest), "{bits} bits, by GPTQ");
        if bits == "3" {
            assert!(perplexity(&awq) < perplexity(&nearest), "{bits} bits, by AWQ");
            assert!(divergence(&awq) < 0.97 * divergence(&nearest), "{bits} bits, by AWQ");
        }
        for module in gptq["quantization"]["modules"].as_array().unwrap() {
            let [error, nearest] = ["output_error", "nearest_output_error"].map(|key| module[key].as_f64());
            assert!(error <= nearest, "{module}");
        }
        let output = format!("gptq-{bits}");
        let report = fs::read(place.path(&output).join("quantization_report.json")).unwrap();
        let report: Value = serde_json::from_slice(&report).unwrap();
        assert_eq!(report, gptq["quantization"]);
        assert_eq!(
            report["modules"].as_array().unwrap().len(),
            16,
            "2 x 7 projections, the table and the head"
        );
        let picture = fs::read_to_string(place.path(&output).join("quantization_report.svg")).unwrap();
        assert!(picture.contains("layers.1.mlp.down_proj") && picture.trim_end().ends_with("</svg>"));
    }
    // The report is of this model: what is made of it has another.
    place.done(&["convert", "--model", "gptq-4", "--to", "hf", "--output", "back", "--quiet"]);
    assert!(!place.path("back/quantization_report.json").exists());
}

#[test]
fn bits_are_spread_over_modules_within_a_size() {
    let place = trained();
    let mut alike_found = Vec::new();
    for bits in ["3", "4"] {
        let preset = format!("q{bits}_bit");
        let alike =
            quantized(&place, &format!("alike-{bits}"), &["--quantize", &preset, "--group-size", "32"]);
        let size = tensor_bytes(&place, &format!("alike-{bits}"));
        let output = format!("mixed-{bits}");
        let mixed = quantized(&place, &output, &["--max-size", &size.to_string(), "--group-size", "32"]);
        let found = tensor_bytes(&place, &output);
        println!("{bits} bits in {size}: {:.4}, {:.5}", perplexity(&alike), divergence(&alike));
        println!("mixed in {found}: {:.4}, {:.5}", perplexity(&mixed), divergence(&mixed));
        assert!(found <= size, "{bits} bits: {found} against {size}");
        assert_eq!(mixed["quantization"]["mixed_bits"]["bytes"], found);
        assert!(perplexity(&mixed) <= perplexity(&alike), "{bits} bits");
        assert!(divergence(&mixed) <= divergence(&alike), "{bits} bits");
        // The same by the rules that were written.
        let rules = format!("{output}/quantization_rules.yaml");
        let again = format!("again-{bits}");
        place.done(&[
            "convert",
            "--model",
            "model",
            "--to",
            "mlx",
            "--quantize",
            &rules,
            "--output",
            &again,
            "--quiet",
        ]);
        let bytes = |folder: &str| fs::read(place.path(folder).join("model.safetensors")).unwrap();
        assert!(bytes(&again) == bytes(&output), "{bits} bits");
        alike_found.push((size, divergence(&alike)));
    }
    // Between two widths the choice of modules matters: half of the bytes gain more than half of the way.
    let [(less, much), (more, little)] = alike_found[..] else { unreachable!("two widths") };
    let most = (less + more) / 2;
    let mixed = quantized(&place, "between", &["--max-size", &most.to_string(), "--group-size", "32"]);
    assert!(tensor_bytes(&place, "between") <= most);
    let found = divergence(&mixed);
    assert!(found < 0.9 * (much + little) / 2.0, "{found} between {much} and {little}");
    let arguments = [
        "convert",
        "--model",
        "model",
        "--to",
        "mlx",
        "--output",
        "x",
        "--calibration-text",
        "model/text.txt",
    ];
    let refused = |more: &[&str], words: &[&str]| {
        let ran = place.smelt(&[&arguments[..], more].concat());
        assert_ne!(ran.code, Some(0), "{more:?}");
        for word in words {
            assert!(ran.stderr.contains(word), "no `{word}` in\n{}", ran.stderr);
        }
        assert!(!place.path("x").exists(), "{more:?}");
    };
    refused(&["--target-bits", "2"], &["with 2 bits for every module", "were asked for"]);
    refused(&["--max-size", "1kB"], &["with 2 bits for every module", "1000 were asked for"]);
    refused(&["--target-bits", "0"], &["`--target-bits` is 0"]);
    refused(&["--target-bits", "4", "--quantize", "q4_bit"], &["cannot be used with"]);
}

#[test]
fn texts_that_do_not_serve_are_refused_before_the_work() {
    let place = Place::new();
    fs::copy(format!("{GOLDEN}/trained_llama/text.txt"), place.path("text.md")).unwrap();
    place.write("short.md", "a");
    fs::create_dir(place.path("model")).unwrap();
    let copy = |fixture: &str, file: &str| {
        fs::copy(format!("{GOLDEN}/{fixture}/{file}"), place.path("model").join(file)).unwrap();
    };
    copy("llama_mha", "config.json");
    copy("llama_mha", "model.safetensors");
    let refused = |more: &[&str], words: &[&str]| {
        let arguments = ["convert", "--model", "model", "--to", "mlx", "--output", "x", "--quiet"];
        let ran = place.smelt(&[&arguments[..], more].concat());
        assert_ne!(ran.code, Some(0), "{more:?}");
        for word in words {
            assert!(ran.stderr.contains(word), "no `{word}` in\n{}", ran.stderr);
        }
        assert!(!place.path("x").exists(), "{more:?}");
    };
    let by = |text: &'static str| {
        ["--quantize", "q4_bit", "--group-size", "32", "--calibrate", "gptq", "--calibration-text", text]
    };
    refused(&["--quantize", "q4_bit", "--calibrate", "gptq"], &["--calibration-text"]);
    refused(&["--calibration-text", "text.md"], &["--quantize"]);
    refused(&by("text.md"), &["has no tokenizer"]);
    copy("tokenizer_bytelevel", "tokenizer.json");
    refused(&by("text.md"), &["512 tokens", "vocabulary of 256"]);
    refused(&by("nowhere.md"), &["cannot read `nowhere.md`"]);
    refused(&by("short.md"), &["has 1 tokens", "give more text"]);
    let none = [&by("text.md")[..], &["--calibration-samples", "0"]].concat();
    refused(&none, &["`--calibration-samples` of 1 or more"]);
    let gguf = ["convert", "--model", "model", "--to", "gguf", "--output", "x.gguf", "--quantize", "q8_0"];
    let ran = place.smelt(&[&gguf[..], &["--eval-text", "text.md"]].concat());
    assert!(ran.stderr.contains("`--eval-text` is for `--to mlx`"), "{}", ran.stderr);
}
