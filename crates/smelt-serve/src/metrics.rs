//! `/metrics`: counts and times as Prometheus reads them.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use smelt_generate::engine::{EndReport, EngineHandle, EngineStatistics};

use crate::app::SharedApp;
use crate::error::ApiError;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the server counts; what the engine counts is read from it.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Histogram,
    first_token_seconds: Histogram,
    token_seconds: Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    path: String,
    status: String,
}

impl Metrics {
    pub fn new(handle: EngineHandle) -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("smelt"),
            requests: Family::default(),
            // From a millisecond to a quarter of an hour.
            request_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 20)),
            first_token_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 17)),
            token_seconds: Histogram::new(exponential_buckets(0.000_5, 2.0, 14)),
        };
        metrics.registered(handle)
    }

    fn registered(mut self, handle: EngineHandle) -> Self {
        let registry = &mut self.registry;
        registry.register("http_requests", "Requests that were answered", self.requests.clone());
        let help = "Seconds from a request to the end of its answer";
        registry.register("http_request_seconds", help, self.request_seconds.clone());
        let help = "Seconds from the submission of a prompt to its first token";
        registry.register("first_token_seconds", help, self.first_token_seconds.clone());
        let help = "Mean seconds between the tokens of an answer";
        registry.register("token_seconds", help, self.token_seconds.clone());
        registry.register_collector(Box::new(EngineCollector(handle)));
        self
    }

    /// Counts a request.
    pub fn request(&self, path: &str, status: &str, seconds: f64) {
        let labels = RequestLabels { path: path.to_owned(), status: status.to_owned() };
        self.requests.get_or_create(&labels).inc();
        self.request_seconds.observe(seconds);
    }

    /// Counts a choice that has ended.
    pub fn choice(&self, report: &EndReport) {
        if report.generated_tokens > 0 {
            self.first_token_seconds.observe(report.waiting_seconds + report.prompt_seconds);
        }
        if report.generated_tokens > 1 {
            self.token_seconds.observe(report.generation_seconds / (report.generated_tokens - 1) as f64);
        }
    }
}

/// Answers `/metrics`.
pub async fn metrics(State(app): State<SharedApp>) -> Result<impl IntoResponse, ApiError> {
    let mut text = String::new();
    encode(&mut text, &app.metrics.registry).map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(([(CONTENT_TYPE, OPENMETRICS)], text))
}

/// Reads the engine's counts when they are asked for.
#[derive(Debug)]
struct EngineCollector(EngineHandle);

impl Collector for EngineCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counts = self.0.statistics();
        for (name, help, value) in gauges(&counts) {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        for (name, help, value) in counters(&counts) {
            let counter = ConstCounter::new(value);
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        Ok(())
    }
}

fn gauges(counts: &EngineStatistics) -> [(&'static str, &'static str, f64); 5] {
    [
        ("requests_waiting", "Prompts that wait to be started", counts.waiting as f64),
        ("requests_running", "Prompts that are being continued", counts.running as f64),
        ("models_loaded", "Models in memory", counts.loaded_models.len() as f64),
        ("cache_bytes", "Keys and values of running prompts", counts.cache_bytes as f64),
        ("prefix_bytes", "Keys and values kept for later prompts", counts.prefix_bytes as f64),
    ]
}

fn counters(counts: &EngineStatistics) -> [(&'static str, &'static str, f64); 12] {
    [
        ("requests_finished", "Prompts that came to their end", counts.finished as f64),
        ("requests_cancelled", "Prompts whose client left", counts.cancelled as f64),
        ("requests_failed", "Prompts that failed, or took too long", counts.failed as f64),
        ("requests_refused", "Prompts that were refused", counts.refused as f64),
        ("prompt_tokens", "Tokens of prompts that were computed", counts.prompt_tokens as f64),
        ("cached_prompt_tokens", "Tokens of prompts that were held", counts.cached_prompt_tokens as f64),
        ("generated_tokens", "Tokens handed out", counts.generated_tokens as f64),
        ("drafted_tokens", "Tokens that drafts proposed", counts.drafted_tokens as f64),
        ("accepted_tokens", "Drafted tokens that were taken", counts.accepted_tokens as f64),
        ("passes", "Passes through a model", counts.passes as f64),
        ("forward_seconds", "Seconds in these", counts.forward_seconds),
        ("host_seconds", "Seconds between them", counts.host_seconds),
    ]
}
