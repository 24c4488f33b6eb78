//! `smelt tokenizer` from files to ids and back, and its faults.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::smelt::Place;

const TEXT: &str = "for file in *.txt; do\n    echo \"$file\"\ndone\n";

fn corpus() -> Place {
    let place = Place::new();
    place.write("texts/a.sh", &TEXT.repeat(50));
    place.write("texts/b.jsonl", &"{\"text\": \"a line of text é\"}\n".repeat(20));
    place.write("texts/.hidden/c.txt", "never read");
    place.write("texts/binary", "a\0b");
    place
}

#[test]
fn a_learned_tokenizer_encodes_and_decodes() {
    let place = corpus();
    let train =
        ["tokenizer", "train", "--input", "texts", "--output", "out", "--vocab-size", "280", "--json"];
    let [record] = &place.done(&train).records()[..] else { panic!("one record") };
    assert_eq!(record["vocab_size"], 280);
    assert_eq!(record["skipped_files"], 1);
    assert_eq!(record["text_bytes"], TEXT.len() * 50 + "a line of text é".len() * 20);

    let again = place.smelt(&train);
    assert_eq!(again.code, Some(2));
    assert!(again.stderr.contains("already holds a tokenizer"), "{}", again.stderr);
    let first = fs::read(place.path("out/tokenizer.json")).unwrap();
    let mut overwrite = train.to_vec();
    overwrite.extend(["--overwrite", "--threads", "1"]);
    place.done(&overwrite);
    assert_eq!(fs::read(place.path("out/tokenizer.json")).unwrap(), first);

    let encode = ["tokenizer", "encode", "--tokenizer", "out", "echo é<|im_end|>"];
    let ids = place.done(&encode).stdout;
    let mut decode = vec!["tokenizer", "decode", "--tokenizer", "out", "--special-tokens"];
    decode.extend(ids.split_whitespace());
    assert_eq!(place.done(&decode).stdout, "echo é<|im_end|>\n");
    let mut json = encode.to_vec();
    json.push("--json");
    let [record] = &place.done(&json).records()[..] else { panic!("one record") };
    let words: Vec<String> =
        record["ids"].as_array().unwrap().iter().map(serde_json::Value::to_string).collect();
    assert_eq!(words.join(" "), ids.trim());
    assert_eq!(record["tokens"].as_array().unwrap().last().unwrap(), "<|im_end|>");
}

#[test]
fn text_and_ids_come_through_stdin() {
    let place = corpus();
    place.write("text.txt", TEXT);
    let from = |name: &str| Stdio::from(fs::File::open(place.path(name)).unwrap());
    let mut train = place.command(&["tokenizer", "train", "--input", "-", "--output", "out"]);
    assert!(train.stdin(from("texts/a.sh")).output().unwrap().status.success());
    let encoded = place
        .command(&["tokenizer", "encode", "--tokenizer", "out"])
        .stdin(from("text.txt"))
        .output()
        .unwrap();
    fs::write(place.path("ids.txt"), encoded.stdout).unwrap();
    let decoded = place
        .command(&["tokenizer", "decode", "--tokenizer", "out/tokenizer.json"])
        .stdin(from("ids.txt"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(decoded.stdout).unwrap(), format!("{TEXT}\n"));
}

#[test]
fn a_sentencepiece_model_is_a_tokenizer_too() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../smelt-text/tests/fixtures/sentencepiece/bpe_llama.model")
        .display()
        .to_string();
    let place = Place::new();
    let ids = place
        .done(&["tokenizer", "encode", "--special-tokens", "--tokenizer", &model, "Hello  world"])
        .stdout;
    assert!(ids.starts_with("1 "), "{ids}");
    let mut decode = vec!["tokenizer", "decode", "--tokenizer", &model];
    decode.extend(ids.split_whitespace());
    assert_eq!(place.done(&decode).stdout, "Hello  world\n");
}

#[test]
fn faults_of_tokenizers_are_named() {
    let place = corpus();
    place.write("bad.jsonl", "{\"text\": \"a\"}\n{\"words\": 1}\n");
    place.write("empty/nothing.txt", "");
    place.write("damaged/tokenizer.json", "{\"version\": ");
    let train = |input, extra: &[&'static str]| {
        let mut args = vec!["tokenizer", "train", "--input", input, "--output", "out"];
        args.extend(extra);
        place.smelt(&args)
    };
    for (ran, code, expected) in [
        (train("bad.jsonl", &[]), 2, "`bad.jsonl`, line 2: expected an object with a `text`"),
        (train("empty", &[]), 2, "there is no text in the input"),
        (train("absent", &[]), 1, "cannot read `absent`"),
        (train("texts", &["--vocab-size", "100"]), 1, "`vocab_size` 100 is too small"),
        (place.smelt(&["tokenizer", "encode", "--tokenizer", "damaged", "x"]), 1, "is not a tokenizer"),
        (
            place.smelt(&["tokenizer", "encode", "--tokenizer", "empty", "x"]),
            1,
            "a tokenizer is a `tokenizer.json`",
        ),
        (place.smelt(&["tokenizer", "decode", "--tokenizer", "damaged", "x"]), 2, "invalid value 'x'"),
    ] {
        assert_eq!(ran.code, Some(code), "{}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    }
}

#[test]
fn tokenizer_and_template_goldens_are_met() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let names = ["bytelevel", "llama2_style", "qwen_style", "unigram", "wordpiece"];
    let mut folders: Vec<String> =
        names.iter().map(|name| golden.join(format!("tokenizer_{name}")).display().to_string()).collect();
    folders.push(golden.join("chat_templates").display().to_string());
    let mut args = vec!["verify", "--json"];
    args.extend(folders.iter().map(String::as_str));
    let rows = Place::new().done(&args).records();
    assert_eq!(rows.len(), 5 * 6 + 4, "{rows:?}");
}
