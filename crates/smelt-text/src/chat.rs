//! Chat templates: a conversation to the text that a model was taught with.
//!
//! Templates are Jinja, as transformers keeps them in `chat_template.jinja` or `tokenizer_config.json`,
//! and render to the same text, raised errors included. Knows no roles of its own: what a message may
//! hold is the template's matter.

mod engine;
mod folder;
mod generation;
mod marks;
mod python;
mod spans;

use std::error::Error;
use std::ops::Range;
use std::path::Path;

use minijinja::Environment;
use minijinja::value::Value as TemplateValue;
use serde_json::{Map, Value};

use self::engine::Raised;
use crate::{TextError, Tokenizer};

/// ChatML with tools in the manner of Qwen2.5, for models that bring no template.
const DEFAULT_TEMPLATE: &str = include_str!("chat/default.jinja");

/// Name of the file that holds a model's chat template.
pub const CHAT_TEMPLATE_FILE: &str = "chat_template.jinja";

/// Turns conversations into text.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    /// The first is the one used, unless a conversation has tools and there is one named `tool_use`.
    templates: Vec<NamedTemplate>,
    special_tokens: Map<String, Value>,
    is_default: bool,
}

#[derive(Debug, Clone)]
struct NamedTemplate {
    name: String,
    source: String,
    environment: Environment<'static>,
}

/// What a template is given.
#[derive(Debug, Clone, Copy, Default)]
pub struct Conversation<'a> {
    /// The messages in order, each an object with a `role` and, mostly, a `content`.
    pub messages: &'a [Value],
    /// Descriptions of the tools that may be called, as a list of JSON schemas.
    pub tools: Option<&'a Value>,
    /// Documents to answer from, as a list of objects.
    pub documents: Option<&'a Value>,
    /// Whether the text ends with what opens the assistant's next message.
    pub add_generation_prompt: bool,
    /// More that a template may read, such as `enable_thinking`.
    pub variables: Option<&'a Map<String, Value>>,
}

/// A rendered conversation in which the assistant's words are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedSpans {
    /// The text, equal to what [`ChatTemplate::render`] gives.
    pub text: String,
    /// Byte ranges of `text` that an assistant wrote, ascending: content, tool calls, and the marker
    /// that ends its turn.
    pub assistant: Vec<Range<usize>>,
}

impl ChatTemplate {
    /// The template of a model folder: `chat_template.jinja`, else `chat_template` of
    /// `tokenizer_config.json` (one, or several with names), else the default, which is ChatML.
    ///
    /// Special tokens (`bos_token`, ...) come from `tokenizer_config.json` and `special_tokens_map.json`;
    /// `tokenizer` tells the end of text where they do not.
    ///
    /// # Errors
    /// If a file is there but cannot be read, or the template does not parse.
    pub fn from_folder(folder: &Path, tokenizer: Option<&Tokenizer>) -> Result<Self, TextError> {
        folder::load(folder, tokenizer)
    }

    /// A template from its source, without special tokens.
    ///
    /// # Errors
    /// If it does not parse.
    pub fn from_source(source: &str) -> Result<Self, TextError> {
        Self::from_sources(&[("default".to_owned(), source.to_owned())], Map::new())
    }

    /// The template used for models that have none: ChatML, with tools.
    pub fn default_chat() -> Self {
        let default = Self::from_source(DEFAULT_TEMPLATE).expect("the built-in template parses");
        Self { is_default: true, ..default }
    }

    fn from_sources(
        sources: &[(String, String)],
        special_tokens: Map<String, Value>,
    ) -> Result<Self, TextError> {
        let parse = |(name, source): &(String, String)| {
            let environment = engine::environment(source).map_err(|source| parse_error(name, source))?;
            Ok(NamedTemplate { name: name.clone(), source: source.clone(), environment })
        };
        let templates = sources.iter().map(parse).collect::<Result<_, TextError>>()?;
        Ok(Self { templates, special_tokens, is_default: false })
    }

    /// The same with these special tokens (`bos_token`, `eos_token`, ...) for the template to use.
    #[must_use]
    pub fn with_special_tokens(mut self, special_tokens: Map<String, Value>) -> Self {
        self.special_tokens = special_tokens;
        self
    }

