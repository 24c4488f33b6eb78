//! Records of a `.jsonl` file: one JSON object per line, its text under `text`.

use serde_json::Value;

/// The texts of a file's records with their line numbers from 1; for a bad line, what is wrong with it.
pub fn records(file: &str) -> impl Iterator<Item = (usize, Result<String, String>)> + '_ {
    (1..).zip(file.lines()).filter(|(_, line)| !line.trim().is_empty()).map(|(at, line)| (at, text(line)))
}

fn text(line: &str) -> Result<String, String> {
    let record: Value = serde_json::from_str(line).map_err(|error| format!("not JSON: {error}"))?;
    let Value::Object(mut fields) = record else {
        return Err(format!("expected an object with a string `text`, found {}", kind(&record)));
    };
    match fields.remove("text") {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("expected a string as `text`, found {}", kind(&other))),
        None => {
            let names: Vec<String> = fields.keys().map(|name| format!("`{name}`")).collect();
            Err(format!("expected a string `text`, found {}", join_or_nothing(&names)))
        }
    }
}

fn join_or_nothing(names: &[String]) -> String {
    if names.is_empty() { "no field".to_owned() } else { names.join(", ") }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_record_keeps_its_line() {
        let file = "{\"text\": \"one\\ntwo\"}\n\n{\"text\": \"three\", \"id\": 3}\r\n";
        let found: Vec<_> = records(file).collect();
        assert_eq!(found, [(1, Ok("one\ntwo".to_owned())), (3, Ok("three".to_owned()))]);
    }

    #[test]
    fn a_bad_line_says_what_was_expected_and_found() {
        let cases = [
            ("[1]", "expected an object with a string `text`, found an array"),
            ("{\"text\": 3}", "expected a string as `text`, found a number"),
            ("{\"prompt\": \"a\"}", "expected a string `text`, found `prompt`"),
            ("{}", "expected a string `text`, found no field"),
        ];
        for (line, reason) in cases {
            assert_eq!(records(line).next(), Some((1, Err(reason.to_owned()))));
        }
        let (_, broken) = records("{\"text\": ").next().unwrap();
        assert!(broken.unwrap_err().starts_with("not JSON: EOF"));
    }
}
