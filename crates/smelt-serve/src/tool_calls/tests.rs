//! Texts as models write them, whole and in pieces.

use proptest::prelude::*;

use super::*;

fn divided(format: CallFormat, pieces: &[&str]) -> (String, Vec<(String, String)>) {
    let mut parser = CallParser::new(format);
    let mut all: Vec<Pieces> = pieces.iter().map(|piece| parser.push(piece)).collect();
    all.push(parser.finish());
    let text = all.iter().map(|pieces| pieces.text.as_str()).collect();
    let calls = all.into_iter().flat_map(|pieces| pieces.calls);
    (text, calls.map(|call| (call.name, call.arguments)).collect())
}

fn expected(text: &str, calls: &[(&str, &str)]) -> (String, Vec<(String, String)>) {
    (
        text.to_owned(),
        calls.iter().map(|(name, arguments)| ((*name).to_owned(), (*arguments).to_owned())).collect(),
    )
}

/// A format, a text, what of it is no call, and names and arguments of the calls.
type Case = (CallFormat, &'static str, &'static str, &'static [(&'static str, &'static str)]);

const CASES: [Case; 16] = [
    (
        CallFormat::Hermes,
        "Let me look.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}\n</tool_call>",
        "Let me look.",
        &[("weather", r#"{"city":"Bern"}"#)],
    ),
    (
        CallFormat::Hermes,
        "<tool_call>\n{\"name\":\"a\",\"arguments\":{}}\n</tool_call>\n<tool_call>\n{\"name\":\"b\"}\n</tool_call>",
        "",
        &[("a", "{}"), ("b", "{}")],
    ),
    // The end token came in place of the closing tag.
    (CallFormat::Hermes, "<tool_call>{\"name\": \"a\", \"arguments\": {}}", "", &[("a", "{}")]),
    (CallFormat::Hermes, "<tool_call>{\"name\": </tool_call> x", "<tool_call>{\"name\": </tool_call> x", &[]),
    (CallFormat::Hermes, "1 <tool 2 <tool_ca", "1 <tool 2 <tool_ca", &[]),
    (CallFormat::Hermes, "no call\n", "no call\n", &[]),
    (
        CallFormat::Llama,
        "{\"name\": \"weather\", \"parameters\": {\"city\": \"{;}\"}}",
        "",
        &[("weather", r#"{"city":"{;}"}"#)],
    ),
    (
        CallFormat::Llama,
        "<|python_tag|>{\"name\": \"a\", \"parameters\": {}}; {\"name\": \"b\", \"parameters\": {}}",
        "",
        &[("a", "{}"), ("b", "{}")],
    ),
    (CallFormat::Llama, "{\"colour\": \"red\"}", "{\"colour\": \"red\"}", &[]),
    (CallFormat::Llama, "{\"name\": \"a\"} is an object", "{\"name\": \"a\"} is an object", &[]),
    (CallFormat::Llama, "A set {\"name\": \"a\"}", "A set {\"name\": \"a\"}", &[]),
    (
        CallFormat::Mistral,
        "[TOOL_CALLS] [{\"name\": \"a\", \"arguments\": {\"x\": 1}}, {\"name\": \"b\", \"arguments\": {}}]",
        "",
        &[("a", r#"{"x":1}"#), ("b", "{}")],
    ),
    (
        CallFormat::Mistral,
        "Yes.[TOOL_CALLS]a[ARGS]{\"x\": 1}[TOOL_CALLS]b{}",
        "Yes.",
        &[("a", r#"{"x":1}"#), ("b", "{}")],
    ),
    (CallFormat::Mistral, "[TOOL_CALLS] nothing", "[TOOL_CALLS] nothing", &[]),
    (CallFormat::Forced, "{\"name\": \"a\", \"arguments\": {\"x\": [1]}}", "", &[("a", r#"{"x":[1]}"#)]),
    (CallFormat::Forced, "{\"name\": \"a\", \"arg", "{\"name\": \"a\", \"arg", &[]),
];

#[test]
fn calls_are_told_from_text() {
    for (format, text, rest, calls) in CASES {
        assert_eq!(divided(format, &[text]), expected(rest, calls), "{text}");
    }
}

#[test]
fn text_is_handed_out_as_soon_as_it_is_certain() {
    let mut parser = CallParser::new(CallFormat::Hermes);
    assert_eq!(parser.push("one ").text, "one");
    assert_eq!(parser.push("two <").text, " two");
    assert_eq!(parser.push("b>").text, " <b>");
}

#[test]
fn arguments_may_be_text_and_must_be_an_object() {
    let call = |json: &str| ToolCall::from_value(&serde_json::from_str(json).unwrap());
    let found = call(r#"{"name": "a", "arguments": "{\"x\": 1}"}"#).unwrap();
    assert_eq!(found.arguments, r#"{"x":1}"#);
    assert_eq!(call(r#"{"name": "a", "arguments": [1]}"#), None);
    assert_eq!(call(r#"{"arguments": {}}"#), None);
}

proptest! {
    #[test]
    fn pieces_make_no_difference(case in 0..CASES.len(), cuts in proptest::collection::vec(0usize..120, 0..6)) {
        let (format, text, rest, calls) = CASES[case];
        let mut borders: Vec<usize> = cuts.into_iter().filter(|cut| text.is_char_boundary(*cut)).collect();
        borders.extend([0, text.len()]);
        borders.retain(|border| *border <= text.len());
        borders.sort_unstable();
        let pieces: Vec<&str> = borders.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
        prop_assert_eq!(divided(format, &pieces), expected(rest, calls));
    }

    #[test]
    fn nothing_but_blanks_is_lost(
        parts in proptest::collection::vec(
            prop_oneof!["[ab\n ]{0,4}", Just("<tool_call>".to_owned()), Just("</tool_call>".to_owned()),
                Just("[TOOL_CALLS]".to_owned()), Just("<|python_tag|>".to_owned()), Just("{\"name\": ".to_owned())],
            0..8,
        ),
        format in prop_oneof![Just(CallFormat::Hermes), Just(CallFormat::Llama), Just(CallFormat::Mistral)],
    ) {
        let text = parts.concat();
        let pieces: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (rest, calls) = divided(format, &pieces);
        prop_assert!(calls.is_empty());
        prop_assert_eq!(rest, text);
    }
}
