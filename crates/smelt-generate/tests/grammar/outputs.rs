//! Texts under fixed schemas, expressions and grammars.

use regex::Regex;
use serde_json::{Value, json};
use smelt_generate::{Grammar, GrammarCompiler, Sampler, SamplingOptions, TokenMask};
use smelt_text::Tokenizer;

use crate::schemas::violation;
use crate::writing::{NAMES, writer};

#[test]
fn every_text_fits_its_schema() {
    let person = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 12},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "tags": {"type": "array", "items": {"enum": ["a", "b", 3, null]}, "minItems": 1, "maxItems": 3},
            "address": {"$ref": "#/$defs/address"},
        },
        "required": ["name", "age", "tags", "address"],
        "additionalProperties": false,
        "$defs": {"address": {
            "type": "object",
            "properties": {"zip": {"type": "string", "pattern": "^[0-9]{5}$"}, "ok": {"type": "boolean"}},
            "required": ["zip"],
            "additionalProperties": false,
        }},
    });
    let choice = json!({"anyOf": [{"type": "integer", "minimum": -3, "maximum": 3}, {"const": "no"}]});
    for name in NAMES {
        for schema in [&person, &choice] {
            let mut ended = 0;
            for seed in 0..20 {
                let written = writer(name).write(&Grammar::json_schema(schema), seed, 300).unwrap();
                if written.ended {
                    let value: Value = serde_json::from_str(&written.text)
                        .unwrap_or_else(|error| panic!("{name}, seed {seed}: {error}: {:?}", written.text));
                    assert_eq!(violation(schema, schema, &value), None, "{}", written.text);
                    ended += 1;
                }
            }
            assert!(ended > 10, "{name}: {ended} of 20 texts ended");
        }
    }
}

#[test]
fn an_object_is_an_object() {
    let mut ended = 0;
    for seed in 0..20 {
        let written = writer(NAMES[0]).write(&Grammar::json_object(), seed, 150).unwrap();
        if written.ended {
            assert!(serde_json::from_str::<Value>(&written.text).unwrap().is_object());
            ended += 1;
        } else {
            assert!(written.text.starts_with('{'), "{}", written.text);
        }
    }
    assert!(ended > 5, "{ended} of 20 texts ended");
}

#[test]
fn texts_match_the_whole_expression() {
    let patterns = [r"(foo|ba[rz]){1,3}-[0-9]{2,4}", r"[A-F0-9]{8}", r"(été|naïve|日本|🦀)+", "x?"];
    for (name, pattern) in NAMES.iter().flat_map(|name| patterns.map(|pattern| (name, pattern))) {
        let whole = Regex::new(&format!("^(?:{pattern})$")).unwrap();
        for seed in 0..10 {
            let written = writer(name).write(&Grammar::regex(pattern), seed, 200).unwrap();
            assert!(written.ended && whole.is_match(&written.text), "{name}, {pattern}: {:?}", written.text);
        }
    }
}

#[test]
fn texts_follow_a_grammar() {
    let sums = "start: term (\"+\" term)*\nterm: /[0-9]{1,3}/ | \"(\" start \")\"\n";
    for name in NAMES {
        let mut ended = 0;
        for seed in 0..20 {
            let written = writer(name).write(&Grammar::lark(sums), seed, 200).unwrap();
            if written.ended {
                let rest = sum(&written.text);
                assert_eq!(rest, Some(""), "{name}: {}", written.text);
                ended += 1;
            }
        }
        assert!(ended > 5, "{name}: {ended} of 20 texts ended");
    }
}

/// What follows a sum at the start of `text`.
fn sum(text: &str) -> Option<&str> {
    let mut rest = term(text)?;
    while let Some(after) = rest.strip_prefix('+') {
        rest = term(after)?;
    }
    Some(rest)
}

