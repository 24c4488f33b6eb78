//! A run in figures, and the settings in which runs differ.

use serde_json::Value;

use super::chart::smoothed;
use super::history::{Fields, Group, History};
use crate::quantity::{bytes, count, seconds};

/// What is said of each run, in the order of [`figures`].
pub const FIGURES: [&str; 13] = [
    "model",
    "steps",
    "skipped steps",
    "tokens seen",
    "training loss",
    "validation loss",
    "best validation loss",
    "perplexity",
    "speed",
    "share of peak FLOPs",
    "peak memory",
    "training time",
    "device",
];

/// The figures of one run as text, empty where its log does not tell.
pub fn figures(history: &History) -> [String; 13] {
    let train = |key: &str| history.series(Group::Train, key);
    let last = |points: &[(f64, f64)]| points.last().map(|(_, value)| *value);
    let shown = |value: Option<f64>, show: &dyn Fn(f64) -> String| value.map_or(String::new(), show);
    let validation = history.series(Group::Validation, "loss");
    let best = validation.iter().min_by(|(_, a), (_, b)| a.total_cmp(b));
    let whole = |value: f64| count(value as u64);
    [
        model(history),
        history.last_step().and_then(super::history::step).map_or(String::new(), |step| step.to_string()),
        if history.skipped_steps > 0 { history.skipped_steps.to_string() } else { String::new() },
        shown(last(&train("tokens_seen")), &whole),
        shown(last(&smoothed(&train("loss"))), &|loss| format!("{loss:.4}")),
        shown(last(&validation), &|loss| format!("{loss:.4}")),
        best.map_or(String::new(), |(step, loss)| format!("{loss:.4} at step {step}")),
        shown(last(&history.series(Group::Validation, "perplexity")), &|perplexity| {
            format!("{perplexity:.2}")
        }),
        shown(mean(&train("tokens_per_second")), &|speed| format!("{} tokens/s", whole(speed))),
        shown(mean(&train("mfu")), &|share| format!("{:.0} %", share * 100.0)),
        shown(last(&train("peak_memory_bytes")), &|peak| bytes(peak as u64)),
        seconds(history.elapsed_seconds()),
        device(history),
    ]
}

fn mean(points: &[(f64, f64)]) -> Option<f64> {
    (!points.is_empty()).then(|| points.iter().map(|(_, value)| value).sum::<f64>() / points.len() as f64)
}

fn model(history: &History) -> String {
    let Some(start) = history.start() else { return String::new() };
    let parameters = start.get("parameters").and_then(Value::as_u64);
    let parameters = parameters.map_or(String::new(), |number| format!(", {} parameters", count(number)));
    format!("{}{parameters}", word(start, "family"))
}

fn device(history: &History) -> String {
    let Some(start) = history.start() else { return String::new() };
    format!("{}: {}", word(start, "backend"), word(start, "device"))
}

/// A text field, empty where there is none.
pub fn word<'a>(fields: &'a Fields, key: &str) -> &'a str {
    fields.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// A run's settings as `section.key` and value, in the order of its config.
pub fn settings(history: &History) -> Vec<(String, String)> {
    let config = history.start().and_then(|start| start.get("config")).and_then(Value::as_object);
    let keys = |(section, keys): (&String, &Value)| {
        let keys = keys.as_object().into_iter().flatten();
        keys.map(|(key, value)| (format!("{section}.{key}"), plain(value))).collect::<Vec<_>>()
    };
    config.into_iter().flatten().flat_map(keys).collect()
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The settings in which runs differ: the name, and the value of each run.
pub fn differences(runs: &[Vec<(String, String)>]) -> Vec<(String, Vec<String>)> {
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in runs.iter().flatten() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let value = |run: &[(String, String)], name: &str| {
        run.iter().find(|(key, _)| key == name).map_or(String::new(), |(_, value)| value.clone())
    };
    let row = |name: &String| {
        let values: Vec<String> = runs.iter().map(|run| value(run, name)).collect();
        values.iter().any(|value| *value != values[0]).then(|| (name.clone(), values))
    };
    names.into_iter().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_compared() {
        let run = |rows: &[(&str, &str)]| {
            rows.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
        };
        let runs: [Vec<_>; 2] = [run(&[("a", "1"), ("b", "2")]), run(&[("a", "1"), ("b", "3"), ("c", "4")])];
        let expected = [("b", vec!["2", "3"]), ("c", vec!["", "4"])];
        let found = differences(&runs);
        assert_eq!(found.len(), 2);
        for ((name, values), (expected_name, expected_values)) in found.iter().zip(expected) {
            assert_eq!(name, expected_name);
            assert_eq!(*values, expected_values);
        }
        assert_eq!(differences(&[]), []);
    }
}
