//! `/health`: whether requests are taken.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::json;

use crate::app::SharedApp;

/// 200 while requests are taken, 503 from the beginning of a shutdown.
pub async fn health(State(app): State<SharedApp>) -> impl IntoResponse {
    let counts = app.handle.statistics();
    let (status, word) = match app.is_closing() {
        false => (StatusCode::OK, "ok"),
        true => (StatusCode::SERVICE_UNAVAILABLE, "shutting_down"),
    };
    (status, Json(json!({ "status": word, "waiting": counts.waiting, "running": counts.running })))
}
