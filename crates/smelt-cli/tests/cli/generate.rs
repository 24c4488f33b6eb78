//! `smelt generate` over files and typed lines, with guesses and schemas, and `smelt chat`.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::smelt::{Place, Ran};

/// A place with a nano model in `base`.
fn place() -> Place {
    let place = Place::new();
    let settings = [
        "model.hidden_size=32",
        "model.num_hidden_layers=2",
        "model.num_attention_heads=4",
        "model.max_position_embeddings=256",
    ];
    let mut train =
        vec!["train", "--max-steps", "4", "--warmup-steps", "1", "--seq-length", "32", "--output", "base"];
    train.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    place.done(&[&train[..], &["--quiet"]].concat());
    place
}

/// What the command makes of `typed` lines.
fn typed(place: &Place, args: &[&str], typed: &str) -> Ran {
    let mut command = place.command(args);
    command.env("XDG_STATE_HOME", place.path("state"));
    let mut process =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn text(place: &Place, max_tokens: &str, more: &[&str]) -> Value {
    let base =
        ["generate", "--model", "base", "--prompt", "for x in", "--seed", "5", "--json", "--max-tokens"];
    place.done(&[&base[..], &[max_tokens], more].concat()).records().remove(0)
}

#[test]
fn files_are_completed_in_order_and_gone_on_with() {
    let place = place();
    let prompt = |index: usize| match index {
        // The third does not fit the context.
        2 => json!({ "id": index, "prompt": "ab ".repeat(2000) }),
        7 => json!({ "messages": [{ "role": "user", "content": "hi" }] }),
        _ => json!({ "id": index, "prompt": format!("for x{index} in") }),
    };
    let lines: Vec<String> = (0..12).map(|index| prompt(index).to_string()).collect();
    place.write("prompts.jsonl", &lines.join("\n"));
    let args = |output: &'static str, batch: &'static str| {
        [
            "generate",
            "--model",
            "base",
            "--prompts",
            "prompts.jsonl",
            "--output",
            output,
            "--batch-size",
            batch,
            "--max-tokens",
            "9",
            "--seed",
            "1",
            "--quiet",
        ]
    };
    let read = |name: &str| -> Vec<Value> {
        let text = fs::read_to_string(place.path(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let ran = place.smelt(&args("all.jsonl", "5"));
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("1 of 12 prompts could not be completed"), "{}", ran.stderr);
    let all = read("all.jsonl");
    for (index, record) in all.iter().enumerate() {
        assert_eq!(record["index"], index);
        assert_eq!(record["prompt"], prompt(index)["prompt"]);
        assert_eq!(record["error"].is_string(), index == 2, "{record}");
        assert_eq!(record["generated_tokens"].is_u64(), index != 2, "{record}");
    }
    // One by one gives the same texts.
    place.smelt(&args("single.jsonl", "1"));
    let completions =
        |lines: &[Value]| lines.iter().map(|line| line["completion"].clone()).collect::<Vec<_>>();
    assert_eq!(completions(&read("single.jsonl")), completions(&all));

    // Cut anywhere, it goes on behind the last whole line.
    let whole = fs::read(place.path("all.jsonl")).unwrap();
    for length in [0, 10, whole.len() / 2, whole.len() - 1] {
        fs::write(place.path("all.jsonl"), &whole[..length]).unwrap();
        place.smelt(&args("all.jsonl", "5"));
        assert_eq!(completions(&read("all.jsonl")), completions(&all), "cut at {length}");
    }

    // What belongs to other prompts is left alone, unless it may be overwritten.
    place.write("all.jsonl", "{\"prompt\": \"other\"}\n");
    let ran = place.smelt(&args("all.jsonl", "5"));
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("--overwrite"), "{}", ran.stderr);
    assert_eq!(read("all.jsonl").len(), 1);
    place.smelt(&[&args("all.jsonl", "5")[..], &["--overwrite"]].concat());
    assert_eq!(completions(&read("all.jsonl")), completions(&all));

    place.write("prompts.jsonl", "{\"prompt\": \"a\"}\n{\"text\": \"b\"}\n");
    let ran = place.smelt(&args("other.jsonl", "5"));
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("line 2 of `prompts.jsonl`"), "{}", ran.stderr);
}

#[test]
fn guesses_change_no_text_and_caches_are_kept() {
    let place = place();
    // Greedy text soon repeats itself, which is what can be looked up.
    for (temperature, guesses) in
        [("0", &["--prompt-lookup"][..]), ("0.8", &["--draft-model", "base", "--draft-tokens", "3"])]
    {
        let guesses = &[&["--temperature", temperature], guesses].concat();
        let plain = text(&place, "40", &guesses[..2]);
        let guessed = text(&place, "40", guesses);
        assert_eq!(guessed["text"], plain["text"]);
        assert!(guessed["draft_acceptance"].is_number(), "{guessed}");
    }
    for (kept, bits) in [(0, &[][..]), (0, &["--kv-bits", "8"][..])] {
        fs::remove_file(place.path("kept")).ok();
        let cache = [&["--prompt-cache", "kept"][..], bits].concat();
        let first = text(&place, "40", &cache);
        assert_eq!(first["cached_tokens"], kept);
        let second = text(&place, "40", &cache);
        assert_eq!(second["text"], first["text"]);
        assert_eq!(second["cached_tokens"], second["prompt_tokens"].as_u64().unwrap() - 1);
    }
    let ran = place.smelt(&["generate", "--model", "base", "--prompt", "a", "--prompt-cache", "kept"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("kv_bits"), "{}", ran.stderr);
}

#[test]
fn schemas_are_followed_and_the_likeliest_is_taken() {
    let place = place();
    let schema = json!({
        "type": "object",
        "properties": { "name": { "type": "string", "maxLength": 5 }, "age": { "type": "integer", "maximum": 200, "minimum": 0 } },
        "required": ["name", "age"],
        "additionalProperties": false,
    });
    place.write("schema.json", &schema.to_string());
    for given in [schema.to_string().as_str(), "schema.json"] {
        let found = text(&place, "200", &["--json-schema", given, "--temperature", "1.2"]);
        let object: Value = serde_json::from_str(found["text"].as_str().unwrap()).unwrap();
        assert!(object["name"].is_string() && object["age"].is_u64(), "{object}");
        assert_eq!(object.as_object().unwrap().len(), 2);
    }
    let one = text(&place, "40", &["--num-beams", "1"]);
    assert_eq!(
        one["text"],
        text(&place, "40", &["--temperature", "0"])["text"],
        "one beam is greedy decoding"
    );
    assert!(text(&place, "40", &["--num-beams", "4"])["generated_tokens"].as_u64() <= Some(40));
    // The seed of the best of several is one of theirs.
    let best = text(&place, "40", &["--best-of", "3"])["text"].clone();
    let drawn = ["5", "6", "7"].map(|seed| {
        let args = [
            "generate",
            "--model",
            "base",
            "--prompt",
            "for x in",
            "--seed",
            seed,
            "--max-tokens",
            "40",
            "--json",
        ];
        place.done(&args).records().remove(0)["text"].clone()
    });
    assert!(drawn.contains(&best), "{best}");
}

#[test]
fn lines_and_turns_are_answered() {
    let place = place();
    let generate =
        ["generate", "--model", "base", "--interactive", "--max-tokens", "6", "--seed", "1", "--json"];
    let ran = typed(&place, &generate, "for x in\n\nfor x in\n");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let answers = ran.records();
    assert_eq!(answers.len(), 2, "an empty line asks nothing");
    assert_eq!(answers[0]["text"], answers[1]["text"]);
    assert!(answers[1]["cached_tokens"].as_u64() > Some(0));

    let chat = ["chat", "--model", "base", "--max-tokens", "6", "--seed", "1", "--json"];
    let ran = typed(&place, &chat, "hello\nand then?\n");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let answers = ran.records();
    assert_eq!((&answers[0]["prompt"], &answers[1]["prompt"]), (&json!("hello"), &json!("and then?")));
    let tokens = |index: usize, key: &str| answers[index][key].as_u64().unwrap();
    assert!(tokens(1, "prompt_tokens") > tokens(0, "prompt_tokens"), "the first turn is part of the second");
    assert!(tokens(1, "cached_tokens") >= tokens(0, "prompt_tokens"), "and is not read again");

    // A turn that does not fit is refused, and the conversation goes on.
    let ran = typed(&place, &chat, &format!("{}\nhello\n", "ab ".repeat(1000)));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("the context of this model holds 256"), "{}", ran.stderr);
    assert_eq!(ran.records()[0]["text"], answers[0]["text"]);
}
