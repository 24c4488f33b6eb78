//! Texts as tokens: prompts in the forms that OpenAI takes, and `/tokenize` and `/detokenize` as vLLM has them.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use smelt_text::{Conversation, TextError};
use tokio::task::spawn_blocking;

use crate::app::{App, Model, SharedApp};
use crate::chat::{Message, values};
use crate::error::ApiError;
use crate::request::{ApiJson, ApiRequest, typed};

/// Prompts, or inputs, that one request may have.
const MOST_PROMPTS: usize = 2048;

/// One prompt or several, each as text or as ids.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "expected text, a list of texts, a list of token ids, or a list of such lists")]
pub enum Prompts {
    Text(String),
    Texts(Vec<String>),
    Ids(Vec<u32>),
    Lists(Vec<Vec<u32>>),
}

/// One of them.
#[derive(Debug, Clone)]
pub enum Prompt {
    Text(String),
    Ids(Vec<u32>),
}

impl Prompts {
    /// Each alone, with the path of its place in the field `param`.
    ///
    /// # Errors
    /// [`ApiError`] if there is none, or there are too many.
    pub fn split(self, param: &str) -> Result<Vec<(String, Prompt)>, ApiError> {
        let prompts: Vec<Prompt> = match self {
            Self::Text(text) => return Ok(vec![(param.to_owned(), Prompt::Text(text))]),
            Self::Ids(ids) if !ids.is_empty() => return Ok(vec![(param.to_owned(), Prompt::Ids(ids))]),
            Self::Ids(_) => Vec::new(),
            Self::Texts(texts) => texts.into_iter().map(Prompt::Text).collect(),
            Self::Lists(lists) => lists.into_iter().map(Prompt::Ids).collect(),
        };
        if !(1..=MOST_PROMPTS).contains(&prompts.len()) {
            let message = format!("`{param}` must hold between 1 and {MOST_PROMPTS} entries");
            return Err(ApiError::invalid(param, message));
        }
        Ok(prompts
            .into_iter()
            .enumerate()
            .map(|(index, prompt)| (format!("{param}[{index}]"), prompt))
            .collect())
    }
}

impl Prompt {
    /// Its tokens, with what the tokenizer puts around a text.
    ///
    /// # Errors
    /// [`ApiError`] if it does not fit the model.
    pub fn tokens(&self, model: Model<'_>, param: &str) -> Result<Vec<u32>, ApiError> {
        let tokens = match self {
            Self::Text(text) => {
                let tokens = model.served.tokenizer.encode_with_special_tokens(text);
                tokens.map_err(|error| ApiError::from(error).at(param))?
            }
            Self::Ids(ids) => ids.clone(),
        };
        model.check(&tokens, param)?;
        Ok(tokens)
    }
}

/// The body of `/tokenize`: a text, or a conversation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizeRequest {
    model: Option<String>,
    prompt: Option<String>,
    messages: Option<Vec<Message>>,
    /// What the tokenizer puts around a text; a template puts its own.
    add_special_tokens: Option<bool>,
    #[serde(default = "yes")]
    add_generation_prompt: bool,
    #[serde(default)]
    return_token_strs: bool,
}

/// The body of `/detokenize`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetokenizeRequest {
    model: Option<String>,
    tokens: Vec<u32>,
}

fn yes() -> bool {
    true
}

impl ApiRequest for TokenizeRequest {
    fn from_fields(fields: Map<String, Value>) -> Result<Self, ApiError> {
        let request: Self = typed(fields)?;
        match (&request.prompt, &request.messages) {
            (Some(_), None) => Ok(request),
            (None, Some(messages)) => {
                for (index, message) in messages.iter().enumerate() {
                    message.validate(index)?;
                }
                Ok(request)
            }
            _ => Err(ApiError::invalid("prompt", "expected either `prompt` or `messages`")),
        }
    }
}

impl ApiRequest for DetokenizeRequest {
    fn from_fields(fields: Map<String, Value>) -> Result<Self, ApiError> {
        typed(fields)
    }
}

/// Answers `/tokenize`.
pub async fn tokenize(
    State(app): State<SharedApp>,
    ApiJson(request): ApiJson<TokenizeRequest>,
) -> Result<Json<Value>, ApiError> {
    let tokens = spawn_blocking(move || tokens(&app, &request)).await;
    tokens.map_err(|error| ApiError::internal(error.to_string()))?.map(Json)
}

fn tokens(app: &App, request: &TokenizeRequest) -> Result<Value, ApiError> {
    let model = app.model(request.model.as_deref())?;
    let tokenizer = &model.served.tokenizer;
    let encoded = |text: &str, special: bool| -> Result<Vec<u32>, TextError> {
        if special { tokenizer.encode_with_special_tokens(text) } else { tokenizer.encode(text) }
    };
    let tokens = match (&request.prompt, &request.messages) {
        (Some(text), _) => encoded(text, request.add_special_tokens.unwrap_or(true))?,
        (None, messages) => {
            let messages = values(messages.as_deref().unwrap_or_default());
            let conversation = Conversation {
                messages: &messages,
                add_generation_prompt: request.add_generation_prompt,
                ..Conversation::default()
            };
            let text = model
                .served
                .template
                .render(&conversation)
                .map_err(|error| ApiError::from(error).at("messages"))?;
            encoded(&text, request.add_special_tokens.unwrap_or(false))?
        }
    };
    let mut answer = json!({ "count": tokens.len(), "max_model_len": model.engine.context_length() });
    if request.return_token_strs {
        answer["token_strs"] = tokens.iter().map(|id| tokenizer.id_to_token(*id)).collect();
    }
    answer["tokens"] = tokens.into();
    Ok(answer)
}

/// Answers `/detokenize`.
pub async fn detokenize(
    State(app): State<SharedApp>,
    ApiJson(request): ApiJson<DetokenizeRequest>,
) -> Result<Json<Value>, ApiError> {
    let text = spawn_blocking(move || {
        let model = app.model(request.model.as_deref())?;
        let tokenizer = &model.served.tokenizer;
        match request.tokens.iter().position(|id| tokenizer.id_to_token(*id).is_none()) {
            Some(at) => {
                let message = format!("`tokens[{at}]` is {}, which is no token", request.tokens[at]);
                Err(ApiError::invalid(format!("tokens[{at}]"), message))
            }
            None => Ok(tokenizer.decode_with_special_tokens(&request.tokens)?),
        }
    });
    let text = text.await.map_err(|error| ApiError::internal(error.to_string()))??;
    Ok(Json(json!({ "prompt": text })))
}
