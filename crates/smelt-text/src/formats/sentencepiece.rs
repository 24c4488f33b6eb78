//! SentencePiece models (Kudo and Richardson 2018, arXiv:1808.06226) as pipelines of the `tokenizers`
//! crate.
//!
//! Unigram and BPE models give the ids that the `sentencepiece` package gives. What differs, as it does
//! in transformers: control symbols in a text are recognised; and in models with user-defined symbols,
//! a text that starts with such a symbol, or with `▁` itself, gets no space before it.

mod charsmap;
pub mod model;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tokenizers::AddedToken;

use self::charsmap::Charsmap;
use self::model::{Kind, Model, Piece, PieceKind};
use super::{Parts, Settings, around, bpe};
use crate::TextError;

/// How SentencePiece writes a space.
const SPACE: char = '▁';

/// The score of pieces that no text may become: far below all others, so that their spelling in a text
/// is read as characters.
const UNREACHABLE: f32 = -1000.0;

/// Tokenizers of transformers that number the pieces of their models anew.
const RENUMBERING_CLASSES: [&str; 7] =
    ["XLMRoberta", "Camembert", "MBart", "Nllb", "Barthez", "XGLM", "Pegasus"];

/// Converts the model in the file `path`.
pub fn convert(path: &Path, settings: &Settings) -> Result<Vec<u8>, TextError> {
    let bytes = fs::read(path).map_err(TextError::reading(path))?;
    let name = || path.display().to_string();
    let model = Model::parse(&bytes).map_err(|source| TextError::SentencePiece { name: name(), source })?;
    let unsupported =
        |reason: &str| TextError::SentencePiece { name: name(), source: reason.to_owned().into() };
    if settings.class_starts_with(&RENUMBERING_CLASSES) {
        return Err(unsupported(
            "its class numbers the pieces anew; convert it to `tokenizer.json` with transformers",
        ));
    }
    convert_model(&model, settings).map_err(unsupported)
}

/// A model in the format of `tokenizer.json`; the error says what cannot be converted.
pub fn convert_model(model: &Model, settings: &Settings) -> Result<Vec<u8>, &'static str> {
    let charsmap = match model.normalizer.charsmap.as_slice() {
        [] => None,
        bytes => Some(Charsmap::parse(bytes).ok_or("its character map is damaged")?),
    };
    let ids: HashMap<&str, u32> =
        (0..).zip(&model.pieces).map(|(id, piece)| (piece.text.as_str(), id)).collect();
    let mut parts = Parts {
        model: match model.kind {
            Kind::Unigram => unigram(model),
            Kind::Bpe => byte_pairs(model, &ids),
        },
        decoder: decoder(model),
        post_processor: post_processor(model, settings),
        ..Parts::default()
    };
    set_normalization(&mut parts, model, charsmap, settings);
    parts.add_special_tokens(settings, |token| ids.get(token).copied());
    Ok(parts.into_json())
}

/// The normalizer, the pre-tokenizer, and the pieces that are found before them.
fn set_normalization(parts: &mut Parts, model: &Model, charsmap: Option<Charsmap>, settings: &Settings) {
    let spec = &model.normalizer;
    let has_symbols = model.pieces.iter().any(|piece| piece.kind == PieceKind::UserDefined);
    let legacy = settings.flag("legacy").unwrap_or(true);
    // The normalizer sees each part of a text between special tokens, which all get a space, as they
    // did in Llama's first tokenizer. Symbols of the user's are found in what it leaves.
    let prepends_in_normalizer =
        spec.add_dummy_prefix && legacy && !(has_symbols && spec.remove_extra_whitespaces);
    let replace =
        |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});

    let mut normalizers: Vec<Value> = charsmap.map(Charsmap::into_normalizer).into_iter().collect();
    if spec.remove_extra_whitespaces {
        // `Metaspace` takes a space at the start for the one that it would put there.
        let metaspace_prepends = spec.add_dummy_prefix && !prepends_in_normalizer;
        let ends = if metaspace_prepends { r" +\z" } else { r"\A +| +\z" };
        normalizers.push(replace(json!({"Regex": " {2,}"}), " "));
        normalizers.push(replace(json!({"Regex": ends}), ""));
    }
    if prepends_in_normalizer {
        normalizers.push(json!({"type": "Prepend", "prepend": SPACE}));
        normalizers.push(replace(json!({"String": " "}), SPACE.encode_utf8(&mut [0; 4])));
    }
    if !normalizers.is_empty() {
        parts.normalizer = json!({"type": "Sequence", "normalizers": normalizers});
    }
    let joins_words = model.pieces.iter().any(|piece| piece.text.chars().skip(1).any(|next| next == SPACE));
    let scheme = if spec.add_dummy_prefix && !prepends_in_normalizer { "first" } else { "never" };
    parts.pre_tokenizer =
        json!({"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": !joins_words});
    for (id, piece) in (0..).zip(&model.pieces) {
        let token = match piece.kind {
            PieceKind::Unknown | PieceKind::Control => AddedToken::from(&piece.text, true).normalized(false),
            PieceKind::UserDefined => {
                AddedToken::from(&piece.text, false).normalized(!prepends_in_normalizer)
            }
            _ => continue,
        };
        parts.added_tokens.insert(id, token);
    }
}

