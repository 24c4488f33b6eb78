//! Clients of a server on loopback. All are on one thread and do little: they share the cores with what they measure.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, TryStreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::runtime::Builder;

/// Why a request came to nothing.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Who asks, and what.
#[derive(Debug)]
pub struct Clients {
    address: SocketAddr,
    prompt_tokens: usize,
    max_tokens: usize,
    vocab_size: usize,
    /// Requests so far: each has a prompt of its own.
    asked: AtomicUsize,
}

/// What clients saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// Tokens of all answers, as the server counts them.
    pub tokens: usize,
    /// From each question to the first text of its answer.
    pub first_ms: Vec<f64>,
    /// From each text to the next: a token's, or that of a few that make up a character.
    pub between_ms: Vec<f64>,
}

impl Clients {
    /// Clients that ask the server at `address` for `max_tokens` tokens behind `prompt_tokens`.
    pub fn new(address: SocketAddr, prompt_tokens: u32, max_tokens: u32, vocab_size: usize) -> Self {
        let (prompt_tokens, max_tokens) = (prompt_tokens as usize, max_tokens as usize);
        Self { address, prompt_tokens, max_tokens, vocab_size, asked: AtomicUsize::new(0) }
    }

    /// So many clients, each asking `requests` things, one after the other, and more until `least` has passed; what each
    /// request saw.
    ///
    /// # Errors
    /// The first [`Failure`] of any of them.
    pub fn ask(&self, clients: u16, requests: u32, least: Duration) -> Result<Vec<Seen>, Failure> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let clients: FuturesUnordered<_> = (0..clients).map(|_| self.client(requests, least)).collect();
        let seen: Vec<Vec<Seen>> = runtime.block_on(clients.try_collect())?;
        Ok(seen.into_iter().flatten().collect())
    }

    async fn client(&self, requests: u32, least: Duration) -> Result<Vec<Seen>, Failure> {
        let started = Instant::now();
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut seen = Vec::with_capacity(requests as usize);
        while seen.len() < requests as usize || started.elapsed() < least {
            seen.push(self.request(&mut sender).await?);
        }
        Ok(seen)
    }

    async fn request(&self, sender: &mut SendRequest<Full<Bytes>>) -> Result<Seen, Failure> {
        let request = Request::post("/v1/completions")
            .header(HOST, self.address.to_string())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(self.question()))?;
        sender.ready().await?;
        let mut watch = Watch::new();
        let response = sender.send_request(request).await?;
        let status = response.status();
        if status != StatusCode::OK {
            let body = response.into_body().collect().await?.to_bytes();
            return Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into());
        }
        watch.listen(response).await?;
        let Watch { seen, ended, .. } = watch;
        if !ended || seen.tokens != self.max_tokens {
            let (expected, found) = (self.max_tokens, seen.tokens);
            return Err(format!("expected an answer of {expected} tokens, found one of {found}").into());
        }
        Ok(seen)
    }

    fn question(&self) -> String {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        // A step of its own once first tokens repeat, so that no prompt is known from another.
        let step = 7919 + number / self.vocab_size;
        let id = |place: usize| (number * 104_729 + place * step) % self.vocab_size;
        let prompt: Vec<usize> = (0..self.prompt_tokens).map(id).collect();
        json!({
            "prompt": prompt, "max_tokens": self.max_tokens, "temperature": 0, "ignore_eos": true, "stream": true,
            "stream_options": { "include_usage": true },
        })
        .to_string()
    }
}

/// An event of an answer, as far as it is looked at.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    choices: Vec<Choice<'a>>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Usage {
    completion_tokens: usize,
}

/// Listens to one answer.
struct Watch {
    asked: Instant,
    last: Option<Instant>,
    seen: Seen,
    /// It was said that nothing more comes.
    ended: bool,
}

impl Watch {
    fn new() -> Self {
        Self { asked: Instant::now(), last: None, seen: Seen::default(), ended: false }
    }

    async fn listen(&mut self, mut response: Response<Incoming>) -> Result<(), Failure> {
        // The beginning of an event whose end has not come.
        let mut begun = Vec::new();
        while let Some(frame) = response.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            begun.extend_from_slice(&data);
            let mut rest = begun.as_slice();
            while let Some(end) = rest.windows(2).position(|pair| pair == b"\n\n") {
                self.hear(&rest[..end])?;
                rest = &rest[end + 2..];
            }
            begun.drain(..begun.len() - rest.len());
        }
        Ok(())
    }

    fn hear(&mut self, event: &[u8]) -> Result<(), Failure> {
        let data = event.strip_prefix(b"data: ").ok_or("expected an event with data")?;
        if data == b"[DONE]" {
            self.ended = true;
            return Ok(());
        }
        let Event { choices, usage } = serde_json::from_slice(data)
            .map_err(|error| format!("`{}`: {error}", String::from_utf8_lossy(data)))?;
        if choices.iter().any(|choice| !choice.text.is_empty()) {
            let now = Instant::now();
            let milliseconds = |since: Instant| (now - since).as_secs_f64() * 1000.0;
            match self.last {
                None => self.seen.first_ms.push(milliseconds(self.asked)),
                Some(last) => self.seen.between_ms.push(milliseconds(last)),
            }
            self.last = Some(now);
        }
        if let Some(usage) = usage {
            self.seen.tokens = usage.completion_tokens;
        }
        Ok(())
    }
}
