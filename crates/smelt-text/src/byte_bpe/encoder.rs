//! An encoder for byte-level BPE, many times faster than the general pipeline and equal to it.
//!
//! Serves the pipelines of GPT-2, Llama 3, Qwen 2 and 3 and their like; what it does not know for
//! certain it declines, and the general pipeline encodes. Gives ids only, no offsets.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Mutex;

use ahash::AHashMap;
use aho_corasick::{AhoCorasick, MatchKind};
use serde::Deserialize;
use serde_json::Value;
use tokenizers::{NormalizedString, Normalizer, NormalizerWrapper, normalizers::NFC};

use super::alphabet::bytes_of;
use super::cache::WordCache;
use crate::pieces::{byte_level_pieces, pieces_at_spaces};
use crate::split::Split;

/// What of `tokenizer.json` the encoder reads.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    model: Model,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    special: bool,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    dropout: Option<f32>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    ignore_merges: bool,
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
}

/// Older files write a merge as one string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Line(String),
}

impl Merge {
    fn sides(&self) -> Option<(&str, &str)> {
        match self {
            Self::Pair(left, right) => Some((left, right)),
            Self::Line(line) => line.split_once(' '),
        }
    }
}

/// How a joined pair ranks among all, and what it becomes.
#[derive(Debug, Clone, Copy)]
struct Joined {
    rank: u32,
    id: u32,
}

/// Byte-level BPE from text to ids.
#[derive(Debug)]
pub struct ByteBpe {
    split: Split,
    composes: bool,
    byte_ids: [u32; 256],
    merges: AHashMap<(u32, u32), Joined>,
    /// Words that are entries as they are, where the model wants them unsplit.
    whole_words: Option<AHashMap<Vec<u8>, u32>>,
    added: Option<AddedTokens>,
    /// Caches between two uses; one per thread at work comes to be.
    caches: Mutex<Vec<WordCache>>,
}

#[derive(Debug)]
struct AddedTokens {
    search: AhoCorasick,
    /// Id, and whether special, by the number of the pattern.
    tokens: Vec<(u32, bool)>,
    /// Whether a token has blanks in it, where a text must then not be cut.
    with_blanks: bool,
}

impl ByteBpe {
    /// The encoder for the contents of a `tokenizer.json`, if it is of a kind that this one knows.
    pub fn from_json(json: &[u8]) -> Option<Self> {
        let file: File = serde_json::from_slice(json).ok()?;
        let composes = match &file.normalizer {
            None => false,
            Some(normalizer) if normalizer["type"] == "NFC" => true,
            Some(_) => return None,
        };
        let split = split_of(file.pre_tokenizer.as_ref()?)?;
        let added = AddedTokens::new(&file.added_tokens, composes)?;
        let model = &file.model;
        let plain = model.kind.as_deref().is_none_or(|kind| kind == "BPE")
            && model.dropout.is_none_or(|dropout| dropout == 0.0)
            && model.continuing_subword_prefix.as_deref().unwrap_or_default().is_empty()
            && model.end_of_word_suffix.as_deref().unwrap_or_default().is_empty();
        if !plain {
            return None;
        }
        Some(Self {
            split,
            composes,
            byte_ids: byte_ids(&model.vocab)?,
            merges: merges(model)?,
            whole_words: model.ignore_merges.then(|| whole_words(&model.vocab)),
            added,
            caches: Mutex::default(),
        })
    }

    /// The ids of `text`; with `specials_as_text`, special tokens in it are read as text.
    pub fn encode(&self, text: &str, specials_as_text: bool) -> Vec<u32> {
        let mut cache = self.take_cache();
        let mut ids = Vec::with_capacity(text.len() / 3);
        let mut start = 0;
        if let Some(added) = &self.added {
            for found in added.search.find_iter(text) {
                let (id, special) = added.tokens[found.pattern().as_usize()];
                if special && specials_as_text {
                    continue;
                }
                self.encode_words(&text[start..found.start()], &mut cache, &mut ids);
                ids.push(id);
                start = found.end();
            }
        }
        self.encode_words(&text[start..], &mut cache, &mut ids);
        self.keep_cache(cache);
        ids
    }

