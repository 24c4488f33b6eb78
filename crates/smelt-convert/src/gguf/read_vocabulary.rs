//! The tokenizer and the chat template of a GGUF file, as the files of a Hugging Face folder.

use serde_json::{Value as Json, json};
use smelt_model::weights::GENERATION_CONFIG_FILE;
use smelt_text::{CHAT_TEMPLATE_FILE, GgufVocabulary, TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, TokenKind};

use super::generation;
use super::read::GgufModel;
use super::value::bad;
use crate::{Companions, ConvertError};

/// What a file without a tokenizer says that it has.
const NO_VOCABULARY: [&str; 2] = ["none", "no_vocab"];

impl GgufModel {
    /// The vocabulary as the file has it, if it has one.
    ///
    /// # Errors
    /// [`ConvertError::BadMetadata`].
    pub fn vocabulary(&self) -> Result<Option<GgufVocabulary>, ConvertError> {
        let metadata = &self.metadata;
        let key = |name: &str| format!("tokenizer.ggml.{name}");
        let Some(model) = metadata.text(&key("model"))?.filter(|model| !NO_VOCABULARY.contains(model)) else {
            return Ok(None);
        };
        let texts =
            |name: &str| Ok::<_, ConvertError>(metadata.texts(&key(name))?.unwrap_or_default().to_vec());
        let flag = |name: &str| metadata.flag(&key(name));
        let tokens = texts("tokens")?;
        let token = |role: &str| metadata.token(role, tokens.len());
        let scores = metadata.floats(&key("scores"))?.unwrap_or_default();
        let bytes = metadata.integers(&key("precompiled_charsmap"))?.unwrap_or_default();
        Ok(Some(GgufVocabulary {
            model: model.to_owned(),
            split: metadata.text(&key("pre"))?.unwrap_or_default().to_owned(),
            scores: scores.iter().map(|score| *score as f32).collect(),
            kinds: self.token_kinds()?,
            merges: texts("merges")?,
            begin: token("bos")?,
            end: token("eos")?,
            unknown: token("unknown")?,
            padding: token("padding")?,
            adds_begin: flag("add_bos_token")?,
            adds_end: flag("add_eos_token")?,
            adds_space: flag("add_space_prefix")?,
            joins_spaces: flag("remove_extra_whitespaces")?,
            charsmap: bytes.iter().map(|byte| *byte as u8).collect(),
            tokens,
        }))
    }

    fn token_kinds(&self) -> Result<Vec<TokenKind>, ConvertError> {
        const KEY: &str = "tokenizer.ggml.token_type";
        let numbers = self.metadata.integers(KEY)?.unwrap_or_default();
        let kinds: Option<Vec<TokenKind>> =
            numbers.iter().map(|number| TokenKind::from_number(*number)).collect();
        match (kinds, self.metadata.get(KEY)) {
            (Some(kinds), _) => Ok(kinds),
            (None, found) => {
                let found = found.expect("a list that was read");
                Err(bad(KEY, found, "a list of numbers from 1 to 6"))
            }
        }
    }

    /// The chat template, if the file has one.
    ///
    /// # Errors
    /// [`ConvertError::BadMetadata`] if it is no text.
    pub fn chat_template(&self) -> Result<Option<&str>, ConvertError> {
        self.metadata.text("tokenizer.chat_template")
    }

    /// Tokenizer, chat template and generation settings as files of a Hugging Face folder.
    ///
    /// # Errors
    /// [`ConvertError::BadMetadata`], and [`ConvertError::Text`] for a vocabulary that contradicts itself.
    pub fn companions(&self) -> Result<Companions, ConvertError> {
        let mut companions = Companions::default();
        if let Some(vocabulary) = self.vocabulary()? {
            companions.insert(TOKENIZER_FILE, vocabulary.to_tokenizer_json()?);
            companions.insert_json(TOKENIZER_CONFIG_FILE, &tokenizer_config(&vocabulary));
        }
        if let Some(template) = self.chat_template()? {
            companions.insert(CHAT_TEMPLATE_FILE, template.as_bytes().to_vec());
        }
        let generation = generation::read(&self.metadata, &self.config)?;
        companions.insert_json(GENERATION_CONFIG_FILE, &Json::Object(generation));
        Ok(companions)
    }
}

/// What transformers wants to know beside the vocabulary.
fn tokenizer_config(vocabulary: &GgufVocabulary) -> Json {
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": false,
    });
    let roles = [
        ("bos_token", vocabulary.begin),
        ("eos_token", vocabulary.end),
        ("unk_token", vocabulary.unknown),
        ("pad_token", vocabulary.padding),
    ];
    for (role, id) in roles {
        if let Some(token) = vocabulary.token(id) {
            config[role] = token.into();
        }
    }
    config
}
