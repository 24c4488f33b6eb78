//! A tokenizer: text to ids and back.
//!
//! Wraps the `tokenizers` crate and keeps the file as it was read, so that saving is lossless. Truncation
//! and padding that the file asks for are not applied: batches are made elsewhere.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use tokenizers::{DecoderWrapper, Tokenizer as Pipeline};

use crate::byte_bpe::ByteBpe;
use crate::formats::{convert_folder, convert_sentencepiece};
use crate::{CHAT_TOKENS, ChatTemplate, StreamDecoder, TextError, write_atomically};

/// Name of the tokenizer's file in a model folder.
pub const TOKENIZER_FILE: &str = "tokenizer.json";

/// Name of the file that tells transformers how to open [`TOKENIZER_FILE`].
pub const TOKENIZER_CONFIG_FILE: &str = "tokenizer_config.json";

/// Names under which vocabularies hold the token that ends a document, the most telling first.
const END_OF_TEXT_NAMES: [&str; 5] =
    ["<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<｜end▁of▁sentence｜>"];

/// Text to token ids and back.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    pipeline: Pipeline,
    json: Arc<[u8]>,
    vocab_size: usize,
    end_of_text: Option<u32>,
    /// The fast way to encode, where this tokenizer is of a kind that it knows.
    byte_bpe: Option<Arc<ByteBpe>>,
    specials_as_text: bool,
    byte_fallback: bool,
    /// By id, what [`Tokenizer::own_text`] found: each token is decoded once.
    own_texts: Arc<[OnceLock<Option<Box<str>>>]>,
}

impl Tokenizer {
    /// Loads the tokenizer of a model folder: `tokenizer.json`, else a SentencePiece `tokenizer.model`,
    /// else `vocab.json` with `merges.txt`.
    ///
    /// # Errors
    /// If there is none, or it is unreadable or damaged.
    pub fn from_folder(folder: &Path) -> Result<Self, TextError> {
        let file = folder.join(TOKENIZER_FILE);
        let converted = if file.exists() { None } else { convert_folder(folder) };
        match converted {
            Some(json) => Self::parse(json?, &folder.display().to_string()),
            None => Self::from_file(&file),
        }
    }

    /// Loads a file in the `tokenizer.json` format, or a SentencePiece model if its name ends in
    /// `.model`.
    ///
    /// # Errors
    /// If the file is missing, unreadable or not a tokenizer.
    pub fn from_file(path: &Path) -> Result<Self, TextError> {
        let name = path.display().to_string();
        if path.extension().is_some_and(|extension| extension == "model") {
            return Self::parse(convert_sentencepiece(path)?, &name);
        }
        Self::parse(fs::read(path).map_err(TextError::reading(path))?, &name)
    }

    /// Loads the contents of a `tokenizer.json`.
    ///
    /// # Errors
    /// If the bytes are not a tokenizer.
    pub fn from_bytes(json: &[u8]) -> Result<Self, TextError> {
        Self::parse(json.to_vec(), TOKENIZER_FILE)
    }

    pub(crate) fn from_pipeline(pipeline: Pipeline) -> Result<Self, TextError> {
        let json = pipeline.to_string(true).map_err(|source| TextError::Train { source })?;
        Ok(Self::build(pipeline, json.into_bytes()))
    }

    fn parse(json: Vec<u8>, name: &str) -> Result<Self, TextError> {
        let broken = |source| TextError::Parse { name: name.to_owned(), source };
        let mut pipeline = Pipeline::from_bytes(&json).map_err(broken)?;
        pipeline.with_truncation(None).map_err(broken)?.with_padding(None);
        Ok(Self::build(pipeline, json))
    }

    fn build(pipeline: Pipeline, json: Vec<u8>) -> Self {
        let largest_id = pipeline.get_vocab(true).into_values().max();
        let vocab_size = largest_id.map_or(0, |id| id as usize + 1);
        Self {
            vocab_size,
            own_texts: (0..vocab_size).map(|_| OnceLock::new()).collect(),
            end_of_text: END_OF_TEXT_NAMES.iter().find_map(|name| pipeline.token_to_id(name)),
            byte_bpe: ByteBpe::from_json(&json).map(Arc::new),
            specials_as_text: false,
            byte_fallback: pipeline.get_decoder().is_some_and(|decoder| {
                any_decoder(decoder, &|part| matches!(part, DecoderWrapper::ByteFallback(_)))
            }),
            json: json.into(),
            pipeline,
        }
    }

