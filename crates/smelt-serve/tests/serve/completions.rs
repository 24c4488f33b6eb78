//! `/v1/completions`.

use serde_json::{Value, json};

use crate::client::post;
use crate::setup::Running;

const PATH: &str = "/v1/completions";

fn done(server: &Running, body: Value) -> Value {
    let answer = post(server.address, PATH, &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[test]
fn a_prompt_may_be_text_or_ids_alone_or_several() {
    let server = Running::start();
    let ids = server.tokenizer.encode_with_special_tokens("for file in").unwrap();
    let texts = |prompt: Value| -> Vec<Value> {
        let answer = done(&server, json!({ "prompt": prompt, "seed": 1 }));
        assert_eq!(answer["object"], "text_completion");
        answer["choices"].as_array().unwrap().iter().map(|choice| choice["text"].clone()).collect()
    };
    let alone = texts(json!("for file in"));
    assert_eq!(alone.len(), 1);
    assert_eq!(texts(json!(ids)), alone);
    assert_eq!(texts(json!(["for file in", "for file in"])), [alone.clone(), alone.clone()].concat());
    assert_eq!(texts(json!([ids])), alone);
    let other = texts(json!(["the moon", "for file in"]));
    assert_ne!(other[0], alone[0]);
    assert_eq!(other[1], alone[0]);
}

#[test]
fn an_echo_with_log_probabilities_scores_the_prompt() {
    let server = Running::start();
    let prompt = "for file in the moon";
    let ids = server.tokenizer.encode_with_special_tokens(prompt).unwrap();
    let asked = |max_tokens: usize| json!({ "prompt": prompt, "max_tokens": max_tokens, "echo": true, "logprobs": 2, "temperature": 0 });
    let scored = done(&server, asked(0));
    let choice = &scored["choices"][0];
    assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!(prompt), &json!("length")));
    let logprobs = &choice["logprobs"];
    let column = |name: &str| logprobs[name].as_array().unwrap().clone();
    assert_eq!(column("tokens").len(), ids.len());
    let tokens: String = column("tokens").iter().map(|token| token.as_str().unwrap().to_owned()).collect();
    assert_eq!(tokens, prompt);
    assert!(column("token_logprobs")[0].is_null() && column("top_logprobs")[0].is_null());
    assert!(column("token_logprobs")[1..].iter().all(|value| value.as_f64().unwrap() < 0.0));
    let offset = column("text_offset").last().unwrap().as_u64().unwrap() as usize;
    assert_eq!(&prompt[offset..], column("tokens").last().unwrap().as_str().unwrap());
    assert_eq!(scored["usage"]["completion_tokens"], 0);

    // What was scored goes on with what is generated.
    let more = done(&server, asked(3));
    let text = more["choices"][0]["text"].as_str().unwrap();
    assert!(text.starts_with(prompt));
    let all = more["choices"][0]["logprobs"]["token_logprobs"].as_array().unwrap();
    assert_eq!(all.len(), ids.len() + 3);
    for (again, first) in all.iter().zip(column("token_logprobs")).skip(1) {
        let difference = again.as_f64().unwrap() - first.as_f64().unwrap();
        assert!(difference.abs() < 1e-4, "{difference}");
    }
}

#[test]
fn a_stream_says_what_a_whole_answer_says() {
    let server = Running::start();
    let asked =
        json!({ "prompt": ["for", "the"], "n": 2, "seed": 3, "echo": true, "logprobs": 0, "max_tokens": 9 });
    let whole = done(&server, asked.clone());
    let mut asked = asked;
    asked["stream"] = true.into();
    let events = post(server.address, PATH, &asked).events();
    for choice in whole["choices"].as_array().unwrap() {
        let pieces =
            events.iter().map(|event| &event["choices"][0]).filter(|piece| piece["index"] == choice["index"]);
        let pieces: Vec<&Value> = pieces.collect();
        let text: String = pieces.iter().map(|piece| piece["text"].as_str().unwrap()).collect();
        assert_eq!(choice["text"], text);
        assert_eq!(pieces.last().unwrap()["finish_reason"], choice["finish_reason"]);
        let column = |name: &str| -> Vec<Value> {
            let columns = pieces.iter().filter_map(|piece| piece["logprobs"][name].as_array());
            columns.flatten().cloned().collect()
        };
        for name in ["tokens", "text_offset"] {
            assert_eq!(choice["logprobs"][name], Value::Array(column(name)), "{name}");
        }
    }
}

#[test]
fn the_best_of_several_are_the_likeliest() {
    let server = Running::start();
    let mean = |choice: &Value| {
        let values = choice["logprobs"]["token_logprobs"].as_array().unwrap();
        values.iter().map(|value| value.as_f64().unwrap()).sum::<f64>() / values.len() as f64
    };
    let asked = |more: Value| {
        let mut asked = json!({ "prompt": ["for", "the"], "seed": 3, "logprobs": 0, "max_tokens": 6, "temperature": 1.5 });
        asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        done(&server, asked)["choices"].as_array().unwrap().clone()
    };
    let (all, best) = (asked(json!({ "n": 5 })), asked(json!({ "n": 2, "best_of": 5 })));
    assert_eq!((all.len(), best.len()), (10, 4));
    for prompt in 0..2 {
        let mut means: Vec<f64> = all[prompt * 5..][..5].iter().map(mean).collect();
        means.sort_by(|a, b| b.total_cmp(a));
        for (found, expected) in best[prompt * 2..][..2].iter().zip(means) {
            assert!((mean(found) - expected).abs() < 1e-4);
        }
    }
    assert_eq!(best[3]["index"], 3);
}
