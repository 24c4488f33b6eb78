//! Server-sent events: `data: {...}` and an empty line each.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::Response;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use futures_util::stream::unfold;
use serde::Serialize;

use crate::error::ApiError;

/// What comes last.
const DONE: &str = "data: [DONE]\n\n";
/// Room for an event or two, so that few frames grow.
const FRAME_BYTES: usize = 1 << 10;

/// Something that is told piece by piece.
pub trait Pieces: Send + 'static {
    /// Writes what has happened to `frame`, waiting until there is something; false at the end.
    ///
    /// # Errors
    /// What is told last.
    fn tell(&mut self, frame: &mut Frame) -> impl Future<Output = Result<bool, ApiError>> + Send;
}

/// Events that are sent together.
#[derive(Debug, Default)]
pub struct Frame(Vec<u8>);

impl Frame {
    /// Adds an event.
    pub fn push(&mut self, event: &impl Serialize) {
        self.0.extend_from_slice(b"data: ");
        serde_json::to_writer(&mut self.0, event).expect("an event is plain data");
        self.0.extend_from_slice(b"\n\n");
    }

    /// Adds an event that is JSON already.
    pub fn push_json(&mut self, json: &str) {
        self.0.extend_from_slice(b"data: ");
        self.0.extend_from_slice(json.as_bytes());
        self.0.extend_from_slice(b"\n\n");
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The response that tells `pieces`. A client that leaves drops them.
pub fn response(pieces: impl Pieces) -> Response<Body> {
    let frames = unfold(Some(pieces), |pieces| async move {
        let mut pieces = pieces?;
        let mut frame = Frame(Vec::with_capacity(FRAME_BYTES));
        let mut goes_on = true;
        while goes_on && frame.is_empty() {
            goes_on = pieces.tell(&mut frame).await.unwrap_or_else(|error| {
                frame.push_json(&error.to_json());
                false
            });
        }
        if !goes_on {
            frame.0.extend_from_slice(DONE.as_bytes());
        }
        Some((Ok::<_, Infallible>(Bytes::from(frame.0)), goes_on.then_some(pieces)))
    });
    let mut response = Response::new(Body::from_stream(frames));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies such as nginx would hold the stream back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
