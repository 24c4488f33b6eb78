//! YAML text to a tree in which every key and value knows its line.
//!
//! Reads what a run config needs: one document of block or flow mappings, sequences and scalars of
//! the core schema (YAML 1.2, section 10.3). Anchors, aliases, tags and several documents are
//! errors. Knows no section and no key of smelt.

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};
use serde_json::{Map, Number, Value};

/// A value with the line where it starts, counted from 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Line of the first character, counted from 1.
    pub line: usize,
    /// The value itself.
    pub content: Content,
}

/// What a [`Node`] holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A null, boolean, number or string.
    Scalar(Value),
    /// A list.
    Sequence(Vec<Node>),
    /// Keys in the order of the file.
    Mapping(Vec<Field>),
}

/// One `key: value` line of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// The key.
    pub name: String,
    /// Line of the key, counted from 1.
    pub line: usize,
    /// The value.
    pub value: Node,
}

/// Text that is not YAML, or more YAML than a config may use.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct YamlError {
    /// Line of the fault, counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub message: String,
}

impl Node {
    /// The tree as JSON, without the lines.
    pub fn to_json(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::Sequence(items) => items.iter().map(Self::to_json).collect(),
            Content::Mapping(fields) => Value::Object(
                fields.iter().map(|field| (field.name.clone(), field.value.to_json())).collect::<Map<_, _>>(),
            ),
        }
    }
}

/// Parses one YAML document; `None` where the text holds nothing but comments.
///
/// # Errors
/// [`YamlError`] with the line: broken syntax, a repeated key, a key that is no plain word, or a
/// feature outside of the subset named above.
pub fn parse(text: &str) -> Result<Option<Node>, YamlError> {
    let mut reader = Reader { parser: Parser::new_from_str(text) };
    let mut document = None;
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => return Ok(document),
            Event::DocumentStart(_) if document.is_some() => {
                return Err(fault(span, "a second document (`---`) in one config"));
            }
            Event::DocumentStart(_) => {
                let (event, span) = reader.next()?;
                document = Some(reader.node(event, span)?);
            }
            _ => {}
        }
    }
}

/// Reads one scalar as plain YAML does: `3` is a number, `true` a boolean, `~` a null.
pub fn plain_scalar(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

fn number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let whole = digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole && let Ok(value) = text.parse::<i64>() {
        return Some(value.into());
    }
    if whole && let Ok(value) = text.parse::<u64>() {
        return Some(value.into());
    }
    text.parse::<f64>().ok().and_then(Number::from_f64)
}

struct Reader<'input> {
    parser: Parser<'input, StrInput<'input>>,
}

impl<'input> Reader<'input> {
    fn next(&mut self) -> Result<(Event<'input>, Span), YamlError> {
        match self.parser.next_event() {
            Some(Ok(found)) => Ok(found),
            Some(Err(error)) => Err(YamlError::from(error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'input>, span: Span) -> Result<Node, YamlError> {
        let content = match event {
            Event::Scalar(_, _, anchor, _)
            | Event::SequenceStart(anchor, _)
            | Event::MappingStart(anchor, _)
                if anchor != 0 =>
            {
                return Err(fault(span, "anchors (`&name`) are not supported in a config"));
            }
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => {
                return Err(fault(span, "tags (`!name`) are not supported in a config"));
            }
            Event::Scalar(text, ScalarStyle::Plain, _, _) => Content::Scalar(plain_scalar(&text)),
            Event::Scalar(text, _, _, _) => Content::Scalar(Value::String(text.into_owned())),
            Event::SequenceStart(..) => Content::Sequence(self.items()?),
            Event::MappingStart(..) => Content::Mapping(self.fields()?),
            Event::Alias(_) => return Err(fault(span, "aliases (`*name`) are not supported in a config")),
            _ => return Err(fault(span, "a value is missing")),
        };
        Ok(Node { line: span.start.line(), content })
    }

    fn items(&mut self) -> Result<Vec<Node>, YamlError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, span) => items.push(self.node(event, span)?),
            }
        }
    }

    fn fields(&mut self) -> Result<Vec<Field>, YamlError> {
        let mut fields: Vec<Field> = Vec::new();
        loop {
            let (name, line) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(fields),
                (Event::Scalar(name, ..), span) => (name.into_owned(), span.start.line()),
                (_, span) => return Err(fault(span, "a key must be a plain word")),
            };
            if let Some(first) = fields.iter().find(|field| field.name == name) {
                let message = format!("key `{name}` is already given on line {}", first.line);
                return Err(YamlError { line, message });
            }
            let (event, span) = self.next()?;
            fields.push(Field { name, line, value: self.node(event, span)? });
        }
    }
}

fn fault(span: Span, message: &str) -> YamlError {
    YamlError { line: span.start.line(), message: message.to_owned() }
}

impl From<ScanError> for YamlError {
    fn from(error: ScanError) -> Self {
        Self { line: error.marker().line(), message: error.info().to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn json_of(text: &str) -> Value {
        parse(text).unwrap().unwrap().to_json()
    }

    #[test]
    fn scalars_follow_the_core_schema() {
        let text =
            "a: 3\nb: 3e-4\nc: -0.5\nd: yes\ne: true\nf: ~\ng: '3'\nh: 1.2.3\ni: [1, two]\nj: .5\nk: inf";
        assert_eq!(
            json_of(text),
            json!({"a": 3, "b": 3e-4, "c": -0.5, "d": "yes", "e": true, "f": null, "g": "3", "h": "1.2.3",
                   "i": [1, "two"], "j": 0.5, "k": "inf"})
        );
    }

    #[test]
    fn json_is_read_as_yaml() {
        assert_eq!(json_of("{\"a\": {\"b\": [1.5, null]}}"), json!({"a": {"b": [1.5, null]}}));
    }

    #[test]
    fn fields_know_their_line() {
        let node = parse("# heading\ntrain:\n  batch_size: 8\n").unwrap().unwrap();
        let Content::Mapping(sections) = node.content else { panic!("no mapping") };
        let Content::Mapping(keys) = &sections[0].value.content else { panic!("no mapping") };
        assert_eq!((sections[0].line, keys[0].line, keys[0].name.as_str()), (2, 3, "batch_size"));
    }

    #[test]
    fn faults_name_their_line() {
        let line_of = |text| parse(text).unwrap_err().line;
        assert_eq!(line_of("a: 1\nb: 2\na: 3\n"), 3);
        assert_eq!(line_of("a: &x 1\n"), 1);
        assert_eq!(line_of("a: 1\nb: *x\n"), 2);
        assert_eq!(line_of("a: 1\nb: !tag 2\n"), 2);
        assert_eq!(line_of("a: 1\n---\nb: 1\n"), 2);
        assert_eq!(line_of("a: [1, 2\nb: 3\n"), 2);
    }

    #[test]
    fn comments_alone_are_no_document() {
        assert_eq!(parse("# nothing\n").unwrap(), None);
    }
}
