//! Records of instruction data: one JSON object per line, of one of four kinds.

use std::fmt;

use serde_json::{Map, Value, json};

/// What a record looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// `{"messages": [...]}`, perhaps with `tools`.
    Messages,
    /// `{"prompt": ..., "completion": ...}`.
    PromptCompletion,
    /// `{"text": ...}`.
    Text,
    /// `{"prompt": ..., "chosen": ..., "rejected": ...}`.
    Preference,
}

impl RecordKind {
    const ALL: [Self; 4] = [Self::Messages, Self::Preference, Self::PromptCompletion, Self::Text];

    /// The fields it must have.
    fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Messages => &["messages"],
            Self::PromptCompletion => &["prompt", "completion"],
            Self::Text => &["text"],
            Self::Preference => &["prompt", "chosen", "rejected"],
        }
    }

    fn of(record: &Map<String, Value>) -> Option<Self> {
        let has_fields = |kind: &Self| kind.fields().iter().all(|field| record.contains_key(*field));
        Self::ALL.into_iter().find(has_fields)
    }
}

/// Shown as its fields, such as `prompt` and `completion` in backticks.
impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&names(self.fields()))
    }
}

/// A record whose fields have the right types.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    Messages { messages: Vec<Value>, tools: Option<Value> },
    PromptCompletion { prompt: Said, completion: Said, tools: Option<Value> },
    Text(String),
    Preference { prompt: Said, chosen: Said, rejected: Said, tools: Option<Value> },
}

/// What one side says: a plain string, or messages.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    Plain(String),
    Messages(Vec<Value>),
}

impl Said {
    /// As messages; a plain string is one by `role`.
    pub fn messages(&self, role: &str) -> Vec<Value> {
        match self {
            Self::Plain(text) => vec![json!({"role": role, "content": text})],
            Self::Messages(messages) => messages.clone(),
        }
    }
}

impl Record {
    /// Reads a line, whose record must be of `expected` kind where that is known.
    pub fn parse(line: &str, expected: Option<RecordKind>) -> Result<Self, String> {
        let value: Value = serde_json::from_str(line).map_err(|error| format!("not JSON: {error}"))?;
        let Value::Object(mut record) = value else {
            return Err(format!("expected an object, found {}", type_name(&value)));
        };
        let kind = match (expected, RecordKind::of(&record)) {
            (Some(expected), _) if expected.fields().iter().all(|field| record.contains_key(*field)) => {
                expected
            }
            (Some(expected), _) => {
                let found = found_fields(&record);
                return Err(format!("expected {expected} as in the records before, found {found}"));
            }
            (None, Some(kind)) => kind,
            (None, None) => {
                let kinds = RecordKind::ALL.map(|kind| kind.to_string()).join("; ");
                return Err(format!("expected one of {kinds}; found {}", found_fields(&record)));
            }
        };
        let tools = tools(&mut record)?;
        Ok(match kind {
            RecordKind::Messages => Self::Messages { messages: messages(&mut record, "messages")?, tools },
            RecordKind::PromptCompletion => Self::PromptCompletion {
                prompt: said(&mut record, "prompt")?,
                completion: said(&mut record, "completion")?,
                tools,
            },
            RecordKind::Text => Self::Text(text(&mut record)?),
            RecordKind::Preference => Self::Preference {
                prompt: said(&mut record, "prompt")?,
                chosen: said(&mut record, "chosen")?,
                rejected: said(&mut record, "rejected")?,
                tools,
            },
        })
    }

    pub fn kind(&self) -> RecordKind {
        match self {
            Self::Messages { .. } => RecordKind::Messages,
            Self::PromptCompletion { .. } => RecordKind::PromptCompletion,
            Self::Text(_) => RecordKind::Text,
            Self::Preference { .. } => RecordKind::Preference,
        }
    }
}

fn text(record: &mut Map<String, Value>) -> Result<String, String> {
    match record.remove("text") {
        Some(Value::String(text)) => Ok(text),
        other => Err(wrong_type("text", "a string", other.as_ref())),
    }
}

fn said(record: &mut Map<String, Value>, field: &str) -> Result<Said, String> {
    match record.get(field) {
        Some(Value::String(text)) => Ok(Said::Plain(text.clone())),
        Some(Value::Array(_)) => messages(record, field).map(Said::Messages),
        other => Err(wrong_type(field, "a string or a list of messages", other)),
    }
}

fn messages(record: &mut Map<String, Value>, field: &str) -> Result<Vec<Value>, String> {
    let list = match record.remove(field) {
        Some(Value::Array(list)) if !list.is_empty() => list,
        Some(Value::Array(_)) => return Err(format!("expected a message in `{field}`, found none")),
        other => return Err(wrong_type(field, "a list of messages", other.as_ref())),
    };
    for (place, message) in list.iter().enumerate() {
        check_message(message).map_err(|reason| format!("`{field}[{place}]`: {reason}"))?;
    }
    Ok(list)
}

fn check_message(message: &Value) -> Result<(), String> {
    let Value::Object(fields) = message else {
        return Err(format!("expected an object, found {}", type_name(message)));
    };
    if !matches!(fields.get("role"), Some(Value::String(_))) {
        return Err(wrong_type("role", "a string", fields.get("role")));
    }
    match fields.get("content") {
        Some(Value::String(_) | Value::Array(_)) => Ok(()),
        // A message that only calls tools has no content.
        None | Some(Value::Null) if fields.get("tool_calls").is_some_and(|calls| !calls.is_null()) => Ok(()),
        other => Err(wrong_type("content", "a string", other)),
    }
}

