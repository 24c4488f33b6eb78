//! The body of `/v1/chat/completions`.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::message::Message;
use crate::error::ApiError;
use crate::fields::{GENERATION_FIELDS, GenerationFields, MOST_ALTERNATIVES};
use crate::request::{ApiRequest, refuse, take, typed};
use crate::shape::{Shape, ShapeFields};

/// Fields of OpenAI's that mean something which is not done here.
const REFUSED: [(&str, &str); 10] = [
    ("audio", "this server writes text only"),
    ("function_call", "it is deprecated; use `tool_choice`"),
    ("functions", "it is deprecated; use `tools`"),
    ("moderation", "nothing is moderated here"),
    ("prediction", "predicted outputs are not used"),
    ("prompt_cache_options", "prompts are cached by their tokens alone"),
    ("prompt_cache_retention", "prompts are cached by their tokens alone"),
    ("safety_identifier", "nothing is moderated here; use `user`"),
    ("verbosity", "say it in a message"),
    ("web_search_options", "this server searches nothing"),
];

/// A conversation to continue.
#[derive(Debug)]
pub struct ChatRequest {
    pub generation: GenerationFields,
    pub shape: Shape,
    pub fields: ChatFields,
}

/// The fields that only a chat has.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatFields {
    pub messages: Vec<Message>,
    #[serde(default)]
    pub tools: Vec<Tool>,
    pub tool_choice: Option<ToolChoice>,
    pub parallel_tool_calls: Option<bool>,
    #[serde(default)]
    pub logprobs: bool,
    pub top_logprobs: Option<usize>,
    pub max_completion_tokens: Option<usize>,
    #[serde(default)]
    pub chat_template_kwargs: Map<String, Value>,
    pub reasoning_effort: Option<String>,
    pub metadata: Option<Map<String, Value>>,
    store: Option<bool>,
    service_tier: Option<String>,
    modalities: Option<Vec<String>>,
    prompt_cache_key: Option<String>,
}

/// A tool that may be called.
#[derive(Debug, Clone, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    #[serde(rename = "type")]
    pub kind: FunctionKind,
    pub function: Function,
}

/// The one kind of tools.
#[derive(Debug, Clone, Copy, Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FunctionKind {
    Function,
}

/// A function and its arguments as a JSON schema.
#[derive(Debug, Clone, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
    #[serde(skip_serializing)]
    pub strict: Option<bool>,
}

/// Whether a tool is to be called.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "expected `none`, `auto`, `required` or a function's name in an object")]
pub enum ToolChoice {
    Mode(ToolMode),
    Named(NamedTool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolMode {
    None,
    Auto,
    Required,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedTool {
    #[serde(rename = "type")]
    _kind: FunctionKind,
    pub function: FunctionName,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionName {
    pub name: String,
}

impl ApiRequest for ChatRequest {
    fn from_fields(mut fields: Map<String, Value>) -> Result<Self, ApiError> {
        refuse(&fields, &REFUSED)?;
        let generation: GenerationFields = typed(take(&mut fields, &GENERATION_FIELDS))?;
        let shape = ShapeFields::take(&mut fields)?;
        let fields: ChatFields = typed(fields)?;
        let request = Self { generation, shape, fields };
        request.validate()?;
        Ok(request)
    }
}

impl ChatRequest {
    fn validate(&self) -> Result<(), ApiError> {
        self.generation.validate()?;
        let ChatFields { messages, tools, top_logprobs, logprobs, .. } = &self.fields;
        if messages.is_empty() {
            return Err(ApiError::invalid("messages", "`messages` is empty, expected at least one"));
        }
        for (index, message) in messages.iter().enumerate() {
            message.validate(index)?;
        }
        if top_logprobs.is_some() && !logprobs {
            return Err(ApiError::invalid("top_logprobs", "`top_logprobs` is for requests with `logprobs`"));
        }
        if top_logprobs.is_some_and(|count| count > MOST_ALTERNATIVES) {
            let message = format!("`top_logprobs` must lie between 0 and {MOST_ALTERNATIVES}");
            return Err(ApiError::invalid("top_logprobs", message));
        }
        if self.fields.max_completion_tokens.is_some() && self.generation.max_tokens.is_some() {
            let message = "give `max_completion_tokens` or `max_tokens`, not both";
            return Err(ApiError::invalid("max_tokens", message));
        }
        if self.max_tokens() == Some(0) {
            return Err(ApiError::invalid("max_tokens", "`max_tokens` must be a whole number from 1"));
        }
        for (index, tool) in tools.iter().enumerate() {
            let is_schema = tool.function.parameters.as_ref().is_none_or(Value::is_object);
            if tool.function.name.is_empty() || !is_schema {
                let param = format!("tools[{index}].function");
                return Err(ApiError::invalid(
                    &param,
                    format!("`{param}` needs a `name` and a schema as `parameters`"),
                ));
            }
        }
        self.validate_choice()?;
        self.validate_fixed()
    }

    fn validate_choice(&self) -> Result<(), ApiError> {
        let ChatFields { tools, tool_choice, .. } = &self.fields;
        let forced = matches!(tool_choice, Some(ToolChoice::Mode(ToolMode::Required) | ToolChoice::Named(_)));
        match tool_choice {
            Some(_) if tools.is_empty() => {
                return Err(ApiError::invalid("tool_choice", "`tool_choice` is for requests with `tools`"));
            }
            Some(ToolChoice::Named(named))
                if !tools.iter().any(|tool| tool.function.name == named.function.name) =>
            {
                let message = format!("there is no tool `{}`", named.function.name);
                return Err(ApiError::invalid("tool_choice.function.name", message));
            }
            _ => {}
        }
        if forced && self.shape.is_constrained() {
            return Err(ApiError::invalid("response_format", "a forced tool call has a shape of its own"));
        }
        let strict = tools.iter().position(|tool| tool.function.strict == Some(true));
        match strict.filter(|_| !forced) {
            Some(index) => {
                let why = "arguments are enforced where `tool_choice` is `required` or names a function";
                Err(ApiError::unsupported(format!("tools[{index}].function.strict"), why))
            }
            None => Ok(()),
        }
    }

    /// Fields of which one value alone can be honoured.
    fn validate_fixed(&self) -> Result<(), ApiError> {
        let ChatFields { store, service_tier, modalities, prompt_cache_key, .. } = &self.fields;
        // Requests share one cache of prompts: whatever the key, they find each other's.
        let _ = prompt_cache_key;
        if *store == Some(true) {
            return Err(ApiError::unsupported("store", "nothing is stored here"));
        }
        if service_tier.as_deref().is_some_and(|tier| !["auto", "default"].contains(&tier)) {
            return Err(ApiError::unsupported("service_tier", "there is one tier, `default`"));
        }
        if modalities.as_ref().is_some_and(|kinds| kinds.iter().any(|kind| kind != "text")) {
            return Err(ApiError::unsupported("modalities", "this server writes text only"));
        }
        Ok(())
    }

    /// Most tokens of the answer, where the request says.
    pub fn max_tokens(&self) -> Option<usize> {
        self.fields.max_completion_tokens.or(self.generation.max_tokens)
    }
}
