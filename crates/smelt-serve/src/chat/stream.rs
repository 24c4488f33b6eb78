//! The answer to a conversation, piece by piece.

use serde::Serialize;

use super::response::{Call, FINGERPRINT, Logprobs};
use crate::answer::{Answer, Told};
use crate::choice::{Delta, FinishReason};
use crate::error::ApiError;
use crate::logprobs::ChatLogprob;
use crate::sse::{Frame, Pieces};
use crate::usage::Usage;

/// Tells an answer as `chat.completion.chunk` events.
#[derive(Debug)]
pub struct ChatStream {
    answer: Answer,
    includes_usage: bool,
    with_logprobs: bool,
    /// Roles were told.
    begun: bool,
    /// Calls told of each choice.
    calls: Vec<usize>,
}

#[derive(Debug, Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: &'static str,
    choices: &'a [ChunkChoice],
    /// Null in all but the last, and absent where nobody asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

#[derive(Debug, Serialize)]
struct ChunkChoice {
    index: usize,
    delta: ChunkDelta,
    logprobs: Option<Logprobs>,
    finish_reason: Option<FinishReason>,
}

#[derive(Debug, Default, Serialize)]
struct ChunkDelta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ChunkCall>,
}

#[derive(Debug, Serialize)]
struct ChunkCall {
    index: usize,
    #[serde(flatten)]
    call: Call,
}

impl ChatStream {
    pub fn new(answer: Answer, includes_usage: bool, with_logprobs: bool) -> Self {
        let calls = vec![0; answer.choices()];
        Self { answer, includes_usage, with_logprobs, begun: false, calls }
    }

    fn tell_delta(&mut self, frame: &mut Frame, index: usize, delta: Delta) {
        let spelled = |found| ChatLogprob::new(found, self.answer.spelling());
        let found = delta.logprobs.iter().map(spelled).collect();
        let mut logprobs = self.with_logprobs.then_some(Logprobs { content: found, refusal: None });
        if !delta.text.is_empty() {
            let told = ChunkDelta { content: Some(delta.text), ..ChunkDelta::default() };
            let logprobs = logprobs.take();
            self.push(frame, ChunkChoice { index, delta: told, logprobs, finish_reason: None });
        }
        for call in delta.calls {
            let call = ChunkCall { index: self.calls[index], call: call.into() };
            self.calls[index] += 1;
            let told = ChunkDelta { tool_calls: vec![call], ..ChunkDelta::default() };
            let logprobs = logprobs.take();
            self.push(frame, ChunkChoice { index, delta: told, logprobs, finish_reason: None });
        }
        if delta.finish.is_some() {
            let logprobs = logprobs.filter(|logprobs| !logprobs.content.is_empty());
            let told = ChunkDelta::default();
            self.push(frame, ChunkChoice { index, delta: told, logprobs, finish_reason: delta.finish });
        }
    }

    fn push(&self, frame: &mut Frame, choice: ChunkChoice) {
        self.push_chunk(frame, &[choice], None);
    }

    fn push_chunk(&self, frame: &mut Frame, choices: &[ChunkChoice], usage: Option<Usage>) {
        frame.push(&Chunk {
            id: &self.answer.id,
            object: "chat.completion.chunk",
            created: self.answer.created,
            model: self.answer.model(),
            system_fingerprint: FINGERPRINT,
            choices,
            usage: self.includes_usage.then_some(usage),
        });
    }
}

impl Pieces for ChatStream {
    async fn tell(&mut self, frame: &mut Frame) -> Result<bool, ApiError> {
        if !self.begun {
            self.begun = true;
            for index in 0..self.answer.choices() {
                let delta = ChunkDelta {
                    role: Some("assistant"),
                    content: Some(String::new()),
                    ..ChunkDelta::default()
                };
                self.push(frame, ChunkChoice { index, delta, logprobs: None, finish_reason: None });
            }
            return Ok(true);
        }
        let Some(mut news) = self.answer.next().await? else {
            if self.includes_usage {
                self.push_chunk(frame, &[], Some(self.answer.usage));
            }
            return Ok(false);
        };
        loop {
            if let (index, Told::Delta(delta, _)) = news {
                self.tell_delta(frame, index, delta);
            }
            match self.answer.ready()? {
                Some(more) => news = more,
                None => return Ok(true),
            }
        }
    }
}
