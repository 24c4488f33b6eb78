//! From the bytes of a request to its type: nothing is ignored, and every complaint names its field.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::time::timeout;

use crate::app::SharedApp;
use crate::error::ApiError;

/// The body of a request.
pub trait ApiRequest: Sized {
    /// Reads it from the fields of the JSON object; those that are null count as absent and are not among them.
    ///
    /// # Errors
    /// [`ApiError`] naming the field.
    fn from_fields(fields: Map<String, Value>) -> Result<Self, ApiError>;
}

/// A body in JSON.
#[derive(Debug)]
pub struct ApiJson<T>(pub T);

impl<T: ApiRequest> FromRequest<SharedApp> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &SharedApp) -> Result<Self, ApiError> {
        if app.is_closing() {
            return Err(ApiError::shutting_down());
        }
        check_type(request.headers())?;
        let limits = &app.options.limits;
        let body = whole_body(request, limits.request_bytes);
        let body = timeout(limits.read_time, body).await.map_err(|_| ApiError::too_slow())??;
        parse(&body).map(Self)
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") { Ok(()) } else { Err(ApiError::not_said_to_be_json()) }
}

async fn whole_body(request: Request<Body>, limit: usize) -> Result<Vec<u8>, ApiError> {
    let length = |length: &HeaderValue| length.to_str().ok()?.parse::<u64>().ok();
    if request.headers().get(CONTENT_LENGTH).and_then(length).is_some_and(|length| length > limit as u64) {
        return Err(ApiError::too_large(limit));
    }
    match Limited::new(request.into_body(), limit).collect().await {
        Ok(body) => Ok(body.to_bytes().into()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::too_large(limit)),
        Err(error) => Err(ApiError::not_json(format!("the request broke off: {error}"))),
    }
}

/// A request from the JSON in `body`.
///
/// # Errors
/// [`ApiError`].
pub fn parse<T: ApiRequest>(body: &[u8]) -> Result<T, ApiError> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| ApiError::not_json(format!("the request is no JSON: {error}")))?;
    let Value::Object(mut fields) = value else {
        return Err(ApiError::not_json("the request is no JSON object"));
    };
    fields.retain(|_, value| !value.is_null());
    T::from_fields(fields)
}

/// Refuses the fields that are known and not supported, each with its reason.
///
/// # Errors
/// [`ApiError::unsupported`].
pub fn refuse(fields: &Map<String, Value>, refused: &[(&str, &str)]) -> Result<(), ApiError> {
    match refused.iter().find(|(name, _)| fields.contains_key(*name)) {
        Some((name, why)) => Err(ApiError::unsupported(*name, why)),
        None => Ok(()),
    }
}

/// Takes the fields with these `names` out.
pub fn take(fields: &mut Map<String, Value>, names: &[&str]) -> Map<String, Value> {
    let mut taken = Map::new();
    fields.retain(|name, value| {
        let keep = !names.contains(&name.as_str());
        if !keep {
            taken.insert(name.clone(), value.take());
        }
        keep
    });
    taken
}

/// Reads `fields` into a type that denies unknown ones.
///
/// # Errors
/// [`ApiError`] with the path of what does not fit.
pub fn typed<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        let message = error.inner().to_string();
        if message.starts_with("unknown field") {
            let name = message.split('`').nth(1).unwrap_or_default();
            return ApiError::unknown_field(&path, format!("unknown field `{name}`"));
        }
        let what = if path.is_empty() { "the request".to_owned() } else { format!("`{path}`") };
        ApiError::invalid(&path, format!("{what}: {message}"))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::chat::ChatRequest;
    use crate::completions::CompletionRequest;
    use crate::fields::GENERATION_FIELDS;

    /// JSON of any shape.
    fn anything() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-z{}\\[\\]\"]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(key(), inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    fn key() -> impl Strategy<Value = String> {
        const NAMES: [&str; 14] = [
            "messages",
            "role",
            "content",
            "tools",
            "type",
            "function",
            "name",
            "parameters",
            "tool_choice",
            "prompt",
            "logprobs",
            "response_format",
            "json_schema",
            "schema",
        ];
        let known = NAMES.into_iter().chain(GENERATION_FIELDS).map(str::to_owned).collect::<Vec<_>>();
        prop_oneof![4 => prop::sample::select(known), 1 => "[a-z_]{0,5}"]
    }

    proptest! {
        #[test]
        fn every_body_is_read_or_refused(fields in prop::collection::btree_map(key(), anything(), 0..6)) {
            let body = Value::Object(fields.into_iter().collect()).to_string();
            for refused in [parse::<ChatRequest>(body.as_bytes()).err(), parse::<CompletionRequest>(body.as_bytes()).err()] {
                let told: Value = serde_json::from_str(&refused.map_or_else(|| "{}".to_owned(), |error| error.to_json())).unwrap();
                prop_assert!(told.get("error").is_none_or(|error| error["message"].is_string()));
            }
        }

        #[test]
        fn no_field_is_ignored(name in "[a-z_]{1,12}") {
            let known = [&GENERATION_FIELDS[..], &["messages", "tools", "logprobs", "store", "metadata"]].concat();
            prop_assume!(!known.contains(&name.as_str()));
            let mut body = json!({ "messages": [{ "role": "user", "content": "a" }] });
            body[&name] = json!({ "odd": 1 });
            prop_assert!(parse::<ChatRequest>(body.to_string().as_bytes()).is_err());
        }
    }

    #[test]
    fn every_shared_field_is_known_to_its_type() {
        for name in GENERATION_FIELDS {
            let fields = Map::from_iter([(name.to_owned(), json!({ "odd": [] }))]);
            let said = typed::<crate::fields::GenerationFields>(fields).err().map(|error| error.to_json());
            assert!(
                said.is_none_or(|said| !said.contains("unknown_parameter") || said.contains(".odd")),
                "{name}"
            );
        }
    }
}
