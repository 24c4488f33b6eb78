//! Batches of examples: each example once per epoch, whatever the layout.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use smelt_data::{
    BatchSource, BucketedBatches, EvalBatches, EvalLimit, Examples, PackedExamples, Sampler, TokenBatch,
    bucket_lengths,
};

use crate::fixture::{options, read};

/// One completion of each length, each example told apart by its number.
fn examples(lengths: &[usize]) -> Arc<Examples> {
    let line = |(number, length): (usize, &usize)| {
        let completion = "x".repeat(*length);
        format!("{{\"prompt\": \"{number}\", \"completion\": \"{number} {completion}\"}}\n")
    };
    Arc::new(read(&lengths.iter().enumerate().map(line).collect::<String>(), &options()).unwrap())
}

/// Predictions that count, with how often each occurs: (input, target).
fn counted<'b>(batches: impl IntoIterator<Item = &'b TokenBatch>) -> BTreeMap<(u32, u32), usize> {
    let mut counts = BTreeMap::new();
    for batch in batches {
        let places = batch.batch_size * batch.seq_length;
        assert_eq!([batch.input_ids.len(), batch.targets.len(), batch.loss_mask.len()], [places; 3]);
        for (pair, weight) in
            batch.input_ids.iter().copied().zip(batch.targets.iter().copied()).zip(&batch.loss_mask)
        {
            *counts.entry(pair).or_insert(0) += usize::from(*weight != 0.0);
        }
    }
    counts.retain(|_, count| *count > 0);
    counts
}

fn expected(examples: &Examples) -> BTreeMap<(u32, u32), usize> {
    let mut counts = BTreeMap::new();
    for example in 0..examples.len() {
        let passage = examples.passage(example);
        for (pair, counts_here) in passage.tokens.windows(2).zip(passage.counted.unwrap()) {
            *counts.entry((pair[0], pair[1])).or_insert(0) += usize::from(counts_here);
        }
    }
    counts.retain(|_, count| *count > 0);
    counts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn buckets_hold_every_example_once_per_epoch(
        lengths in prop::collection::vec(0_usize..150, 1..30), batch_size in 1_usize..6, seed: u64, epoch in 0_u64..3
    ) {
        let examples = examples(&lengths);
        let batches = BucketedBatches::new(examples.clone(), batch_size, &bucket_lengths(200), seed).unwrap();
        let per_epoch = batches.batches_per_epoch();
        let found: Vec<TokenBatch> =
            (epoch * per_epoch..(epoch + 1) * per_epoch).map(|index| batches.batch(index)).collect();
        prop_assert_eq!(counted(&found), expected(&examples));
        prop_assert!(found.iter().all(|batch| bucket_lengths(200).contains(&batch.seq_length)));
        prop_assert!(found.iter().all(|batch| batch.batch_size == batch_size && batch.counted_tokens() > 0));
        let validation: Vec<TokenBatch> = batches.validation(EvalLimit::Everything).collect();
        prop_assert_eq!(counted(&validation), expected(&examples));
    }

    #[test]
    fn packing_loses_and_doubles_no_token(
        lengths in prop::collection::vec(0_usize..150, 1..30), batch_size in 1_usize..6, seed: u64
    ) {
        let examples = examples(&lengths);
        let rows = Arc::new(PackedExamples::new(examples.clone(), 200, seed).unwrap());
        let validation: Vec<TokenBatch> =
            EvalBatches::of_rows(rows.clone(), batch_size, EvalLimit::Everything).collect();
        prop_assert_eq!(counted(&validation), expected(&examples));
        let rows = Sampler::of_rows(rows, 1).unwrap();
        let epoch: Vec<TokenBatch> = (0..rows.batches_per_epoch()).map(|index| rows.batch(index)).collect();
        prop_assert_eq!(counted(&epoch), expected(&examples));
    }
}

#[test]
fn a_limit_in_tokens_takes_a_part_of_the_batches() {
    let examples = examples(&[40; 20]);
    let batches = BucketedBatches::new(examples.clone(), 2, &[200], 1).unwrap();
    let taken = |limit| batches.validation(limit).len();
    assert_eq!(taken(EvalLimit::Everything), 10);
    assert_eq!(taken(EvalLimit::Tokens(examples.counted_tokens() / 2)), 5);
    assert_eq!(taken(EvalLimit::Tokens(1)), 1);
    assert_eq!(taken(EvalLimit::Batches(3)), 3);
}

#[test]
fn preferences_stand_in_a_batch_chosen_first() {
    let lines = "{\"prompt\": \"p\", \"chosen\": \"good\", \"rejected\": \"bad\"}\n".repeat(3);
    let examples = Arc::new(read(&lines, &options()).unwrap());
    let batches = BucketedBatches::of_preferences(examples.clone(), 2, &[100], 0).unwrap();
    assert_eq!(batches.batches_per_epoch(), 2);
    let found: Vec<TokenBatch> = (0..2).map(|index| batches.batch(index)).collect();
    let full = found.iter().find(|batch| batch.input_ids[100] != 0).unwrap();
    let row = |row: usize, tokens: usize| &full.input_ids[row * 100..row * 100 + tokens];
    let (chosen, rejected) = (examples.passage(0).tokens, examples.rejected(0).tokens);
    assert_eq!(full.batch_size, 4);
    for (at, tokens) in [&chosen, &chosen, &rejected, &rejected].into_iter().enumerate() {
        assert_eq!(row(at, tokens.len() - 1), &tokens[..tokens.len() - 1]);
    }
    let message =
        BucketedBatches::of_preferences(self::examples(&[1]), 2, &[100], 0).unwrap_err().to_string();
    assert!(
        message.ends_with("has records of `prompt`, `completion`, expected `prompt`, `chosen`, `rejected`"),
        "{message}"
    );
}

#[test]
fn examples_longer_than_their_rows_are_refused() {
    let examples = examples(&[150]);
    for error in [
        PackedExamples::new(examples.clone(), 20, 0).unwrap_err(),
        BucketedBatches::new(examples.clone(), 1, &[10, 20], 0).unwrap_err(),
    ] {
        assert!(error.to_string().starts_with("`seq_length` is 20, expected the length"), "{error}");
    }
}

#[test]
fn buckets_are_few_and_end_with_the_whole_length() {
    assert_eq!(bucket_lengths(1024), [128, 256, 512, 1024]);
    assert_eq!(bucket_lengths(3), [1, 2, 3]);
    assert_eq!(bucket_lengths(1), [1]);
}
