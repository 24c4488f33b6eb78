//! From a record to tokens of which each knows whether it is to be learnt.

use std::ops::Range;

use serde_json::Value;
use smelt_text::{ChatTemplate, Conversation, TextError, Tokenizer};

use super::record::{Record, Said};

/// Role of the side that is learnt.
const ASSISTANT: &str = "assistant";
/// Role of the side that asks.
const USER: &str = "user";

/// How to make examples of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstructionOptions {
    /// Predictions that fit a row; longer conversations are shortened by whole turns.
    pub seq_length: usize,
    /// What the loss is taken on.
    pub loss_on: LossOn,
    /// How plain strings in `prompt`, `completion`, `chosen` and `rejected` become text.
    pub prompt_format: PromptFormat,
    /// What to do about a line that is no record of the file's kind.
    pub bad_record: OnBadRecord,
}

/// What to do about a line that is no record of the file's kind, or that the template refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBadRecord {
    /// Stop with an error that names file and line.
    Fail,
    /// Leave the line out, and count it.
    Skip,
}

/// What the loss is taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossOn {
    /// Every token.
    Everything,
    /// What the assistant wrote, in every turn; the completion alone where a record has one.
    Completions,
}

/// How plain strings become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptFormat {
    /// As a question of the user and an answer of the assistant, through the chat template.
    Chat,
    /// The one after the other, and the end-of-text token. For models without chat.
    Plain,
}

/// Tokens, and of each whether it counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sequence {
    pub tokens: Vec<u32>,
    pub counted: Vec<bool>,
}

impl Sequence {
    /// Whether any prediction counts; the first token is not predicted.
    fn teaches(&self) -> bool {
        self.counted.iter().skip(1).any(|&counts| counts)
    }
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encoded {
    /// One sequence; several for a long text; two for a preference, the chosen one first.
    Taken {
        sequences: Vec<Sequence>,
        removed_messages: usize,
    },
    TooLong,
    NothingToLearn,
}

/// Turns records into sequences.
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    template: &'a ChatTemplate,
    options: &'a InstructionOptions,
    /// What the tokenizer puts before a text.
    prefix: Vec<u32>,
}

/// A text, and where in it the assistant speaks.
struct Marked {
    text: String,
    assistant: Vec<Range<usize>>,
}

impl<'a> Encoder<'a> {
    pub fn new(
        tokenizer: &'a Tokenizer,
        template: &'a ChatTemplate,
        options: &'a InstructionOptions,
    ) -> Result<Self, TextError> {
        Ok(Self { tokenizer, template, options, prefix: prefix(tokenizer)? })
    }

    /// Encodes `record`; the error is what is wrong with it.
    pub fn encode(&self, record: &Record) -> Result<Encoded, String> {
        match record {
            Record::Messages { messages, tools } => self.conversation(messages, tools.as_ref()),
            Record::PromptCompletion { prompt, completion, tools } => {
                let sequence = self.answer(prompt, completion, tools.as_ref())?;
                Ok(self.whole(vec![sequence]))
            }
            Record::Text(text) => self.text(text),
            Record::Preference { prompt, chosen, rejected, tools } => {
                let sequences = [chosen, rejected].map(|answer| self.answer(prompt, answer, tools.as_ref()));
                Ok(self.whole(sequences.into_iter().collect::<Result<_, _>>()?))
            }
        }
    }

    /// Sequences that cannot be shortened.
    fn whole(&self, sequences: Vec<Sequence>) -> Encoded {
        if sequences.iter().any(|sequence| !self.fits(sequence)) {
            Encoded::TooLong
        } else if sequences.iter().any(|sequence| !sequence.teaches()) {
            Encoded::NothingToLearn
        } else {
            Encoded::Taken { sequences, removed_messages: 0 }
        }
    }

    fn fits(&self, sequence: &Sequence) -> bool {
        sequence.tokens.len() <= self.options.seq_length + 1
    }

