//! Chat templates against Jinja on Python, and what an assistant wrote in a rendered conversation.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use smelt_text::{ChatTemplate, Conversation, RenderedSpans, TextError};

fn golden(folder: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join("golden.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Renders every case of a fixture and compares text or raised error.
fn agrees_with_python(golden: &Value) -> usize {
    let special: Map<String, Value> =
        ["bos_token", "eos_token"].iter().map(|key| ((*key).to_owned(), golden[*key].clone())).collect();
    let cases = golden["cases"].as_array().unwrap();
    for case in cases {
        let source = golden["templates"][case["template"].as_str().unwrap()].as_str().unwrap();
        let template = ChatTemplate::from_source(source).unwrap().with_special_tokens(special.clone());
        let input = &golden["conversations"][usize::try_from(case["conv"].as_u64().unwrap()).unwrap()];
        let input = input.as_array().map_or_else(|| input.clone(), |messages| json!({"messages": messages}));
        let conversation = Conversation {
            messages: input["messages"].as_array().unwrap(),
            tools: input.get("tools"),
            documents: input.get("documents"),
            add_generation_prompt: case["add_generation_prompt"].as_bool().unwrap(),
            variables: input.get("variables").and_then(Value::as_object),
        };
        match (template.render(&conversation), case["error"].as_str()) {
            (Ok(text), None) if case.get("fails").is_none() => {
                assert_eq!(text, case["rendered"].as_str().unwrap(), "{case}")
            }
            (Err(TextError::TemplateRaised { message }), Some(error)) => assert_eq!(message, error),
            (Err(TextError::Render { .. }), None) if case.get("fails").is_some() => {}
            (result, _) => panic!("{case}: {result:?}"),
        }
    }
    cases.len()
}

#[test]
fn templates_render_as_in_python() {
    assert_eq!(agrees_with_python(&golden("../../tests/golden/chat_templates")), 24);
    assert_eq!(agrees_with_python(&golden("tests/fixtures/chat")), 60);
}

fn folder_with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path: PathBuf = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

fn render(template: &ChatTemplate, messages: &Value) -> String {
    let messages = messages.as_array().unwrap();
    template.render(&Conversation { messages, ..Conversation::default() }).unwrap()
}

#[test]
fn a_template_is_found_where_transformers_keeps_it() {
    let hello = json!([{"role": "user", "content": "hi"}]);
    let config = r#"{"chat_template": "C{{ bos_token }}", "bos_token": {"content": "<s>"}}"#;
    let named =
        r#"{"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]}"#;

    let folder = folder_with(&[("tokenizer_config.json", config)]);
    assert_eq!(render(&ChatTemplate::from_folder(folder.path(), None).unwrap(), &hello), "C<s>");

    let folder =
        folder_with(&[("tokenizer_config.json", config), ("chat_template.jinja", "J{{ bos_token }}")]);
    assert_eq!(render(&ChatTemplate::from_folder(folder.path(), None).unwrap(), &hello), "J<s>");

    let folder = folder_with(&[("tokenizer_config.json", named)]);
    let template = ChatTemplate::from_folder(folder.path(), None).unwrap();
    assert_eq!(render(&template, &hello), "D");
    let tools = json!([]);
    let with_tools = Conversation { tools: Some(&tools), ..Conversation::default() };
    assert_eq!(template.render(&with_tools).unwrap(), "T");

    let folder = folder_with(&[]);
    let template = ChatTemplate::from_folder(folder.path(), None).unwrap();
    assert!(template.is_default());
    assert_eq!(render(&template, &hello), "<|im_start|>user\nhi<|im_end|>\n");
}

#[test]
fn broken_files_are_named() {
    for (name, text, expected) in [
        ("tokenizer_config.json", "{", "cannot parse"),
        ("tokenizer_config.json", "[]", "cannot parse"),
        ("tokenizer_config.json", r#"{"chat_template": 1}"#, "`chat_template` in"),
        ("tokenizer_config.json", r#"{"chat_template": []}"#, "`chat_template` in"),
        ("tokenizer_config.json", r#"{"chat_template": [{"name": "x"}]}"#, "`chat_template` in"),
        ("chat_template.jinja", "{% if %}", "`default` does not parse"),
        ("chat_template.jinja", "{% generation %}a", "`default` does not parse"),
        ("special_tokens_map.json", "nonsense", "cannot parse"),
    ] {
        let folder = folder_with(&[(name, text)]);
        let error = ChatTemplate::from_folder(folder.path(), None).unwrap_err();
        assert!(error.to_string().contains(expected), "{name} {text}: {error}");
    }
}

#[test]
fn endless_templates_come_to_an_end() {
    let nested = format!("{}x{}", "(".repeat(5000), ")".repeat(5000));
    for source in [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% set c = b %}{% endfor %}{% endfor %}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
        "{% for a in range(100000) %}{{ 'x' * 100000 }}{% endfor %}",
        "{{ messages[0].content + 1 }}",
        "{{ nothing.at.all }}",
        "{{ strftime_now('%Q') }}",
        "{{ missing | tojson }}",
    ] {
        let messages = [json!({"role": "user", "content": "hi"})];
        let conversation = Conversation { messages: &messages, ..Conversation::default() };
        let error = ChatTemplate::from_source(source).unwrap().render(&conversation).unwrap_err();
        assert!(matches!(error, TextError::Render { .. }), "{source}: {error:?}");
    }
    assert!(ChatTemplate::from_source(&format!("{{{{ {nested} }}}}")).is_err());
}

#[test]
fn the_clock_is_read_in_pythons_format() {
    let template = ChatTemplate::from_source("{{ strftime_now('%Y-%m-%d') }}").unwrap();
    let text = render(&template, &json!([]));
    assert_eq!(text.len(), 10);
    assert!(text.starts_with("20"), "{text}");
}

fn spans(source: &str, messages: &Value) -> RenderedSpans {
    let template = ChatTemplate::from_source(source).unwrap();
    spans_of(&template, messages)
}

fn spans_of(template: &ChatTemplate, messages: &Value) -> RenderedSpans {
    let conversation = Conversation { messages: messages.as_array().unwrap(), ..Conversation::default() };
    let spans = template.render_with_spans(&conversation).unwrap();
    assert_eq!(spans.text, template.render(&conversation).unwrap());
    spans
}

fn words(spans: &RenderedSpans) -> Vec<&str> {
    spans.assistant.iter().map(|span| &spans.text[span.clone()]).collect()
}

fn two_turns() -> Value {
    json!([
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "yes"},
        {"role": "assistant", "content": " yes "},
        {"role": "user", "content": "no"},
        {"role": "assistant", "content": "<think>why</think>\n\nno"},
    ])
}

#[test]
fn every_assistant_turn_is_found_with_its_end() {
    let golden = golden("../../tests/golden/chat_templates");
    let source = |name: &str| golden["templates"][name].as_str().unwrap().to_owned();
    let chatml = spans(&source("chatml"), &two_turns());
    assert_eq!(words(&chatml), [" yes <|im_end|>", "<think>why</think>\n\nno<|im_end|>"]);

    let llama = spans(&format!("{{% set bos_token = '<s>' %}}{}", source("llama3")), &two_turns());
    assert_eq!(words(&llama), ["yes<|eot_id|>", "<think>why</think>\n\nno<|eot_id|>"]);

    let turns = Value::from(two_turns().as_array().unwrap()[1..].to_vec());
    let tokens = "{% set bos_token = '<s>' %}{% set eos_token = '</s>' %}";
    let mistral = spans(&format!("{tokens}{}", source("mistral")), &turns);
    assert_eq!(words(&mistral), [" yes </s>", "<think>why</think>\n\nno</s>"]);
}

/// The first answer loses its reasoning once a second question follows, so that no rendering of the
/// beginning is a prefix of the whole.
#[test]
fn a_template_that_drops_earlier_reasoning_still_tells_its_spans() {
    let source = "{% for m in messages %}<|{{ m.role }}|>\n\
        {{ m.content if loop.last else m.content.split('</think>')[-1].lstrip('\\n') }}<|end|>\n{% endfor %}\
        {% if add_generation_prompt %}<|assistant|>\n{% endif %}";
    let messages = json!([
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "<think>first</think>\n\none <b>word</b>"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "<think>second</think>\n\ntwo"},
    ]);
    let spans = spans(source, &messages);
    assert_eq!(words(&spans), ["one <b>word</b><|end|>", "<think>second</think>\n\ntwo<|end|>"]);
}

#[test]
fn tool_calls_are_the_assistants_words() {
    let source = "{% for m in messages %}<|{{ m.role }}|>{{ m.content or '' }}\
        {% for call in m.tool_calls or [] %}<call>{{ call.function | tojson }}</call>{% endfor %}<|end|>\n{% endfor %}\
        {% if add_generation_prompt %}<|assistant|>{% endif %}";
    let messages = json!([
        {"role": "user", "content": "list"},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "123456789", "type": "function", "function": {"name": "ls", "arguments": {"all": true}}}]},
        {"role": "tool", "content": "a b"},
        {"role": "assistant", "content": "a and b"},
    ]);
    let expected = [r#"<call>{"name": "ls", "arguments": {"all": true}}</call><|end|>"#, "a and b<|end|>"];
    assert_eq!(words(&spans(source, &messages)), expected);

    let default = spans_of(&ChatTemplate::default_chat(), &messages);
    let call = "<tool_call>\n{\"name\": \"ls\", \"arguments\": {\"all\": true}}\n</tool_call><|im_end|>";
    assert_eq!(words(&default), [call, "a and b<|im_end|>"]);
}

