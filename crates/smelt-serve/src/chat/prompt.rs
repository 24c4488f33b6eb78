//! From a chat request to what the engine is asked: template, tokens, options.

use serde_json::{Map, Value, json};
use smelt_generate::engine::CompletionOptions;
use smelt_text::Conversation;

use super::message::values;
use super::request::{ChatRequest, Tool, ToolChoice, ToolMode};
use crate::answer::Question;
use crate::app::{App, Model};
use crate::choice::Calls;
use crate::constraint::constrain;
use crate::error::ApiError;
use crate::shape::Shape;
use crate::tool_calls::CallFormat;

/// Renders and tokenizes: too long for the thread that serves connections.
///
/// # Errors
/// [`ApiError`] for a conversation that the template refuses, and one that does not fit.
pub fn question(app: &App, request: &ChatRequest) -> Result<Question, ApiError> {
    let model = app.model(request.generation.model.as_deref())?;
    let tools = Tools::of(request, model)?;
    let mut text = render(request, &tools, model)?;
    text += tools.forced_prefix();
    let prompt =
        model.served.tokenizer.encode(&text).map_err(|error| ApiError::from(error).at("messages"))?;
    model.check(&prompt, "messages")?;
    let shape = tools.shape().unwrap_or_else(|| request.shape.clone());
    let options = options(app, request, model, &shape)?;
    Ok(Question {
        model: model.index,
        prompts: vec![prompt.into()],
        options,
        choices_per_prompt: request.generation.n.unwrap_or(1),
        first_seed: request.generation.first_seed(),
        calls: tools.calls(request, model),
        user: request.generation.user.clone(),
    })
}

/// The tools that may be called, and how.
struct Tools<'a> {
    /// Those that the model is told of.
    told: &'a [Tool],
    /// How it writes calls.
    format: CallFormat,
    /// Those of which one must be called.
    forced: Vec<&'a Tool>,
}

impl<'a> Tools<'a> {
    fn of(request: &'a ChatRequest, model: Model<'_>) -> Result<Self, ApiError> {
        let choice = &request.fields.tool_choice;
        let all = request.fields.tools.as_slice();
        let told = if matches!(choice, Some(ToolChoice::Mode(ToolMode::None))) { &[] } else { all };
        let format = model.call_format();
        if !told.is_empty() && format.is_none() {
            return Err(ApiError::unsupported(
                "tools",
                "the chat template of this model knows none, or none that can be read back",
            ));
        }
        let forced = match choice {
            Some(ToolChoice::Mode(ToolMode::Required)) => told.iter().collect(),
            Some(ToolChoice::Named(named)) => {
                told.iter().filter(|tool| tool.function.name == named.function.name).collect()
            }
            _ => Vec::new(),
        };
        Ok(Self { told, format: format.unwrap_or(CallFormat::Hermes), forced })
    }

    /// What the prompt ends with where a call is forced.
    fn forced_prefix(&self) -> &'static str {
        if self.forced.is_empty() { "" } else { self.format.forced_prefix() }
    }

    /// The shape of a forced call.
    fn shape(&self) -> Option<Shape> {
        let key = self.format.arguments_key();
        let call = |tool: &&Tool| {
            let arguments = tool.function.parameters.clone().unwrap_or_else(|| json!({ "type": "object" }));
            json!({
                "type": "object",
                "properties": { "name": { "const": tool.function.name }, key: arguments },
                "required": ["name", key],
                "additionalProperties": false,
            })
        };
        let calls: Vec<Value> = self.forced.iter().map(call).collect();
        match calls.len() {
            0 => None,
            1 => calls.into_iter().next().map(|call| Shape::JsonSchema(call, "tools")),
            _ => Some(Shape::JsonSchema(json!({ "anyOf": calls }), "tools")),
        }
    }

    fn calls(&self, request: &ChatRequest, model: Model<'_>) -> Option<Calls> {
        if self.told.is_empty() {
            return None;
        }
        let format = if self.forced.is_empty() { self.format } else { CallFormat::Forced };
        let opening_token = format.opening_token(&model.served.tokenizer);
        Some(Calls { format, opening_token, one_only: request.fields.parallel_tool_calls == Some(false) })
    }
}

fn render(request: &ChatRequest, tools: &Tools<'_>, model: Model<'_>) -> Result<String, ApiError> {
    let template = &model.served.template;
    let mut variables: Map<String, Value> = request.fields.chat_template_kwargs.clone();
    if let Some(effort) = &request.fields.reasoning_effort {
        if !template.source().contains("reasoning_effort") {
            let why = "the chat template of this model does not ask for it";
            return Err(ApiError::unsupported("reasoning_effort", why));
        }
        variables.insert("reasoning_effort".to_owned(), effort.clone().into());
    }
    let messages = values(&request.fields.messages);
    let told = (!tools.told.is_empty()).then(|| json!(tools.told));
    let conversation = Conversation {
        messages: &messages,
        tools: told.as_ref(),
        add_generation_prompt: true,
        variables: Some(&variables),
        ..Conversation::default()
    };
    template.render(&conversation).map_err(|error| ApiError::from(error).at("messages"))
}

/// What all choices have in common.
fn options(
    app: &App,
    request: &ChatRequest,
    model: Model<'_>,
    shape: &Shape,
) -> Result<CompletionOptions, ApiError> {
    let fields = &request.generation;
    let stop_tokens = fields.stop_tokens(&model.served.stop_tokens);
    let logprobs = request.fields.logprobs.then(|| request.fields.top_logprobs.unwrap_or(0));
    if logprobs.is_some() {
        // Here it delays nobody else.
        app.spelling(model.index);
    }
    let options = CompletionOptions {
        max_tokens: request.max_tokens().unwrap_or(app.options.default_max_tokens),
        stop_tokens,
        stop: fields.stops(),
        sampling: fields.sampling()?,
        logprobs,
        ..CompletionOptions::default()
    };
    constrain(app, options, shape, model)
}
