//! From a vocabulary of a GGUF file to the contents of a `tokenizer.json` that gives the same ids.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};
use tokenizers::AddedToken;

use super::splits::{RULES, SplitRule};
use super::{GgufVocabulary, TokenKind};
use crate::TextError;
use crate::formats::sentencepiece::convert_model;
use crate::formats::sentencepiece::model::{Kind, Model, Normalizer, Piece, PieceKind};
use crate::formats::{Parts, Settings, around, bpe};

impl GgufVocabulary {
    /// The contents of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`TextError::GgufVocabulary`] for a kind that is not known, or lists that do not fit each other.
    pub fn to_tokenizer_json(&self) -> Result<Vec<u8>, TextError> {
        self.check().map_err(wrong)?;
        match self.model.as_str() {
            "gpt2" => self.byte_level(),
            "llama" => self.pieces(Kind::Bpe),
            "t5" => self.pieces(Kind::Unigram),
            other => Err(wrong(format!("is of the model `{other}`, expected `gpt2`, `llama` or `t5`"))),
        }
    }

    /// The token of an id.
    pub fn token(&self, id: Option<u32>) -> Option<&str> {
        self.tokens.get(usize::try_from(id?).ok()?).map(String::as_str)
    }

    fn check(&self) -> Result<(), String> {
        let count = self.tokens.len();
        if count == 0 {
            return Err("has no tokens".to_owned());
        }
        if !self.kinds.is_empty() && self.kinds.len() != count {
            return Err(format!("has {count} tokens and {} kinds", self.kinds.len()));
        }
        let known = |id: &Option<u32>| self.token(*id).is_some() || id.is_none();
        match [self.begin, self.end, self.unknown, self.padding].iter().find(|id| !known(id)) {
            Some(Some(id)) => Err(format!("has {count} tokens, a special one is said to be {id}")),
            _ => Ok(()),
        }
    }

    fn kind(&self, id: usize) -> TokenKind {
        self.kinds.get(id).copied().unwrap_or(TokenKind::Normal)
    }

    /// Tokens with their ids and kinds, without those that only fill up.
    fn entries(&self) -> impl Iterator<Item = (u32, &str, TokenKind)> {
        let entries = (0..).zip(&self.tokens).map(|(id, token)| (id, token.as_str(), self.kind(id as usize)));
        entries.filter(|(id, token, kind)| *kind != TokenKind::Unused || *token != padding_token(*id))
    }