#[test]
fn generation_blocks_are_believed() {
    let source = "{% for m in messages %}{% if m.role == 'assistant' %}A: {% generation %}{{ m.content }}.\
        {%- endgeneration %}{{ '\n' }}{% else %}U: {{ m.content ~ '\n' }}{% endif %}{% endfor %}";
    let messages = json!([
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": "b"},
    ]);
    let spans = spans(source, &messages);
    assert_eq!(words(&spans), ["a.", "b."]);
    assert_eq!(spans.text, "U: q\nA: a.\nA: b.\n");
}

#[test]
fn a_template_that_hides_what_it_does_is_refused_by_name() {
    let source = "{{ messages | length }}{% for m in messages %}{{ m.content | length }}{% endfor %}";
    let template = ChatTemplate::from_source(source).unwrap();
    let messages = [json!({"role": "user", "content": "q"}), json!({"role": "assistant", "content": "a"})];
    let conversation = Conversation { messages: &messages, ..Conversation::default() };
    let error = template.render_with_spans(&conversation).unwrap_err();
    assert!(matches!(error, TextError::NoSpans { message: 1 }), "{error}");
}

#[test]
fn an_empty_answer_harms_nothing() {
    let messages = json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": ""}]);
    assert_eq!(words(&spans_of(&ChatTemplate::default_chat(), &messages)), ["<|im_end|>"]);
    let raw = "{% for m in messages %}{{ m.content }}{% endfor %}";
    assert_eq!(words(&spans(raw, &messages)), [""; 0]);
}
