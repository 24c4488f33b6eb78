//! From a tokenizer to what a GGUF file says of it.

use std::collections::HashMap;

use serde_json::Value;

use super::read::{padding_token, places};
use super::splits::SplitRule;
use super::{GgufVocabulary, TokenKind};
use crate::{TextError, Tokenizer};

/// How SentencePiece writes a space.
const SPACE: char = '▁';
/// The score of tokens that no pair of others makes.
const UNREACHABLE: f32 = -1e4;

impl GgufVocabulary {
    /// The vocabulary of `tokenizer` for a model of `vocab_size` ids; `begin` and `end` are the tokens around a text
    /// where the model's configuration names them.
    ///
    /// # Errors
    /// [`TextError::NotForGguf`] for what llama.cpp has no name for.
    pub fn of_tokenizer(
        tokenizer: &Tokenizer,
        vocab_size: usize,
        begin: Option<u32>,
        end: Option<u32>,
    ) -> Result<Self, TextError> {
        let json: Value = serde_json::from_slice(tokenizer.json()).map_err(|source| TextError::Parse {
            name: crate::TOKENIZER_FILE.to_owned(),
            source: source.into(),
        })?;
        if tokenizer.vocab_size() > vocab_size {
            let ids = tokenizer.vocab_size();
            return Err(unfit(format!("it has {ids} tokens, the model {vocab_size}")));
        }
        let (tokens, mut kinds) = entries(tokenizer, &json, vocab_size);
        let mut vocabulary = Self { tokens, begin, end, ..Self::default() };
        let model = &json["model"];
        match model["type"].as_str() {
            Some("BPE") if is_byte_level(&json) => {
                let normalizer = &json["normalizer"];
                if !normalizer.is_null() && normalizer["type"] != "NFC" {
                    return Err(unfit(format!("llama.cpp has no normalizer {}", normalizer["type"])));
                }
                let ignores_merges = model["ignore_merges"] == true;
                let rule = SplitRule::of(&json["pre_tokenizer"], &json["normalizer"], ignores_merges);
                let rule = rule.ok_or_else(|| unfit("llama.cpp splits no text as it does"))?;
                vocabulary.model = "gpt2".to_owned();
                vocabulary.split = rule.names[0].to_owned();
                vocabulary.merges =
                    merges(model)?.iter().map(|[left, right]| format!("{left} {right}")).collect();
            }
            Some("BPE") => {
                if let Some(step) =
                    foreign_step(&json["normalizer"]).or_else(|| foreign_step(&json["pre_tokenizer"]))
                {
                    return Err(unfit(format!("llama.cpp's SentencePiece has no step {}", step["type"])));
                }
                vocabulary.model = "llama".to_owned();
                vocabulary.split = "default".to_owned();
                mark_bytes(&vocabulary.tokens, &mut kinds);
                vocabulary.unknown =
                    mark_unknown(model["unk_token"].as_str(), &vocabulary.tokens, &mut kinds);
                vocabulary.scores = scores_of_merges(&merges(model)?, &vocabulary.tokens, &kinds);
                vocabulary.adds_space = Some(adds_space(tokenizer)?);
            }
            other => {
                let found = other.unwrap_or("none");
                return Err(unfit(format!("its model is {found}, expected BPE")));
            }
        }
        vocabulary.kinds = kinds;
        vocabulary.set_surroundings(tokenizer)?;
        Ok(vocabulary)
    }

    /// What the tokenizer puts around a text, seen by doing it.
    fn set_surroundings(&mut self, tokenizer: &Tokenizer) -> Result<(), TextError> {
        const TEXT: &str = "a";
        let bare = tokenizer.encode(TEXT)?;
        let whole = tokenizer.encode_with_special_tokens(TEXT)?;
        let at = whole.windows(bare.len().max(1)).position(|part| part == bare);
        let at = at.ok_or_else(|| unfit("what it puts around a text changes the text"))?;
        let (before, after) = (&whole[..at], &whole[at + bare.len()..]);
        if before.len() > 1 || after.len() > 1 {
            return Err(unfit(format!("it puts {} tokens around a text", before.len() + after.len())));
        }
        self.adds_begin = Some(!before.is_empty());
        self.adds_end = Some(!after.is_empty());
        self.begin = before.first().copied().or(self.begin);
        self.end = after.first().copied().or(self.end);
        Ok(())
    }
}

