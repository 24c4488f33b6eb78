//! Sampling goldens: the probabilities that transformers' logits processors leave.

use serde_json::{Map, Value};
use smelt_generate::{Sampler, SamplingOptions};

use super::checks::Checks;
use super::golden::Golden;
use crate::error::CliError;

/// Files of such a folder.
pub const FILES: [&str; 1] = ["golden.safetensors"];
/// Largest error of a probability.
const TOLERANCE: f64 = 1e-6;
/// Keys of a case that are for its reader.
const NOTES: [&str; 2] = ["rule", "notes"];

/// Applies the processors of every case to the logits; a row per case.
pub fn verify(golden: &Golden, checks: &mut Checks) -> Result<(), CliError> {
    let cases = golden.meta["cases"].as_object().cloned().unwrap_or_default();
    if cases.is_empty() {
        checks.fail("meta.json", "it holds no cases");
    }
    let known = |name: &str| {
        let case = name.strip_suffix(".probs");
        name == "logits" || name == "prev_ids" || case.is_some_and(|case| cases.contains_key(case))
    };
    checks.unread("tensor", golden.names().into_iter().filter(|name| !known(name)));
    for (name, settings) in &cases {
        match options(settings) {
            Ok(options) => compare(golden, checks, name, &options)?,
            Err(reason) => checks.fail(name, reason),
        }
    }
    Ok(())
}

fn compare(
    golden: &Golden,
    checks: &mut Checks,
    name: &str,
    options: &SamplingOptions,
) -> Result<(), CliError> {
    let (logits, previous) = (golden.floats("logits")?, golden.whole_numbers("prev_ids")?);
    let rows = golden.shape("logits")?.first().copied().unwrap_or(1).max(1);
    let (vocabulary, width) = (logits.len() / rows, previous.len() / rows);
    let mut found = Vec::with_capacity(logits.len());
    for row in 0..rows {
        let logits = &logits[row * vocabulary..(row + 1) * vocabulary];
        let previous = &previous[row * width..(row + 1) * width];
        found.extend(Sampler::new(options)?.probabilities(logits, previous, None)?);
    }
    let expected = golden.floats(&format!("{name}.probs"))?;
    checks.close(name, &found, &expected, golden.tolerance("probs_abs", TOLERANCE));
    Ok(())
}

/// The options of a case, whose keys are those of transformers; or why there are none.
fn options(settings: &Value) -> Result<SamplingOptions, String> {
    let mut options = Map::new();
    // A processor that is not named does nothing, and ours would be greedy.
    options.insert("temperature".to_owned(), 1.0.into());
    for (key, value) in settings.as_object().into_iter().flatten() {
        let value = match key.as_str() {
            key if NOTES.contains(&key) => continue,
            "order" => order(value),
            _ => value.clone(),
        };
        options.insert(key.clone(), value);
    }
    serde_json::from_value(options.into()).map_err(|error| error.to_string())
}

/// Names that stand in one text, as a list.
fn order(value: &Value) -> Value {
    match value.as_str() {
        Some(names) => names.split(',').map(str::trim).collect(),
        None => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use smelt_generate::Filter;

    use super::*;

    #[test]
    fn cases_become_options() {
        let found =
            options(&json!({"top_k": 3, "top_p": 0.5, "order": "top_p, top_k", "rule": "x"})).unwrap();
        assert_eq!((found.temperature, found.top_k, found.top_p), (1.0, Some(3), Some(0.5)));
        assert_eq!(found.order, Some(vec![Filter::TopP, Filter::TopK]));
        assert!(options(&json!({"top_n": 1})).unwrap_err().contains("top_n"));
    }
}