    /// A conversation, shortened at its end to the last answer that fits.
    fn conversation(&self, messages: &[Value], tools: Option<&Value>) -> Result<Encoded, String> {
        let encode = |end: usize| self.tokens(&self.render(&messages[..end], tools)?, &[]);
        let whole = encode(messages.len())?;
        if self.fits(&whole) {
            return Ok(self.whole(vec![whole]));
        }
        let is_answer = |at: &usize| messages[*at].get("role").is_some_and(|role| role == ASSISTANT);
        let ends: Vec<usize> = (0..messages.len()).filter(is_answer).map(|at| at + 1).collect();
        // The longest beginning that fits: texts grow with their messages.
        let (mut fitting, mut low, mut high) = (None, 0, ends.len());
        while low < high {
            let middle = low.midpoint(high);
            let sequence = encode(ends[middle])?;
            if self.fits(&sequence) {
                fitting = Some((sequence, ends[middle]));
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let Some((sequence, end)) = fitting else { return Ok(Encoded::TooLong) };
        if !sequence.teaches() {
            return Ok(Encoded::NothingToLearn);
        }
        Ok(Encoded::Taken { sequences: vec![sequence], removed_messages: messages.len() - end })
    }

    /// A prompt and its answer.
    fn answer(&self, prompt: &Said, answer: &Said, tools: Option<&Value>) -> Result<Sequence, String> {
        if let (PromptFormat::Plain, Said::Plain(prompt), Said::Plain(answer)) =
            (self.options.prompt_format, prompt, answer)
        {
            let text = format!("{prompt}{answer}");
            let assistant = std::iter::once(prompt.len()..text.len()).collect();
            let marked = Marked { text, assistant };
            return self.tokens(&marked, &self.prefix).map(|sequence| self.ended(sequence));
        }
        let asked = prompt.messages(USER);
        let messages = [asked.clone(), answer.messages(ASSISTANT)].concat();
        let mut marked = self.render(&messages, tools)?;
        if asked.iter().any(|message| message.get("role").is_some_and(|role| role == ASSISTANT)) {
            // Answers within the prompt are only read.
            let before = self.render(&asked, tools)?.assistant.len();
            marked.assistant.drain(..before.min(marked.assistant.len()));
        }
        self.tokens(&marked, &[])
    }

    /// A text, in as many sequences as it takes; each begins with the last token of the one before.
    fn text(&self, text: &str) -> Result<Encoded, String> {
        let whole = Marked { text: text.to_owned(), assistant: Vec::new() };
        let tokens = self.ended(self.tokens(&whole, &self.prefix)?).tokens;
        if tokens.len() < 2 {
            return Ok(Encoded::NothingToLearn);
        }
        let length = self.options.seq_length;
        let pieces = (0..tokens.len() - 1).step_by(length).map(|start| {
            let tokens = tokens[start..tokens.len().min(start + length + 1)].to_vec();
            Sequence { counted: vec![true; tokens.len()], tokens }
        });
        Ok(Encoded::Taken { sequences: pieces.collect(), removed_messages: 0 })
    }

    fn render(&self, messages: &[Value], tools: Option<&Value>) -> Result<Marked, String> {
        let conversation = Conversation { messages, tools, ..Conversation::default() };
        if self.options.loss_on == LossOn::Everything {
            let text = self.template.render(&conversation).map_err(|error| error.to_string())?;
            return Ok(Marked { text, assistant: Vec::new() });
        }
        let spans = self.template.render_with_spans(&conversation).map_err(|error| error.to_string())?;
        Ok(Marked { text: spans.text, assistant: spans.assistant })
    }

    /// Tokenizes a text once, as a whole: a token counts if any of it lies where the assistant speaks.
    fn tokens(&self, marked: &Marked, prefix: &[u32]) -> Result<Sequence, String> {
        let (ids, offsets) =
            self.tokenizer.encode_with_offsets(&marked.text).map_err(|error| error.to_string())?;
        let mut sequence = Sequence { tokens: prefix.to_vec(), counted: vec![false; prefix.len()] };
        sequence.tokens.extend(ids);
        match self.options.loss_on {
            LossOn::Everything => sequence.counted.resize(sequence.tokens.len(), true),
            LossOn::Completions => sequence.counted.extend(overlaps(&offsets, &marked.assistant)),
        }
        Ok(sequence)
    }

    /// With the end-of-text token, which is to be learnt, unless it ends so.
    fn ended(&self, mut sequence: Sequence) -> Sequence {
        if let Some(end) = self.tokenizer.end_of_text()
            && sequence.tokens.last() != Some(&end)
        {
            sequence.tokens.push(end);
            sequence.counted.push(true);
        }
        sequence
    }
}

/// Of each token whether it shares a byte with one of the ascending `spans`.
fn overlaps(tokens: &[Range<usize>], spans: &[Range<usize>]) -> Vec<bool> {
    tokens
        .iter()
        .map(|token| {
            let next = spans.partition_point(|span| span.end <= token.start);
            !token.is_empty() && spans.get(next).is_some_and(|span| span.start < token.end)
        })
        .collect()
}

/// What the tokenizer puts before a text, such as a begin-of-sequence token.
fn prefix(tokenizer: &Tokenizer) -> Result<Vec<u32>, TextError> {
    let (bare, mut whole) = (tokenizer.encode("a")?, tokenizer.encode_with_special_tokens("a")?);
    let place = whole.windows(bare.len().max(1)).position(|ids| ids == bare);
    whole.truncate(place.unwrap_or(0));
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_counts_if_any_of_it_is_the_assistants() {
        let tokens = [0..2, 2..5, 5..5, 5..6, 6..9, 9..10];
        let spans = [4..6, 9..12];
        assert_eq!(overlaps(&tokens, &spans), [false, true, false, true, false, true]);
        assert_eq!(overlaps(&tokens, &[]), [false; 6]);
    }
}