    /// Parts of `text` that encode to the ids of the whole.
    pub fn pieces<'t>(&self, text: &'t str) -> Box<dyn Iterator<Item = &'t str> + 't> {
        match self.split {
            _ if self.added.as_ref().is_some_and(|added| added.with_blanks) => {
                Box::new(std::iter::once(text))
            }
            Split::Gpt2 => Box::new(byte_level_pieces(text)),
            Split::Gpt4 { .. } => Box::new(pieces_at_spaces(text)),
        }
    }

    /// Encodes text without added tokens.
    fn encode_words(&self, text: &str, cache: &mut WordCache, ids: &mut Vec<u32>) {
        let text = if self.composes { composed(text) } else { Cow::Borrowed(text) };
        for word in self.split.words(&text) {
            cache.extend(ids, word.as_bytes(), |word, ids| self.encode_word(word, ids));
        }
    }

    fn encode_word(&self, word: &[u8], ids: &mut Vec<u32>) {
        if let Some(id) = self.whole_words.as_ref().and_then(|words| words.get(word)) {
            ids.push(*id);
            return;
        }
        let first = ids.len();
        ids.extend(word.iter().map(|&byte| self.byte_ids[usize::from(byte)]));
        let merged = self.merge(&mut ids[first..]);
        ids.truncate(first + merged);
    }

    /// Joins neighbours in the order of their ranks, the leftmost first; returns how many ids are left,
    /// at the front of `symbols`.
    fn merge(&self, symbols: &mut [u32]) -> usize {
        let joined = |left: u32, right: u32| self.merges.get(&(left, right)).copied();
        let mut queue: BinaryHeap<Reverse<(u32, usize, u32)>> = symbols
            .windows(2)
            .enumerate()
            .filter_map(|(at, pair)| joined(pair[0], pair[1]).map(|to| Reverse((to.rank, at, to.id))))
            .collect();
        if queue.is_empty() {
            return symbols.len();
        }
        let mut links = Links::new(symbols.len());
        while let Some(Reverse((_, at, id))) = queue.pop() {
            // Either side may have been joined to something else since.
            let Some(right) = links.next(at) else { continue };
            if joined(symbols[at], symbols[right]).is_none_or(|to| to.id != id) {
                continue;
            }
            symbols[at] = id;
            links.remove(right);
            for (left, right) in [(links.previous(at), Some(at)), (Some(at), links.next(at))] {
                if let (Some(left), Some(right)) = (left, right)
                    && let Some(to) = joined(symbols[left], symbols[right])
                {
                    queue.push(Reverse((to.rank, left, to.id)));
                }
            }
        }
        links.compact(symbols)
    }

    fn take_cache(&self) -> WordCache {
        self.caches.lock().ok().and_then(|mut caches| caches.pop()).unwrap_or_default()
    }

    fn keep_cache(&self, cache: WordCache) {
        // Poisoned means that another thread panicked; a cache can be done without.
        if let Ok(mut caches) = self.caches.lock() {
            caches.push(cache);
        }
    }
}

/// The neighbours of symbols of which some are gone.
struct Links {
    /// By position: the next symbol, and the one before; `ABSENT` for none, and for those gone.
    next: Vec<u32>,
    previous: Vec<u32>,
}

const ABSENT: u32 = u32::MAX;

impl Links {
    fn new(length: usize) -> Self {
        let length = u32::try_from(length).expect("a word of 4 GiB does not come up");
        let next = (1..length).chain([ABSENT]).collect();
        let previous = [ABSENT].into_iter().chain(0..length - 1).collect();
        Self { next, previous }
    }

    fn next(&self, at: usize) -> Option<usize> {
        Some(self.next[at]).filter(|&next| next != ABSENT).map(|next| next as usize)
    }