/// The `tools` of a record, which some data sets keep as JSON within a string.
fn tools(record: &mut Map<String, Value>) -> Result<Option<Value>, String> {
    let tools = match record.remove("tools") {
        Some(Value::String(text)) if !text.trim().is_empty() => serde_json::from_str(&text)
            .map_err(|error| format!("`tools` is a string that is not JSON: {error}"))?,
        Some(Value::String(_)) | None => Value::Null,
        Some(tools) => tools,
    };
    match tools {
        Value::Null => Ok(None),
        Value::Array(list) if list.is_empty() => Ok(None),
        Value::Array(list) => Ok(Some(Value::Array(list))),
        other => Err(wrong_type("tools", "a list", Some(&other))),
    }
}

fn wrong_type(field: &str, expected: &str, found: Option<&Value>) -> String {
    format!("expected {expected} as `{field}`, found {}", found.map_or("none", type_name))
}

fn found_fields(record: &Map<String, Value>) -> String {
    // Keys are the file's, and may be long or many.
    const SHOWN: usize = 8;
    if record.is_empty() {
        return "no field".to_owned();
    }
    let shown: Vec<String> = record.keys().take(SHOWN).map(|key| key.chars().take(40).collect()).collect();
    let more =
        if record.len() > SHOWN { format!(" and {} more", record.len() - SHOWN) } else { String::new() };
    names(&shown.iter().map(String::as_str).collect::<Vec<_>>()) + &more
}

fn names(fields: &[&str]) -> String {
    fields.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ")
}

fn type_name(value: &Value) -> &'static str {
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

    fn kind(line: &str) -> RecordKind {
        Record::parse(line, None).unwrap().kind()
    }

    #[test]
    fn the_fields_tell_the_kind() {
        assert_eq!(kind(r#"{"messages": [{"role": "user", "content": "a"}]}"#), RecordKind::Messages);
        assert_eq!(kind(r#"{"prompt": "a", "completion": "b", "id": 1}"#), RecordKind::PromptCompletion);
        assert_eq!(kind(r#"{"text": "a"}"#), RecordKind::Text);
        assert_eq!(kind(r#"{"prompt": "a", "chosen": "b", "rejected": "c"}"#), RecordKind::Preference);
        let both = r#"{"text": "a", "prompt": "a", "completion": "b"}"#;
        assert_eq!(Record::parse(both, Some(RecordKind::Text)).unwrap(), Record::Text("a".to_owned()));
    }

    #[test]
    fn tools_may_be_a_list_or_json_in_a_string() {
        let tools = |field: &str| {
            let line = format!(r#"{{"messages": [{{"role": "user", "content": "a"}}], "tools": {field}}}"#);
            match Record::parse(&line, None)? {
                Record::Messages { tools, .. } => Ok(tools),
                other => Err(format!("{other:?}")),
            }
        };
        let list = Some(json!([{"name": "ls"}]));
        assert_eq!(tools(r#"[{"name": "ls"}]"#), Ok(list.clone()));
        assert_eq!(tools(r#""[{\"name\": \"ls\"}]""#), Ok(list));
        for absent in ["null", "[]", "\"\"", "\"null\""] {
            assert_eq!(tools(absent), Ok(None), "{absent}");
        }
        assert_eq!(tools("{}"), Err("expected a list as `tools`, found an object".to_owned()));
        assert!(tools("\"[\"").unwrap_err().starts_with("`tools` is a string that is not JSON: EOF"));
    }

    #[test]
    fn a_bad_record_says_what_was_expected_and_found() {
        let any =
            "expected one of `messages`; `prompt`, `chosen`, `rejected`; `prompt`, `completion`; `text`";
        let cases = [
            ("3", "expected an object, found a number".to_owned()),
            ("{}", format!("{any}; found no field")),
            (r#"{"prompt": "a"}"#, format!("{any}; found `prompt`")),
            (r#"{"text": 3}"#, "expected a string as `text`, found a number".to_owned()),
            (r#"{"messages": []}"#, "expected a message in `messages`, found none".to_owned()),
            (r#"{"messages": "a"}"#, "expected a list of messages as `messages`, found a string".to_owned()),
            (
                r#"{"messages": [{"content": "a"}]}"#,
                "`messages[0]`: expected a string as `role`, found none".to_owned(),
            ),
            (
                r#"{"messages": [{"role": "user", "content": 1}]}"#,
                "`messages[0]`: expected a string as `content`, found a number".to_owned(),
            ),
            (
                r#"{"prompt": {}, "completion": "b"}"#,
                "expected a string or a list of messages as `prompt`, found an object".to_owned(),
            ),
        ];
        for (line, reason) in cases {
            assert_eq!(Record::parse(line, None).unwrap_err(), reason);
        }
        let other = Record::parse(r#"{"text": "a"}"#, Some(RecordKind::Messages)).unwrap_err();
        assert_eq!(other, "expected `messages` as in the records before, found `text`");
        assert!(Record::parse("{\"text\": ", None).unwrap_err().starts_with("not JSON: EOF"));
        assert!(Record::parse(&"[".repeat(10_000), None).unwrap_err().starts_with("not JSON: recursion"));
    }

    #[test]
    fn a_message_that_calls_tools_needs_no_content() {
        let line = r#"{"messages": [{"role": "assistant", "content": null, "tool_calls": [{}]}]}"#;
        assert_eq!(kind(line), RecordKind::Messages);
    }
}
