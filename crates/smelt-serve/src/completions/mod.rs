//! `/v1/completions`: texts that go on.

mod request;
mod response;
mod stream;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use tokio::task::spawn_blocking;

pub use self::request::CompletionRequest;
use self::request::Prepared;
use self::response::Texts;
use crate::answer::Answer;
use crate::app::SharedApp;
use crate::error::ApiError;
use crate::log::Figures;
use crate::request::ApiJson;
use crate::sse;

/// Continues prompts.
pub async fn completions(
    State(app): State<SharedApp>,
    Extension(figures): Extension<Figures>,
    ApiJson(request): ApiJson<CompletionRequest>,
) -> Result<Response, ApiError> {
    let asked = app.clone();
    let prepared = spawn_blocking(move || request.prepare(&asked).map(|prepared| (request, prepared)));
    let (request, Prepared { question, prompts }) =
        prepared.await.map_err(|error| ApiError::internal(error.to_string()))??;
    let answer = Answer::begin(app, question, "cmpl-", figures).await?;
    let texts = Texts::new(&request, prompts);
    if request.generation.stream {
        return Ok(sse::response(stream::CompletionStream::new(
            answer,
            texts,
            request.generation.includes_usage(),
        )));
    }
    Ok(axum::Json(response::whole(answer, texts, request.choices()).await?).into_response())
}
