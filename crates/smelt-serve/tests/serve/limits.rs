//! Keys, origins, sizes, times, full queues, clients that leave, and the end.

use std::io::{Read as _, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use smelt_generate::engine::{EngineOptions, EngineStatistics};
use smelt_serve::{Limits, ServeOptions};

use crate::client::{begin, get, open, post, read, request, send};
use crate::setup::Running;

const PATH: &str = "/v1/completions";
const SOON: Duration = Duration::from_secs(20);

fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < 3 * SOON, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn limited(limits: Limits) -> ServeOptions {
    ServeOptions { limits, ..ServeOptions::default() }
}

#[test]
fn a_key_opens_all_but_the_page_and_health() {
    let options = ServeOptions { api_keys: vec!["secret".into(), "other".into()], ..ServeOptions::default() };
    let server = Running::with(options, EngineOptions::default());
    let status = |path: &str, key: &str| {
        let header = format!("Bearer {key}");
        let headers = [("authorization", header.as_str())];
        send(server.address, &request("GET", path, if key.is_empty() { &[] } else { &headers }, "")).status
    };
    assert_eq!(["", "secre", "secrets", "SECRET"].map(|key| status("/v1/models", key)), [401; 4]);
    assert_eq!(["secret", "other"].map(|key| status("/v1/models", key)), [200; 2]);
    assert_eq!(["/", "/health", "/metrics", "/v2"].map(|path| status(path, "")), [200, 200, 401, 401]);
    assert_eq!(get(server.address, "/v1/models").error()["code"], "invalid_api_key");
    assert_eq!(post(server.address, PATH, &json!({ "prompt": "a" })).status, 401);
}

#[test]
fn names_that_others_gave_the_machine_are_refused() {
    let named = |server: &Running, host: &str| {
        let request = format!("GET /v1/models HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        send(server.address, &request)
    };
    let open = Running::start();
    assert_eq!(["127.0.0.1:1", "localhost", "[::1]:8080"].map(|host| named(&open, host).status), [200; 3]);
    let refused = named(&open, "rebound.example");
    assert_eq!((refused.status, &refused.error()["code"]), (403, &json!("unknown_host")));
    // Where a key is asked for, the name does not matter.
    let options = ServeOptions { api_keys: vec!["secret".into()], ..ServeOptions::default() };
    assert_eq!(named(&Running::with(options, EngineOptions::default()), "rebound.example").status, 401);
}

#[test]
fn other_origins_are_let_in_by_name_only() {
    let preflight = [("origin", "https://a.example"), ("access-control-request-method", "POST")];
    let closed = Running::start();
    let answer = send(closed.address, &request("GET", "/v1/models", &preflight[..1], ""));
    assert!(answer.headers.iter().all(|(name, _)| !name.starts_with("access-control")), "{answer:?}");
    let options = ServeOptions { cors_origins: vec!["https://a.example".into()], ..ServeOptions::default() };
    let server = Running::with(options, EngineOptions::default());
    let answer = send(server.address, &request("OPTIONS", PATH, &preflight, ""));
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://a.example"));
    let other = [("origin", "https://b.example"), preflight[1]];
    let answer = send(server.address, &request("OPTIONS", PATH, &other, ""));
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[test]
fn what_is_too_large_or_too_slow_is_refused() {
    let limits = Limits {
        request_bytes: 1000,
        header_time: Duration::from_millis(300),
        read_time: Duration::from_millis(300),
        ..Limits::default()
    };
    let server = Running::with(limited(limits), EngineOptions::default());
    let large = json!({ "prompt": "a".repeat(2000) });
    let answer = post(server.address, PATH, &large);
    assert_eq!((answer.status, &answer.error()["code"]), (413, &json!("request_too_large")));
    let chunked = format!(
        "POST {PATH} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\n\r\n7d0\r\n{}\r\n0\r\n\r\n",
        "a".repeat(2000)
    );
    assert_eq!(send(server.address, &chunked).status, 413);
    // A body that never comes.
    let head = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{";
    let answer = send(server.address, head);
    assert_eq!((answer.status, &answer.error()["code"]), (408, &json!("request_timeout")));
    // A head that never ends, and a connection that says nothing.
    for beginning in ["GET / HTTP/1.1\r\nhost: localhost\r\nx-slow: ", ""] {
        let mut stream = open(server.address);
        stream.write_all(beginning.as_bytes()).unwrap();
        let started = Instant::now();
        let mut rest = Vec::new();
        // Closed with or without a word.
        let _ = stream.read_to_end(&mut rest);
        assert!(started.elapsed() < SOON, "{beginning:?}");
    }
}

#[test]
fn a_long_list_runs_where_many_requests_are_refused() {
    let engine = EngineOptions { max_running: 2, max_waiting: 2, ..EngineOptions::default() };
    let server = Running::with(ServeOptions::default(), engine);
    let prompts: Vec<String> = (0..30).map(|number| format!("for {number}")).collect();
    let answer = post(server.address, PATH, &json!({ "prompt": prompts, "max_tokens": 2 }));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["choices"].as_array().unwrap().len(), 30);
    let long = json!({ "prompt": "a", "max_tokens": 200, "ignore_eos": true });
    let streams: Vec<_> = (0..24).map(|_| begin(server.address, PATH, &long)).collect();
    let answers: Vec<_> = streams.into_iter().map(|stream| read(stream).unwrap()).collect();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status != 200).collect();
    assert!(!refused.is_empty() && refused.len() < 24);
    for answer in refused {
        assert_eq!((answer.status, &answer.error()["code"]), (429, &json!("rate_limit_exceeded")));
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
}

#[test]
fn a_client_that_leaves_ends_its_request() {
    let server = Running::start();
    for stream in [false, true] {
        let before = server.handle.statistics().cancelled;
        let endless =
            json!({ "prompt": "a", "max_tokens": 900, "ignore_eos": true, "stream": stream, "n": 8 });
        let client = begin(server.address, PATH, &endless);
        wait("it runs", || server.handle.statistics().running > 0);
        drop(client);
        assert!(server.is_idle_within(SOON));
        assert!(server.handle.statistics().cancelled > before, "stream: {stream}");
    }
}

#[test]
fn a_client_that_does_not_read_holds_nobody_up() {
    let server = Running::start();
    let endless = json!({ "prompt": "a", "max_tokens": 900, "ignore_eos": true, "stream": true, "n": 8, "logprobs": 20 });
    let silent: Vec<_> = (0..4).map(|_| begin(server.address, PATH, &endless)).collect();
    let answer = post(server.address, PATH, &json!({ "prompt": "b", "max_tokens": 4 }));
    assert_eq!(answer.status, 200, "{answer:?}");
    drop(silent);
    assert!(server.is_idle_within(SOON));
}

#[test]
fn a_client_that_never_reads_is_left() {
    let limits = Limits { write_time: Duration::from_millis(200), ..Limits::default() };
    let server = Running::with(limited(limits), EngineOptions::default());
    // More than the buffers of a connection hold.
    let much = json!({ "prompt": "a", "max_tokens": 900, "ignore_eos": true, "stream": true, "n": 16, "logprobs": 20 });
    let silent = begin(server.address, PATH, &much);
    let counted = "path=\"/v1/completions\"";
    wait("the connection is ended", || get(server.address, "/metrics").body.contains(counted));
    assert!(server.is_idle_within(SOON));
    drop(silent);
}

#[test]
fn an_answer_that_takes_too_long_is_an_error() {
    let limits = Limits { request_time: Duration::ZERO, ..Limits::default() };
    let server = Running::with(limited(limits), EngineOptions::default());
    let answer = post(server.address, PATH, &json!({ "prompt": "a", "max_tokens": 200, "ignore_eos": true }));
    assert_eq!((answer.status, &answer.error()["code"]), (504, &json!("timeout")));
    assert_eq!(answer.header("x-should-retry"), Some("false"));
}

#[test]
fn a_shutdown_finishes_what_runs() {
    let mut server = Running::start();
    let mut streams = Vec::new();
    for stream in [true, false] {
        streams.push(begin(
            server.address,
            PATH,
            &json!({ "prompt": "a", "max_tokens": 200, "ignore_eos": true, "stream": stream, "seed": 1 }),
        ));
    }
    let begun = |counts: EngineStatistics| counts.running as u64 + counts.finished;
    wait("both have begun", || begun(server.handle.statistics()) >= 2);
    server.stop();
    let answers: Vec<_> = streams.into_iter().map(|stream| read(stream).unwrap()).collect();
    assert_eq!(answers[0].events().last().unwrap()["choices"][0]["finish_reason"], "length");
    assert_eq!(answers[1].json()["usage"]["completion_tokens"], 200);
    server.ended();
    assert!(std::net::TcpStream::connect(server.address).is_err(), "nobody listens any more");
}