fn unigram(model: &Model) -> Value {
    let lowest = model.pieces.iter().map(|piece| piece.score).fold(0.0, f32::min);
    let score = |piece: &Piece| match piece.kind {
        PieceKind::Normal | PieceKind::UserDefined | PieceKind::Unknown => f64::from(piece.score),
        _ => f64::from(lowest + UNREACHABLE),
    };
    let vocab: Vec<(&str, f64)> =
        model.pieces.iter().map(|piece| (piece.text.as_str(), score(piece))).collect();
    json!({"type": "Unigram", "unk_id": model.unknown_id(), "vocab": vocab, "byte_fallback": model.byte_fallback})
}

fn byte_pairs(model: &Model, ids: &HashMap<&str, u32>) -> Value {
    let mut pairs = bpe(json!(ids), json!(merges(model, ids)));
    pairs["unk_token"] = json!(model.unknown_id().map(|id| &model.pieces[id].text));
    pairs["fuse_unk"] = true.into();
    pairs["byte_fallback"] = model.byte_fallback.into();
    pairs
}

/// Every way to make a piece of two others, the piece of the highest score first.
///
/// SentencePiece joins whatever neighbours make a piece; the crate wants the pairs listed.
fn merges<'m>(model: &'m Model, ids: &HashMap<&str, u32>) -> Vec<[&'m str; 2]> {
    let joinable =
        |text: &str| ids.get(text).is_some_and(|&id| model.pieces[id as usize].kind == PieceKind::Normal);
    let mut pieces: Vec<&Piece> =
        model.pieces.iter().filter(|piece| piece.kind == PieceKind::Normal).collect();
    // The sort is stable: among equal scores the order of ids stays.
    pieces.sort_by(|a, b| b.score.total_cmp(&a.score));
    let splits = |piece: &'m Piece| {
        let text = piece.text.as_str();
        text.char_indices().skip(1).map(move |(at, _)| [&text[..at], &text[at..]])
    };
    pieces.into_iter().flat_map(splits).filter(|[left, right]| joinable(left) && joinable(right)).collect()
}

fn decoder(model: &Model) -> Value {
    let mut decoders = vec![json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "})];
    if model.byte_fallback {
        decoders.push(json!({"type": "ByteFallback"}));
    }
    decoders.push(json!({"type": "Fuse"}));
    if model.normalizer.add_dummy_prefix {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({"type": "Sequence", "decoders": decoders})
}

/// As `add_bos_token` and `add_eos_token` say; else BPE models begin a text as Llama's do, and T5's end it.
fn post_processor(model: &Model, settings: &Settings) -> Value {
    let is_t5 = settings.class_starts_with(&["T5", "MT5", "UMT5"]);
    let begins = settings.flag("add_bos_token").unwrap_or(model.kind == Kind::Bpe && !is_t5);
    let ends = settings.flag("add_eos_token").unwrap_or(is_t5);
    let token = |id: Option<u32>| {
        let piece = model.pieces.get(usize::try_from(id?).ok()?)?;
        Some((piece.text.as_str(), id?))
    };
    let (first, last) = (token(model.begin_id), token(model.end_id));
    around(first.filter(|_| begins), last.filter(|_| ends))
}
