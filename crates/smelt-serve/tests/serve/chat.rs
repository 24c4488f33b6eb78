//! `/v1/chat/completions`.

use serde_json::{Value, json};

use crate::client::post;
use crate::setup::Running;

const PATH: &str = "/v1/chat/completions";

fn body(more: Value) -> Value {
    let mut body = json!({ "model": "nano", "messages": [{ "role": "user", "content": "the moon" }], "max_tokens": 12, "seed": 7 });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The contents of the deltas of a choice, put together.
fn streamed(events: &[Value], index: u64) -> String {
    let choices = events.iter().flat_map(|event| event["choices"].as_array().unwrap());
    choices
        .filter(|choice| choice["index"] == index)
        .filter_map(|choice| choice["delta"]["content"].as_str())
        .collect()
}

#[test]
fn a_whole_answer_and_a_stream_say_the_same() {
    let server = Running::start();
    let answer = post(server.address, PATH, &body(json!({})));
    assert_eq!(answer.status, 200, "{answer:?}");
    let whole = answer.json();
    assert!(whole["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(whole["object"], "chat.completion");
    let choice = &whole["choices"][0];
    assert_eq!(
        (&choice["message"]["role"], &choice["finish_reason"]),
        (&json!("assistant"), &json!("length"))
    );
    assert_eq!(choice["logprobs"], Value::Null);
    assert_eq!(whole["usage"]["completion_tokens"], 12);
    let prompt_tokens = whole["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!(whole["usage"]["total_tokens"], prompt_tokens + 12);

    let answer = post(
        server.address,
        PATH,
        &body(json!({ "stream": true, "stream_options": { "include_usage": true } })),
    );
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let events = answer.events();
    assert_eq!(events[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
    assert!(
        events
            .iter()
            .all(|event| event["object"] == "chat.completion.chunk" && event["id"] == events[0]["id"])
    );
    let (usage, events) = events.split_last().unwrap();
    assert_eq!((&usage["choices"], &usage["usage"]["completion_tokens"]), (&json!([]), &json!(12)));
    assert!(events.iter().all(|event| event["usage"].is_null()));
    let last = &events.last().unwrap()["choices"][0];
    assert_eq!((&last["delta"], &last["finish_reason"]), (&json!({}), &json!("length")));
    assert_eq!(streamed(events, 0), choice["message"]["content"].as_str().unwrap());
}

#[test]
fn choices_have_seeds_one_after_the_other() {
    let server = Running::start();
    let texts = |more: Value| -> Vec<String> {
        let answer = post(server.address, PATH, &body(more)).json();
        let choices = answer["choices"].as_array().unwrap().clone();
        choices.iter().map(|choice| choice["message"]["content"].as_str().unwrap().to_owned()).collect()
    };
    let three = texts(json!({ "n": 3 }));
    let alone: Vec<String> = (7..10).flat_map(|seed| texts(json!({ "seed": seed }))).collect();
    assert_eq!(three, alone);
    assert_ne!(three[0], three[1]);
    let events = post(server.address, PATH, &body(json!({ "n": 3, "stream": true }))).events();
    assert_eq!([0, 1, 2].map(|index| streamed(&events, index)).to_vec(), three);
}

#[test]
fn log_probabilities_come_with_their_tokens() {
    let server = Running::start();
    let asked = json!({ "logprobs": true, "top_logprobs": 3, "temperature": 0 });
    let answer = post(server.address, PATH, &body(asked.clone())).json();
    let choice = &answer["choices"][0];
    let content = choice["logprobs"]["content"].as_array().unwrap();
    assert_eq!(content.len(), 12);
    let mut bytes = Vec::new();
    for token in content {
        assert_eq!(token["top_logprobs"].as_array().unwrap().len(), 3);
        assert_eq!(token["top_logprobs"][0]["logprob"], token["logprob"], "greedy takes the likeliest");
        assert!(token["logprob"].as_f64().unwrap() <= 0.0);
        bytes.extend(token["bytes"].as_array().unwrap().iter().map(|byte| byte.as_u64().unwrap() as u8));
    }
    assert_eq!(String::from_utf8_lossy(&bytes), choice["message"]["content"].as_str().unwrap());
    let mut asked = asked;
    asked["stream"] = true.into();
    let events = post(server.address, PATH, &body(asked)).events();
    let of_stream: Vec<Value> = events
        .iter()
        .filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array().cloned())
        .flatten()
        .collect();
    assert_eq!(of_stream.len(), content.len());
    // Rounded otherwise, since the prompt was held from the first request.
    for (again, first) in of_stream.iter().zip(content) {
        assert_eq!(again["bytes"], first["bytes"]);
        assert!((again["logprob"].as_f64().unwrap() - first["logprob"].as_f64().unwrap()).abs() < 1e-4);
    }
}

#[test]
fn a_stop_string_ends_the_text() {
    let server = Running::start();
    let text = |more: Value| post(server.address, PATH, &body(more)).json()["choices"][0].clone();
    let whole = text(json!({ "max_tokens": 40 }))["message"]["content"].as_str().unwrap().to_owned();
    let characters: Vec<char> = whole.chars().collect();
    let stop: String = characters[characters.len() / 2..][..2].iter().collect();
    let choice = text(json!({ "max_tokens": 40, "stop": [stop] }));
    assert_eq!(choice["finish_reason"], "stop");
    assert_eq!(choice["message"]["content"].as_str().unwrap(), &whole[..whole.find(&stop).unwrap()]);
}

#[test]
fn the_template_gets_tools_and_earlier_calls() {
    let server = Running::start();
    let weather =
        json!({ "type": "function", "function": { "name": "weather", "parameters": { "type": "object" } } });
    let prompt_tokens = |more: Value| {
        let answer = post(server.address, PATH, &body(more));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    let plain = prompt_tokens(json!({}));
    assert!(prompt_tokens(json!({ "tools": [weather], "max_tokens": 1 })) > plain + 50);
    assert_eq!(prompt_tokens(json!({ "tools": [weather], "tool_choice": "none" })), plain);
    let messages = json!([
        { "role": "developer", "content": "Be brief." },
        { "role": "user", "content": [{ "type": "text", "text": "the " }, { "type": "text", "text": "moon" }] },
        { "role": "assistant", "content": null, "tool_calls": [
            { "id": "a", "type": "function", "function": { "name": "weather", "arguments": "{\"x\": 1}" } }
        ] },
        { "role": "tool", "tool_call_id": "a", "content": "fine" },
    ]);
    let tokens = prompt_tokens(json!({ "messages": messages, "max_tokens": 1 }));
    let asked = json!({ "messages": messages, "return_token_strs": true });
    let tokenized = post(server.address, "/tokenize", &asked).json();
    assert_eq!(tokenized["count"], tokens);
    let ids = json!({ "tokens": tokenized["tokens"] });
    let text = post(server.address, "/detokenize", &ids).json()["prompt"].as_str().unwrap().to_owned();
    assert!(
        text.starts_with("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nthe moon<|im_end|>\n"),
        "{text}"
    );
    assert!(
        text.contains("<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"x\": 1}}\n</tool_call>"),
        "{text}"
    );
    assert!(text.contains("<tool_response>\nfine\n</tool_response>"), "{text}");
    assert!(text.ends_with("<|im_start|>assistant\n"), "{text}");
}

#[test]
fn metadata_comes_back_and_models_differ() {
    let server = Running::start();
    let metadata =
        json!({ "metadata": { "run": "1" }, "user": "ann", "store": false, "service_tier": "auto" });
    let answer = post(server.address, PATH, &body(metadata)).json();
    assert_eq!(answer["metadata"], json!({ "run": "1" }));
    let other = post(server.address, PATH, &body(json!({ "model": "other/nano" }))).json();
    assert_eq!(other["model"], "other/nano");
    assert_ne!(answer["choices"], other["choices"]);
}
