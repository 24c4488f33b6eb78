//! GPT-2's two files: `vocab.json` with the ids, `merges.txt` with the order of joining.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Parts, Settings, around, bpe};
use crate::TextError;
use crate::split::QWEN2;

/// The ids, by token.
pub const VOCAB_FILE: &str = "vocab.json";

/// A merge per line, the first joined first.
const MERGES_FILE: &str = "merges.txt";

/// Converts the files in `folder`.
pub fn convert(folder: &Path, settings: &Settings) -> Result<Vec<u8>, TextError> {
    let vocab = read_vocab(&folder.join(VOCAB_FILE))?;
    let id_of = |token: &str| u32::try_from(vocab.get(token)?.as_u64()?).ok();
    let path = folder.join(MERGES_FILE);
    let merges = read_merges(&path, &vocab)?;
    let add_prefix_space = settings.flag("add_prefix_space").unwrap_or(false);
    let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true, "use_regex": use_regex});
    let is_qwen = settings.class_starts_with(&["Qwen2"]);
    let mut parts = Parts {
        normalizer: if is_qwen { json!({"type": "NFC"}) } else { Value::Null },
        pre_tokenizer: if is_qwen {
            let split = json!({"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": false});
            json!({"type": "Sequence", "pretokenizers": [split, byte_level(false)]})
        } else {
            byte_level(true)
        },
        decoder: json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
        ..Parts::default()
    };
    parts.post_processor = post_processor(settings, add_prefix_space, id_of);
    parts.add_special_tokens(settings, id_of);
    parts.model = bpe(vocab.into(), json!(merges));
    Ok(parts.into_json())
}

/// What the class of the tokenizer puts around a text.
fn post_processor(settings: &Settings, add_prefix_space: bool, id_of: impl Fn(&str) -> Option<u32>) -> Value {
    let token = |role: &str| {
        let name = settings.named(role)?;
        Some((name, id_of(name)?))
    };
    if settings.class_starts_with(&["Roberta", "Bart", "Longformer", "LED", "MVP"]) {
        let sep = token("sep_token").or(token("eos_token"));
        let cls = token("cls_token").or(token("bos_token"));
        if let (Some(sep), Some(cls)) = (sep, cls) {
            return json!({"type": "RobertaProcessing", "sep": sep, "cls": cls, "trim_offsets": true, "add_prefix_space": add_prefix_space});
        }
    }
    let wanted = |flag: &str, role: &str| settings.flag(flag).unwrap_or(false).then(|| token(role)).flatten();
    match around(wanted("add_bos_token", "bos_token"), wanted("add_eos_token", "eos_token")) {
        Value::Null => {
            json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true})
        }
        template => template,
    }
}

fn read_vocab(path: &Path) -> Result<Map<String, Value>, TextError> {
    let vocab = crate::special_tokens::read_object(path)?;
    let is_id = |id: &Value| id.as_u64().is_some_and(|id| u32::try_from(id).is_ok());
    match vocab.iter().find(|(token, id)| !is_id(id) || token.ends_with("</w>")) {
        None => Ok(vocab),
        Some((token, id)) => Err(TextError::BadKey {
            path: path.to_owned(),
            key: token.clone(),
            expected: if is_id(id) { "a token of a byte-level vocabulary" } else { "an id" },
        }),
    }
}

fn read_merges(path: &Path, vocab: &Map<String, Value>) -> Result<Vec<[String; 2]>, TextError> {
    let text = fs::read_to_string(path).map_err(TextError::reading(path))?;
    let mut merges = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.is_empty()) {
        if number == 1 && line.starts_with("#version") {
            continue;
        }
        let known = |part: &str| vocab.contains_key(part);
        let sides = line
            .split_once(' ')
            .filter(|(left, right)| known(left) && known(right) && known(&[*left, *right].concat()));
        let (left, right) = sides.ok_or_else(|| TextError::BadLine {
            path: path.to_owned(),
            line: number,
            expected: "two tokens that make a third of `vocab.json`",
        })?;
        merges.push([left.to_owned(), right.to_owned()]);
    }
    Ok(merges)
}
