//! Adapters from the command line: trained, continued, used, fused, converted.

use crate::smelt::Place;

const SHAPE: [&str; 3] = ["model.hidden_size=32", "model.num_hidden_layers=2", "model.num_attention_heads=4"];

/// A place with a nano model in `base`, and an adapter of it in `lora`.
fn place() -> Place {
    let place = Place::new();
    let mut base = vec!["train", "--max-steps", "4", "--seq-length", "32", "--output", "base", "--quiet"];
    base.extend(SHAPE.iter().flat_map(|setting| ["--set", setting]));
    place.done(&base);
    place.done(&train("lora", &[]));
    place
}

fn train<'a>(output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["train", "--model", "base", "--method", "lora", "--lora-rank", "4"];
    arguments.extend([
        "--max-steps",
        "6",
        "--warmup-steps",
        "2",
        "--save-interval",
        "3",
        "--seq-length",
        "32",
    ]);
    arguments.extend(["--learning-rate", "0.05", "--quiet", "--output", output]);
    arguments.extend(more);
    arguments
}

fn train_quantized<'a>(output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = train(output, more);
    let method = arguments.iter_mut().find(|argument| **argument == "lora").unwrap();
    *method = "qlora";
    arguments
}

fn greedy(place: &Place, model: &[&str]) -> String {
    let mut arguments =
        vec!["generate", "--prompt", "for file in", "--max-tokens", "12", "--temperature", "0"];
    arguments.extend(["--quiet", "--json"]);
    arguments.extend(model);
    place.done(&arguments).records()[0]["text"].as_str().unwrap().to_owned()
}

#[test]
fn an_adapter_is_used_fused_and_converted() {
    let place = place();
    let adapted = greedy(&place, &["--model", "lora"]);
    assert_ne!(greedy(&place, &["--model", "base"]), adapted, "the adapter changes nothing");
    assert_eq!(greedy(&place, &["--model", "base", "--adapter", "lora"]), adapted);
    place.done(&["fuse", "--model", "lora", "--output", "fused", "--quiet"]);
    assert_eq!(greedy(&place, &["--model", "fused"]), adapted);
    place.done(&["convert", "--model", "lora", "--to", "mlx", "--output", "mlx", "--quiet"]);
    assert_eq!(greedy(&place, &["--model", "base", "--adapter", "mlx"]), adapted);
    place.done(&["convert", "--model", "mlx", "--to", "hf", "--output", "peft", "--quiet"]);
    assert_eq!(greedy(&place, &["--model", "peft"]), adapted);
    let info = &place.done(&["info", "lora", "--json"]).records()[0];
    assert_eq!((&info["adapter"]["r"], &info["adapter"]["lora_alpha"]), (&4.into(), &8.0.into()));
}

#[test]
fn what_an_adapter_cannot_be_is_said() {
    let place = place();
    let refused = |arguments: &[&str], words: &[&str]| {
        let ran = place.smelt(arguments);
        assert_ne!(ran.code, Some(0), "{arguments:?}");
        for word in words {
            assert!(ran.stderr.contains(word), "{arguments:?}: no `{word}` in\n{}", ran.stderr);
        }
    };
    refused(&train("other", &["--target-modules", "q_proj"]), &["target_modules", "c_attn, c_fc, c_proj"]);
    refused(&train("other", &["--target-modules", "("]), &["target_modules", "a regular expression"]);
    refused(&train("other", &["--set", "adapter.lora_dropout=1"]), &["adapter.lora_dropout", "below 1"]);
    let resumed = ["train", "--resume", "lora/checkpoints/step-00000003", "--quiet", "--lora-rank", "8"];
    refused(&resumed, &["adapter."]);
    // Another base of the same shape.
    let mut other = vec!["train", "--max-steps", "5", "--seq-length", "32", "--output", "other", "--quiet"];
    other.extend(SHAPE.iter().flat_map(|setting| ["--set", setting]));
    place.done(&other);
    let resumed = ["train", "--resume", "lora/checkpoints/step-00000003", "--model", "other", "--quiet"];
    refused(&resumed, &["model.path"]);
    refused(&["fuse", "--model", "base", "--output", "fused"], &["no adapter to fuse", "--adapter"]);
    refused(&["generate", "--model", "lora", "--adapter", "lora"], &["is an adapter", "base"]);
    std::fs::remove_dir_all(place.path("base")).unwrap();
    refused(&["generate", "--model", "lora"], &["the base of the adapter", "--adapter DIR"]);
}

