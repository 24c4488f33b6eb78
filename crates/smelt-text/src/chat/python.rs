//! Values written as Python writes them: `str`, `repr` and `json.dumps`.
//!
//! Chat templates are tried with Jinja on Python, where a list prints as `['a', None]` and `tojson` is
//! `json.dumps` without HTML escapes (transformers replaces Jinja's own). Models learned those spellings.

use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

/// How `json.dumps` lays out its result.
#[derive(Debug, Clone)]
pub struct JsonStyle {
    ensure_ascii: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
}

impl JsonStyle {
    /// Reads the arguments of transformers' `tojson(x, ensure_ascii, indent, separators, sort_keys)`.
    ///
    /// # Errors
    /// If an argument has the wrong type or an unknown name.
    pub fn from_arguments(ensure_ascii: Option<bool>, arguments: &Kwargs) -> Result<Self, Error> {
        let indent = arguments.get::<Option<Value>>("indent")?.and_then(|value| indentation(&value));
        let separators: Option<Vec<String>> = arguments.get("separators")?;
        let (item_separator, key_separator) = match separators.as_deref() {
            Some([item, key]) => (item.clone(), key.clone()),
            Some(_) => {
                let message = "`separators` of `tojson` must be two strings";
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            }
            None => ((if indent.is_some() { "," } else { ", " }).to_owned(), ": ".to_owned()),
        };
        let ensure_ascii = ensure_ascii.or(arguments.get("ensure_ascii")?).unwrap_or(false);
        let sort_keys = arguments.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
        arguments.assert_all_used()?;
        Ok(Self { ensure_ascii, indent, item_separator, key_separator, sort_keys })
    }
}

/// Spaces by number, or the string itself; `none` means one line.
fn indentation(value: &Value) -> Option<String> {
    /// More than anybody indents by; a template must not ask for gigabytes of blanks.
    const MOST_SPACES: usize = 64;
    match value.as_str() {
        Some(text) => Some(text.to_owned()),
        None => value.as_usize().map(|spaces| " ".repeat(spaces.min(MOST_SPACES))),
    }
}

/// `json.dumps(value)`.
///
/// # Errors
/// If a value has no form in JSON, such as an undefined one.
pub fn to_json(value: &Value, style: &JsonStyle) -> Result<String, Error> {
    let mut text = String::new();
    write_json(&mut text, value, style, 0)?;
    Ok(text)
}

fn write_json(text: &mut String, value: &Value, style: &JsonStyle, depth: usize) -> Result<(), Error> {
    match value.kind() {
        ValueKind::None => text.push_str("null"),
        ValueKind::Bool => text.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => text.push_str(&number(value, ["NaN", "Infinity", "-Infinity"])),
        ValueKind::String => write_json_string(text, value.as_str().unwrap_or_default(), style.ensure_ascii),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            write_entries(text, ['[', ']'], &items, style, depth, |text, item| {
                write_json(text, item, style, depth + 1)
            })?;
        }
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter()?.collect();
            if style.sort_keys {
                keys.sort();
            }
            write_entries(text, ['{', '}'], &keys, style, depth, |text, key| {
                write_json_string(text, &key.to_string(), style.ensure_ascii);
                text.push_str(&style.key_separator);
                write_json(text, &value.get_item(key)?, style, depth + 1)
            })?;
        }
        kind => {
            return Err(Error::new(ErrorKind::BadSerialization, format!("{kind} value has no form in JSON")));
        }
    }
    Ok(())
}

fn write_entries(
    text: &mut String,
    brackets: [char; 2],
    entries: &[Value],
    style: &JsonStyle,
    depth: usize,
    mut write: impl FnMut(&mut String, &Value) -> Result<(), Error>,
) -> Result<(), Error> {
    let break_line = |text: &mut String, depth: usize| {
        if let Some(indent) = &style.indent {
            text.push('\n');
            text.extend(std::iter::repeat_n(indent.as_str(), depth));
        }
    };
    text.push(brackets[0]);
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            text.push_str(&style.item_separator);
        }
        break_line(text, depth + 1);
        write(text, entry)?;
    }
    if !entries.is_empty() {
        break_line(text, depth);
    }
    text.push(brackets[1]);
    Ok(())
}

