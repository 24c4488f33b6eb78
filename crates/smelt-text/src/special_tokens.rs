//! Special tokens as model folders name them beside the tokenizer: `tokenizer_config.json`,
//! `special_tokens_map.json` and `added_tokens.json`.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use crate::TextError;

/// The roles under which files name a special token.
const ROLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The object in a JSON file; an absent file counts as empty.
pub fn read_object(path: &Path) -> Result<Map<String, Value>, TextError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(TextError::reading(path)(error)),
    };
    serde_json::from_slice(&text).map_err(|source| TextError::Json { path: path.to_owned(), source })
}

/// The tokens by role, as text.
///
/// `config` is the content of `tokenizer_config.json`, which goes before `special_tokens_map.json`.
pub fn named(folder: &Path, config: &Map<String, Value>) -> Result<Map<String, Value>, TextError> {
    let map = read_object(&folder.join("special_tokens_map.json"))?;
    let token = |role: &str| [config, &map].into_iter().find_map(|source| token_text(source.get(role)?));
    Ok(ROLES.iter().filter_map(|role| Some(((*role).to_owned(), token(role)?.into()))).collect())
}

/// A token spelled as text or as an object with `content`.
fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// Tokens that the folder's files add to the vocabulary, by id: `added_tokens_decoder` of
/// `tokenizer_config.json`, else `added_tokens.json`.
pub fn added(folder: &Path, config: &Map<String, Value>) -> Result<BTreeMap<u32, AddedToken>, TextError> {
    let mut tokens = BTreeMap::new();
    if let Some(decoder) = config.get("added_tokens_decoder").and_then(Value::as_object) {
        for (id, token) in decoder {
            let parsed = id.parse().ok().zip(token_text(token));
            let (id, content) = parsed.ok_or_else(|| TextError::BadKey {
                path: folder.join(crate::TOKENIZER_CONFIG_FILE),
                key: format!("added_tokens_decoder.{id}"),
                expected: "an id and an object with `content`",
            })?;
            let flag = |name: &str| token.get(name).and_then(Value::as_bool).unwrap_or(false);
            let token = AddedToken::from(content, flag("special"))
                .lstrip(flag("lstrip"))
                .rstrip(flag("rstrip"))
                .single_word(flag("single_word"))
                .normalized(flag("normalized"));
            tokens.insert(id, token);
        }
        return Ok(tokens);
    }
    let path = folder.join("added_tokens.json");
    for (content, id) in read_object(&path)? {
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| TextError::BadKey {
            path: path.clone(),
            key: content.clone(),
            expected: "an id",
        })?;
        let special = content.starts_with('<') && content.ends_with('>');
        tokens.insert(id, AddedToken::from(content, special).normalized(false));
    }
    Ok(tokens)
}
