//! A small tokenizer, templates, and files of records.

use std::path::PathBuf;
use std::sync::OnceLock;

use smelt_data::{DataError, Examples, InstructionOptions, LossOn, OnBadRecord, Passage, PromptFormat};
use smelt_text::{BpeTraining, ChatTemplate, Tokenizer, train_byte_level_bpe};
use tempfile::TempDir;

pub const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

pub fn tokenizer() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| {
        let special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(str::to_owned).to_vec();
        let training = BpeTraining { vocab_size: 300, special_tokens: special, ..BpeTraining::default() };
        train_byte_level_bpe(["list the files please, answer: ls -la and more files"].iter(), &training)
            .unwrap()
    })
}

pub fn options() -> InstructionOptions {
    InstructionOptions {
        seq_length: 200,
        loss_on: LossOn::Completions,
        prompt_format: PromptFormat::Chat,
        bad_record: OnBadRecord::Fail,
    }
}

/// A file of these lines; it lives as long as the folder.
pub fn file(lines: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.jsonl");
    std::fs::write(&path, lines).unwrap();
    (folder, path)
}

pub fn read_with(lines: &str, template: &str, options: &InstructionOptions) -> Result<Examples, DataError> {
    let (_folder, path) = file(lines);
    Examples::read(&path, tokenizer(), &ChatTemplate::from_source(template).unwrap(), options)
}

pub fn read(lines: &str, options: &InstructionOptions) -> Result<Examples, DataError> {
    read_with(lines, CHATML, options)
}

/// The text of tokens, special ones included.
pub fn text(tokens: &[u32]) -> String {
    let special = |id: u32| tokenizer().id_to_token(id).filter(|token| token.starts_with("<|"));
    tokens.iter().map(|&id| special(id).unwrap_or_else(|| tokenizer().decode(&[id]).unwrap())).collect()
}

/// The texts between what is only read.
pub fn learnt(passage: &Passage) -> Vec<String> {
    let counted = passage.counted.as_ref().unwrap();
    assert_eq!(counted.len() + 1, passage.tokens.len());
    let mut runs = vec![Vec::new()];
    for (&id, &counts) in passage.tokens[1..].iter().zip(counted) {
        match (counts, runs.last_mut().unwrap()) {
            (true, run) => run.push(id),
            (false, run) if run.is_empty() => {}
            (false, _) => runs.push(Vec::new()),
        }
    }
    runs.iter().filter(|run| !run.is_empty()).map(|run| text(run)).collect()
}