fn term(text: &str) -> Option<&str> {
    if let Some(inner) = text.strip_prefix('(') {
        return sum(inner)?.strip_prefix(')');
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    (1..=3).contains(&digits).then(|| &text[digits..])
}

/// The end is forced where nothing can follow, allowed where the text is complete, forbidden before.
#[test]
fn texts_end_where_they_are_complete() {
    let writer = writer(NAMES[0]);
    let id = |token: &str| writer.tokenizer.token_to_id(token).unwrap();
    let mut constraint = writer.compiler.compile(&Grammar::regex("ab?")).unwrap();
    assert!(!constraint.allowed().unwrap().allows(writer.stop) && !constraint.is_complete().unwrap());
    constraint.accept(id("a")).unwrap();
    let allowed: Vec<u32> = constraint.allowed().unwrap().ids().collect();
    assert_eq!(allowed.len(), 2);
    assert!(
        allowed.contains(&writer.stop) && allowed.contains(&id("b")) && constraint.is_complete().unwrap()
    );
    let mut other = constraint.clone();
    constraint.accept(id("b")).unwrap();
    assert!(constraint.is_finished());
    assert_eq!(constraint.allowed().unwrap(), &TokenMask::from_iter([writer.stop]));
    assert!(!other.is_finished(), "a copy goes its own way");
    other.accept(writer.stop).unwrap();
    assert!(other.is_finished());
    let mut refused = writer.compiler.compile(&Grammar::regex("ab?")).unwrap();
    assert!(refused.accept(id("b")).is_err(), "a token that was not allowed");
}

/// A special token comes where a grammar names it, and nowhere else.
#[test]
fn special_tokens_come_where_they_are_named() {
    let writer = writer("tokenizer_qwen_style");
    let id = |token: &str| writer.tokenizer.token_to_id(token).unwrap();
    let special = id("<|im_start|>");
    let mut named = writer.compiler.compile(&Grammar::lark("start: \"a\" <|im_start|> \"b\"")).unwrap();
    named.accept(id("a")).unwrap();
    assert_eq!(named.allowed().unwrap().ids().collect::<Vec<_>>(), [special]);
    named.accept(special).unwrap();
    named.accept(id("b")).unwrap();
    assert!(named.is_finished());
    let mut anything = writer.compiler.compile(&Grammar::regex("(?s:.*)")).unwrap();
    let allowed = anything.allowed().unwrap();
    assert!(!allowed.allows(special) && allowed.allows(id("a")) && allowed.allows(writer.stop));
}

/// Sequences of one batch, on several threads, each under its own grammar.
#[test]
fn constraints_do_not_disturb_each_other() {
    let writer = writer(NAMES[0]);
    let first = writer.compiler.compile(&Grammar::regex("(a|b){20}")).unwrap();
    let alone: Vec<String> =
        (0..8).map(|seed| writer.go_on(&mut first.clone(), seed, 50).unwrap().text).collect();
    let together: Vec<String> = std::thread::scope(|scope| {
        let start = |seed| {
            let mut constraint = first.clone();
            scope.spawn(move || writer.go_on(&mut constraint, seed, 50).unwrap().text)
        };
        let threads: Vec<_> = (0..8).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(together, alone);
    assert!(alone.iter().any(|text| *text != alone[0]));
}

/// A mask decides before the filters: top-k counts allowed tokens alone.
#[test]
fn filters_see_what_the_grammar_allows() {
    let writer = writer(NAMES[0]);
    let mut constraint = writer.compiler.compile(&Grammar::regex("[ab]")).unwrap();
    let id = |token: &str| writer.tokenizer.token_to_id(token).unwrap() as usize;
    let mut logits = vec![5.0; writer.tokenizer.vocab_size()];
    (logits[id("a")], logits[id("b")]) = (1.0, 0.0);
    let options = SamplingOptions { temperature: 1.0, top_k: Some(1), ..Default::default() };
    let mut sampler = Sampler::new(&options).unwrap();
    let found = sampler.probabilities(&logits, &[], Some(constraint.allowed().unwrap())).unwrap();
    assert_eq!(found[id("a")], 1.0);
}

#[test]
fn what_cannot_be_followed_is_an_error_with_its_reason() {
    let compile = |grammar: &Grammar| writer(NAMES[0]).compiler.compile(grammar).unwrap_err().to_string();
    let cases = [
        (Grammar::json_schema(&json!({"type": "strin"})), "the JSON schema cannot be followed: ", "strin"),
        (Grammar::json_schema(&json!({"uniqueItems": true})), "the JSON schema", "uniqueItems"),
        (Grammar::json_schema(&json!({"$ref": "https://example.com/x"})), "the JSON schema", "$ref"),
        (Grammar::json_schema(&json!(7)), "the JSON schema", "must be an object or boolean"),
        (Grammar::json_schema(&json!(false)), "the JSON schema", "schema is false"),
        (Grammar::regex("(a"), "the regular expression cannot be followed: ", "unclosed group"),
        (Grammar::lark("start: unknown"), "the grammar cannot be followed: ", "unknown"),
        (Grammar::lark(""), "the grammar cannot be followed: ", "start"),
        (Grammar::regex(&"a".repeat(2 << 20)), "the regular expression", "2097152 bytes long"),
    ];
    for (grammar, start, part) in cases {
        let message = compile(&grammar);
        assert!(message.starts_with(start) && message.contains(part), "{message}");
        assert!(!message.contains("backtrace") && !message.contains('\n'), "{message}");
    }
}

/// A vocabulary of words without the characters that the grammar wants.
#[test]
fn a_vocabulary_that_cannot_write_it_is_an_error() {
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [{"id": 0, "content": "<eos>", "special": true, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false}],
        "pre_tokenizer": null, "post_processor": null, "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": {"<eos>": 0, "a": 1, "{": 2}, "unk_token": "<eos>"},
    });
    let tokenizer = Tokenizer::from_bytes(tokenizer.to_string().as_bytes()).unwrap();
    let compiler = GrammarCompiler::new(&tokenizer, &[0]).unwrap();
    assert!(compiler.compile(&Grammar::regex("b")).is_err());
    // The brace can be written, but nothing behind it.
    let mut constraint = compiler.compile(&Grammar::json_object()).unwrap();
    constraint.accept(2).unwrap();
    let error = constraint.allowed().unwrap_err().to_string();
    assert!(error.starts_with("the JSON schema cannot be followed: "), "{error}");
    let mut constraint = compiler.compile(&Grammar::regex("a{3}")).unwrap();
    for _ in 0..3 {
        assert_eq!(constraint.allowed().unwrap().ids().collect::<Vec<_>>(), [1]);
        constraint.accept(1).unwrap();
    }
    assert_eq!(constraint.allowed().unwrap().ids().collect::<Vec<_>>(), [0]);
}
