//! Finding a model's chat template and special tokens among its files.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Map, Value};

use super::{CHAT_TEMPLATE_FILE, ChatTemplate, DEFAULT_TEMPLATE};
use crate::special_tokens::read_object;
use crate::{TOKENIZER_CONFIG_FILE, TextError, Tokenizer, special_tokens};

/// Folder of further templates beside [`CHAT_TEMPLATE_FILE`], one file each.
const NAMED_TEMPLATES_FOLDER: &str = "additional_chat_templates";

/// Loads what [`ChatTemplate::from_folder`] promises.
pub fn load(folder: &Path, tokenizer: Option<&Tokenizer>) -> Result<ChatTemplate, TextError> {
    let config = read_object(&folder.join(TOKENIZER_CONFIG_FILE))?;
    let mut tokens = special_tokens::named(folder, &config)?;
    let end_of_text = tokenizer.and_then(|it| it.id_to_token(it.end_of_text()?));
    if let Some(token) = end_of_text {
        tokens.entry("eos_token").or_insert_with(|| token.into());
    }
    let sources = match of_files(folder)? {
        Some(sources) => Some(sources),
        None => of_config(folder, &config)?,
    };
    match sources {
        Some(sources) => ChatTemplate::from_sources(&sources, tokens),
        None => {
            let sources = [("default".to_owned(), DEFAULT_TEMPLATE.to_owned())];
            Ok(ChatTemplate { is_default: true, ..ChatTemplate::from_sources(&sources, tokens)? })
        }
    }
}

/// `chat_template.jinja`, and the named ones beside it.
fn of_files(folder: &Path) -> Result<Option<Vec<(String, String)>>, TextError> {
    let Some(first) = read_text(&folder.join(CHAT_TEMPLATE_FILE))? else { return Ok(None) };
    let mut sources = vec![("default".to_owned(), first)];
    let named = folder.join(NAMED_TEMPLATES_FOLDER);
    if named.is_dir() {
        let mut paths = Vec::new();
        for entry in fs::read_dir(&named).map_err(TextError::reading(&named))? {
            paths.push(entry.map_err(TextError::reading(&named))?.path());
        }
        paths.sort();
        for path in paths.iter().filter(|path| path.extension().is_some_and(|it| it == "jinja")) {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            sources.extend(read_text(path)?.map(|source| (name, source)));
        }
    }
    Ok(Some(sources))
}

/// The contents of a file that may be absent.
fn read_text(path: &Path) -> Result<Option<String>, TextError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(TextError::reading(path)(error)),
    }
}

/// `chat_template` of `tokenizer_config.json`: a string, or a list of `{"name", "template"}`.
fn of_config(folder: &Path, config: &Map<String, Value>) -> Result<Option<Vec<(String, String)>>, TextError> {
    let wrong = || TextError::BadKey {
        path: folder.join(TOKENIZER_CONFIG_FILE),
        key: "chat_template".to_owned(),
        expected: "a string or a list of `name` and `template`",
    };
    let mut sources = match config.get("chat_template") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(source)) => vec![("default".to_owned(), source.clone())],
        Some(Value::Array(named)) => {
            let field = |entry: &Value, key: &str| entry[key].as_str().map(str::to_owned).ok_or_else(wrong);
            let source = |entry| Ok((field(entry, "name")?, field(entry, "template")?));
            named.iter().map(source).collect::<Result<Vec<_>, TextError>>()?
        }
        Some(_) => return Err(wrong()),
    };
    if sources.is_empty() {
        return Err(wrong());
    }
    sources.sort_by_key(|(name, _)| name != "default");
    Ok(Some(sources))
}
