//! Results of other programs, as JSON lines, beside ours.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::error::CliError;

/// Measurements, the keys under which others note theirs, and whether fewer is better.
const KEYS: [(&str, &str, bool); 6] = [
    ("load", "load_s", true),
    ("first token", "load_to_first_token_s", true),
    ("prefill", "prefill_tok_s", false),
    ("decode", "decode_tok_s", false),
    ("training", "tok_s", false),
    ("training memory", "peak_rss_mb", true),
];

/// One line per measurement that `file` has, too: how many times better ours is. `ours` are names and values, in the
/// units of the others' keys.
///
/// # Errors
/// [`CliError`] if the file cannot be read or holds a line that is no JSON object.
pub fn ratios(file: &Path, ours: &[(&str, f64)]) -> Result<Vec<String>, CliError> {
    let failed = |source| CliError::Io { action: "read", path: file.to_owned(), source };
    let text = fs::read_to_string(file).map_err(failed)?;
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let theirs: Value =
            serde_json::from_str(line).ok().filter(Value::is_object).ok_or_else(|| CliError::Usage {
                message: format!("`{}`, line {}: not a JSON object", file.display(), index + 1),
                hint: "give one result per line, as `smelt bench --json` prints them".to_owned(),
            })?;
        lines.extend(ours.iter().filter_map(|(name, value)| ratio(name, *value, &theirs)));
    }
    Ok(lines)
}

fn ratio(name: &str, ours: f64, theirs: &Value) -> Option<String> {
    let (_, key, fewer) = KEYS.iter().find(|(measurement, ..)| *measurement == name)?;
    let value = theirs[key].as_f64().filter(|value| *value > 0.0)?;
    let times = if *fewer { value / ours } else { ours / value };
    let engine = ["engine", "mode", "dtype"].map(|part| theirs[part].as_str().unwrap_or_default()).join(" ");
    let engine: Vec<&str> = engine.split_whitespace().collect();
    Some(format!("{name}: {times:.2} x {} ({key} {value})", engine.join(" ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fewer_seconds_and_more_tokens_are_better() {
        let theirs = json!({"engine": "other", "dtype": "f16", "load_s": 0.5, "decode_tok_s": 20.0});
        assert_eq!(ratio("load", 0.25, &theirs).unwrap(), "load: 2.00 x other f16 (load_s 0.5)");
        assert_eq!(
            ratio("decode", 30.0, &theirs).unwrap(),
            "decode: 1.50 x other f16 (decode_tok_s 20.0)".replace("20.0", "20")
        );
        assert!(ratio("prefill", 30.0, &theirs).is_none());
    }
}
