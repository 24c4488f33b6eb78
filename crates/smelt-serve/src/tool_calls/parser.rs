//! Text in, text and calls out.

use serde_json::{Deserializer, Value};

use super::{CallFormat, ToolCall};

/// What became certain.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pieces {
    /// Text that is no call.
    pub text: String,
    /// Calls.
    pub calls: Vec<ToolCall>,
}

/// Divides what one answer says.
#[derive(Debug)]
pub struct CallParser {
    format: CallFormat,
    held: String,
    /// Something that was no blank came.
    begun: bool,
    /// A call came: blanks behind it belong to nothing.
    called: bool,
}

/// What the beginning of the text held back may still become.
enum Held {
    /// So many bytes are text.
    Text(usize),
    /// So many bytes are calls.
    Calls(usize, Vec<ToolCall>),
    /// More has to come.
    Open,
}

impl CallParser {
    pub fn new(format: CallFormat) -> Self {
        Self { format, held: String::new(), begun: false, called: false }
    }

    /// Takes the next piece of text.
    pub fn push(&mut self, text: &str) -> Pieces {
        self.held += text;
        self.divide(false)
    }

    /// Takes the end of the text.
    pub fn finish(&mut self) -> Pieces {
        self.divide(true)
    }

    fn divide(&mut self, at_end: bool) -> Pieces {
        let mut pieces = Pieces::default();
        while !self.held.is_empty() {
            match self.look(at_end) {
                Held::Open => break,
                Held::Text(length) => {
                    let rest = self.held.split_off(length);
                    let text = std::mem::replace(&mut self.held, rest);
                    self.begun |= !text.trim().is_empty();
                    if !(self.called && text.trim().is_empty()) {
                        pieces.text += &text;
                    }
                }
                Held::Calls(length, calls) => {
                    self.held.drain(..length);
                    self.begun = true;
                    self.called = true;
                    pieces.calls.extend(calls);
                }
            }
        }
        pieces
    }

    fn look(&self, at_end: bool) -> Held {
        let held = self.held.as_str();
        if self.format == CallFormat::Forced || (self.format == CallFormat::Llama && !self.begun) {
            let bare = held.trim_start();
            if bare.is_empty() && !at_end {
                return Held::Open;
            }
            if bare.starts_with('{') {
                return self.bare_calls(at_end);
            }
        }
        let Some(opening) = self.format.opening() else { return Held::Text(held.len()) };
        match held.find(opening) {
            // Blanks before a call belong to neither.
            Some(at) if held[..at].trim().is_empty() => {
                match behind_opening(self.format, &held[at + opening.len()..], at_end) {
                    Held::Calls(length, calls) => Held::Calls(at + opening.len() + length, calls),
                    Held::Text(length) => Held::Text(at + opening.len() + length),
                    Held::Open => Held::Open,
                }
            }
            Some(at) => Held::Text(held[..at].trim_end().len()),
            None if at_end => Held::Text(held.len()),
            None => match certain_bytes(held, opening) {
                0 => Held::Open,
                length => Held::Text(length),
            },
        }
    }

    fn bare_calls(&self, at_end: bool) -> Held {
        match llama(&self.held, at_end) {
            Held::Text(_) => Held::Text(self.held.len()),
            found => found,
        }
    }
}

/// What follows the opening of a call.
fn behind_opening(format: CallFormat, inside: &str, at_end: bool) -> Held {
    match format {
        CallFormat::Hermes => hermes(inside, at_end),
        CallFormat::Mistral => mistral(inside, at_end),
        CallFormat::Llama | CallFormat::Forced => llama(inside, at_end),
    }
}

/// Bytes of `text` that cannot belong to an `opening` yet to come, nor to the blanks before it.
fn certain_bytes(text: &str, opening: &str) -> usize {
    let starts = opening.char_indices().map(|(at, _)| at).skip(1);
    let overlap = starts.filter(|length| text.ends_with(&opening[..*length])).max().unwrap_or(0);
    text[..text.len() - overlap].trim_end().len()
}

