//! `/v1/embeddings`: a vector for each input.

use std::time::Instant;

use axum::extract::State;
use axum::{Extension, Json};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use smelt_generate::engine::Event;
use tokio::task::spawn_blocking;

use crate::app::SharedApp;
use crate::error::ApiError;
use crate::generation::{Generation, Part, Wanted};
use crate::log::Figures;
use crate::request::{ApiJson, ApiRequest, refuse, typed};
use crate::tokens::Prompts;
use crate::usage::Usage;

const REFUSED: [(&str, &str); 1] = [("dimensions", "vectors have the hidden size of the model")];

/// The body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingsRequest {
    input: Prompts,
    model: Option<String>,
    #[serde(default)]
    encoding_format: Encoding,
    user: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Encoding {
    #[default]
    Float,
    /// The bytes of little-endian f32.
    Base64,
}

impl ApiRequest for EmbeddingsRequest {
    fn from_fields(fields: Map<String, Value>) -> Result<Self, ApiError> {
        refuse(&fields, &REFUSED)?;
        typed(fields)
    }
}

/// Answers with one vector of length 1 per input, in order.
pub async fn embeddings(
    State(app): State<SharedApp>,
    Extension(figures): Extension<Figures>,
    ApiJson(request): ApiJson<EmbeddingsRequest>,
) -> Result<Json<Value>, ApiError> {
    let EmbeddingsRequest { input, model, encoding_format, user } = request;
    let deadline = Instant::now() + app.options.limits.request_time;
    let asked = app.clone();
    let prepared = spawn_blocking(move || {
        let model = asked.model(model.as_deref())?;
        let inputs = input.split("input")?;
        let part = |(param, input): &(String, crate::tokens::Prompt)| {
            Ok(Part { prompt: input.tokens(model, param)?.into(), wanted: Wanted::Embedding })
        };
        let parts = inputs.iter().map(part).collect::<Result<Vec<Part>, ApiError>>()?;
        Ok::<_, ApiError>((model.index, parts))
    });
    let (model, parts) = prepared.await.map_err(|error| ApiError::internal(error.to_string()))??;
    let name = app.handle.models()[model].name.clone();
    figures.begin(&name, user.as_deref());
    let mut usage = Usage::default();
    usage.prompt_tokens = parts.iter().map(|part| part.prompt.len()).sum();
    usage.total_tokens = usage.prompt_tokens;
    let mut vectors: Vec<Vec<f32>> = vec![Vec::new(); parts.len()];
    let mut generation = Generation::start(&app.handle, model, parts, deadline)?;
    while let Some((index, event)) = generation.next().await? {
        if let Event::Embedding(vector) = event {
            vectors[index] = vector;
        }
    }
    figures.usage(usage);
    let data: Vec<Value> = vectors
        .iter()
        .enumerate()
        .map(|(index, vector)| json!({ "object": "embedding", "index": index, "embedding": encoded(vector, encoding_format) }))
        .collect();
    let usage = json!({ "prompt_tokens": usage.prompt_tokens, "total_tokens": usage.total_tokens });
    Ok(Json(json!({ "object": "list", "data": data, "model": name, "usage": usage })))
}

fn encoded(vector: &[f32], encoding: Encoding) -> Value {
    match encoding {
        Encoding::Float => vector.into(),
        Encoding::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
            STANDARD.encode(bytes).into()
        }
    }
}