    fn byte_level(&self) -> Result<Vec<u8>, TextError> {
        let rule = SplitRule::named(&self.split).ok_or_else(|| {
            let names: Vec<&str> =
                RULES.iter().flat_map(|rule| rule.names).copied().filter(|name| !name.is_empty()).collect();
            wrong(format!("splits text by `{}`, expected one of {}", self.split, names.join(", ")))
        })?;
        let mut vocab = Map::new();
        let mut parts = Parts {
            normalizer: rule.normalizer(),
            pre_tokenizer: rule.pre_tokenizer(),
            decoder: json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
            ..Parts::default()
        };
        for (id, token, kind) in self.entries() {
            if vocab.insert(token.to_owned(), id.into()).is_some() {
                return Err(wrong(format!("has the token {token:?} twice")));
            }
            let special = matches!(kind, TokenKind::Control | TokenKind::Unknown);
            if special || kind == TokenKind::UserDefined {
                parts.added_tokens.insert(id, AddedToken::from(token, special).normalized(false));
            }
        }
        let merges = json!(self.known_merges(&vocab)?);
        parts.post_processor = self.surroundings(rule.adds_begin);
        if parts.post_processor.is_null() {
            parts.post_processor = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true});
        }
        parts.model = bpe(vocab.into(), merges);
        parts.model["ignore_merges"] = rule.ignores_merges.into();
        Ok(parts.into_json())
    }

    /// The merges as pairs, all of tokens that make a third.
    fn known_merges<'a>(&'a self, vocab: &Map<String, Value>) -> Result<Vec<[&'a str; 2]>, TextError> {
        let pair = |merge: &'a String| {
            // A token may begin with a space of its own in vocabularies that are not byte-level.
            let at = merge.char_indices().skip(1).find(|(_, next)| *next == ' ').map(|(at, _)| at)?;
            let (left, right) = (&merge[..at], &merge[at + 1..]);
            let known = |part: &str| vocab.contains_key(part);
            (known(left) && known(right) && known(&[left, right].concat())).then_some([left, right])
        };
        let pairs = self.merges.iter().map(|merge| {
            pair(merge).ok_or_else(|| wrong(format!("has the merge {merge:?}, which makes no token of two")))
        });
        pairs.collect()
    }

    fn surroundings(&self, begins: bool) -> Value {
        let token = |id: Option<u32>| Some((self.token(id)?, id?));
        let begins = self.adds_begin.unwrap_or(begins);
        let ends = self.adds_end.unwrap_or(false);
        around(token(self.begin).filter(|_| begins), token(self.end).filter(|_| ends))
    }

    /// As a SentencePiece model would be.
    fn pieces(&self, kind: Kind) -> Result<Vec<u8>, TextError> {
        if self.scores.len() != self.tokens.len() {
            let (tokens, scores) = (self.tokens.len(), self.scores.len());
            return Err(wrong(format!("has {tokens} tokens and {scores} scores")));
        }
        if let Some(id) = self.scores.iter().position(|score| !score.is_finite()) {
            return Err(wrong(format!("has the score {} for token {id}", self.scores[id])));
        }
        let mut seen = HashSet::new();
        let mut pieces = Vec::with_capacity(self.tokens.len());
        // What fills up the end is no piece; between others it keeps its place.
        let used = self.entries().last().map_or(0, |(id, ..)| id as usize + 1);
        for (id, token) in self.tokens[..used].iter().enumerate() {
            if token.is_empty() || !seen.insert(token) {
                return Err(wrong(format!("has the token {token:?} twice or without a spelling")));
            }
            let kind = piece_kind(self.kind(id));
            pieces.push(Piece { text: token.clone(), score: self.scores[id], kind });
        }
        let is_bpe = kind == Kind::Bpe;
        let model = Model {
            byte_fallback: pieces.iter().any(|piece| piece.kind == PieceKind::Byte),
            pieces,
            kind,
            begin_id: self.begin,
            end_id: self.end,
            normalizer: Normalizer {
                charsmap: self.charsmap.clone(),
                add_dummy_prefix: self.adds_space.unwrap_or(true),
                remove_extra_whitespaces: self.joins_spaces.unwrap_or(!is_bpe),
            },
        };
        let settings = Settings {
            config: Map::from_iter([
                ("add_bos_token".to_owned(), self.adds_begin.unwrap_or(is_bpe).into()),
                ("add_eos_token".to_owned(), self.adds_end.unwrap_or(!is_bpe).into()),
            ]),
            ..Settings::default()
        };
        convert_model(&model, &settings).map_err(|reason| wrong(format!("cannot be read: {reason}")))
    }
}

fn piece_kind(kind: TokenKind) -> PieceKind {
    match kind {
        TokenKind::Normal => PieceKind::Normal,
        TokenKind::Unknown => PieceKind::Unknown,
        TokenKind::Control => PieceKind::Control,
        TokenKind::UserDefined => PieceKind::UserDefined,
        TokenKind::Unused => PieceKind::Unused,
        TokenKind::Byte => PieceKind::Byte,
    }
}

/// How an id without a token is spelled.
pub(super) fn padding_token(id: u32) -> String {
    format!("[PAD{id}]")
}

fn wrong(reason: impl Into<String>) -> TextError {
    TextError::GgufVocabulary { reason: reason.into() }
}

/// The place of each token.
pub(super) fn places(tokens: &[String]) -> HashMap<&str, u32> {
    tokens.iter().map(String::as_str).zip(0..).collect()
}
