//! `--profile`: where the time of training goes, by phase and by kernel.
//!
//! Listens to the spans of `smelt_backend::profile`. Kernels of phases that track no gradients, such as an
//! evaluation, have no spans.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use serde::Serialize;
use smelt_model::weights::write_atomic;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::table::{Align, render};

/// Spans in the trace; a viewer takes no more, and the figures count all of them.
const TRACED_SPANS: usize = 250_000;

/// The phase of which every step has one.
const ONCE_A_STEP: &str = "optimizer";

/// What was measured; clones share it.
#[derive(Debug, Clone)]
pub struct Profile {
    recording: Arc<Mutex<Recording>>,
}

#[derive(Debug)]
struct Recording {
    started: Instant,
    spans: Vec<Span>,
    left_out: u64,
    totals: BTreeMap<(Kind, String), Total>,
    threads: HashMap<ThreadId, usize>,
}

/// What a span is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Phase,
    Forward,
    Backward,
}

#[derive(Debug)]
struct Span {
    kind: Kind,
    name: String,
    start: Duration,
    duration: Duration,
    thread: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Total {
    calls: u64,
    duration: Duration,
}

/// The time that went into one phase or kernel.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cost {
    kind: Kind,
    name: String,
    calls: u64,
    seconds: f64,
}

impl Profile {
    /// Nothing was measured yet.
    pub fn new() -> Self {
        let recording = Recording {
            started: Instant::now(),
            spans: Vec::new(),
            left_out: 0,
            totals: BTreeMap::new(),
            threads: HashMap::new(),
        };
        Self { recording: Arc::new(Mutex::new(recording)) }
    }

    /// What listens to the spans.
    pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        let spans = Targets::new().with_target(smelt_backend::profile::TARGET, Level::TRACE);
        Listener { profile: self.clone() }.with_filter(spans)
    }

    /// Writes the spans as a trace for `chrome://tracing` or Perfetto; returns how many did not fit.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_trace(&self, path: &Path) -> io::Result<u64> {
        let recording = self.recording();
        write_atomic(path, |file| trace(file, &recording.spans))?;
        Ok(recording.left_out)
    }

    /// The costs, phases first, the greatest first.
    pub fn costs(&self) -> Vec<Cost> {
        let recording = self.recording();
        let cost = |((kind, name), total): (&(Kind, String), &Total)| Cost {
            kind: *kind,
            name: name.clone(),
            calls: total.calls,
            seconds: total.duration.as_secs_f64(),
        };
        let mut costs: Vec<Cost> = recording.totals.iter().map(cost).collect();
        costs.sort_by(|a, b| a.kind.cmp(&b.kind).then(b.seconds.total_cmp(&a.seconds)));
        costs
    }

    fn recording(&self) -> MutexGuard<'_, Recording> {
        self.recording.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The costs as a table of phases and one of kernels; `None` without a step.
pub fn tables(costs: &[Cost]) -> Option<String> {
    let of = |kind: Kind| costs.iter().filter(move |cost| cost.kind == kind);
    let steps = of(Kind::Phase).find(|cost| cost.name == ONCE_A_STEP)?.calls;
    let total: f64 = of(Kind::Phase).map(|cost| cost.seconds).sum();
    let per_step = |seconds: f64| format!("{:.2}", seconds * 1e3 / steps as f64);
    let share = |seconds: f64| format!("{:.1} %", seconds / total * 100.0);
    let row = |cost: &Cost| {
        let calls = cost.calls as f64 / steps as f64;
        vec![cost.name.clone(), format!("{calls:.1}"), per_step(cost.seconds), share(cost.seconds)]
    };
    let columns = |name| {
        [
            (name, Align::Left),
            ("calls/step", Align::Right),
            ("ms/step", Align::Right),
            ("share", Align::Right),
        ]
    };
    let table = |name, kind| render(&columns(name), &of(kind).map(row).collect::<Vec<_>>());
    let tables = [
        table("phase", Kind::Phase),
        table("kernel, forward", Kind::Forward),
        table("kernel, backward", Kind::Backward),
    ];
    Some(tables.join("\n\n"))
}

