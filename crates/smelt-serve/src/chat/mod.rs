//! `/v1/chat/completions`: conversations.

mod message;
mod prompt;
mod request;
mod response;
mod stream;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;
use tokio::task::spawn_blocking;

pub use self::request::ChatRequest;
use crate::answer::Answer;
use crate::app::SharedApp;
use crate::error::ApiError;
use crate::log::Figures;
use crate::request::ApiJson;
use crate::sse;

pub use self::message::{Message, values};

/// Answers a conversation.
pub async fn completions(
    State(app): State<SharedApp>,
    Extension(figures): Extension<Figures>,
    ApiJson(request): ApiJson<ChatRequest>,
) -> Result<Response, ApiError> {
    let asked = app.clone();
    let prepared =
        spawn_blocking(move || prompt::question(&asked, &request).map(|question| (request, question)));
    let (request, question) = prepared.await.map_err(|error| ApiError::internal(error.to_string()))??;
    let answer = Answer::begin(app, question, "chatcmpl-", figures).await?;
    let metadata = request.fields.metadata.map(Value::Object);
    if request.generation.stream {
        let stream =
            stream::ChatStream::new(answer, request.generation.includes_usage(), request.fields.logprobs);
        return Ok(sse::response(stream));
    }
    let whole = response::whole(answer, request.fields.logprobs, metadata).await?;
    Ok(axum::Json(whole).into_response())
}
