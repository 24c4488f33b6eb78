//! Chat-template goldens: rendered text and raised errors against transformers.

use std::path::Path;

use serde_json::{Map, Value};
use smelt_text::{ChatTemplate, Conversation, TextError};

use super::checks::Checks;
use super::golden::read_json;
use crate::error::CliError;

/// Files of such a folder.
pub const FILES: [&str; 1] = ["golden.json"];

/// Renders every case; a row per template.
pub fn verify(folder: &Path, checks: &mut Checks) -> Result<(), CliError> {
    let golden = read_json(&folder.join("golden.json"))?;
    let special_tokens: Map<String, Value> = golden
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| key.ends_with("_token"))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let cases = golden["cases"].as_array().map(Vec::as_slice).unwrap_or_default();
    if cases.is_empty() {
        checks.fail("golden.json", "it holds no cases");
    }
    for (name, source) in golden["templates"].as_object().into_iter().flatten() {
        match ChatTemplate::from_source(source.as_str().unwrap_or_default()) {
            Err(error) => checks.fail_with(name, &error),
            Ok(template) => {
                let template = template.with_special_tokens(special_tokens.clone());
                let mut cases = cases.iter().filter(|case| case["template"] == **name);
                checks.same(name, cases.find_map(|case| difference(&template, &golden, case)));
            }
        }
    }
    Ok(())
}

/// How the rendering of `case` differs from the reference.
fn difference(template: &ChatTemplate, golden: &Value, case: &Value) -> Option<String> {
    let number = case["conv"].as_u64().and_then(|number| usize::try_from(number).ok());
    let Some(input) = number.and_then(|number| golden["conversations"].get(number)) else {
        return Some(format!("there is no conversation {}", case["conv"]));
    };
    let messages = input.as_array().or(input["messages"].as_array());
    let conversation = Conversation {
        messages: messages.map(Vec::as_slice).unwrap_or_default(),
        tools: input.get("tools"),
        documents: input.get("documents"),
        add_generation_prompt: case["add_generation_prompt"].as_bool().unwrap_or(false),
        variables: input.get("variables").and_then(Value::as_object),
    };
    let (found, expected) = match template.render(&conversation) {
        Ok(text) => (text, &case["rendered"]),
        Err(TextError::TemplateRaised { message }) => (message, &case["error"]),
        Err(error) => (error.to_string(), &case["rendered"]),
    };
    (*expected != found).then(|| format!("conversation {}: {found:?}, expected {expected}", case["conv"]))
}
