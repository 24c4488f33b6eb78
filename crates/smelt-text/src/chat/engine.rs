//! The template engine, set up as transformers sets up Jinja.
//!
//! Blocks swallow the line feed behind them and the blanks before them; loops know `break` and
//! `continue`; strings, lists and dicts have the methods that templates use of Python's. Templates come
//! with models from strangers: steps, nesting and output are bounded. They see nothing but the
//! conversation and the clock.

use std::io;

use chrono::Local;
use chrono::format::{Item, StrftimeItems};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, Value, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, Output, State};

use super::generation::{BLOCK_FILTER, generation_as_filter};
use super::python::{JsonStyle, to_json, to_str};

/// The name under which the one template of an environment is found and errors cite it.
pub const TEMPLATE_NAME: &str = "chat template";

/// Steps of the engine after which a template counts as endless: seconds of work.
const MOST_STEPS: u64 = 50_000_000;

/// Nested calls and blocks; each takes some of the thread's stack.
const DEEPEST_NESTING: usize = 150;

/// No conversation renders to this much.
const MOST_OUTPUT_BYTES: usize = 1 << 28;

/// What `raise_exception` was called with: the template's own refusal of a conversation.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Raised(pub String);

/// An engine that holds the one template `source`.
///
/// # Errors
/// If `source` does not parse.
pub fn environment(source: &str) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_fuel(Some(MOST_STEPS));
    environment.set_recursion_limit(DEEPEST_NESTING);
    environment.set_unknown_method_callback(python_method);
    environment.set_formatter(|output: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value| {
        match value.as_str() {
            Some(text) => output.write_str(text).map_err(Error::from),
            None => output.write_str(&to_str(value)).map_err(Error::from),
        }
    });
    environment.add_filter("tojson", |value: Value, ensure_ascii: Option<bool>, arguments: Kwargs| {
        to_json(&value, &JsonStyle::from_arguments(ensure_ascii, &arguments)?)
    });
    environment.add_filter("string", |value: Value| to_str(&value));
    environment.add_test("sequence", |value: Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String)
    });
    // Tells blocks of `{% generation %}` only when spans are asked for; see `generation.rs`.
    environment.add_filter(BLOCK_FILTER, |text: Value| text);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_template_owned(TEMPLATE_NAME, generation_as_filter(source))?;
    Ok(environment)
}

/// Renders the template of `environment`.
///
/// # Errors
/// What the template raises, and what it does wrong.
pub fn render(environment: &Environment<'_>, context: Value) -> Result<String, Error> {
    let mut output = Bounded(Vec::new());
    environment.get_template(TEMPLATE_NAME)?.render_captured_to(context, &mut output)?;
    String::from_utf8(output.0).map_err(|_| Error::new(ErrorKind::WriteFailure, "output is not UTF-8"))
}

/// A buffer that refuses to grow beyond [`MOST_OUTPUT_BYTES`].
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MOST_OUTPUT_BYTES {
            return Err(io::Error::other(format!("more than {MOST_OUTPUT_BYTES} bytes of output")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn raise_exception(message: &str) -> Result<Value, Error> {
    let raised = Raised(message.to_owned());
    Err(Error::new(ErrorKind::InvalidOperation, "raised by the template").with_source(raised))
}

/// The time here, as `datetime.now().strftime(format)`.
fn strftime_now(format: &str) -> Result<String, Error> {
    let items: Vec<Item<'_>> = StrftimeItems::new(format).collect();
    if items.contains(&Item::Error) {
        let message = format!("`strftime_now` does not know the format `{format}`");
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    Ok(Local::now().format_with_items(items.iter()).to_string())
}

/// Methods of Python's types that the engine lacks.
fn python_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        match method {
            "removeprefix" => {
                let (prefix,): (&str,) = from_args(arguments)?;
                return Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)));
            }
            "removesuffix" => {
                let (suffix,): (&str,) = from_args(arguments)?;
                return Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)));
            }
            "title" => {
                let () = from_args(arguments)?;
                return Ok(Value::from(title(text)));
            }
            "rsplit" => return split_from_the_end(text, arguments),
            "join" => {
                let (items,): (Value,) = from_args(arguments)?;
                let items: Vec<String> = items.try_iter()?.map(|item| to_str(&item)).collect();
                return Ok(Value::from(items.join(text)));
            }
            _ => {}
        }
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, arguments)
}

/// Every letter behind something that is no letter in upper case, the others in lower case.
fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut behind_letter = false;
    for letter in text.chars() {
        if behind_letter {
            titled.extend(letter.to_lowercase());
        } else {
            titled.extend(letter.to_uppercase());
        }
        behind_letter = letter.is_alphabetic();
    }
    titled
}

fn split_from_the_end(text: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (separator, most): (&str, Rest<i64>) = from_args(arguments)?;
    if separator.is_empty() {
        return Err(Error::new(ErrorKind::InvalidOperation, "`rsplit` with an empty separator"));
    }
    let parts = match most.first().map(|&most| usize::try_from(most)) {
        Some(Ok(most)) => text.rsplitn(most + 1, separator).map(Value::from).collect::<Vec<_>>(),
        _ => text.rsplit(separator).map(Value::from).collect(),
    };
    Ok(parts.into_iter().rev().collect())
}
