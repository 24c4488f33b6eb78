//! Marks among the assistant's own strings, by which they are found again in the rendered text.
//!
//! A mark is one private-use character per message. Marks stand around words, not at the ends of a
//! string and not inside of `<tags>`: templates strip strings and look for tags in them.

use serde_json::Value;

/// The planes of private-use characters to take marks from: 65 533 in each.
const PLANES: [u32; 2] = [0x10_0000, 0xF_0000];

/// One mark per message.
#[derive(Debug, Clone, Copy)]
pub struct Marks {
    plane: u32,
}

/// Which of a message's strings are marked. A template that looks at a string may refuse a marked one;
/// fewer marks find less but disturb less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Content, reasoning, names and arguments of tool calls, in parts between tags.
    Everything,
    /// The same without names.
    NoNames,
    /// The content alone.
    Content,
}

impl Extent {
    /// From the most telling to the least disturbing.
    pub const ALL: [Self; 3] = [Self::Everything, Self::NoNames, Self::Content];
}

impl Marks {
    /// Marks that occur in none of `messages`, if such are left.
    pub fn absent_from(messages: &[Value]) -> Option<Self> {
        let free = |plane: &u32| !messages.iter().any(|message| has_character_of(message, *plane));
        PLANES.into_iter().find(free).map(|plane| Self { plane })
    }

    /// The mark of a message; none for numbers beyond the plane.
    fn of(self, message: usize) -> Option<char> {
        let offset = u32::try_from(message).ok().filter(|&offset| offset < 0xFFFD)?;
        char::from_u32(self.plane + offset)
    }

    /// The message that `character` marks.
    pub fn message_of(self, character: char) -> Option<usize> {
        let offset = (character as u32).checked_sub(self.plane).filter(|&offset| offset < 0xFFFD)?;
        usize::try_from(offset).ok()
    }

    /// `message`, number `index`, with its strings marked.
    pub fn mark(self, message: &Value, index: usize, extent: Extent) -> Value {
        let mut marked = message.clone();
        let (Some(mark), Some(fields)) = (self.of(index), marked.as_object_mut()) else { return marked };
        for (key, value) in fields {
            match (key.as_str(), extent) {
                ("content", _) => mark_content(value, mark),
                (_, Extent::Content) => {}
                ("reasoning_content" | "reasoning" | "thinking", _) => mark_strings(value, mark),
                ("tool_calls", _) => {
                    for call in value.as_array_mut().into_iter().flatten() {
                        mark_call(call, mark, extent);
                    }
                }
                ("function_call", _) => mark_call(value, mark, extent),
                _ => {}
            }
        }
        marked
    }
}

/// A text, or a list of parts of which those with `text` are one.
fn mark_content(content: &mut Value, mark: char) {
    match content {
        Value::Array(parts) => {
            for part in parts {
                if part.is_string() {
                    mark_strings(part, mark);
                } else if let Some(text) = part.get_mut("text") {
                    mark_strings(text, mark);
                }
            }
        }
        text => mark_strings(text, mark),
    }
}

/// A call, `{"name", "arguments"}`, which may lie under `function`.
fn mark_call(call: &mut Value, mark: char, extent: Extent) {
    let function = if call.get("function").is_some() { &mut call["function"] } else { call };
    if let Some(arguments) = function.get_mut("arguments") {
        mark_strings(arguments, mark);
    }
    if let Some(name) = function.get_mut("name").filter(|_| extent == Extent::Everything) {
        mark_strings(name, mark);
    }
}

/// Marks every string within `value`, but no key.
fn mark_strings(value: &mut Value, mark: char) {
    match value {
        Value::String(text) => *text = marked_words(text, mark),
        Value::Array(items) => items.iter_mut().for_each(|item| mark_strings(item, mark)),
        Value::Object(fields) => fields.values_mut().for_each(|field| mark_strings(field, mark)),
        _ => {}
    }
}

/// `text` with a mark at both ends of every stretch between tags, inside of its blanks.
fn marked_words(text: &str, mark: char) -> String {
    let mut marked = String::with_capacity(text.len() + 8);
    let mut rest = text;
    while !rest.is_empty() {
        let (stretch, tag, after) = up_to_tag(rest);
        let words = stretch.trim();
        if words.is_empty() {
            marked.push_str(stretch);
        } else {
            let start = stretch.len() - stretch.trim_start().len();
            marked.push_str(&stretch[..start]);
            marked.push(mark);
            marked.push_str(words);
            marked.push(mark);
            marked.push_str(&stretch[start + words.len()..]);
        }
        marked.push_str(tag);
        rest = after;
    }
    marked
}

/// The text before the next `<tag>` or `[TAG]`, that tag, and what follows it.
fn up_to_tag(text: &str) -> (&str, &str, &str) {
    for (start, _) in text.match_indices(['<', '[']) {
        let closing = if text[start..].starts_with('<') { '>' } else { ']' };
        let end = text[start + 1..].find(|next: char| next == closing || "<[ \n".contains(next));
        if let Some(end) = end.map(|end| start + 1 + end).filter(|&end| text[end..].starts_with(closing)) {
            let (tag, after) = text[start..].split_at(end + 1 - start);
            return (&text[..start], tag, after);
        }
    }
    (text, "", "")
}

fn has_character_of(value: &Value, plane: u32) -> bool {
    match value {
        Value::String(text) => text.chars().any(|character| (character as u32) >> 16 == plane >> 16),
        Value::Array(items) => items.iter().any(|item| has_character_of(item, plane)),
        Value::Object(fields) => fields.values().any(|field| has_character_of(field, plane)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_stand_inside_of_blanks_and_outside_of_tags() {
        assert_eq!(marked_words(" a b \n", '|'), " |a b| \n");
        assert_eq!(marked_words("<think>a</think>\n\nb", '|'), "<think>|a|</think>\n\n|b|");
        assert_eq!(marked_words("x < y > z", '|'), "|x < y > z|");
        assert_eq!(marked_words("  ", '|'), "  ");
    }

    #[test]
    fn a_plane_in_use_is_not_taken() {
        let used = serde_json::json!({"content": "\u{100005}"});
        let marks = Marks::absent_from(std::slice::from_ref(&used)).unwrap();
        assert_eq!(marks.message_of('\u{F0003}'), Some(3));
        let both = serde_json::json!({"content": ["\u{100005}", "\u{F0000}"]});
        assert!(Marks::absent_from(&[both]).is_none());
    }
}
