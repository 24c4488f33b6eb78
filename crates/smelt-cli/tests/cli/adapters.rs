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
