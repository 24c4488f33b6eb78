//! What belongs to a model besides its weights and its configuration: tokenizer, templates, licence.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use smelt_model::weights::{GENERATION_CONFIG_FILE, write_atomic};
use smelt_text::{ChatTemplate, TOKENIZER_FILE, Tokenizer};

use crate::ConvertError;

/// Files that go along under their names.
const NAMES: [&str; 14] = [
    TOKENIZER_FILE,
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "merges.txt",
    GENERATION_CONFIG_FILE,
    "preprocessor_config.json",
    "NOTICE",
];
/// How names of texts for people begin, in any case.
const TEXTS: [&str; 4] = ["license", "readme", "notice", "use_policy"];
/// Folder of chat templates with names.
const TEMPLATES: &str = "additional_chat_templates";
/// Largest file that goes along.
const MOST_BYTES: u64 = 1 << 28;

/// The files beside a model, in memory: they are small.
#[derive(Debug, Clone, Default)]
pub struct Companions {
    folder: Option<PathBuf>,
    files: BTreeMap<String, Vec<u8>>,
}

impl Companions {
    /// Those of a model folder.
    ///
    /// # Errors
    /// [`ConvertError::Io`].
    pub fn of_folder(folder: &Path) -> Result<Self, ConvertError> {
        let mut companions = Self { folder: Some(folder.to_owned()), ..Self::default() };
        for name in names_in(folder)?.into_iter().filter(|name| goes_along(name)) {
            companions.read(folder, &name)?;
        }
        let templates = folder.join(TEMPLATES);
        if templates.is_dir() {
            for name in names_in(&templates)?.into_iter().filter(|name| name.ends_with(".jinja")) {
                companions.read(folder, &format!("{TEMPLATES}/{name}"))?;
            }
        }
        Ok(companions)
    }

    /// Adds file `name`.
    pub fn insert(&mut self, name: &str, contents: Vec<u8>) {
        self.files.insert(name.to_owned(), contents);
    }

    /// Adds file `name` of JSON.
    pub fn insert_json(&mut self, name: &str, contents: &Value) {
        self.insert(name, format!("{contents:#}\n").into_bytes());
    }

    /// The names of all files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// The contents of file `name`.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }

    /// The tokenizer, if there is one.
    ///
    /// # Errors
    /// [`ConvertError::Text`] if it is damaged.
    pub fn tokenizer(&self) -> Result<Option<Tokenizer>, ConvertError> {
        if let Some(json) = self.get(TOKENIZER_FILE) {
            return Ok(Some(Tokenizer::from_bytes(json)?));
        }
        let others = ["tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json"];
        match &self.folder {
            Some(folder) if others.iter().any(|name| self.files.contains_key(*name)) => {
                Ok(Some(Tokenizer::from_folder(folder)?))
            }
            _ => Ok(None),
        }
    }

    /// The source of the chat template that the model brings.
    ///
    /// # Errors
    /// [`ConvertError::Text`] if it does not parse.
    pub fn chat_template(&self) -> Result<Option<String>, ConvertError> {
        let Some(folder) = &self.folder else {
            let text = self.get(smelt_text::CHAT_TEMPLATE_FILE);
            return Ok(text.map(|text| String::from_utf8_lossy(text).into_owned()));
        };
        let template = ChatTemplate::from_folder(folder, None)?;
        Ok((!template.is_default()).then(|| template.source().to_owned()))
    }

    /// Writes all files into `folder`.
    ///
    /// # Errors
    /// [`ConvertError::Io`].
    pub fn write(&self, folder: &Path) -> Result<(), ConvertError> {
        for (name, contents) in &self.files {
            let path = folder.join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(ConvertError::io("write", parent))?;
            }
            let write = |file: &mut std::io::BufWriter<&fs::File>| std::io::Write::write_all(file, contents);
            write_atomic(&path, write).map_err(ConvertError::io("write", &path))?;
        }
        Ok(())
    }

    fn read(&mut self, folder: &Path, name: &str) -> Result<(), ConvertError> {
        let path = folder.join(name);
        let size = fs::metadata(&path).map_err(ConvertError::io("read", &path))?;
        if size.is_file() && size.len() <= MOST_BYTES {
            let contents = fs::read(&path).map_err(ConvertError::io("read", &path))?;
            self.files.insert(name.to_owned(), contents);
        }
        Ok(())
    }
}

fn goes_along(name: &str) -> bool {
    let lower = name.to_lowercase();
    NAMES.contains(&name) || TEXTS.iter().any(|start| lower.starts_with(start))
}

fn names_in(folder: &Path) -> Result<Vec<String>, ConvertError> {
    let entries = fs::read_dir(folder).map_err(ConvertError::io("read", folder))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(ConvertError::io("read", folder))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