    fn previous(&self, at: usize) -> Option<usize> {
        Some(self.previous[at]).filter(|&previous| previous != ABSENT).map(|previous| previous as usize)
    }

    /// Takes out a symbol that is not the first.
    fn remove(&mut self, at: usize) {
        let (next, previous) = (self.next[at], self.previous[at]);
        self.next[previous as usize] = next;
        if next != ABSENT {
            self.previous[next as usize] = previous;
        }
        self.next[at] = ABSENT;
        self.previous[at] = ABSENT;
    }

    /// Moves the symbols that are left to the front.
    fn compact(&self, symbols: &mut [u32]) -> usize {
        let (mut at, mut written) = (Some(0), 0);
        while let Some(read) = at {
            symbols[written] = symbols[read];
            written += 1;
            at = self.next(read);
        }
        written
    }
}

impl AddedTokens {
    /// A search for `tokens`; the outer none is for kinds that this encoder does not know.
    fn new(tokens: &[AddedToken], composes: bool) -> Option<Option<Self>> {
        let simple = |token: &AddedToken| {
            let takes_neighbours = token.single_word || token.lstrip || token.rstrip;
            let found_later = token.normalized && composes;
            let alike = token.normalized == tokens[0].normalized;
            alike && !(takes_neighbours || found_later || token.content.is_empty())
        };
        if !tokens.iter().all(simple) {
            return None;
        }
        if tokens.is_empty() {
            return Some(None);
        }
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(tokens.iter().map(|token| &token.content))
            .ok()?;
        let with_blanks = tokens.iter().any(|token| token.content.contains(char::is_whitespace));
        let tokens = tokens.iter().map(|token| (token.id, token.special)).collect();
        Some(Some(Self { search, tokens, with_blanks }))
    }
}

/// `ByteLevel` with GPT-2's pattern, or a known pattern in front of one without.
fn split_of(pre_tokenizer: &Value) -> Option<Split> {
    let is_byte_level = |value: &Value, use_regex: bool| {
        value["type"] == "ByteLevel"
            && value["add_prefix_space"] == false
            && value["use_regex"].as_bool().unwrap_or(true) == use_regex
    };
    if is_byte_level(pre_tokenizer, true) {
        return Some(Split::Gpt2);
    }
    let [split, byte_level] = pre_tokenizer["pretokenizers"].as_array()?.as_slice() else { return None };
    let isolates = split["type"] == "Split" && split["behavior"] == "Isolated" && split["invert"] == false;
    if !isolates || !is_byte_level(byte_level, false) {
        return None;
    }
    Split::from_pattern(split["pattern"]["Regex"].as_str()?)
}

fn byte_ids(vocab: &HashMap<String, u32>) -> Option<[u32; 256]> {
    let mut ids = [0; 256];
    for (id, name) in ids.iter_mut().zip(*super::alphabet::BYTE_NAMES) {
        *id = *vocab.get(name.encode_utf8(&mut [0; 4]) as &str)?;
    }
    Some(ids)
}

fn merges(model: &Model) -> Option<AHashMap<(u32, u32), Joined>> {
    let mut merges = AHashMap::with_capacity(model.merges.len());
    for (rank, merge) in (0..).zip(&model.merges) {
        let (left, right) = merge.sides()?;
        let id = |token: &str| model.vocab.get(token).copied();
        let joined = Joined { rank, id: id(&[left, right].concat())? };
        merges.insert((id(left)?, id(right)?), joined);
    }
    Some(merges)
}

fn whole_words(vocab: &HashMap<String, u32>) -> AHashMap<Vec<u8>, u32> {
    vocab.iter().filter_map(|(token, &id)| Some((bytes_of(token)?, id))).collect()
}

/// Unicode's normal form C.
fn composed(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let mut normalized = NormalizedString::from(text);
    match NormalizerWrapper::from(NFC).normalize(&mut normalized) {
        Ok(()) => Cow::Owned(normalized.get().to_owned()),
        Err(_) => Cow::Borrowed(text),
    }
}
