//! Where in a rendered conversation the assistant's words are, for templates that do not say it.
//!
//! The conversation is rendered plainly and with [`Marks`] in the assistant's strings; the marked text
//! must be the plain one once the marks are gone. A message then begins where the prompt for it ends:
//! what precedes it, rendered with the generation prompt, is what a model sees before it answers. It
//! ends behind its last mark and the marker that follows, which is seen by rendering it as the last
//! message. No rendering has to be a prefix of another, since templates may drop earlier reasoning.

use std::ops::Range;

use serde_json::Value;

use super::marks::{Extent, Marks};
use super::{ChatTemplate, Conversation, RenderedSpans};
use crate::TextError;

/// Renders `conversation` and finds the assistant's messages.
pub fn find(template: &ChatTemplate, conversation: &Conversation<'_>) -> Result<RenderedSpans, TextError> {
    let text = template.render(conversation)?;
    let marks = Marks::absent_from(conversation.messages).ok_or(TextError::NoSpans { message: 0 })?;
    let marking = Extent::ALL.into_iter().find_map(|extent| {
        let marked = render_marked(template, conversation, marks, extent).ok()?;
        (marked.text == text).then_some((extent, marked.places))
    });
    let (extent, places) =
        marking.unwrap_or_else(|| (Extent::Content, vec![None; conversation.messages.len()]));
    let search = Search { template, conversation, marks, extent, text: &text };

    let mut assistant: Vec<Range<usize>> = Vec::new();
    for (index, place) in
        places.into_iter().enumerate().filter(|(index, _)| is_assistants(&conversation.messages[*index]))
    {
        let earliest = assistant.last().map_or(0, |span| span.end);
        let span = search.span_of(index, earliest, place)?;
        assistant.extend(Some(span).filter(|span| !span.is_empty()));
    }
    Ok(RenderedSpans { text, assistant })
}

fn is_assistants(message: &Value) -> bool {
    matches!(message["role"].as_str(), Some("assistant" | "model"))
}

/// A rendering without its marks, and for each message from its first mark to its last.
struct Marked {
    text: String,
    places: Vec<Option<Range<usize>>>,
}

fn render_marked(
    template: &ChatTemplate,
    conversation: &Conversation<'_>,
    marks: Marks,
    extent: Extent,
) -> Result<Marked, TextError> {
    let mark = |(index, message): (usize, &Value)| match is_assistants(message) {
        true => marks.mark(message, index, extent),
        false => message.clone(),
    };
    let messages: Vec<Value> = conversation.messages.iter().enumerate().map(mark).collect();
    let rendered = template.render(&Conversation { messages: &messages, ..*conversation })?;
    let mut text = String::with_capacity(rendered.len());
    let mut places: Vec<Option<Range<usize>>> = vec![None; messages.len()];
    for character in rendered.chars() {
        match marks.message_of(character).and_then(|message| places.get_mut(message)) {
            Some(place) => place.get_or_insert(text.len()..text.len()).end = text.len(),
            None => text.push(character),
        }
    }
    Ok(Marked { text, places })
}

/// What a message's place is looked for in.
struct Search<'s> {
    template: &'s ChatTemplate,
    conversation: &'s Conversation<'s>,
    marks: Marks,
    extent: Extent,
    text: &'s str,
}

impl Search<'_> {
    /// The span of message `index`, not before `earliest`; empty if the template left it out.
    fn span_of(
        &self,
        index: usize,
        earliest: usize,
        place: Option<Range<usize>>,
    ) -> Result<Range<usize>, TextError> {
        let lost = TextError::NoSpans { message: index };
        let latest = place.as_ref().map_or(self.text.len(), |place| place.start);
        let start = self.start(index, earliest..latest);
        let end = match &place {
            Some(place) => Some(place.end + self.closing_bytes(index, place.end)),
            None => self.end_of_prefix(index),
        };
        let start = start.or(place.map(|place| place.start));
        match (start, end) {
            (Some(start), Some(end)) if earliest <= start => Ok(start..end.max(start)),
            _ if has_no_words(&self.conversation.messages[index]) => Ok(earliest..earliest),
            _ => Err(lost),
        }
    }

    /// Where the prompt for message `index` ends, if that is within `allowed`.
    fn start(&self, index: usize, allowed: Range<usize>) -> Option<usize> {
        let prompt = self.render_first(index, true)?;
        if self.text.starts_with(&prompt) && (allowed.start..=allowed.end).contains(&prompt.len()) {
            return Some(prompt.len());
        }
        let before = self.render_first(index, false)?;
        let opening = prompt.strip_prefix(before.as_str()).filter(|opening| !opening.is_empty())?;
        let between = self.text.get(allowed.clone())?;
        between.rfind(opening).map(|at| allowed.start + at + opening.len())
    }

    /// How much of the text at `at` closes message `index`: what follows it where it is the last.
    fn closing_bytes(&self, index: usize, at: usize) -> usize {
        let first = self.first(index + 1, false);
        let rendered = render_marked(self.template, &first, self.marks, self.extent).ok();
        let closing = rendered.and_then(|marked| {
            let last = marked.places[index].clone()?.end;
            Some(marked.text[last..].to_owned())
        });
        let (closing, following) = (closing.unwrap_or_default(), &self.text[at..]);
        let marker = closing.trim_end();
        if !marker.is_empty() && following.starts_with(marker) {
            return marker.len();
        }
        if following.starts_with(&closing) {
            return closing.len();
        }
        let common = following.char_indices().zip(closing.chars()).take_while(|((_, a), b)| a == b);
        // Half a tag is no marker: `</s>` has its first character in common with `<s>`.
        common.filter(|((_, a), _)| matches!(a, '>' | ']')).last().map_or(0, |((at, _), _)| at + 1)
    }

    /// The end of message `index` where what comes up to it is rendered the same without the rest.
    fn end_of_prefix(&self, index: usize) -> Option<usize> {
        let prefix = self.render_first(index + 1, false)?;
        self.text.starts_with(&prefix).then(|| prefix.trim_end().len())
    }

    fn first(&self, messages: usize, add_generation_prompt: bool) -> Conversation<'_> {
        let messages = &self.conversation.messages[..messages];
        Conversation { messages, add_generation_prompt, ..*self.conversation }
    }

    /// The first messages alone; none if the template refuses them.
    fn render_first(&self, messages: usize, add_generation_prompt: bool) -> Option<String> {
        self.template.render(&self.first(messages, add_generation_prompt)).ok()
    }
}

/// Whether a message says nothing that could be found.
fn has_no_words(message: &Value) -> bool {
    let blank = |content: &Value| match content {
        Value::String(text) => text.trim().is_empty(),
        Value::Array(parts) => parts.is_empty(),
        other => other.is_null(),
    };
    blank(&message["content"]) && message["tool_calls"].as_array().is_none_or(Vec::is_empty)
}
