//! A line for every request, written when its answer is over or its client has left.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use smelt_generate::engine::EndReport;

use crate::app::SharedApp;
use crate::usage::Usage;

/// What a handler adds to the line about its request.
#[derive(Debug, Clone, Default)]
pub struct Figures(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    model: String,
    user: String,
    usage: Usage,
}

impl Figures {
    /// Which model, for whom.
    pub fn begin(&self, model: &str, user: Option<&str>) {
        self.with(|told| {
            model.clone_into(&mut told.model);
            user.unwrap_or_default().clone_into(&mut told.user);
        });
    }

    /// How many tokens so far.
    pub fn usage(&self, usage: Usage) {
        self.with(|told| told.usage = usage);
    }

    fn with(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// How long the parts of a choice took.
pub fn timings(id: &str, report: &EndReport) {
    tracing::debug!(
        "{id}: waited {:.3} s, prompt {:.3} s, {} tokens in {:.3} s, {} of {} drafted taken",
        report.waiting_seconds,
        report.prompt_seconds,
        report.generated_tokens,
        report.generation_seconds,
        report.accepted_tokens,
        report.drafted_tokens
    );
}

/// Sees to it that every request is logged and counted.
pub async fn middleware(State(app): State<SharedApp>, mut request: Request, next: Next) -> Response {
    let figures = Figures::default();
    let path = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let mut line = Line {
        app,
        method: request.method().to_string(),
        path,
        status: None,
        figures: figures.clone(),
        started: Instant::now(),
        is_whole: false,
    };
    request.extensions_mut().insert(figures);
    let response = next.run(request).await;
    line.status = Some(response.status().as_u16());
    let (parts, body) = response.into_parts();
    line.is_whole = body.is_end_stream();
    Response::from_parts(parts, Body::new(Watched { body, line }))
}

/// Writes itself when it is dropped.
struct Line {
    app: SharedApp,
    method: String,
    path: String,
    /// None if the client left before there was one.
    status: Option<u16>,
    figures: Figures,
    started: Instant,
    is_whole: bool,
}

impl Drop for Line {
    fn drop(&mut self) {
        let seconds = self.started.elapsed().as_secs_f64();
        let status = self.status.map_or("-".to_owned(), |status| status.to_string());
        let left = if self.is_whole { "" } else { ", the client left" };
        self.app.metrics.request(&self.path, &status, seconds);
        self.figures.with(|told| {
            let Told { model, user, usage } = &*told;
            let Usage { prompt_tokens, completion_tokens, .. } = usage;
            let of = if model.is_empty() { String::new() } else { format!(" {model}") };
            let user = if user.is_empty() { String::new() } else { format!(" user {user:?}") };
            let tokens = match usage.total_tokens {
                0 => String::new(),
                _ => format!(", {prompt_tokens} + {completion_tokens} tokens"),
            };
            let Self { method, path, .. } = self;
            tracing::info!("{method} {path}{of}{user}: {status}{tokens}, {seconds:.3} s{left}");
        });
    }
}

/// A body with the line about it.
struct Watched {
    body: Body,
    line: Line,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.line.is_whole = true;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
