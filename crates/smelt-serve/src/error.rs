//! What a client hears when it does not get what it asked for: OpenAI's shape of errors.

use std::error::Error;
use std::fmt;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use serde::Serialize;
use smelt_generate::GenerateError;
use smelt_text::TextError;

/// Seconds after which a client that met a full queue may come again.
const RETRY_AFTER_SECONDS: u64 = 1;

/// An error as `{"error": {"message", "type", "param", "code"}}` with its status.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    body: ErrorBody,
}

#[derive(Debug, Serialize)]
struct ErrorBody {
    message: String,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<String>,
    code: Option<&'static str>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: &'a ErrorBody,
}

const INVALID: &str = "invalid_request_error";
const SERVER: &str = "server_error";

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, body: ErrorBody { message: message.into(), kind, param: None, code: Some(code) } }
    }

    /// The field `param` (or the whole request, if it is empty) holds what it must not.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, "invalid_value", message).of(param)
    }

    /// The field `param` is known and nothing that this server does.
    pub fn unsupported(param: impl Into<String>, why: &str) -> Self {
        let param = param.into();
        let message = format!("`{param}` is not supported: {why}");
        Self::new(StatusCode::BAD_REQUEST, INVALID, "unsupported_parameter", message).of(param)
    }

    /// The field `param` is unknown.
    pub fn unknown_field(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, "unknown_parameter", message).of(param)
    }

    /// The body is no JSON.
    pub fn not_json(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, "invalid_json", message)
    }

    /// The body does not say that it is JSON.
    pub fn not_said_to_be_json() -> Self {
        let message = "expected the header `content-type: application/json`";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, INVALID, "unsupported_media_type", message)
    }

    /// There is no model of this name.
    pub fn no_model(name: &str, names: &[&str]) -> Self {
        let message = format!("there is no model `{name}`, expected one of `{}`", names.join("`, `"));
        Self::new(StatusCode::NOT_FOUND, INVALID, "model_not_found", message).of("model")
    }

    /// More tokens than the context holds.
    pub fn too_long(param: impl Into<String>, tokens: usize, context: usize) -> Self {
        let message = format!(
            "this model's context holds {context} tokens, the request has {tokens} and needs one more"
        );
        Self::new(StatusCode::BAD_REQUEST, INVALID, "context_length_exceeded", message).of(param)
    }

    /// No API key, or a wrong one.
    pub fn no_key() -> Self {
        let message = "expected the header `authorization: Bearer KEY` with a key of this server";
        Self::new(StatusCode::UNAUTHORIZED, INVALID, "invalid_api_key", message)
    }

    /// The server has no such name.
    pub fn foreign_name(name: &str) -> Self {
        let message = format!(
            "expected the header `host` with an address or `localhost`, found `{name}`: for other names, listen at an \
             address that others reach (`--host`), or ask for a key (`--api-key`)"
        );
        Self::new(StatusCode::FORBIDDEN, INVALID, "unknown_host", message)
    }

    /// There is nothing at this path.
    pub fn no_path(path: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, INVALID, "unknown_url", format!("there is nothing at `{path}`"))
    }

    /// The path knows other methods.
    pub fn no_method(method: &str, path: &str) -> Self {
        let message = format!("`{path}` does not take {method}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, INVALID, "method_not_allowed", message)
    }

    /// The body is larger than allowed.
    pub fn too_large(limit: usize) -> Self {
        let message = format!("the request is larger than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID, "request_too_large", message)
    }

    /// The body did not arrive in time, or not at all.
    pub fn too_slow() -> Self {
        let message = "the request did not arrive in time";
        Self::new(StatusCode::REQUEST_TIMEOUT, INVALID, "request_timeout", message)
    }

    /// The server takes no more requests.
    pub fn shutting_down() -> Self {
        let message = "the server is shutting down";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "service_unavailable_error", "shutting_down", message)
    }

    /// Something that should not have happened.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, SERVER, "internal_error", message)
    }

    fn of(mut self, param: impl Into<String>) -> Self {
        self.body.param = Some(param.into()).filter(|param| !param.is_empty());
        self
    }

    /// The same, said of the field `param`.
    #[must_use]
    pub fn at(self, param: &str) -> Self {
        if self.body.param.is_some() { self } else { self.of(param) }
    }

    /// Its JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&Envelope { error: &self.body }).expect("an error is plain data")
    }
}

impl From<GenerateError> for ApiError {
    fn from(error: GenerateError) -> Self {
        let message = with_causes(&error);
        let bad = |code| Self::new(StatusCode::BAD_REQUEST, INVALID, code, message.clone());
        match error {
            GenerateError::BadOption { option, .. } => bad("invalid_value").of(option),
            GenerateError::EmptyPrompt | GenerateError::Prompt(_) => bad("invalid_value"),
            GenerateError::PromptTooLong { prompt, context } => Self::too_long("", prompt, context),
            GenerateError::TooLarge { .. } => bad("context_length_exceeded"),
            GenerateError::QueueFull { .. } => {
                let kind = "rate_limit_error";
                Self::new(StatusCode::TOO_MANY_REQUESTS, kind, "rate_limit_exceeded", message)
            }
            GenerateError::ShutDown => Self::shutting_down(),
            GenerateError::Deadline => Self::new(StatusCode::GATEWAY_TIMEOUT, SERVER, "timeout", message),
            _ => {
                tracing::error!("{message}");
                Self::internal(message)
            }
        }
    }
}

impl From<TextError> for ApiError {
    fn from(error: TextError) -> Self {
        match error {
            TextError::TemplateRaised { .. } | TextError::Render { .. } | TextError::Encode { .. } => {
                Self::invalid("", with_causes(&error))
            }
            error => Self::internal(with_causes(&error)),
        }
    }
}

/// The message of an error and of what caused it.
fn with_causes(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(current) = cause {
        let text = current.to_string();
        if !message.contains(&text) {
            message += &format!(": {text}");
        }
        cause = current.source();
    }
    message
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.body.message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.to_json()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self.status {
            StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert("www-authenticate", HeaderValue::from_static("Bearer"));
            }
            // It would take as long once more; OpenAI's clients ask this header before they repeat.
            StatusCode::GATEWAY_TIMEOUT => {
                headers.insert("x-should-retry", HeaderValue::from_static("false"));
            }
            _ => {}
        }
        response
    }
}
