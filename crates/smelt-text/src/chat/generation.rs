//! `{% generation %}` blocks, with which a template says itself what an assistant wrote.
//!
//! They are transformers' extension of Jinja. The engine has no such tag, so before parsing they become
//! filter blocks, `{% filter NAME %}`, which scope alike. Only tags that hold nothing else are meant;
//! text in strings, comments and `{% raw %}` that looks the same is not told apart.

use std::ops::Range;

use minijinja::value::Value;
use minijinja::{Environment, Error};

use super::engine::render;

/// The filter that stands for a block.
pub const BLOCK_FILTER: &str = "smelt_generation_block";

/// Brackets around a block's text while spans are looked for: private-use characters of plane 15.
const OPEN: char = '\u{FFFF0}';
const CLOSE: char = '\u{FFFF1}';

/// `source` with every generation block turned into a filter block.
pub fn generation_as_filter(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, tag, after)) = next_tag(rest) {
        let word = tag.trim_matches(['-', '+']).trim();
        let replacement = match word {
            "generation" => format!("filter {BLOCK_FILTER}"),
            "endgeneration" => "endfilter".to_owned(),
            other => other.to_owned(),
        };
        result.push_str(before);
        if matches!(word, "generation" | "endgeneration") {
            let sign = |found: Option<char>| {
                found.filter(|sign| "-+".contains(*sign)).map_or(String::new(), String::from)
            };
            result +=
                &format!("{{%{} {replacement} {}%}}", sign(tag.chars().next()), sign(tag.chars().last()));
        } else {
            result += &format!("{{%{tag}%}}");
        }
        rest = after;
    }
    result + rest
}

/// The text before the next `{%`, the inside of that tag, and what follows it.
fn next_tag(text: &str) -> Option<(&str, &str, &str)> {
    let (before, inside) = text.split_once("{%")?;
    let (tag, after) = inside.split_once("%}")?;
    Some((before, tag, after))
}

/// Whether the template has such blocks.
pub fn has_blocks(source: &str) -> bool {
    generation_as_filter(source).contains(BLOCK_FILTER)
}

/// Renders with the spans of the blocks, in bytes of the result.
///
/// # Errors
/// Those of the template.
pub fn render_blocks(
    environment: &Environment<'static>,
    context: Value,
) -> Result<(String, Vec<Range<usize>>), Error> {
    let mut bracketing = environment.clone();
    bracketing.add_filter(BLOCK_FILTER, |text: String| format!("{OPEN}{text}{CLOSE}"));
    Ok(remove_brackets(&render(&bracketing, context)?))
}

fn remove_brackets(bracketed: &str) -> (String, Vec<Range<usize>>) {
    let mut text = String::with_capacity(bracketed.len());
    let mut spans = Vec::new();
    let mut open = None;
    for character in bracketed.chars() {
        match character {
            OPEN => open = open.or(Some(text.len())),
            CLOSE => spans.extend(open.take().map(|start| start..text.len()).filter(|span| !span.is_empty())),
            other => text.push(other),
        }
    }
    (text, spans)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_generation_tags_change() {
        let source = "{%- for m in x -%}{%- generation -%}{{ m }}{% endgeneration %}{% endfor %}% {%";
        let expected = format!(
            "{{%- for m in x -%}}{{%- filter {BLOCK_FILTER} -%}}{{{{ m }}}}{{% endfilter %}}{{% endfor %}}% {{%"
        );
        assert_eq!(generation_as_filter(source), expected);
        assert!(has_blocks(source));
        assert!(!has_blocks("{% set generation = 1 %}"));
    }
}
