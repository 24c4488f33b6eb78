//! Which path leads where, and what every request passes on its way.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use axum::http::{HeaderName, Method, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use subtle::ConstantTimeEq as _;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::app::SharedApp;
use crate::error::ApiError;
use crate::{chat, completions, embeddings, health, host, log, metrics, models, page, tokens};

/// Paths for which nobody needs a key: the page asks for it, and whoever watches the server has none.
const OPEN_PATHS: [&str; 2] = ["/", "/health"];

/// How long a browser may remember what another origin may do.
const CORS_AGE: Duration = Duration::from_secs(600);

/// The routes of the server.
pub fn router(app: SharedApp) -> Router {
    let cors = cors(&app.options.cors_origins);
    let router = Router::new()
        .route("/", get(page::page))
        .route("/health", get(health::health))
        .route("/metrics", get(metrics::metrics))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*name}", get(models::one))
        .route("/v1/chat/completions", post(chat::completions))
        .route("/v1/completions", post(completions::completions))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .fallback(no_path)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(app.clone(), check_key))
        .layer(from_fn_with_state(app.clone(), host::check))
        .layer(from_fn_with_state(app.clone(), log::middleware));
    let router = match cors {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router.with_state(app)
}

async fn no_path(uri: Uri) -> ApiError {
    ApiError::no_path(uri.path())
}

async fn no_method(method: Method, uri: Uri) -> ApiError {
    ApiError::no_method(method.as_str(), uri.path())
}

/// Lets those through who bring a key.
async fn check_key(State(app): State<SharedApp>, request: Request<Body>, next: Next) -> Response {
    let keys = &app.options.api_keys;
    let is_open = keys.is_empty() || OPEN_PATHS.contains(&request.uri().path());
    let header = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    if !is_open && !is_known(header, keys) {
        return ApiError::no_key().into_response();
    }
    next.run(request).await
}

/// Whether the header holds one of `keys`. Takes as long whatever of a key is right, and whichever it is.
fn is_known(header: &[u8], keys: &[String]) -> bool {
    let (scheme, key) = header.split_at_checked(b"Bearer ".len()).unwrap_or_default();
    let mut known = subtle::Choice::from(0);
    for expected in keys {
        known |= key.ct_eq(expected.as_bytes());
    }
    bool::from(known) && scheme.eq_ignore_ascii_case(b"Bearer ")
}

fn cors(origins: &[String]) -> Option<CorsLayer> {
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, HeaderName::from_static("x-stainless-os")])
        .max_age(CORS_AGE);
    (!origins.is_empty()).then_some(layer)
}
