//! What is taken of a file, what is left out, and what is said about it.

use std::fs;

use smelt_data::{InstructionFolder, InstructionOptions, LossOn, OnBadRecord, RecordKind};
use smelt_text::ChatTemplate;

use crate::fixture::{CHATML, learnt, options, read, text, tokenizer};

fn skipping() -> InstructionOptions {
    InstructionOptions { bad_record: OnBadRecord::Skip, ..options() }
}

/// The message of a failed reading without the folder.
fn failure(lines: &str, options: &InstructionOptions) -> String {
    let message = read(lines, options).unwrap_err().to_string();
    let start = message.find('`').unwrap() + 1;
    let end = message.find("train.jsonl").unwrap();
    message[..start].to_owned() + &message[end..]
}

fn conversation(turns: usize) -> String {
    let turn = |turn| {
        format!(
            r#"{{"role": "user", "content": "question {turn}"}}, {{"role": "assistant", "content": "answer {turn}"}}"#
        )
    };
    format!(r#"{{"messages": [{}]}}"#, (0..turns).map(turn).collect::<Vec<_>>().join(", "))
}

#[test]
fn long_conversations_lose_whole_turns_and_are_counted() {
    let turn_tokens = read(&conversation(1), &options()).unwrap().passage(0).tokens.len();
    let short = InstructionOptions { seq_length: 3 * turn_tokens + 2, ..options() };
    let lines = [conversation(2), conversation(8), conversation(5)].join("\n");
    let examples = read(&lines, &short).unwrap();
    assert_eq!(learnt(&examples.passage(0)).len(), 2);
    for shortened in [1, 2] {
        let passage = examples.passage(shortened);
        assert_eq!(learnt(&passage), [0, 1, 2].map(|turn| format!("answer {turn}<|im_end|>")));
        assert!(passage.tokens.len() <= short.seq_length + 1);
    }
    let report = examples.report();
    assert_eq!((report.taken, report.shortened, report.removed_messages), (3, 2, 10 + 4));
    assert_eq!(report.to_string(), "3 taken, 2 shortened by 14 messages");
    assert!(!report.is_complete());
}

#[test]
fn what_cannot_be_shortened_is_left_out_and_counted() {
    let tiny = InstructionOptions { seq_length: 12, ..options() };
    let long = format!(
        r#"{{"messages": [{{"role": "user", "content": "{}"}}, {{"role": "assistant", "content": "a"}}]}}"#,
        "long ".repeat(30)
    );
    let short = r#"{"messages": [{"role": "u", "content": ""}, {"role": "assistant", "content": ""}]}"#;
    let silent = r#"{"messages": [{"role": "u", "content": "a"}]}"#;
    let examples =
        read(&[&long, short, silent].join("\n"), &InstructionOptions { seq_length: 40, ..tiny.clone() })
            .unwrap();
    assert_eq!(examples.report().to_string(), "1 taken, 1 too long, 1 with nothing to learn");
    assert_eq!(failure(&long, &tiny), "no examples in `train.jsonl` (0 taken, 1 too long)");
}

#[test]
fn long_texts_are_cut_and_lose_nothing() {
    let options = InstructionOptions { seq_length: 7, loss_on: LossOn::Everything, ..options() };
    let whole = "list the files please, and more files";
    let examples = read(&format!("{{\"text\": \"{whole}\"}}\n{{\"text\": \"ls\"}}"), &options).unwrap();
    let pieces: Vec<Vec<u32>> = (0..examples.len() - 1).map(|at| examples.passage(at).tokens).collect();
    assert!(pieces.len() > 1 && pieces.iter().all(|piece| (2..=8).contains(&piece.len())));
    let mut tokens = pieces[0].clone();
    for piece in &pieces[1..] {
        assert_eq!(tokens.last(), piece.first());
        tokens.extend(&piece[1..]);
    }
    assert_eq!(text(&tokens), format!("{whole}<|endoftext|>"));
    assert_eq!(examples.report().to_string(), "2 taken, 1 cut into pieces");
}

#[test]
fn a_bad_line_is_an_error_with_its_number_or_is_counted() {
    let good = conversation(1);
    let cases = [
        ("[1]", "expected an object, found an array"),
        ("{\"text\": \"a\"}", "expected `messages` as in the records before, found `text`"),
        ("{\"messages\": 3}", "expected a list of messages as `messages`, found a number"),
    ];
    for (bad, reason) in cases {
        let lines = format!("{good}\n\n{bad}\n{good}\n");
        assert_eq!(failure(&lines, &options()), format!("`train.jsonl` line 3: {reason}"));
        let examples = read(&lines, &skipping()).unwrap();
        let report = examples.report();
        assert_eq!((examples.len(), report.bad_lines), (2, 1));
        assert_eq!(report.bad_line_examples, [(3, reason.to_owned())]);
    }
    // The first good record tells the kind, whatever stands before it.
    let examples = read(&format!("nonsense\n{good}"), &skipping()).unwrap();
    assert_eq!((examples.kind(), examples.len()), (RecordKind::Messages, 1));
}

#[test]
fn what_the_template_refuses_is_a_bad_line() {
    let template = "{{ raise_exception('Roles must alternate') }}";
    let error = crate::fixture::read_with(&conversation(1), template, &options()).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("line 1: ") && message.contains("Roles must alternate"), "{message}");
}

#[test]
fn files_without_examples_are_refused() {
    assert_eq!(failure("", &options()), "no examples in `train.jsonl` (0 taken)");
    assert_eq!(
        failure("nonsense", &skipping()),
        "no examples in `train.jsonl` (0 taken, 1 bad lines; line 1: not JSON: expected ident at line 1 column 2)"
    );
    assert_eq!(
        failure("{\"text\": \"a\"}", &options()),
        "`train.jsonl` has records of `text`, which do not tell a completion from its prompt"
    );
}

#[test]
fn a_folder_may_lack_all_but_its_training_records() {
    let folder = tempfile::tempdir().unwrap();
    let template = ChatTemplate::from_source(CHATML).unwrap();
    let open = || InstructionFolder::open(folder.path(), tokenizer(), &template, &options());
    assert!(!InstructionFolder::is_at(folder.path()));
    assert!(open().unwrap_err().to_string().starts_with("cannot read `"));
    fs::write(folder.path().join("train.jsonl"), conversation(2)).unwrap();
    assert!(InstructionFolder::is_at(folder.path()));
    assert!(open().unwrap().valid.is_none());
    fs::write(folder.path().join("valid.jsonl"), r#"{"prompt": "a", "completion": "b"}"#).unwrap();
    let found = open().unwrap();
    assert_eq!(found.train.kind(), RecordKind::Messages);
    assert_eq!(found.valid.unwrap().kind(), RecordKind::PromptCompletion);
    assert!(found.test.is_none());
}

#[test]
fn equal_files_have_equal_fingerprints() {
    let lines: String = (0..300).map(|turns| conversation(turns % 7 + 1) + "\n").collect();
    let fingerprint = |lines: &str| read(lines, &options()).unwrap().fingerprint();
    assert_eq!(fingerprint(&lines), fingerprint(&lines));
    assert_ne!(fingerprint(&lines), fingerprint(&lines.replace("answer 0", "answer 9")));
}
