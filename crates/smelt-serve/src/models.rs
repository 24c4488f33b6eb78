//! `/v1/models`: what can be asked for.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use crate::app::{App, Model, SharedApp};
use crate::error::ApiError;

/// All models, in the order in which they were given.
pub async fn list(State(app): State<SharedApp>) -> Json<Value> {
    let names = app.handle.models().iter().map(|model| model.name.as_str());
    let entries: Vec<Value> =
        names.filter_map(|name| Some(entry(&app, app.model(Some(name)).ok()?))).collect();
    Json(json!({ "object": "list", "data": entries }))
}

/// One model; its name may have slashes.
pub async fn one(State(app): State<SharedApp>, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    Ok(Json(entry(&app, app.model(Some(&name))?)))
}

fn entry(app: &App, model: Model<'_>) -> Value {
    json!({
        "id": model.engine.name,
        "object": "model",
        "created": model.served.created,
        "owned_by": "smelt",
        "parent": model.served.parent,
        "max_model_len": model.engine.context_length(),
        "loaded": app.handle.statistics().loaded_models.contains(&model.index),
    })
}
