//! The vocabulary as a trie, and grammars compiled for it.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::earley::SlicedBiasComputer;
use llguidance::panic_utils::catch_unwind;
use llguidance::toktrie::{
    INVALID_TOKEN, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv,
};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Map, Value, json};
use smelt_text::Tokenizer;

use super::{Constraint, Grammar};
use crate::error::GenerateError;

/// Tokens longer than this are left out of the trie, which cannot hold them.
const LONGEST_TOKEN_BYTES: usize = 512;

/// Most tokens of a vocabulary that the trie can hold.
const LARGEST_VOCABULARY: usize = 1 << 21;

/// Longest source of a grammar: compiling takes time and memory in proportion, and requests come from anywhere.
const LONGEST_SOURCE_BYTES: usize = 1 << 20;

/// Most states of a lexer, of one or two kilobytes each, that the text of one grammar may lead through.
const MOST_LEXER_STATES: usize = 100_000;

/// Blanks between the parts of JSON: one space, or a new line with its indent. A model that may write any
/// number of them may write nothing else.
const JSON_BLANKS: &str = r" |\n[ \t]{0,40}";

/// Compiles grammars for one vocabulary. One is made per model and shared.
#[derive(Clone)]
pub struct GrammarCompiler {
    factory: Arc<ParserFactory>,
}

impl GrammarCompiler {
    /// For the vocabulary of `tokenizer`; `stop_tokens` end a text, and may come where it is complete.
    ///
    /// # Errors
    /// [`GenerateError::Grammar`] for a vocabulary that no text can be written with, or that is too large.
    pub fn new(tokenizer: &Tokenizer, stop_tokens: &[u32]) -> Result<Self, GenerateError> {
        let failed = |reason: String| GenerateError::Grammar { kind: "vocabulary", reason };
        if tokenizer.vocab_size() > LARGEST_VOCABULARY {
            return Err(failed(format!(
                "it has {} tokens, expected at most {LARGEST_VOCABULARY}",
                tokenizer.vocab_size()
            )));
        }
        let factory = catch_unwind(AssertUnwindSafe(|| {
            let environment: TokEnv = Arc::new(Vocabulary::new(tokenizer, stop_tokens));
            let slices = SlicedBiasComputer::json_slices();
            let mut factory = ParserFactory::new(&environment, InferenceCapabilities::default(), &slices)?;
            factory.quiet();
            let limits = factory.limits_mut();
            limits.verbose_errors = false;
            limits.max_lexer_states = MOST_LEXER_STATES;
            Ok(factory)
        }));
        let factory = factory.map_err(|error| failed(reason(&error.to_string())))?;
        Ok(Self { factory: Arc::new(factory) })
    }

    /// A constraint at the start of a text that follows `grammar`. Each sequence needs its own; copies of one
    /// are independent.
    ///
    /// # Errors
    /// [`GenerateError::Grammar`] if it is not understood, too large, or no token can begin it.
    pub fn compile(&self, grammar: &Grammar) -> Result<Constraint, GenerateError> {
        let kind = grammar.kind();
        let failed = |reason: String| GenerateError::Grammar { kind, reason };
        let source_bytes = grammar.source_bytes();
        if source_bytes > LONGEST_SOURCE_BYTES {
            let limit = LONGEST_SOURCE_BYTES;
            return Err(failed(format!("it is {source_bytes} bytes long, expected at most {limit}")));
        }
        let parser = catch_unwind(AssertUnwindSafe(|| self.factory.create_parser(top_level(grammar))));
        let mut matcher = Matcher::new(parser);
        if let Some(error) = matcher.get_error() {
            return Err(failed(reason(&error)));
        }
        matcher.compute_mask_or_eos().map_err(|error| failed(reason(&error.to_string())))?;
        Ok(Constraint::new(matcher, kind))
    }
}

impl fmt::Debug for GrammarCompiler {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vocab_size = self.factory.tok_env().tok_trie().vocab_size();
        formatter.debug_struct("GrammarCompiler").field("vocab_size", &vocab_size).finish_non_exhaustive()
    }
}

fn top_level(grammar: &Grammar) -> TopLevelGrammar {
    match grammar {
        Grammar::JsonSchema(schema) => TopLevelGrammar::from_json_schema(with_blanks(schema)),
        Grammar::Regex(pattern) => TopLevelGrammar::from_regex(pattern),
        Grammar::Lark(source) => TopLevelGrammar::from_lark(source.clone()),
    }
}

/// `schema` with [`JSON_BLANKS`], where it does not say itself what may be between its parts.
fn with_blanks(schema: &Value) -> Value {
    let mut schema = match schema {
        Value::Object(keys) => keys.clone(),
        // `true` and `false` are schemas too, and what is none is refused by its type.
        other => Map::from_iter([("allOf".to_owned(), json!([other]))]),
    };
    schema.entry("x-guidance").or_insert_with(|| json!({"whitespace_pattern": JSON_BLANKS}));
    schema.into()
}

/// A message in one line, without backtraces and drawings.
pub(super) fn reason(message: &str) -> String {
    let message = message.split("\n<").next().unwrap_or(message);
    let drawing = |line: &str| line.contains(" | ") || line.chars().all(|mark| mark == '^');
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !drawing(line)).collect();
    lines.join(" ").trim_end_matches('.').to_owned()
}

/// The trie.
struct Vocabulary {
    trie: TokTrie,
}

impl Vocabulary {
    fn new(tokenizer: &Tokenizer, stop_tokens: &[u32]) -> Self {
        let mut words = tokenizer.token_bytes();
        let stop_tokens: Vec<TokenId> =
            stop_tokens.iter().copied().filter(|id| (*id as usize) < words.len()).collect();
        for (id, word) in (0..).zip(&mut words) {
            let special = word.is_none() && tokenizer.id_to_token(id).is_some();
            if special || stop_tokens.contains(&id) {
                // How the trie marks what only a grammar that names it may take.
                let name = tokenizer.id_to_token(id).unwrap_or_default();
                *word = Some([&[TokTrie::SPECIAL_TOKEN_MARKER], name.as_bytes()].concat());
            }
        }
        let words: Vec<Vec<u8>> = words
            .into_iter()
            .map(|word| word.filter(|word| word.len() <= LONGEST_TOKEN_BYTES).unwrap_or_default())
            .collect();
        let first_stop = stop_tokens.first().copied().unwrap_or(INVALID_TOKEN);
        let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, first_stop), &words);
        Self { trie: if stop_tokens.is_empty() { trie } else { trie.with_eos_tokens(&stop_tokens) } }
    }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, text: &[u8]) -> Vec<TokenId> {
        self.trie.greedy_tokenize(text)
    }

    fn tokenize_is_canonical(&self) -> bool {
        // The model divides text as it has learned to: every division stays allowed.
        false
    }
}
