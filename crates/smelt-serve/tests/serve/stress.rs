//! Many clients at once, most of them ill-behaved.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use smelt_generate::engine::EngineOptions;
use smelt_serve::ServeOptions;

use crate::client::{self, begin, post, post_text, read};
use crate::setup::Running;

const CLIENTS: usize = 64;

/// Requests in all; `SMELT_STRESS_REQUESTS` sets another number.
fn requests() -> usize {
    let number = std::env::var("SMELT_STRESS_REQUESTS").ok();
    number.map_or(512, |number| number.parse().expect("SMELT_STRESS_REQUESTS is a number"))
}

#[test]
fn every_accepted_request_is_answered_or_refused() {
    let engine =
        EngineOptions { max_running: 16, max_waiting: 40, prefix_bytes: 8 << 20, ..EngineOptions::default() };
    let server = Running::with(ServeOptions::default(), engine);
    let (left, answered, total) = (AtomicUsize::new(requests()), AtomicUsize::new(0), requests());
    let started = Instant::now();
    let resident = || smelt_backend::memory::process_current_bytes();
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (left, answered, address) = (&left, &answered, server.address);
            scope.spawn(move || {
                let mut random = StdRng::seed_from_u64(client as u64);
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                    .is_ok()
                {
                    answered.fetch_add(usize::from(act(address, &mut random)), Ordering::Relaxed);
                }
            });
        }
        if total > 2000 {
            while left.load(Ordering::Relaxed) > 0 {
                let (done, bytes) = (total - left.load(Ordering::Relaxed), resident().unwrap_or(0));
                println!(
                    "{done} requests, {:.0} s, {:.1} MiB",
                    started.elapsed().as_secs_f64(),
                    bytes as f64 / 1048576.0
                );
                thread::sleep(Duration::from_secs(5));
            }
        }
    });
    assert!(server.is_idle_within(Duration::from_secs(20)), "{:?}", server.handle.statistics());
    assert!(answered.load(Ordering::Relaxed) > total / 20);
    let counts = server.handle.statistics();
    assert!(counts.cancelled > 0 && counts.finished > 0, "{counts:?}");
    let answer = post(server.address, "/v1/completions", &json!({ "prompt": "a", "max_tokens": 3 }));
    assert_eq!(answer.json()["usage"]["completion_tokens"], 3);
}

/// One request of a kind that chance chooses; whether it was answered with what was asked for, and not refused.
fn act(address: SocketAddr, random: &mut StdRng) -> bool {
    let chat = "/v1/chat/completions";
    match random.random_range(0..10) {
        0..4 => {
            let streams = random.random::<bool>();
            let mut body = question(random);
            body["stream"] = streams.into();
            let answer = post(address, chat, &body);
            if answer.status == 200 && streams {
                let events = answer.events();
                assert!(events.last().unwrap()["choices"][0]["finish_reason"].is_string(), "{answer:?}");
            } else if answer.status != 200 {
                assert_eq!(answer.status, 429, "{answer:?}");
                answer.error();
                // As clients do: asked again at once, the server would do little but refuse.
                thread::sleep(Duration::from_millis(20));
            }
            answer.status == 200
        }
        // Leaves, at once or in the middle.
        4..6 => {
            let mut body = question(random);
            body["stream"] = random.random::<bool>().into();
            body["max_tokens"] = 500.into();
            let mut stream = begin(address, chat, &body);
            if random.random::<bool>() {
                let mut beginning = [0; 200];
                // How far it comes makes no difference.
                let _ = stream.read(&mut beginning);
            }
            false
        }
        // Reads slowly.
        6 => {
            let mut body = question(random);
            body["stream"] = true.into();
            let mut stream = begin(address, chat, &body);
            thread::sleep(Duration::from_millis(random.random_range(0..60)));
            let mut whole = Vec::new();
            let mut part = [0; 64];
            while let Ok(length @ 1..) = stream.read(&mut part) {
                whole.extend_from_slice(&part[..length]);
                thread::sleep(Duration::from_micros(200));
            }
            let text = String::from_utf8(whole).unwrap();
            assert!(text.contains("[DONE]") || text.contains("rate_limit_exceeded"), "{text}");
            text.contains("[DONE]")
        }
        // Is no request.
        7 => {
            let mut body = question(random).to_string();
            body.truncate(body.floor_char_boundary(random.random_range(0..body.len())));
            let answer = post_text(address, chat, &body);
            assert_eq!((answer.status, &answer.error()["code"]), (400, &json!("invalid_json")));
            false
        }
        // Is too long.
        8 => {
            let answer = post(
                address,
                chat,
                &json!({ "messages": [{ "role": "user", "content": "moon ".repeat(2000) }] }),
            );
            assert_eq!((answer.status, &answer.error()["code"]), (400, &json!("context_length_exceeded")));
            false
        }
        // Breaks off in the middle of a request, or is no HTTP at all.
        _ => {
            let mut stream = client::open(address);
            let whole = client::request(
                "POST",
                chat,
                &[("content-type", "application/json")],
                &question(random).to_string(),
            );
            let length = random.random_range(0..whole.len());
            stream.write_all(&whole.as_bytes()[..length]).unwrap();
            if random.random::<bool>() {
                stream.write_all(&[0, 255, 13, 10, 13, 10]).unwrap();
            }
            if random.random::<bool>() {
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                // An answer or none: it has asked for nothing.
                let _ = read(stream);
            }
            false
        }
    }
}

fn question(random: &mut StdRng) -> Value {
    let words = ["the", "moon", "for", "file", "in", "café"];
    let content: Vec<&str> =
        (0..random.random_range(1..12)).map(|_| words[random.random_range(0..words.len())]).collect();
    let mut body = json!({
        "messages": [{ "role": "user", "content": content.join(" ") }],
        "max_tokens": random.random_range(1..24),
        "temperature": random.random_range(0.0..1.5),
        "n": random.random_range(1..3),
    });
    if random.random_bool(0.2) {
        body["logprobs"] = true.into();
        body["top_logprobs"] = 5.into();
    }
    body
}
