//! The whole answer to a conversation.

use serde::Serialize;
use serde_json::Value;

use crate::answer::{Answer, Told};
use crate::choice::FinishReason;
use crate::error::ApiError;
use crate::identifier::call_identifier;
use crate::logprobs::ChatLogprob;
use crate::tool_calls::ToolCall;
use crate::usage::Usage;

/// What made the answer, for clients that compare seeds.
pub const FINGERPRINT: &str = concat!("smelt-", env!("CARGO_PKG_VERSION"));

/// `chat.completion`.
#[derive(Debug, Serialize)]
pub struct ChatCompletion {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    system_fingerprint: &'static str,
    choices: Vec<Choice>,
    usage: Usage,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
}

#[derive(Debug, Serialize)]
struct Choice {
    index: usize,
    message: Message,
    logprobs: Option<Logprobs>,
    finish_reason: FinishReason,
}

#[derive(Debug, Serialize)]
struct Message {
    role: &'static str,
    content: Option<String>,
    refusal: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call>,
}

/// A call with a name of its own.
#[derive(Debug, Clone, Serialize)]
pub struct Call {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    function: CalledFunction,
}

#[derive(Debug, Clone, Serialize)]
struct CalledFunction {
    name: String,
    arguments: String,
}

/// Of the tokens of a choice.
#[derive(Debug, Serialize)]
pub struct Logprobs {
    pub content: Vec<ChatLogprob>,
    pub refusal: Option<Vec<ChatLogprob>>,
}

impl From<ToolCall> for Call {
    fn from(call: ToolCall) -> Self {
        let ToolCall { name, arguments } = call;
        Self { id: call_identifier(), kind: "function", function: CalledFunction { name, arguments } }
    }
}

/// Waits for the end of `answer`.
///
/// # Errors
/// [`ApiError`] of the engine.
pub async fn whole(
    mut answer: Answer,
    with_logprobs: bool,
    metadata: Option<Value>,
) -> Result<ChatCompletion, ApiError> {
    let mut choices: Vec<Choice> =
        (0..answer.choices()).map(|index| Choice::new(index, with_logprobs)).collect();
    while let Some((index, told)) = answer.next().await? {
        let Told::Delta(delta, _) = told else { continue };
        let choice = &mut choices[index];
        choice.message.content.get_or_insert_default().push_str(&delta.text);
        choice.message.tool_calls.extend(delta.calls.into_iter().map(Call::from));
        if let Some(logprobs) = &mut choice.logprobs {
            let spelling = answer.spelling();
            logprobs.content.extend(delta.logprobs.iter().map(|found| ChatLogprob::new(found, spelling)));
        }
        choice.finish_reason = delta.finish.unwrap_or(choice.finish_reason);
    }
    for choice in &mut choices {
        let is_empty = choice.message.content.as_ref().is_none_or(String::is_empty);
        if is_empty && !choice.message.tool_calls.is_empty() {
            choice.message.content = None;
        }
    }
    Ok(ChatCompletion {
        object: "chat.completion",
        created: answer.created,
        model: answer.model().to_owned(),
        system_fingerprint: FINGERPRINT,
        choices,
        usage: answer.usage,
        metadata,
        id: answer.id,
    })
}

impl Choice {
    fn new(index: usize, with_logprobs: bool) -> Self {
        let message = Message { role: "assistant", content: None, refusal: None, tool_calls: Vec::new() };
        let logprobs = with_logprobs.then(|| Logprobs { content: Vec::new(), refusal: None });
        Self { index, message, logprobs, finish_reason: FinishReason::Stop }
    }
}