#[test]
fn an_adapter_on_a_quantized_base_is_trained_continued_used_and_fused() {
    let place = place();
    let format = ["--q-bits", "4", "--q-group-size", "32"];
    place.done(&train_quantized("qlora", &format));
    let state = std::fs::read(place.path("qlora/checkpoints/step-00000006/trainer_state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    assert_eq!(
        (&state["quantization"]["bits"], &state["quantization"]["group_size"]),
        (&4.into(), &32.into())
    );

    // A run that stops and goes on ends in the same adapter.
    let mut half = train_quantized("half", &format);
    half.extend(["--set", "train.max_steps=6", "--set", "checkpoint.keep_last=9"]);
    place.done(&half);
    std::fs::remove_dir_all(place.path("half/checkpoints/step-00000006")).unwrap();
    place.done(&["train", "--resume", "auto", "--output", "half", "--quiet"]);
    let weights = |run: &str| {
        std::fs::read(place.path(run).join("checkpoints/step-00000006/adapter_model.safetensors")).unwrap()
    };
    assert!(weights("half") == weights("qlora"), "resumed adapters differ");

    let refused = |arguments: &[&str], words: &[&str]| {
        let ran = place.smelt(arguments);
        assert_ne!(ran.code, Some(0), "{arguments:?}");
        for word in words {
            assert!(ran.stderr.contains(word), "{arguments:?}: no `{word}` in\n{}", ran.stderr);
        }
    };
    let other = ["train", "--resume", "qlora/checkpoints/step-00000003", "--q-bits", "8", "--quiet"];
    refused(&other, &["quantization", "\"bits\":8", "\"bits\":4"]);
    refused(&train("other", &["--q-bits", "4"]), &["train.method", "qlora"]);
    refused(&train_quantized("other", &["--q-bits", "7"]), &["quantization.bits", "`6`"]);

    // What generates is what was trained: adapter and base in 4 bits.
    let adapted = greedy(&place, &["--model", "qlora"]);
    let fuse = ["fuse", "--model", "qlora", "--json", "--quiet", "--output"];
    let whole = &place.done(&[&fuse[..], &["whole", "--dequantize"]].concat()).records()[0];
    assert!(
        whole["largest_difference"].as_f64().unwrap() < 1e-3 && whole["requantized"].is_null(),
        "{whole}"
    );
    assert_eq!(greedy(&place, &["--model", "whole"]), adapted);
    let packed = &place.done(&[&fuse[..], &["packed"]].concat()).records()[0];
    assert_eq!(packed["requantized"]["modules"], 8, "{packed}");
    let error = packed["requantized"]["mean_error"].as_f64().unwrap();
    assert!((0.01..0.3).contains(&error), "4 bits round by several percent: {packed}");
    let info = &place.done(&["info", "packed", "--json"]).records()[0];
    assert_eq!(info["quantization"]["bits"], 4);

    // What is quantized before is the same as what is quantized while it is loaded.
    let convert = ["convert", "--model", "base", "--to", "mlx", "--quantize", "q4_bit", "--group-size", "32"];
    place.done(&[&convert[..], &["--output", "base-4bit", "--quiet"]].concat());
    assert_eq!(greedy(&place, &["--model", "base-4bit", "--adapter", "qlora"]), adapted);
    refused(&[&convert[..], &["--output", "base-4bit"]].concat(), &["already holds a model"]);
    place.write("rules.yaml", "layers.*.attention: {bits: 8}\nlayers.*.mpl: {bits: 4}\n");
    let with_rules =
        ["convert", "--model", "base", "--to", "mlx", "--quantize", "rules.yaml", "--output", "r"];
    refused(&with_rules, &["layers.*.mpl", "did you mean `mlp`?"]);
    place.write(
        "rules.yaml",
        "attention: {bits: 8, group_size: 32}\n\"*\": {bits: 4, group_size: 32}\nlayers.9: dense\n",
    );
    let ran = place.done(&with_rules);
    assert!(ran.stderr.contains("`layers.9` matches nothing"), "{}", ran.stderr);
    let info = &place.done(&["info", "r", "--json"]).records()[0];
    assert_eq!((&info["quantization"]["bits"], &info["quantization"]["exceptions"]), (&4.into(), &4.into()));

    // A folder that is quantized already is taken as it is.
    let mut on_packed = train_quantized("on-packed", &[]);
    on_packed[2] = "packed";
    place.done(&on_packed);
    let text = greedy(&place, &["--model", "on-packed"]);
    assert_eq!(greedy(&place, &["--model", "packed", "--adapter", "on-packed"]), text);
    on_packed.extend(["--overwrite", "--q-bits", "8"]);
    refused(&on_packed, &["quantized already", "4 bits in groups of 32"]);
    let full = ["train", "--model", "packed", "--max-steps", "1", "--seq-length", "32", "--output", "full"];
    refused(&full, &["are quantized", "--method qlora"]);
}