/// Spelling and kind of each id.
fn entries(tokenizer: &Tokenizer, json: &Value, vocab_size: usize) -> (Vec<String>, Vec<TokenKind>) {
    let added = json["added_tokens"].as_array().map(Vec::as_slice).unwrap_or_default();
    let added: HashMap<u64, bool> =
        added.iter().filter_map(|token| Some((token["id"].as_u64()?, token["special"] == true))).collect();
    let entry = |id: u32| match (tokenizer.id_to_token(id), added.get(&id.into())) {
        (None, _) => (padding_token(id), TokenKind::Unused),
        (Some(token), None) => (token, TokenKind::Normal),
        (Some(token), Some(true)) => (token, TokenKind::Control),
        (Some(token), Some(false)) if looks_special(&token) => (token, TokenKind::Control),
        (Some(token), Some(false)) => (token.replace(SPACE, " "), TokenKind::UserDefined),
    };
    (0..vocab_size as u32).map(entry).unzip()
}

/// Some files do not mark what stands between angle brackets as special.
fn looks_special(token: &str) -> bool {
    (token.starts_with("<|") && token.ends_with("|>")) || token.starts_with("<unused") || token == "<pad>"
}

/// A step before the pieces that does more than spell spaces as SentencePiece does.
fn foreign_step(part: &Value) -> Option<&Value> {
    let listed = ["normalizers", "pretokenizers"].iter().find_map(|key| part[key].as_array());
    let steps = listed.map_or(std::slice::from_ref(part), Vec::as_slice);
    let spells_spaces = |step: &&Value| match step["type"].as_str() {
        None => step.is_null(),
        Some("Prepend" | "Metaspace") => true,
        Some("Replace" | "Split") => step["pattern"]["String"] == " ",
        Some(_) => false,
    };
    steps.iter().find(|step| !spells_spaces(step))
}

fn is_byte_level(json: &Value) -> bool {
    let is = |part: &Value| part["type"] == "ByteLevel";
    let part = &json["pre_tokenizer"];
    is(part) || part["pretokenizers"].as_array().is_some_and(|steps| steps.iter().any(is))
}

/// The pairs of a BPE model, in either spelling of the format.
fn merges(model: &Value) -> Result<Vec<[&str; 2]>, TextError> {
    let merges = model["merges"].as_array().ok_or_else(|| unfit("it has no merges"))?;
    merges
        .iter()
        .map(|merge| match merge {
            Value::String(text) => text.split_once(' ').map(|(left, right)| [left, right]),
            pair => Some([pair[0].as_str()?, pair[1].as_str()?]),
        })
        .collect::<Option<_>>()
        .ok_or_else(|| unfit("a merge is no pair"))
}

/// Tokens that stand for one byte are spelled `<0x0A>`.
fn mark_bytes(tokens: &[String], kinds: &mut [TokenKind]) {
    for (token, kind) in tokens.iter().zip(kinds) {
        let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
        if digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok()) {
            *kind = TokenKind::Byte;
        }
    }
}

fn mark_unknown(unknown: Option<&str>, tokens: &[String], kinds: &mut [TokenKind]) -> Option<u32> {
    let id = tokens.iter().position(|token| Some(token.as_str()) == unknown)?;
    kinds[id] = TokenKind::Unknown;
    u32::try_from(id).ok()
}

/// Scores whose order is that of the merges: llama.cpp joins the neighbours whose token has the highest.
fn scores_of_merges(merges: &[[&str; 2]], tokens: &[String], kinds: &[TokenKind]) -> Vec<f32> {
    let places = places(tokens);
    let mut scores = vec![UNREACHABLE; tokens.len()];
    let mut rank = 0.0f32;
    for [left, right] in merges {
        let Some(id) = places.get([*left, *right].concat().as_str()) else { continue };
        let score = &mut scores[*id as usize];
        if *score == UNREACHABLE {
            *score = -rank;
            rank += 1.0;
        }
    }
    for (score, kind) in scores.iter_mut().zip(kinds) {
        if !matches!(kind, TokenKind::Normal) {
            *score = 0.0;
        }
    }
    scores
}

/// The tokenizer puts a space before a text, seen by doing it.
fn adds_space(tokenizer: &Tokenizer) -> Result<bool, TextError> {
    let first = tokenizer.encode("a")?.first().and_then(|id| tokenizer.id_to_token(*id));
    Ok(first.is_some_and(|token| token.starts_with(SPACE)))
}

fn unfit(reason: impl Into<String>) -> TextError {
    TextError::NotForGguf { reason: reason.into() }
}
