//! A model that knows nothing: texts drawn from random logits under a grammar.

use std::collections::HashMap;
use std::sync::LazyLock;

use smelt_generate::{Constraint, GenerateError, Grammar, GrammarCompiler, Sampler, SamplingOptions};
use smelt_testkit::golden_folder;
use smelt_text::Tokenizer;

/// Tokenizers whose vocabularies have every byte.
pub const NAMES: [&str; 3] = ["tokenizer_bytelevel", "tokenizer_llama2_style", "tokenizer_qwen_style"];

/// A vocabulary, its trie, and the token that ends a text.
pub struct Writer {
    pub tokenizer: Tokenizer,
    pub compiler: GrammarCompiler,
    pub stop: u32,
}

/// Each once for all tests.
pub fn writer(name: &str) -> &'static Writer {
    static WRITERS: LazyLock<HashMap<&str, Writer>> = LazyLock::new(|| {
        let load = |name| {
            let tokenizer = Tokenizer::from_folder(&golden_folder(name)).unwrap();
            let stop = tokenizer.end_of_text().unwrap();
            let compiler = GrammarCompiler::new(&tokenizer, &[stop]).unwrap();
            (name, Writer { tokenizer, compiler, stop })
        };
        NAMES.map(load).into()
    });
    &WRITERS[name]
}

/// What came of it.
pub struct Written {
    pub text: String,
    /// The text came to its end within the tokens it had.
    pub ended: bool,
}

impl Writer {
    /// Draws up to `limit` tokens with `seed`.
    pub fn write(&self, grammar: &Grammar, seed: u64, limit: usize) -> Result<Written, GenerateError> {
        self.go_on(&mut self.compiler.compile(grammar)?, seed, limit)
    }

    /// As [`Writer::write`], from where `constraint` stands.
    pub fn go_on(
        &self,
        constraint: &mut Constraint,
        seed: u64,
        limit: usize,
    ) -> Result<Written, GenerateError> {
        let options = SamplingOptions { temperature: 1.0, seed, ..Default::default() };
        let mut sampler = Sampler::new(&options)?;
        // More logits than tokens, as models have whose embeddings are padded.
        let count = self.tokenizer.vocab_size() as u64 + 37;
        let mut tokens = Vec::new();
        let mut ended = false;
        while !ended && tokens.len() < limit {
            let logits: Vec<f32> = (0..count).map(|id| self.logit(id, seed, tokens.len(), limit)).collect();
            let token = sampler.sample_allowed(&logits, &tokens, Some(constraint.allowed()?))?;
            constraint.accept(token)?;
            ended = token == self.stop;
            tokens.push(token);
        }
        let text = self.tokenizer.decode(&tokens).unwrap();
        Ok(Written { text, ended })
    }

    /// Anything, but towards the limit what ends texts and brackets grows likelier.
    fn logit(&self, id: u64, seed: u64, position: usize, limit: usize) -> f32 {
        let mixed = (id ^ seed.rotate_left(17) ^ (position as u64) << 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let noise = (mixed >> 40) as f32 / (1u64 << 24) as f32 * 6.0;
        let urgency = (position as f32 / limit as f32 * 40.0 - 4.0).max(0.0);
        let token = u32::try_from(id).ok().and_then(|id| self.tokenizer.id_to_token(id)).unwrap_or_default();
        let ends = id == u64::from(self.stop) || ["\"", "}", "]", ">", "1"].contains(&token.as_str());
        noise + if ends { urgency } else { 0.0 }
    }
}
