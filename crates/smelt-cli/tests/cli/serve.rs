//! `smelt serve` and `smelt bench serve` as a user starts and stops them, and the `openai` package as their client.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::python::python_with;
use crate::smelt::{Place, Ran};

/// A server, and what it said when it was ready.
struct Serving {
    process: Child,
    ready: Value,
}

impl Serving {
    fn start(place: &Place, args: &[&str]) -> Self {
        let mut command = place.command(&[&["serve", "--port", "0", "--json"], args].concat());
        command.env("SMELT_API_KEY", "secret").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        Self { process, ready }
    }

    fn url(&self) -> &str {
        self.ready["url"].as_str().unwrap()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let post = ureq::post(format!("{}{path}", self.url())).header("content-type", "application/json");
        let answer = post.header("authorization", "Bearer secret").send(body.to_string()).unwrap();
        serde_json::from_str(&answer.into_body().read_to_string().unwrap()).unwrap()
    }

    fn metric(&self, name: &str) -> f64 {
        let get = ureq::get(format!("{}/metrics", self.url())).header("authorization", "Bearer secret");
        let text = get.call().unwrap().into_body().read_to_string().unwrap();
        let line =
            text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {text}"));
        line.trim().parse().unwrap()
    }

    /// Ends it as Ctrl-C does; returns what it wrote to stderr.
    fn stop(mut self) -> String {
        let killed = Command::new("kill").args(["-INT", &self.process.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let started = Instant::now();
        while self.process.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < Duration::from_secs(60), "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        let status = self.process.wait().unwrap();
        let stderr = std::io::read_to_string(self.process.stderr.take().unwrap()).unwrap();
        assert!(status.success(), "{status}\n{stderr}");
        stderr
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It has ended already where a test came to its end.
        let _ = self.process.kill();
    }
}

/// A place with a nano model in `base`, and an adapter of it in `lora`.
fn place() -> Place {
    let place = Place::new();
    let shape = ["model.hidden_size=32", "model.num_hidden_layers=2", "model.num_attention_heads=4"];
    let mut base =
        vec!["train", "--max-steps", "4", "--warmup-steps", "1", "--seq-length", "32", "--output", "base"];
    base.extend(shape.iter().flat_map(|setting| ["--set", setting]));
    base.extend(["--set", "model.max_position_embeddings=1024", "--quiet"]);
    place.done(&base);
    let lora = [
        "train",
        "--model",
        "base",
        "--method",
        "lora",
        "--max-steps",
        "2",
        "--warmup-steps",
        "1",
        "--seq-length",
        "32",
    ];
    place.done(&[&lora[..], &["--output", "lora", "--quiet"]].concat());
    place
}

#[test]
fn models_and_adapters_are_served_by_name_until_it_is_stopped() {
    let place = place();
    let args =
        ["--model", "base", "--model", "again=base", "--adapter", "tuned=lora", "--model-memory", "1MiB"];
    let serving = Serving::start(&place, &args);
    assert_eq!(serving.ready["models"], json!(["base", "again", "tuned"]));
    for name in ["tuned", "base", "again", "tuned"] {
        let body = json!({ "model": name, "prompt": "for file", "max_tokens": 3 });
        let answer = serving.post("/v1/completions", &body);
        assert_eq!(answer["model"], name);
    }
    let log = serving.stop();
    assert_eq!(log.matches("POST /v1/completions tuned: 200, ").count(), 2, "{log}");
}

#[test]
fn a_draft_model_guesses_and_changes_nothing() {
    let place = place();
    let answers = |args: &[&str]| {
        let serving =
            Serving::start(&place, &[&["--model", "base", "--adapter", "tuned=lora"], args].concat());
        let answer = |name| {
            let body = json!({ "model": name, "prompt": "for file", "max_tokens": 30, "temperature": 0.8, "seed": 5 });
            serving.post("/v1/completions", &body)["choices"][0]["text"].clone()
        };
        let texts = ["base", "tuned"].map(answer);
        let accepted = serving.metric("smelt_accepted_tokens_total");
        serving.stop();
        (texts, accepted)
    };
    let (alone, none) = answers(&[]);
    assert_eq!(none, 0.0);
    let (guessed, accepted) = answers(&["--draft-model", "base=base", "--draft-tokens", "3"]);
    assert_eq!(guessed, alone);
    // The model itself guesses right, and what an adapter of two steps says nearly always.
    assert!(accepted > 30.0, "{accepted}");
}

#[test]
fn what_cannot_be_served_is_said() {
    let place = place();
    let refused = |args: &[&str], words: &[&str]| {
        let Ran { code, stderr, .. } = place.smelt(&[&["serve"], args].concat());
        assert!(code.is_some_and(|code| code > 0), "{args:?}");
        for word in words {
            assert!(stderr.contains(word), "{args:?}: no `{word}` in\n{stderr}");
        }
    };
    refused(&["--model", "base", "--model", "base"], &["two models are called `base`", "NAME=DIR"]);
    refused(&["--model", "base", "--adapter", "lora"], &["has no name", "NAME=lora"]);
    refused(&["--model", "base", "--draft-model", "no=base"], &["no model `no`", "NAME=DIR"]);
    refused(
        &["--model", "base", "--draft-model", "base", "--draft-model", "base=base"],
        &["no model `base` without a draft model"],
    );
    refused(&["--model", "base", "--draft-model", "base", "--prompt-lookup"], &["cannot be used with"]);
    refused(&["--model", "base", "--draft-tokens", "2"], &["--prompt-lookup"]);
    refused(&["--model", "base", "--cors", "example.org"], &["is no origin", "https://"]);
    refused(&["--model", "base", "--api-key", ""], &["an API key is empty"]);
    refused(&["--model", "nowhere/at-all", "--offline"], &["nowhere/at-all"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    refused(&["--model", "base", "--port", &port], &["cannot listen at 127.0.0.1:", "--port 0"]);
}

#[test]
fn the_server_is_measured_by_number_of_clients() {
    let place = place();
    let args =
        ["bench", "serve", "--model", "base", "--concurrency", "1,3", "--requests", "2", "--max-tokens", "8"];
    let ran = place.done(&[&args[..], &["--plot", "serve.svg", "--json"]].concat());
    let levels = ran.records();
    assert_eq!(levels.len(), 2);
    for (level, clients) in levels.iter().zip([1, 3]) {
        let count = |name: &str| level[name].as_u64().unwrap();
        assert_eq!((count("clients"), count("tokens")), (clients, count("requests") * 8));
        // As many as asked for, and as many as fit a second.
        assert!(count("requests") >= clients * 2 && level["seconds"].as_f64().unwrap() >= 1.0, "{level}");
        assert!(level["first_token_ms"]["p50"].as_f64().unwrap() > 0.0, "{level}");
        assert!(level["between_tokens_ms"]["p99"].as_f64() >= level["between_tokens_ms"]["p50"].as_f64());
    }
    let picture = std::fs::read_to_string(place.path("serve.svg")).unwrap();
    assert!(picture.starts_with("<svg ") && picture.contains("between tokens, ms"), "{picture}");
    let table = place.done(&args).stdout;
    assert!(table.starts_with("clients  tokens/s") && table.lines().count() == 3, "{table}");
}

/// A model that has learned one call by heart writes it in the manner of its template, and the server tells it from text.
#[test]
fn a_model_that_has_learned_to_call_tools_calls_them() {
    let place = place();
    let tools = json!([{ "type": "function", "function": { "name": "weather", "parameters": { "type": "object" } } }]);
    let call =
        json!({ "type": "function", "function": { "name": "weather", "arguments": { "city": "Bern" } } });
    let asked = |text: &str| json!({ "role": "user", "content": text });
    let learned = [
        json!({ "messages": [asked("weather?"), { "role": "assistant", "content": "", "tool_calls": [call] }], "tools": tools }),
        json!({ "messages": [asked("hello"), { "role": "assistant", "content": "Hello there." }], "tools": tools }),
    ];
    let lines: String = learned.iter().cycle().take(8).map(|line| format!("{line}\n")).collect();
    place.write("chats/train.jsonl", &lines);
    let mut train =
        vec!["train", "--model", "base", "--data", "chats", "--mask-prompt", "--output", "caller", "--quiet"];
    train.extend([
        "--max-steps",
        "100",
        "--warmup-steps",
        "5",
        "--batch-size",
        "2",
        "--learning-rate",
        "5e-3",
    ]);
    train.extend(["--seq-length", "400"]);
    place.done(&train);
    let serving = Serving::start(&place, &["--model", "caller"]);
    let answer = |text: &str| {
        let body = json!({ "messages": [asked(text)], "tools": tools, "temperature": 0, "max_tokens": 80 });
        serving.post("/v1/chat/completions", &body)["choices"][0].clone()
    };
    let called = answer("weather?");
    let function = json!({ "name": "weather", "arguments": "{\"city\":\"Bern\"}" });
    assert_eq!(called["message"]["tool_calls"][0]["function"], function, "{called}");
    assert_eq!(
        (&called["message"]["content"], &called["finish_reason"]),
        (&Value::Null, &json!("tool_calls"))
    );
    let said = answer("hello");
    assert_eq!(
        (&said["message"]["content"], &said["finish_reason"]),
        (&json!("Hello there."), &json!("stop"))
    );
    serving.stop();
}

#[test]
fn the_openai_package_is_content() {
    let Some(python) = python_with("import openai") else {
        return println!("skipped: no Python with openai; `cargo xtask check-python` makes one");
    };
    let place = place();
    let serving = Serving::start(&place, &["--model", "base"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../xtask/python/openai_client.py");
    let url = format!("{}/v1", serving.url());
    let output = Command::new(python).arg(script).args([&url, "base", "secret"]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    println!("{}", text(&output.stdout));
    serving.stop();
}
