//! Training and encoding of byte-level BPE on a file, against the Python `tokenizers` package.
//!
//! `cargo bench -p smelt-text --bench tokenizer -- FILE [PYTHON]`: learns 32 000 entries from FILE, then
//! encodes it as documents of about 2 KB. With PYTHON, an interpreter that has `tokenizers`, that
//! package does the same with the same `tokenizer.json`, in turns with us, and ratios of the medians are
//! printed.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use smelt_text::{BpeTraining, Tokenizer, byte_level_pieces, train_byte_level_bpe};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 3;
const DOCUMENT_BYTES: usize = 2 << 10;

/// What Python is asked to do: `train` or `encode`; it prints megabytes per second.
const PYTHON: &str = r"
import sys, time
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
task, path, json, size = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
data = open(path, 'rb').read()
texts, start = [], 0
while start < len(data):
    end = min(len(data), start + size)
    while end < len(data) and data[end] & 0xC0 == 0x80: end += 1
    texts.append(data[start:end].decode()); start = end
began = time.time()
if task == 'encode':
    tokenizer = Tokenizer.from_file(json)
    began = time.time()
    batches = [texts[i:i + 1000] for i in range(0, len(texts), 1000)]
    count = sum(len(e.ids) for batch in batches for e in tokenizer.encode_batch_fast(batch, add_special_tokens=False))
else:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=32000, min_frequency=2, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=['<|endoftext|>', '<|im_start|>', '<|im_end|>'])
    tokenizer.train_from_iterator(texts, trainer)
    count = tokenizer.get_vocab_size()
print(len(data) / 1e6 / (time.time() - began), count)
";

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let Some(file) = arguments.next() else {
        println!("usage: cargo bench -p smelt-text --bench tokenizer -- FILE [PYTHON]");
        return;
    };
    let text = std::fs::read_to_string(&file).unwrap();
    let megabytes = text.len() as f64 / 1e6;
    let texts = documents(&text);
    let json = std::env::temp_dir().join(format!("smelt-bench-{}.json", std::process::id()));
    let python = arguments.next();
    let peer = |task: &str| python.as_deref().map(|python| run_python(python, task, &file, &json));

    let rounds =
        (0..ROUNDS).map(|_| (megabytes / seconds(|| train(&text).save(&json).unwrap()), peer("train")));
    report("train", rounds.collect());
    let tokenizer = Tokenizer::from_file(&json).unwrap();
    let rounds = (0..ROUNDS).map(|_| {
        let mut tokens = 0;
        let elapsed = seconds(|| tokens = tokenizer.encode_batch(&texts).unwrap().iter().map(Vec::len).sum());
        let theirs = peer("encode");
        if let Some((_, count)) = theirs {
            assert_eq!(tokens, count, "both give the same number of tokens");
        }
        (megabytes / elapsed, theirs)
    });
    report("encode", rounds.collect());
    std::fs::remove_file(&json).unwrap();
}

fn train(text: &str) -> Tokenizer {
    train_byte_level_bpe(byte_level_pieces(text), &BpeTraining::default()).unwrap()
}

/// `text` in parts of about [`DOCUMENT_BYTES`], cut where the Python program cuts it.
fn documents(text: &str) -> Vec<&str> {
    let mut rest = text;
    std::iter::from_fn(|| {
        let end = (DOCUMENT_BYTES.min(rest.len())..).find(|&at| rest.is_char_boundary(at))?;
        let (document, after) = rest.split_at(end);
        rest = after;
        (!document.is_empty()).then_some(document)
    })
    .collect()
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn run_python(python: &str, task: &str, file: &str, json: &Path) -> (f64, usize) {
    let size = DOCUMENT_BYTES.to_string();
    let output = Command::new(python).args(["-c", PYTHON, task, file]).arg(json).arg(size).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let (speed, count) = printed.trim().split_once(' ').unwrap();
    (speed.parse().unwrap(), count.parse().unwrap())
}

fn report(task: &str, rounds: Vec<(f64, Option<(f64, usize)>)>) {
    let ours = median(rounds.iter().map(|(ours, _)| *ours).collect());
    println!("{task}: {ours:.1} MB/s");
    let theirs: Vec<f64> = rounds.iter().filter_map(|(_, theirs)| Some(theirs.as_ref()?.0)).collect();
    if !theirs.is_empty() {
        let theirs = median(theirs);
        println!("{task}: python tokenizers {theirs:.1} MB/s, ratio {:.2}", ours / theirs);
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
