//! Records of a `.jsonl` file: one JSON object per line, its text in one field.
//!
//! Only that field is kept while a line is parsed, so a line costs no more memory than its text.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Field names shown in a message.
const SHOWN_NAMES: usize = 8;

/// The text that a line holds under `field`, or what is wrong with the line.
pub fn record_text(line: &str, field: &str) -> Result<String, String> {
    let mut json = serde_json::Deserializer::from_str(line);
    let record = RecordVisitor { field }.deserialize(&mut json).and_then(|record| {
        json.end()?;
        Ok(record)
    });
    match record.map_err(|error| format!("not JSON: {error}"))? {
        Record::Other(kind) => Err(format!("expected an object with a string `{field}`, found {kind}")),
        Record::Object { text: Some(Scalar::Text(text)), .. } => Ok(text),
        Record::Object { text: Some(Scalar::Other(kind)), .. } => {
            Err(format!("expected a string as `{field}`, found {kind}"))
        }
        Record::Object { text: None, others } => {
            let found = if others.is_empty() { "no field".to_owned() } else { others.join(", ") };
            Err(format!("expected a string `{field}`, found {found}"))
        }
    }
}

/// A line as far as it is of interest.
enum Record {
    Object { text: Option<Scalar>, others: Vec<String> },
    Other(&'static str),
}

/// The value of the field.
enum Scalar {
    Text(String),
    Other(&'static str),
}

struct RecordVisitor<'f> {
    field: &'f str,
}

impl<'de> DeserializeSeed<'de> for RecordVisitor<'_> {
    type Value = Record;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Record, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Visits that say what kind of value stands where another was expected.
macro_rules! visit_kinds {
    ($value:ident, $other:path) => {
        fn visit_bool<E>(self, _: bool) -> Result<$value, E> {
            Ok($other("a boolean"))
        }

        fn visit_i64<E>(self, _: i64) -> Result<$value, E> {
            Ok($other("a number"))
        }

        fn visit_u64<E>(self, _: u64) -> Result<$value, E> {
            Ok($other("a number"))
        }

        fn visit_f64<E>(self, _: f64) -> Result<$value, E> {
            Ok($other("a number"))
        }

        fn visit_unit<E>(self) -> Result<$value, E> {
            Ok($other("null"))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<$value, A::Error> {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            Ok($other("an array"))
        }
    };
}

impl<'de> Visitor<'de> for RecordVisitor<'_> {
    type Value = Record;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record")
    }

    visit_kinds!(Record, Record::Other);

    fn visit_str<E>(self, _: &str) -> Result<Record, E> {
        Ok(Record::Other("a string"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Record, A::Error> {
        let (mut text, mut others) = (None, Vec::new());
        while let Some(name) = fields.next_key::<String>()? {
            if name == self.field {
                text = Some(fields.next_value_seed(ScalarVisitor)?);
                continue;
            }
            if others.len() < SHOWN_NAMES {
                others.push(format!("`{name}`"));
            }
            fields.next_value::<IgnoredAny>()?;
        }
        Ok(Record::Object { text, others })
    }
}

struct ScalarVisitor;

impl<'de> DeserializeSeed<'de> for ScalarVisitor {
    type Value = Scalar;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Scalar, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    visit_kinds!(Scalar, Scalar::Other);

    fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Scalar, E> {
        Ok(Scalar::Text(text))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Scalar, A::Error> {
        while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other("an object"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_found_among_other_fields() {
        let line = r#"{"id": 3, "meta": {"text": "no"}, "content": "one\ntwo", "tags": ["a", null]}"#;
        assert_eq!(record_text(line, "content").unwrap(), "one\ntwo");
    }

    #[test]
    fn a_bad_line_says_what_was_expected_and_found() {
        let cases = [
            ("[1]", "expected an object with a string `text`, found an array"),
            ("\"text\"", "expected an object with a string `text`, found a string"),
            ("{\"text\": 3}", "expected a string as `text`, found a number"),
            ("{\"text\": [\"a\"]}", "expected a string as `text`, found an array"),
            ("{\"text\": {\"a\": 1}}", "expected a string as `text`, found an object"),
            ("{\"prompt\": \"a\"}", "expected a string `text`, found `prompt`"),
            ("{}", "expected a string `text`, found no field"),
        ];
        for (line, reason) in cases {
            assert_eq!(record_text(line, "text"), Err(reason.to_owned()));
        }
        for broken in ["{\"text\": ", "{\"text\": \"a\"} {}", "text"] {
            let reason = record_text(broken, "text").unwrap_err();
            assert!(reason.starts_with("not JSON: "), "{reason}");
        }
    }
}