fn write_json_string(text: &mut String, string: &str, ensure_ascii: bool) {
    text.push('"');
    for character in string.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            control if control < ' ' => push_escape(text, format_args!("\\u{:04x}", control as u32)),
            other if ensure_ascii && !(' '..='~').contains(&other) => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    push_escape(text, format_args!("\\u{unit:04x}"));
                }
            }
            other => text.push(other),
        }
    }
    text.push('"');
}

fn push_escape(text: &mut String, escape: std::fmt::Arguments<'_>) {
    text.write_fmt(escape).expect("a string takes all that is written to it");
}

/// `str(value)`.
pub fn to_str(value: &Value) -> String {
    match value.kind() {
        ValueKind::Number => number(value, ["nan", "inf", "-inf"]),
        ValueKind::Seq | ValueKind::Map => repr(value),
        _ => value.to_string(),
    }
}

/// `repr(value)`.
fn repr(value: &Value) -> String {
    let joined = |items: Vec<String>| items.join(", ");
    match value.kind() {
        ValueKind::String => repr_string(value.as_str().unwrap_or_default()),
        ValueKind::Seq => {
            let items: Vec<String> = value.try_iter().into_iter().flatten().map(|item| repr(&item)).collect();
            match (value.is_tuple(), items.len()) {
                (true, 1) => format!("({},)", items[0]),
                (true, _) => format!("({})", joined(items)),
                (false, _) => format!("[{}]", joined(items)),
            }
        }
        ValueKind::Map => {
            let entry = |key: Value| {
                let item = value.get_item(&key).unwrap_or_default();
                format!("{}: {}", repr(&key), repr(&item))
            };
            format!("{{{}}}", joined(value.try_iter().into_iter().flatten().map(entry).collect()))
        }
        _ => to_str(value),
    }
}

fn repr_string(string: &str) -> String {
    let quote = if string.contains('\'') && !string.contains('"') { '"' } else { '\'' };
    let mut text = String::from(quote);
    for character in string.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            character if character == quote => text.extend(['\\', quote]),
            control if control < ' ' || control == '\u{7f}' => {
                push_escape(&mut text, format_args!("\\x{:02x}", control as u32));
            }
            other => text.push(other),
        }
    }
    text.push(quote);
    text
}

/// A number as Python prints it; `special` are the names of not-a-number and the infinities.
fn number(value: &Value, special: [&str; 3]) -> String {
    match f64::try_from(value.clone()) {
        Ok(float) if !value.is_integer() => self::float(float, special),
        _ => value.to_string(),
    }
}

/// The shortest digits that give `float` back, with an exponent below 1e-4 and from 1e16.
fn float(float: f64, special: [&str; 3]) -> String {
    if float.is_nan() {
        return special[0].to_owned();
    }
    if float.is_infinite() {
        return special[if float > 0.0 { 1 } else { 2 }].to_owned();
    }
    if float != 0.0 && !(1e-4..1e16).contains(&float.abs()) {
        let scientific = format!("{float:e}");
        let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    let plain = float.to_string();
    if plain.contains('.') { plain } else { plain + ".0" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_in_python() {
        let printed = [0.0, 1.0, 0.1, 1e16, 1e15, 1.5e-5, 1e-4, -2.5e300, f64::INFINITY]
            .map(|value| to_str(&Value::from(value)));
        let expected =
            ["0.0", "1.0", "0.1", "1e+16", "1000000000000000.0", "1.5e-05", "0.0001", "-2.5e+300", "inf"];
        assert_eq!(printed, expected);
    }

    #[test]
    fn containers_print_as_in_python() {
        let list =
            Value::from(vec![Value::from("it's"), Value::from("a\n"), Value::from(()), Value::from(true)]);
        assert_eq!(to_str(&list), r#"["it's", 'a\n', None, True]"#);
        assert_eq!(to_str(&Value::from_pairs([("k", list)])), r#"{'k': ["it's", 'a\n', None, True]}"#);
    }
}