    /// Whether the model had no template and this is the one for all such.
    pub fn is_default(&self) -> bool {
        self.is_default
    }

    /// The source of the template that conversations without tools use.
    pub fn source(&self) -> &str {
        &self.templates[0].source
    }

    /// Renders a conversation.
    ///
    /// # Errors
    /// [`TextError::TemplateRaised`] if the template refuses the conversation,
    /// [`TextError::Render`] if it cannot be rendered, runs endlessly or writes endlessly.
    pub fn render(&self, conversation: &Conversation<'_>) -> Result<String, TextError> {
        let template = self.template_for(conversation);
        engine::render(&template.environment, self.context(conversation)).map_err(render_error)
    }

    /// Renders a conversation and finds what the assistant wrote in it.
    ///
    /// Templates with `{% generation %}` blocks say it themselves. For others the assistant's strings
    /// are rendered once more with private-use characters among them, which are looked up and removed.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`]; [`TextError::NoSpans`] if the template changes a message so that its
    /// place cannot be told.
    pub fn render_with_spans(&self, conversation: &Conversation<'_>) -> Result<RenderedSpans, TextError> {
        let template = self.template_for(conversation);
        if generation::has_blocks(&template.source) {
            let (text, assistant) =
                generation::render_blocks(&template.environment, self.context(conversation))
                    .map_err(render_error)?;
            return Ok(RenderedSpans { text, assistant });
        }
        spans::find(self, conversation)
    }

    fn template_for(&self, conversation: &Conversation<'_>) -> &NamedTemplate {
        let for_tools =
            conversation.tools.and_then(|_| self.templates.iter().find(|it| it.name == "tool_use"));
        for_tools.unwrap_or(&self.templates[0])
    }

    /// What the template sees: absent tools and documents are none, absent special tokens undefined.
    fn context(&self, conversation: &Conversation<'_>) -> TemplateValue {
        let optional = |value: Option<&Value>| value.map_or(TemplateValue::from(()), template_value);
        let messages: TemplateValue = conversation.messages.iter().map(message_value).collect();
        let of_conversation = [
            ("messages", messages),
            ("tools", optional(conversation.tools)),
            ("documents", optional(conversation.documents)),
            ("add_generation_prompt", conversation.add_generation_prompt.into()),
        ];
        let variables = self.special_tokens.iter().chain(conversation.variables.into_iter().flatten());
        let variables = variables.map(|(key, value)| (key.as_str(), template_value(value)));
        TemplateValue::from_pairs(variables.chain(of_conversation))
    }
}

/// A message with its reasoning under each name that templates read it by, as in transformers.
fn message_value(message: &Value) -> TemplateValue {
    const NAMES: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];
    let reasoning = NAMES.iter().find_map(|name| message.get(name).filter(|value| !value.is_null()));
    let (Some(reasoning), Some(fields)) = (reasoning, message.as_object()) else {
        return template_value(message);
    };
    // In the order that transformers gives the keys.
    let mut named = Map::from_iter([(NAMES[1].to_owned(), reasoning.clone())]);
    named.extend(fields.clone());
    named.insert(NAMES[0].to_owned(), reasoning.clone());
    template_value(&Value::Object(named))
}

fn template_value(json: &Value) -> TemplateValue {
    match json {
        Value::Null => TemplateValue::from(()),
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => value.into(),
            (None, Some(value)) => value.into(),
            (None, None) => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(template_value).collect(),
        Value::Object(fields) => {
            TemplateValue::from_pairs(fields.iter().map(|(key, value)| (key.as_str(), template_value(value))))
        }
    }
}

fn parse_error(name: &str, source: minijinja::Error) -> TextError {
    TextError::TemplateSyntax { name: name.to_owned(), source: source.into() }
}

fn render_error(error: minijinja::Error) -> TextError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(current) = cause {
        if let Some(Raised(message)) = current.downcast_ref::<Raised>() {
            return TextError::TemplateRaised { message: message.clone() };
        }
        cause = current.source();
    }
    TextError::Render { source: error.into() }
}
