//! A completion, piece by piece.

use super::response::{Completion, CompletionChoice, Texts};
use crate::answer::Answer;
use crate::error::ApiError;
use crate::sse::{Frame, Pieces};
use crate::usage::Usage;

/// Tells an answer as `text_completion` events.
#[derive(Debug)]
pub struct CompletionStream {
    answer: Answer,
    texts: Texts,
    includes_usage: bool,
}

impl CompletionStream {
    pub fn new(answer: Answer, texts: Texts, includes_usage: bool) -> Self {
        Self { answer, texts, includes_usage }
    }

    fn push(&self, frame: &mut Frame, choices: Vec<CompletionChoice>, usage: Option<Usage>) {
        frame.push(&Completion {
            id: &self.answer.id,
            object: "text_completion",
            created: self.answer.created,
            model: self.answer.model(),
            choices,
            usage: self.includes_usage.then_some(usage),
        });
    }
}

impl Pieces for CompletionStream {
    async fn tell(&mut self, frame: &mut Frame) -> Result<bool, ApiError> {
        let Some((mut index, mut told)) = self.answer.next().await? else {
            if self.includes_usage {
                self.push(frame, Vec::new(), Some(self.answer.usage));
            }
            return Ok(false);
        };
        loop {
            let piece = self.texts.piece(index, told, &self.answer);
            if piece.is_worth_telling() {
                self.push(frame, vec![piece], None);
            }
            match self.answer.ready()? {
                Some(more) => (index, told) = more,
                None => return Ok(true),
            }
        }
    }
}