fn hermes(inside: &str, at_end: bool) -> Held {
    const CLOSING: &str = "</tool_call>";
    let (json, length) = match inside.find(CLOSING) {
        Some(at) => (&inside[..at], at + CLOSING.len()),
        None if at_end => (inside, inside.len()),
        None => return Held::Open,
    };
    let call = serde_json::from_str(json).ok().and_then(|value| ToolCall::from_value(&value));
    call.map_or(Held::Text(length), |call| Held::Calls(length, vec![call]))
}

/// One JSON value at the beginning of `text`, and the bytes it takes; `Ok(None)` if it is not complete.
fn value(text: &str) -> Result<Option<(Value, usize)>, serde_json::Error> {
    let mut values = Deserializer::from_str(text).into_iter::<Value>();
    match values.next() {
        Some(Ok(value)) => Ok(Some((value, values.byte_offset()))),
        Some(Err(error)) if !error.is_eof() => Err(error),
        _ => Ok(None),
    }
}

/// Nothing around an object says that it is a call: it must hold what one holds, and no more.
fn is_bare_call(value: &Value) -> bool {
    const KEYS: [&str; 5] = ["type", "id", "name", "parameters", "arguments"];
    value.as_object().is_some_and(|fields| {
        let has_arguments = fields.contains_key("parameters") || fields.contains_key("arguments");
        has_arguments && fields.keys().all(|key| KEYS.contains(&key.as_str()))
    })
}

/// Objects with `;` between them, to the end of the text.
fn llama(inside: &str, at_end: bool) -> Held {
    let mut calls = Vec::new();
    let mut rest = inside;
    loop {
        match value(rest) {
            Ok(Some((found, length))) => {
                match ToolCall::from_value(&found).filter(|_| is_bare_call(&found)) {
                    Some(call) => {
                        calls.push(call);
                        rest = rest[length..].trim_start_matches([' ', '\n', ';']);
                    }
                    None => return Held::Text(inside.len()),
                }
            }
            Ok(None) if rest.is_empty() && at_end && !calls.is_empty() => {
                return Held::Calls(inside.len(), calls);
            }
            Ok(None) if !at_end => return Held::Open,
            _ => return Held::Text(inside.len()),
        }
    }
}

/// A list of objects, or names with an object behind each.
fn mistral(inside: &str, at_end: bool) -> Held {
    let bare = inside.trim_start();
    let before = inside.len() - bare.len();
    if bare.is_empty() {
        return if at_end { Held::Text(inside.len()) } else { Held::Open };
    }
    if !bare.starts_with('[') && !bare.starts_with('{') {
        return named(inside, bare, at_end);
    }
    match value(bare) {
        Ok(Some((found, length))) => {
            let list = found.as_array().cloned().unwrap_or_else(|| vec![found]);
            let calls: Option<Vec<ToolCall>> = list.iter().map(ToolCall::from_value).collect();
            match calls.filter(|calls| !calls.is_empty()) {
                Some(calls) => Held::Calls(before + length, calls),
                None => Held::Text(before + length),
            }
        }
        Ok(None) if !at_end => Held::Open,
        _ => Held::Text(inside.len()),
    }
}

/// `name{...}` or `name[ARGS]{...}`.
fn named(inside: &str, bare: &str, at_end: bool) -> Held {
    let Some(at) = bare.find('{') else {
        return if at_end { Held::Text(inside.len()) } else { Held::Open };
    };
    let name = bare[..at].trim().trim_end_matches("[ARGS]").to_owned();
    match value(&bare[at..]) {
        Ok(Some((arguments, length))) if arguments.is_object() => {
            let call = ToolCall { name, arguments: arguments.to_string() };
            Held::Calls(inside.len() - bare.len() + at + length, vec![call])
        }
        Ok(None) if !at_end => Held::Open,
        _ => Held::Text(inside.len()),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
