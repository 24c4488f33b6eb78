//! Fine-tuning on instruction data, from a model of our own.

use crate::smelt::{Place, golden};

const MODEL: &str = "\
model: {vocab_size: 300, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, max_position_embeddings: 96}
data: {embedded: true}
train: {batch_size: 2, seq_length: 64, max_steps: 2, warmup_steps: 1, eval_interval: 10, eval_batches: 1}
checkpoint: {output_dir: base}
";

const CHATS: &str = r#"{"messages": [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "b"}]}
{"messages": [{"role": "user", "content": "c?"}, {"role": "assistant", "content": "d"}]}
"#;

fn base() -> Place {
    let place = Place::new();
    place.write("base.yaml", MODEL);
    place.done(&["train", "--config", "base.yaml", "--backend", "cpu", "--quiet"]);
    place
}

const TUNE: [&str; 14] = [
    "train",
    "--model",
    "base",
    "--data",
    "chats",
    "--output",
    "tuned",
    "--overwrite",
    "--backend",
    "cpu",
    "--seq-length",
    "96",
    "--batch-size",
    "2",
];

#[test]
fn answers_alone_are_learnt_where_prompts_are_masked() {
    let place = base();
    place.write("chats/train.jsonl", CHATS);
    place.write("chats/valid.jsonl", CHATS);
    let last_loss = |extra: &[&str]| {
        let settings = [
            "--learning-rate",
            "1e-2",
            "--warmup-steps",
            "2",
            "--eval-interval",
            "60",
            "--json",
            "--log-interval",
            "1",
            "--max-steps",
            "60",
        ];
        let args = [&TUNE[..], &settings, extra].concat();
        let ran = place.done(&args);
        assert!(ran.stderr.contains("records: 2 taken"), "{}", ran.stderr);
        let losses: Vec<f64> = ran.records().iter().filter_map(|record| record["loss"].as_f64()).collect();
        let begins = ran.record("begins");
        (begins["train_tokens"].as_u64().unwrap(), losses[0], losses[losses.len() - 1])
    };
    let (all_tokens, first, last) = last_loss(&[]);
    assert!(last < 0.5 * first, "from {first} to {last}");
    let (answer_tokens, first, last) = last_loss(&["--mask-prompt"]);
    assert!(answer_tokens < all_tokens / 2, "{answer_tokens} of {all_tokens}");
    assert!(last < 0.5 * first, "from {first} to {last}");
    assert!(place.path("tuned/checkpoints/step-00000060/tokenizer.json").exists());
}

#[test]
fn a_gguf_file_is_fine_tuned_with_its_own_tokenizer() {
    let place = Place::new();
    place.write("chats/train.jsonl", CHATS);
    let model = golden("gguf/model-f32.gguf");
    let model = ["--model", model.to_str().unwrap(), "--data", "chats", "--backend", "cpu", "--quiet"];
    for method in ["full", "lora"] {
        let settings = ["--seq-length", "64", "--batch-size", "1", "--max-steps", "2", "--warmup-steps", "1"];
        place.done(&[&["train", "--method", method, "--output", method], &model[..], &settings].concat());
        assert!(place.path(&format!("{method}/checkpoints/step-00000002/tokenizer.json")).exists());
        place.done(&[
            "generate",
            "--model",
            method,
            "--prompt",
            "a?",
            "--max-tokens",
            "2",
            "--backend",
            "cpu",
        ]);
    }
}

#[test]
fn a_bad_line_is_named_or_counted() {
    let place = base();
    place.write("chats/train.jsonl", &format!("{CHATS}{{\"messages\": 7}}\n"));
    let args = [&TUNE[..], &["--max-steps", "2", "--warmup-steps", "1"]].concat();
    let ran = place.smelt(&args);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("chats/train.jsonl") && ran.stderr.contains("line 3"), "{}", ran.stderr);
    let ran = place.done(&[&args[..], &["--skip-bad-lines"]].concat());
    assert!(ran.stderr.contains("2 taken, 1 bad lines; line 3: "), "{}", ran.stderr);

    let alone = place.smelt(&["train", "--data", "chats", "--output", "alone"]);
    assert_eq!(alone.code, Some(2));
    assert!(alone.stderr.contains("instruction data needs the tokenizer of a model"), "{}", alone.stderr);
}
