//! Results of other programs, as JSON lines, beside ours.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::Measurement;
use crate::error::CliError;

/// Our measurements and the keys under which others note theirs; seconds are better when fewer.
const KEYS: [(&str, &str); 4] = [
    ("load", "load_s"),
    ("first token", "load_to_first_token_s"),
    ("prefill", "prefill_tok_s"),
    ("decode", "decode_tok_s"),
];

/// One line per measurement that `file` has too: how many times better ours is.
///
/// # Errors
/// [`CliError`] if the file cannot be read or holds a line that is no JSON object.
pub fn ratios(file: &Path, rows: &[Measurement]) -> Result<Vec<String>, CliError> {
    let failed = |source| CliError::Io { action: "read", path: file.to_owned(), source };
    let text = fs::read_to_string(file).map_err(failed)?;
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let theirs: Value =
            serde_json::from_str(line).ok().filter(Value::is_object).ok_or_else(|| CliError::Usage {
                message: format!("`{}`, line {}: not a JSON object", file.display(), index + 1),
                hint: "give one result per line, as `smelt bench --json` prints them".to_owned(),
            })?;
        lines.extend(rows.iter().filter_map(|row| ratio(row, &theirs)));
    }
    Ok(lines)
}

fn ratio(ours: &Measurement, theirs: &Value) -> Option<String> {
    let (_, key) = KEYS.iter().find(|(measurement, _)| *measurement == ours.measurement)?;
    let value = theirs[key].as_f64().filter(|value| *value > 0.0)?;
    let times = if ours.unit == "s" { value / ours.value } else { ours.value / value };
    let engine =
        [&theirs["engine"], &theirs["dtype"]].map(|part| part.as_str().unwrap_or_default()).join(" ");
    Some(format!("{}: {times:.2} x {} ({value} {})", ours.measurement, engine.trim(), ours.unit))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::limit;
    use super::*;

    #[test]
    fn fewer_seconds_and_more_tokens_are_better() {
        let theirs = json!({"engine": "other", "dtype": "f16", "load_s": 0.5, "decode_tok_s": 20.0});
        let load = limit("load", String::new(), 0.25, "s");
        assert_eq!(ratio(&load, &theirs).unwrap(), "load: 2.00 x other f16 (0.5 s)");
        let decode = limit("decode", String::new(), 30.0, "tokens/s");
        assert_eq!(ratio(&decode, &theirs).unwrap(), "decode: 1.50 x other f16 (20 tokens/s)");
        assert!(ratio(&limit("prefill", String::new(), 1.0, "tokens/s"), &theirs).is_none());
    }
}
