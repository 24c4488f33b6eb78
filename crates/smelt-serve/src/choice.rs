//! One continuation of one prompt: from the engine's events to what is told of it.

use serde::Serialize;
use smelt_generate::StopReason;
use smelt_generate::TokenLogprobs;
use smelt_generate::engine::{EndReport, TokenEvent};

use crate::tool_calls::{CallFormat, CallParser, ToolCall};

/// Why a choice ended, in OpenAI's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model, or a stop string, ended it.
    Stop,
    /// There was no room for more.
    Length,
    /// It calls tools.
    ToolCalls,
}

impl FinishReason {
    /// That of a text without calls.
    pub fn of(reason: StopReason) -> Self {
        match reason {
            StopReason::MaxTokens | StopReason::ContextFull => Self::Length,
            _ => Self::Stop,
        }
    }
}

/// What became certain of a choice.
#[derive(Debug, Default)]
pub struct Delta {
    /// Text that is no call.
    pub text: String,
    /// Calls that are complete.
    pub calls: Vec<ToolCall>,
    /// Of the tokens behind the text.
    pub logprobs: Vec<TokenLogprobs>,
    /// The choice is over.
    pub finish: Option<FinishReason>,
}

impl Delta {
    /// There is something to tell.
    pub fn is_worth_telling(&self) -> bool {
        !self.text.is_empty() || !self.calls.is_empty() || self.finish.is_some()
    }
}

/// How calls are looked for.
#[derive(Debug, Clone, Copy)]
pub struct Calls {
    /// How the model writes them.
    pub format: CallFormat,
    /// The id of what opens one, where decoding passes over it.
    pub opening_token: Option<u32>,
    /// The answer ends behind the first.
    pub one_only: bool,
}

/// The state of a choice.
#[derive(Debug)]
pub struct Choice {
    calls: Option<(Calls, CallParser)>,
    called: bool,
    /// Of tokens whose text is still held back.
    held_logprobs: Vec<TokenLogprobs>,
    /// Nothing more is told of it.
    over: bool,
}

impl Choice {
    pub fn new(calls: Option<Calls>) -> Self {
        let calls = calls.map(|calls| (calls, CallParser::new(calls.format)));
        Self { calls, called: false, held_logprobs: Vec::new(), over: false }
    }

    /// Takes a token.
    pub fn take(&mut self, event: TokenEvent) -> Delta {
        let mut text = event.text;
        if let Some((calls, _)) = &self.calls
            && calls.opening_token == Some(event.token)
            && let Some(opening) = calls.format.opening()
        {
            text.push_str(opening);
        }
        self.held_logprobs.extend(event.logprobs);
        self.told(&text, None)
    }

    /// Takes the end.
    pub fn end(&mut self, report: &EndReport) -> Delta {
        self.told(&report.text, Some(FinishReason::of(report.reason)))
    }

    /// Whether it ended before the engine said so: a client wanted one call, and has it.
    pub fn is_over(&self) -> bool {
        self.over
    }

    fn told(&mut self, text: &str, finish: Option<FinishReason>) -> Delta {
        let mut delta = Delta { finish, ..Delta::default() };
        if self.over {
            return Delta::default();
        }
        match &mut self.calls {
            None => text.clone_into(&mut delta.text),
            Some((_, parser)) => {
                let pieces = parser.push(text);
                (delta.text, delta.calls) = (pieces.text, pieces.calls);
                if finish.is_some() {
                    let rest = parser.finish();
                    delta.text += &rest.text;
                    delta.calls.extend(rest.calls);
                }
            }
        }
        self.called |= !delta.calls.is_empty();
        if self.called && self.calls.as_ref().is_some_and(|(calls, _)| calls.one_only) {
            delta.calls.truncate(1);
            delta.finish = Some(FinishReason::ToolCalls);
        }
        if self.called && delta.finish == Some(FinishReason::Stop) {
            delta.finish = Some(FinishReason::ToolCalls);
        }
        self.over = delta.finish.is_some();
        if delta.is_worth_telling() {
            delta.logprobs = std::mem::take(&mut self.held_logprobs);
        }
        delta
    }
}
