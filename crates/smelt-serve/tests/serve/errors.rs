//! What is refused, and in which words.

use serde_json::{Value, json};

use crate::client::{get, post, post_text, request, send};
use crate::setup::Running;

fn chat(more: Value) -> Value {
    let mut body = json!({ "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 1 });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn with_message(message: Value) -> Value {
    chat(json!({ "messages": [{ "role": "user", "content": "hi" }, message] }))
}

/// Body, status, `param` and `code`.
type Case = (Value, u16, &'static str, &'static str);

fn check(path: &str, cases: Vec<Case>) {
    let server = Running::start();
    for (body, status, param, code) in cases {
        let answer = post(server.address, path, &body);
        let error = answer.error();
        let expected = if param.is_empty() { Value::Null } else { param.into() };
        assert_eq!(
            (answer.status, &error["param"], &error["code"]),
            (status, &expected, &json!(code)),
            "{body}: {error}"
        );
    }
}

#[test]
fn chats_are_refused_by_the_name_of_the_field() {
    let tool = json!({ "type": "function", "function": { "name": "f", "strict": true } });
    let call = |arguments: &str| json!({ "role": "assistant", "tool_calls": [{ "id": "a", "type": "function", "function": { "name": "f", "arguments": arguments } }] });
    check(
        "/v1/chat/completions",
        vec![
            (chat(json!({ "model": "gpt-4" })), 404, "model", "model_not_found"),
            (chat(json!({ "colour": 1 })), 400, "colour", "unknown_parameter"),
            (chat(json!({ "functions": [] })), 400, "functions", "unsupported_parameter"),
            (chat(json!({ "audio": {} })), 400, "audio", "unsupported_parameter"),
            (chat(json!({ "store": true })), 400, "store", "unsupported_parameter"),
            (chat(json!({ "modalities": ["audio"] })), 400, "modalities", "unsupported_parameter"),
            (chat(json!({ "service_tier": "flex" })), 400, "service_tier", "unsupported_parameter"),
            (chat(json!({ "reasoning_effort": "low" })), 400, "reasoning_effort", "unsupported_parameter"),
            (chat(json!({ "messages": [] })), 400, "messages", "invalid_value"),
            (chat(json!({ "messages": "hi" })), 400, "messages", "invalid_value"),
            (json!({ "max_tokens": 1 }), 400, "", "invalid_value"),
            (
                with_message(json!({ "role": "pope", "content": "hi" })),
                400,
                "messages[1].role",
                "invalid_value",
            ),
            (with_message(json!({ "role": "user" })), 400, "messages[1].content", "invalid_value"),
            (
                with_message(json!({ "role": "user", "content": 1 })),
                400,
                "messages[1].content",
                "invalid_value",
            ),
            (
                with_message(json!({ "role": "user", "content": "a", "mood": 1 })),
                400,
                "messages[1].mood",
                "unknown_parameter",
            ),
            (
                with_message(
                    json!({ "role": "user", "content": [{ "type": "image_url", "image_url": {} }] }),
                ),
                400,
                "messages[1].content[0].type",
                "unsupported_parameter",
            ),
            (
                with_message(json!({ "role": "tool", "content": "a" })),
                400,
                "messages[1].tool_call_id",
                "invalid_value",
            ),
            (with_message(call("[1]")), 400, "messages[1].tool_calls[0].function.arguments", "invalid_value"),
            (chat(json!({ "temperature": "hot" })), 400, "temperature", "invalid_value"),
            (chat(json!({ "temperature": -1 })), 400, "temperature", "invalid_value"),
            (chat(json!({ "top_p": 0 })), 400, "top_p", "invalid_value"),
            (chat(json!({ "n": 0 })), 400, "n", "invalid_value"),
            (chat(json!({ "max_tokens": 0 })), 400, "max_tokens", "invalid_value"),
            (chat(json!({ "max_tokens": -1 })), 400, "max_tokens", "invalid_value"),
            (chat(json!({ "max_completion_tokens": 2 })), 400, "max_tokens", "invalid_value"),
            (chat(json!({ "top_logprobs": 2 })), 400, "top_logprobs", "invalid_value"),
            (chat(json!({ "logprobs": true, "top_logprobs": 21 })), 400, "top_logprobs", "invalid_value"),
            (chat(json!({ "stop": 5 })), 400, "stop", "invalid_value"),
            (chat(json!({ "stop": vec!["a"; 17] })), 400, "stop", "invalid_value"),
            (chat(json!({ "stop": "a".repeat(1025) })), 400, "stop", "invalid_value"),
            (chat(json!({ "stop": ["a", "b".repeat(1025)] })), 400, "stop", "invalid_value"),
            (chat(json!({ "stream_options": {} })), 400, "stream_options", "invalid_value"),
            (chat(json!({ "logit_bias": { "x": 1 } })), 400, "logit_bias.x", "invalid_value"),
            (chat(json!({ "tool_choice": "auto" })), 400, "tool_choice", "invalid_value"),
            (chat(json!({ "tools": [tool] })), 400, "tools[0].function.strict", "unsupported_parameter"),
            (chat(json!({ "tools": [{ "type": "web_search" }] })), 400, "tools[0].type", "invalid_value"),
            (
                chat(json!({ "response_format": { "type": "xml" } })),
                400,
                "response_format.type",
                "invalid_value",
            ),
            (
                chat(json!({ "messages": [{ "role": "user", "content": "moon ".repeat(2000) }] })),
                400,
                "messages",
                "context_length_exceeded",
            ),
        ],
    );
}

#[test]
fn completions_and_embeddings_are_refused_likewise() {
    check(
        "/v1/completions",
        vec![
            (json!({ "prompt": "a", "suffix": "b" }), 400, "suffix", "unsupported_parameter"),
            (json!({ "prompt": "a", "messages": [] }), 400, "messages", "unknown_parameter"),
            (json!({ "prompt": "" }), 400, "prompt", "invalid_value"),
            (json!({ "prompt": [] }), 400, "prompt", "invalid_value"),
            (json!({ "prompt": ["a", ""] }), 400, "prompt[1]", "invalid_value"),
            (json!({ "prompt": [1, 100_000] }), 400, "prompt", "invalid_value"),
            (json!({ "prompt": [1, -1] }), 400, "prompt", "invalid_value"),
            (json!({ "prompt": { "a": 1 } }), 400, "prompt", "invalid_value"),
            (json!({ "prompt": "a", "n": 3, "best_of": 2 }), 400, "best_of", "invalid_value"),
            (json!({ "prompt": vec!["a"; 2000], "n": 100 }), 400, "n", "invalid_value"),
            (json!({ "prompt": "a", "best_of": 2, "stream": true }), 400, "best_of", "unsupported_parameter"),
            (json!({ "prompt": "a", "max_tokens": 0 }), 400, "max_tokens", "invalid_value"),
            (json!({ "prompt": ["a", vec![1; 2000]] }), 400, "prompt", "invalid_value"),
            (json!({ "prompt": [vec![1; 4], vec![1; 2000]] }), 400, "prompt[1]", "context_length_exceeded"),
        ],
    );
    check(
        "/v1/embeddings",
        vec![
            (json!({ "input": "a", "dimensions": 3 }), 400, "dimensions", "unsupported_parameter"),
            (json!({ "input": "a", "encoding_format": "hex" }), 400, "encoding_format", "invalid_value"),
            (json!({ "input": vec![1; 2000] }), 400, "input", "context_length_exceeded"),
            (json!({ "input": "a", "model": "x" }), 404, "model", "model_not_found"),
        ],
    );
}

#[test]
fn what_is_no_request_is_refused_in_the_same_shape() {
    let server = Running::start();
    let path = "/v1/chat/completions";
    for body in ["", "{", "[]", "nul", "\"a\"", "{\"messages\": [}", "\u{0}"] {
        let answer = post_text(server.address, path, body);
        assert_eq!((answer.status, &answer.error()["code"]), (400, &json!("invalid_json")), "{body:?}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(post_text(server.address, path, &deep).error()["code"], "invalid_json");
    let form = request("POST", path, &[("content-type", "application/x-www-form-urlencoded")], "a=b");
    let answer = send(server.address, &form);
    assert_eq!((answer.status, &answer.error()["code"]), (415, &json!("unsupported_media_type")));
    let answer = get(server.address, path);
    assert_eq!((answer.status, &answer.error()["code"]), (405, &json!("method_not_allowed")));
    let answer = get(server.address, "/v2/all");
    assert_eq!((answer.status, &answer.error()["code"]), (404, &json!("unknown_url")));
}