/// The JSON of the Trace Event Format: complete events, with times in microseconds.
fn trace(file: &mut dyn Write, spans: &[Span]) -> io::Result<()> {
    writeln!(file, "{{\"displayTimeUnit\":\"ms\",\"traceEvents\":[")?;
    for (index, span) in spans.iter().enumerate() {
        let event = serde_json::json!({
            "name": span.name, "cat": span.kind, "ph": "X", "pid": 1, "tid": span.thread,
            "ts": span.start.as_nanos() as f64 / 1e3, "dur": span.duration.as_nanos() as f64 / 1e3,
        });
        writeln!(file, "{event}{}", if index + 1 < spans.len() { "," } else { "" })?;
    }
    writeln!(file, "]}}")
}

/// Measures the spans.
struct Listener {
    profile: Profile,
}

/// What a span carries while it is open.
struct Open {
    kind: Kind,
    name: String,
    /// It is part of another phase, whose time includes its own.
    nested: bool,
    entered: Option<Instant>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Listener {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let kind = match attributes.metadata().name() {
            "phase" => Kind::Phase,
            "forward" => Kind::Forward,
            "backward" => Kind::Backward,
            _ => return,
        };
        let mut name = Name(String::new());
        attributes.record(&mut name);
        if let Some(span) = context.span(id) {
            let nested = kind == Kind::Phase && span.parent().is_some();
            span.extensions_mut().insert(Open { kind, name: name.0, nested, entered: None });
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(open) = span.extensions_mut().get_mut::<Open>()
        {
            open.entered = Some(Instant::now());
        }
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        let now = Instant::now();
        if let Some(span) = context.span(id)
            && let Some(open) = span.extensions_mut().remove::<Open>()
            && let Some(entered) = open.entered
        {
            self.profile.recording().add(open, entered, now);
        }
    }
}

impl Recording {
    fn add(&mut self, open: Open, entered: Instant, left: Instant) {
        let duration = left - entered;
        if !open.nested {
            let total = self.totals.entry((open.kind, open.name.clone())).or_default();
            total.calls += 1;
            total.duration += duration;
        }
        if self.spans.len() == TRACED_SPANS {
            self.left_out += 1;
            return;
        }
        let threads = self.threads.len();
        let thread = *self.threads.entry(thread::current().id()).or_insert(threads);
        let start = entered.saturating_duration_since(self.started);
        self.spans.push(Span { kind: open.kind, name: open.name, start, duration, thread });
    }
}

/// The field `name` of a span.
struct Name(String);

impl Visit for Name {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "name" {
            value.clone_into(&mut self.0);
        }
    }

    fn record_debug(&mut self, _field: &Field, _value: &dyn std::fmt::Debug) {}
}

#[cfg(test)]
mod tests {
    use smelt_backend::profile::phase;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn phases_are_counted_timed_and_traced() {
        let profile = Profile::new();
        let listener = tracing_subscriber::registry().with(profile.layer());
        tracing::subscriber::with_default(listener, || {
            for _ in 0..3 {
                phase("forward", || phase("inside", || thread::sleep(Duration::from_millis(2))));
            }
            phase("optimizer", || ());
        });
        let costs = profile.costs();
        let cost = |name: &str| costs.iter().find(|cost| cost.name == name).unwrap();
        assert_eq!((cost("forward").calls, cost("optimizer").calls), (3, 1));
        assert!(cost("forward").seconds >= 0.006);
        assert!(costs.iter().all(|cost| cost.name != "inside"), "it is part of another phase");
        let table = tables(&costs).unwrap();
        assert!(table.starts_with("phase") && table.contains("forward           3.0"), "{table}");

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.json");
        assert_eq!(profile.write_trace(&path).unwrap(), 0);
        let trace: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        assert_eq!(events.len(), 7);
        assert!(events.iter().all(|event| event["ph"] == "X" && event["dur"].as_f64().unwrap() >= 0.0));
        let [inside, around] = [&events[0], &events[1]];
        assert_eq!((&inside["name"], &around["name"]), (&"inside".into(), &"forward".into()));
        assert!(around["ts"].as_f64() <= inside["ts"].as_f64());
    }

    #[test]
    fn without_a_step_there_is_no_table() {
        assert_eq!(tables(&Profile::new().costs()), None);
    }
}
