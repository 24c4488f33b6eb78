//! Tokenizer goldens: ids, offsets and text against the Python `tokenizers` package.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use smelt_text::Tokenizer;

use super::checks::Checks;
use super::golden::read_json;
use crate::error::CliError;

/// Files of such a folder.
pub const FILES: [&str; 2] = ["tokenizer.json", "golden.json"];

/// Compares every key of every case.
pub fn verify(folder: &Path, checks: &mut Checks) -> Result<(), CliError> {
    let tokenizer = Tokenizer::from_folder(folder)?;
    let golden = read_json(&folder.join("golden.json"))?;
    let cases = golden.as_array().map(Vec::as_slice).unwrap_or_default();
    if cases.is_empty() {
        checks.fail("golden.json", "it holds no cases");
    }
    let keys: BTreeSet<&str> =
        cases.iter().filter_map(Value::as_object).flat_map(|case| case.keys().map(String::as_str)).collect();
    for key in keys.into_iter().filter(|key| *key != "text") {
        let checked = first_difference(&tokenizer, cases, key);
        match checked {
            Ok(difference) => checks.same(key, difference),
            Err(error) => checks.fail_with(key, &error),
        }
    }
    match first_difference(&tokenizer, cases, "streamed") {
        Ok(difference) => checks.same("streamed", difference),
        Err(error) => checks.fail_with("streamed", &error),
    }
    Ok(())
}

fn first_difference(tokenizer: &Tokenizer, cases: &[Value], key: &str) -> Result<Option<String>, CliError> {
    for case in cases {
        let expected = if key == "streamed" { &case["decoded_skip"] } else { &case[key] };
        if expected.is_null() {
            continue;
        }
        let Some(found) = value_of(tokenizer, case, key)? else {
            return Ok(Some("not supported yet".to_owned()));
        };
        if found != *expected {
            return Ok(Some(format!("{}: {found}, expected {expected}", case["text"])));
        }
    }
    Ok(None)
}

/// What smelt makes of a case; none for keys that it does not know.
fn value_of(tokenizer: &Tokenizer, case: &Value, key: &str) -> Result<Option<Value>, CliError> {
    let text = case["text"].as_str().unwrap_or_default();
    let ids = |key: &str| -> Vec<u32> {
        let ids = case[key].as_array().into_iter().flatten().filter_map(Value::as_u64);
        ids.filter_map(|id| u32::try_from(id).ok()).collect()
    };
    Ok(Some(match key {
        "ids" => json!(tokenizer.encode_with_special_tokens(text)?),
        "ids_no_special" => json!(tokenizer.encode(text)?),
        "decoded" => json!(tokenizer.decode_with_special_tokens(&ids("ids_no_special"))?),
        "decoded_skip" => json!(tokenizer.decode(&ids("ids"))?),
        "streamed" => json!(streamed(tokenizer, &ids("ids"))?),
        "offsets" => json!(character_offsets(tokenizer, text)?),
        _ => return Ok(None),
    }))
}

/// Python counts characters.
fn character_offsets(tokenizer: &Tokenizer, text: &str) -> Result<Vec<[usize; 2]>, CliError> {
    let (_, offsets) = tokenizer.encode_with_offsets(text)?;
    let characters = |bytes: usize| text[..bytes].chars().count();
    Ok(offsets.iter().map(|range| [characters(range.start), characters(range.end)]).collect())
}

fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> Result<String, CliError> {
    let mut stream = tokenizer.stream();
    let mut text = String::new();
    for &id in ids {
        text.extend(stream.push(id)?);
    }
    text.extend(stream.finish());
    Ok(text)
}
