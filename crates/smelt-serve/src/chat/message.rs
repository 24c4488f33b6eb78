//! The messages of a conversation: from OpenAI's shape to what chat templates read.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::error::ApiError;

/// One message.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    role: Role,
    content: Option<Value>,
    name: Option<String>,
    tool_calls: Option<Vec<MessageCall>>,
    tool_call_id: Option<String>,
    refusal: Option<String>,
    reasoning_content: Option<String>,
    /// Comes back from clients that send what they were sent; says nothing to a model.
    #[serde(default)]
    annotations: Option<Vec<Value>>,
    audio: Option<Value>,
    function_call: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageCall {
    id: String,
    #[serde(rename = "type")]
    _kind: super::request::FunctionKind,
    function: CalledFunction,
    /// Comes back from clients that put a stream together.
    #[serde(rename = "index")]
    _index: Option<usize>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct CalledFunction {
    name: String,
    arguments: String,
}

impl Message {
    /// Checks what its type does not say; it is number `index`.
    ///
    /// # Errors
    /// [`ApiError`] with the path of what does not fit.
    pub fn validate(&self, index: usize) -> Result<(), ApiError> {
        let param = |field: &str| format!("messages[{index}].{field}");
        if self.audio.is_some() {
            return Err(ApiError::unsupported(param("audio"), "this server reads text only"));
        }
        if self.function_call.is_some() {
            return Err(ApiError::unsupported(param("function_call"), "it is deprecated; use `tool_calls`"));
        }
        if self.annotations.as_ref().is_some_and(|list| !list.is_empty()) {
            return Err(ApiError::unsupported(param("annotations"), "this server reads text only"));
        }
        let has_calls = self.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty());
        if has_calls && self.role != Role::Assistant {
            return Err(ApiError::invalid(param("tool_calls"), "only an assistant calls tools"));
        }
        if self.tool_call_id.is_some() != (self.role == Role::Tool) {
            let message = "`tool_call_id` belongs to messages of role `tool`, and to each of them";
            return Err(ApiError::invalid(param("tool_call_id"), message));
        }
        if self.content.is_none() && self.role != Role::Assistant {
            return Err(ApiError::invalid(param("content"), format!("`{}` is missing", param("content"))));
        }
        if let Some(content) = &self.content {
            text_of(content, &param("content"))?;
        }
        for (at, call) in self.tool_calls.iter().flatten().enumerate() {
            if call.arguments().is_none() {
                let param = param(&format!("tool_calls[{at}].function.arguments"));
                return Err(ApiError::invalid(&param, format!("`{param}` is not a JSON object as text")));
            }
        }
        Ok(())
    }

    /// As templates read it; `names` are those of the tools called before, by the id of the call.
    fn value(&self, names: &mut Map<String, Value>) -> Value {
        let mut fields = Map::new();
        let role = match self.role {
            Role::System | Role::Developer => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        };
        fields.insert("role".to_owned(), role.into());
        let content = self.content.as_ref().and_then(|content| text_of(content, "").ok());
        let content = content.or_else(|| self.refusal.clone()).unwrap_or_default();
        fields.insert("content".to_owned(), content.into());
        let mut optional = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                fields.insert(name.to_owned(), value);
            }
        };
        let called = self.tool_call_id.as_ref().and_then(|id| names.get(id).cloned());
        optional("name", self.name.clone().map(Value::from).or(called));
        optional("tool_call_id", self.tool_call_id.clone().map(Value::from));
        optional("reasoning_content", self.reasoning_content.clone().map(Value::from));
        let calls = self.tool_calls.as_ref().filter(|calls| !calls.is_empty());
        let call = |call: &MessageCall| {
            names.insert(call.id.clone(), call.function.name.clone().into());
            let arguments = call.arguments().unwrap_or_default();
            let function = json!({ "name": call.function.name, "arguments": arguments });
            json!({ "id": call.id, "type": "function", "function": function })
        };
        optional("tool_calls", calls.map(|calls| calls.iter().map(call).collect()));
        Value::Object(fields)
    }
}

/// The messages as templates read them.
pub fn values(messages: &[Message]) -> Vec<Value> {
    let mut names = Map::new();
    messages.iter().map(|message| message.value(&mut names)).collect()
}

impl MessageCall {
    /// Templates want the object, not its text.
    fn arguments(&self) -> Option<Value> {
        let text = &self.function.arguments;
        if text.trim().is_empty() {
            return Some(json!({}));
        }
        serde_json::from_str(text).ok().filter(Value::is_object)
    }
}

/// The text of a content: itself, or its parts put together.
fn text_of(content: &Value, param: &str) -> Result<String, ApiError> {
    if let Some(text) = content.as_str() {
        return Ok(text.to_owned());
    }
    let Some(parts) = content.as_array() else {
        return Err(ApiError::invalid(param, format!("`{param}` must be text or a list of parts")));
    };
    let mut text = String::new();
    for (index, part) in parts.iter().enumerate() {
        let param = format!("{param}[{index}]");
        let field = |name: &str| part.get(name).and_then(Value::as_str);
        let part_text = match field("type") {
            Some("text") => field("text"),
            Some("refusal") => field("refusal"),
            Some(_) => {
                return Err(ApiError::unsupported(format!("{param}.type"), "this server reads text only"));
            }
            None => None,
        };
        let known = |fields: &Map<String, Value>| {
            fields.keys().all(|key| ["type", "text", "refusal"].contains(&key.as_str()))
        };
        match part_text.filter(|_| part.as_object().is_some_and(known)) {
            Some(part_text) => text += part_text,
            None => {
                let message = format!("`{param}` must be an object with `type` and `text`, and nothing else");
                return Err(ApiError::invalid(param, message));
            }
        }
    }
    Ok(text)
}
