//! Interrupted preparations: whenever they stop, going on gives what an uninterrupted one gives.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use proptest::prelude::*;
use smelt_data::{DataError, Input, PrepareOptions, PrepareProgress, Tally, mix, prepare};

/// A corpus of several files and formats, with copies and near copies far apart.
fn write_corpus(folder: &Path) -> Input {
    let word = |seed: u64| format!("w{} ", mix(seed) % 500);
    let text = |seed: u64| (0..120).map(|at| word(seed * 1000 + at)).collect::<String>();
    for file in 0..30_u64 {
        fs::write(folder.join(format!("{file:02}.txt")), text(file % 20)).unwrap();
    }
    let records = (0..60).map(|record| {
        let near = format!("{} and {record}", text(record % 25));
        format!("{{\"text\": \"{near}\"}}\n")
    });
    fs::write(folder.join("records.jsonl"), records.collect::<String>()).unwrap();
    Input::Path(folder.to_owned())
}

fn options() -> PrepareOptions {
    PrepareOptions { vocab_size: 400, segment_bytes: 9000, ..PrepareOptions::default() }
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let read =
        |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
    fs::read_dir(folder).unwrap().map(|entry| read(entry.unwrap())).collect()
}

/// Prepares until the `stop`-th report of progress; true if that was reached.
fn prepare_until(input: &Input, output: &Path, stop: usize) -> (bool, Option<Tally>) {
    let mut reports = 0;
    let mut resumed = None;
    let outcome = prepare(std::slice::from_ref(input), output, &options(), &mut |progress| {
        if let PrepareProgress::Resumed { tally } = progress {
            resumed = Some(tally.clone());
        }
        reports += 1;
        if reports > stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    match outcome {
        Ok(_) => (false, resumed),
        Err(DataError::Interrupted) => (true, resumed),
        Err(error) => panic!("{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5))]

    #[test]
    fn going_on_gives_the_files_of_an_uninterrupted_run(stops in prop::collection::vec(0_usize..12, 1..5)) {
        let folder = tempfile::tempdir().unwrap();
        let (corpus, whole, parts) = (folder.path().join("in"), folder.path().join("whole"), folder.path().join("parts"));
        fs::create_dir(&corpus).unwrap();
        let input = write_corpus(&corpus);
        prop_assert!(!prepare_until(&input, &whole, usize::MAX).0);
        for stop in stops {
            if !prepare_until(&input, &parts, stop).0 {
                break;
            }
            prop_assert!(!parts.join("meta.json").exists());
        }
        prop_assert!(!prepare_until(&input, &parts, usize::MAX).0);
        prop_assert_eq!(files(&parts), files(&whole));
    }
}

#[test]
fn finished_segments_are_not_read_again_unless_something_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (corpus, output) = (folder.path().join("in"), folder.path().join("out"));
    fs::create_dir(&corpus).unwrap();
    let input = write_corpus(&corpus);
    // The first report comes after the first batch, when several segments are finished.
    assert_eq!(prepare_until(&input, &output, 0), (true, None));
    let (stopped, resumed) = prepare_until(&input, &output, 0);
    let resumed = resumed.expect("the work was kept");
    assert!(stopped && resumed.read_documents > 10, "{resumed:?}");

    fs::write(corpus.join("00.txt"), "another text").unwrap();
    assert_eq!(prepare_until(&input, &output, 0), (true, None));
}

#[test]
fn two_processes_do_not_prepare_the_same_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (corpus, output) = (folder.path().join("in"), folder.path().join("out"));
    fs::create_dir(&corpus).unwrap();
    let input = write_corpus(&corpus);
    let mut second = None;
    prepare(std::slice::from_ref(&input), &output, &options(), &mut |_| {
        if second.is_none() {
            second = Some(prepare(std::slice::from_ref(&input), &output, &options(), &mut |_| {
                ControlFlow::Continue(())
            }));
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    let error = second.unwrap().unwrap_err();
    assert_eq!(error.to_string(), format!("`{}` is being prepared by another process", output.display()));
}

#[test]
fn added_files_move_no_other_between_the_shards() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = folder.path().join("in");
    fs::create_dir(&corpus).unwrap();
    let input = write_corpus(&corpus);
    let texts = |output: &Path| {
        let options = PrepareOptions { val_fraction: 0.3, ..options() };
        let done =
            prepare(std::slice::from_ref(&input), output, &options, &mut |_| ControlFlow::Continue(()))
                .unwrap();
        let prepared = done.prepared;
        [&prepared.train, &prepared.val]
            .map(|shard| prepared.tokenizer.decode(&shard.get(0..shard.len())).unwrap())
    };
    let before = texts(&folder.path().join("before"));
    fs::write(corpus.join("zz.txt"), "a file of other words that comes last in the order").unwrap();
    let after = texts(&folder.path().join("after"));
    assert!(before.iter().zip(&after).all(|(before, after)| after.starts_with(before.as_str())));
}
