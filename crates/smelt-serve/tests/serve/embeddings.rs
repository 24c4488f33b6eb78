//! `/v1/embeddings`, `/tokenize`, `/v1/models`, `/health`, `/metrics`.

use serde_json::{Value, json};

use crate::client::{get, post};
use crate::setup::{CONTEXT, NAMES, Running};

#[test]
fn vectors_have_length_one_in_both_encodings() {
    let server = Running::start();
    let ids = server.tokenizer.encode_with_special_tokens("the moon").unwrap();
    let vectors = |input: Value, encoding: &str| {
        let body = json!({ "model": "nano", "input": input, "encoding_format": encoding });
        let answer = post(server.address, "/v1/embeddings", &body);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let answer = vectors(json!(["the moon", "for file in"]), "float");
    let of = |index: usize| -> Vec<f32> {
        serde_json::from_value(answer["data"][index]["embedding"].clone()).unwrap()
    };
    for index in 0..2 {
        let length = of(index).iter().map(|value| value * value).sum::<f32>().sqrt();
        assert!((length - 1.0).abs() < 1e-4, "{length}");
    }
    assert_eq!(of(0).len(), 32);
    assert_ne!(of(0), of(1));
    assert_eq!(answer["usage"]["prompt_tokens"], answer["usage"]["total_tokens"]);
    let encoded = vectors(json!(ids), "base64")["data"][0]["embedding"].as_str().unwrap().to_owned();
    assert_eq!(encoded.len(), (32_usize * 4).div_ceil(3) * 4);
    let again: Vec<f32> =
        serde_json::from_value(vectors(json!(ids), "float")["data"][0]["embedding"].clone()).unwrap();
    assert!(again.iter().zip(of(0)).all(|(a, b)| (a - b).abs() < 1e-4));
}

#[test]
fn models_health_and_metrics_tell_what_there_is() {
    let server = Running::start();
    let models = get(server.address, "/v1/models").json();
    let names: Vec<&str> =
        models["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(names, NAMES);
    let one = get(server.address, "/v1/models/other/nano").json();
    assert_eq!((&one["object"], &one["max_model_len"]), (&json!("model"), &json!(CONTEXT)));
    assert_eq!(get(server.address, "/v1/models/none").error()["code"], "model_not_found");
    assert_eq!(get(server.address, "/health").json()["status"], "ok");
    post(server.address, "/v1/completions", &json!({ "prompt": "for", "max_tokens": 5 }));
    let text = get(server.address, "/metrics").body;
    let value = |name: &str| -> f64 {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")))
            .unwrap_or_else(|| panic!("{name}: {text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(value("smelt_generated_tokens_total"), 5.0);
    assert_eq!(value("smelt_requests_finished_total"), 1.0);
    assert_eq!(value("smelt_first_token_seconds_count"), 1.0);
    assert!(text.contains("smelt_http_requests_total{path=\"/v1/completions\",status=\"200\"} 1"), "{text}");
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn texts_become_tokens_and_texts_again() {
    let server = Running::start();
    let tokens =
        post(server.address, "/tokenize", &json!({ "prompt": "for file in", "return_token_strs": true }))
            .json();
    let expected = server.tokenizer.encode_with_special_tokens("for file in").unwrap();
    assert_eq!(tokens["tokens"], json!(expected));
    assert_eq!((&tokens["count"], &tokens["max_model_len"]), (&json!(expected.len()), &json!(CONTEXT)));
    let text = post(server.address, "/detokenize", &json!({ "tokens": expected })).json();
    assert_eq!(text["prompt"], "for file in");
    let refused = post(server.address, "/detokenize", &json!({ "tokens": [1, 99_999] }));
    assert_eq!((refused.status, &refused.error()["param"]), (400, &json!("tokens[1]")));
}