    /// Writes the tokenizer to `path`, byte for byte as it was read, whole or not at all.
    ///
    /// # Errors
    /// If `path` cannot be written; what was there is then untouched.
    pub fn save(&self, path: &Path) -> Result<(), TextError> {
        write_atomically(path, &self.json).map_err(TextError::writing(path))
    }

    /// Writes `tokenizer.json` and, as [`Tokenizer::save_config`] does, a `tokenizer_config.json`.
    ///
    /// # Errors
    /// If the folder is missing or cannot be written.
    pub fn save_folder(&self, folder: &Path) -> Result<(), TextError> {
        self.save(&folder.join(TOKENIZER_FILE))?;
        self.save_config(folder)
    }

    /// Writes a `tokenizer_config.json` with which transformers opens the `tokenizer.json` beside it,
    /// unless there is one already.
    ///
    /// # Errors
    /// If the folder is missing or cannot be written.
    pub fn save_config(&self, folder: &Path) -> Result<(), TextError> {
        let config = folder.join(TOKENIZER_CONFIG_FILE);
        if config.exists() {
            return Ok(());
        }
        write_atomically(&config, self.config_json().as_bytes()).map_err(TextError::writing(&config))
    }

    /// The least that transformers wants to know beside `tokenizer.json`, with the default chat template
    /// if the vocabulary has its tokens.
    fn config_json(&self) -> String {
        let mut config = serde_json::json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "add_prefix_space": false,
            "clean_up_tokenization_spaces": false,
        });
        if let Some(token) = self.end_of_text.and_then(|id| self.id_to_token(id)) {
            for key in ["bos_token", "eos_token", "unk_token"] {
                config[key] = token.clone().into();
            }
        }
        if CHAT_TOKENS.iter().all(|token| self.token_to_id(token).is_some()) {
            config["chat_template"] = ChatTemplate::default_chat().source().into();
        }
        format!("{config:#}\n")
    }

    /// The contents of `tokenizer.json`.
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// SHA-256 of [`Tokenizer::json`] in hexadecimal: equal exactly if the files are.
    pub fn sha256(&self) -> String {
        format!("{:x}", Sha256::digest(&self.json))
    }

    /// One more than the largest id, so that every id indexes an embedding of that many rows.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id of a token, if the vocabulary has it.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.pipeline.token_to_id(token)
    }

    /// The token of an id as the vocabulary spells it (byte-level tokens are not readable text).
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.pipeline.id_to_token(id)
    }

    /// The token that ends a document, found under its common names (`<|endoftext|>`,
    /// `<|end_of_text|>`, `</s>`, `<eos>`).
    pub fn end_of_text(&self) -> Option<u32> {
        self.end_of_text
    }

    /// This tokenizer with special tokens in a text read as the characters they are.
    ///
    /// For corpora: a document that mentions `<|endoftext|>` must not end there.
    #[must_use]
    pub fn with_special_tokens_as_text(&self) -> Self {
        let mut plain = self.clone();
        plain.pipeline.set_encode_special_tokens(true);
        plain.specials_as_text = true;
        plain
    }

    /// Encodes `text`; special tokens it mentions become their ids, none is added.
    ///
    /// # Errors
    /// If the model of the tokenizer cannot express the text and has no unknown token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        match &self.byte_bpe {
            Some(byte_bpe) => Ok(byte_bpe.encode(text, self.specials_as_text)),
            None => self.encode_in_pipeline(text, false),
        }
    }

    /// Encodes `text` with what the tokenizer puts around it, such as a begin-of-sequence token.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_with_special_tokens(&self, text: &str) -> Result<Vec<u32>, TextError> {
        self.encode_in_pipeline(text, true)
    }

    /// Encodes each text as [`Tokenizer::encode`] does, on all cores, long texts in parts.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_batch(&self, texts: &[&str]) -> Result<Vec<Vec<u32>>, TextError> {
        texts.par_iter().map(|text| self.encode_in_pieces(text)).collect()
    }

    fn encode_in_pieces(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let Some(byte_bpe) = &self.byte_bpe else { return self.encode(text) };
        let pieces: Vec<&str> = byte_bpe.pieces(text).collect();
        if let [piece] = pieces[..] {
            return Ok(byte_bpe.encode(piece, self.specials_as_text));
        }
        let encode = |piece: &&str| byte_bpe.encode(piece, self.specials_as_text);
        Ok(pieces.par_iter().map(encode).collect::<Vec<_>>().concat())
    }

    fn encode_in_pipeline(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, TextError> {
        self.pipeline
            .encode_fast(text, add_special_tokens)
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|source| TextError::Encode { bytes: text.len(), source })
    }

    /// Encodes as [`Tokenizer::encode`] does; with each id the bytes of `text` that it stands for.
    ///
    /// Tokens that share a character all have its range.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_with_offsets(&self, text: &str) -> Result<(Vec<u32>, Vec<Range<usize>>), TextError> {
        let encoding = self
            .pipeline
            .encode(text, false)
            .map_err(|source| TextError::Encode { bytes: text.len(), source })?;
        let offsets = encoding.get_offsets().iter().map(|&(start, end)| start..end).collect();
        Ok((encoding.get_ids().to_vec(), offsets))
    }

    /// The text of `ids`; special tokens and ids without a token yield nothing, bytes that are not
    /// UTF-8 yield U+FFFD.
    ///
    /// # Errors
    /// If the decoder of the tokenizer refuses the tokens.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        self.pipeline.decode(ids, true).map_err(|source| TextError::Decode { tokens: ids.len(), source })
    }

    /// As [`Tokenizer::decode`], with special tokens spelled out.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn decode_with_special_tokens(&self, ids: &[u32]) -> Result<String, TextError> {
        self.pipeline.decode(ids, false).map_err(|source| TextError::Decode { tokens: ids.len(), source })
    }

    /// Decodes ids one at a time, as they are generated.
    pub fn stream(&self) -> StreamDecoder<&Self> {
        StreamDecoder::new(self)
    }

    /// Whether decoding uses `id` at all: special tokens and ids without a token are passed over.
    pub(crate) fn has_text(&self, id: u32) -> bool {
        let special = |token: String| self.pipeline.get_added_vocabulary().is_special_token(&token);
        self.id_to_token(id).is_some_and(|token| !special(token))
    }

    /// Whether tokens are spelled by the names of their bytes.
    pub(crate) fn is_byte_level(&self) -> bool {
        let is = |decoder: &DecoderWrapper| matches!(decoder, DecoderWrapper::ByteLevel(_));
        self.pipeline.get_decoder().is_some_and(|decoder| any_decoder(decoder, &is))
    }

    /// Whether a token always stands for the same bytes, whatever is before it.
    pub(crate) fn decodes_bytes_alone(&self) -> bool {
        matches!(self.pipeline.get_decoder(), Some(DecoderWrapper::ByteLevel(_)))
    }

    /// The text of a token that stands for whole characters, whatever is around it; `None` if it may be another, or
    /// there is none.
    pub(crate) fn own_text(&self, id: u32) -> Option<&str> {
        let found = self.own_texts.get(id as usize)?.get_or_init(|| {
            let text = self.decodes_bytes_alone().then(|| self.decode(&[id]).ok()).flatten()?;
            let is_whole = !text.is_empty() && !text.contains(char::REPLACEMENT_CHARACTER);
            is_whole.then(|| text.into_boxed_str())
        });
        found.as_deref()
    }

    /// Whether `id` stands for one byte (`<0x0A>`) in a tokenizer whose decoder gathers such bytes.
    pub(crate) fn is_fallback_byte(&self, id: u32) -> bool {
        self.byte_fallback
            && self.id_to_token(id).is_some_and(|token| {
                let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
                digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
            })
    }
}

/// Whether `is` is true of `decoder` or one of its parts.
fn any_decoder(decoder: &DecoderWrapper, is: &dyn Fn(&DecoderWrapper) -> bool) -> bool {
    match decoder {
        DecoderWrapper::Sequence(sequence) => {
            sequence.get_decoders().iter().any(|decoder| any_decoder(decoder, is))
        }
        decoder => is(decoder),
    }
}
