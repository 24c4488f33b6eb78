//! Tool calls in what a model writes, told from its text while that comes in.
//!
//! Three ways of writing them are known: that of Hermes and Qwen (`<tool_call>{...}</tool_call>`), of Llama 3.1
//! (a JSON object with `name` and `parameters`, perhaps behind `<|python_tag|>`) and of Mistral (`[TOOL_CALLS] [...]`).
//! A call is handed out when it is complete. What turns out to be none stays text: nothing a model writes is lost.

mod format;
mod parser;

pub use format::CallFormat;
pub use parser::CallParser;

use serde_json::{Map, Value};

/// A call that a model made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// The tool.
    pub name: String,
    /// Its arguments, a JSON object.
    pub arguments: String,
}

impl ToolCall {
    /// The call that a JSON object describes: `name`, and `arguments` or `parameters`.
    pub fn from_value(value: &Value) -> Option<Self> {
        let fields = value.as_object()?;
        let name = fields.get("name")?.as_str()?.to_owned();
        let arguments = match fields.get("arguments").or(fields.get("parameters")) {
            None | Some(Value::Null) => Value::Object(Map::new()),
            // Some models write the object as text, as OpenAI does.
            Some(Value::String(text)) => serde_json::from_str(text).ok()?,
            Some(arguments) => arguments.clone(),
        };
        arguments.is_object().then(|| Self { name, arguments: arguments.to_string() })
    }
}
