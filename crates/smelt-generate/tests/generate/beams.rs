//! Beam search against transformers, whose sequences and scores lie in `tests/fixtures/beams`.

use std::path::Path;

use serde_json::Value;
use smelt_backend::{Kernels, int_tensor, to_host};
use smelt_generate::{
    BeamOptions, BeamRow, BeamSequence, EarlyStopping, GenerateError, SamplingOptions, beam_search,
    generate_beams,
};
use smelt_model::{Decoder, ForwardInput, load};
use smelt_testkit::{backend_test, golden_folder};

backend_test!(beams_match, beams);
backend_test!(beams_know_windows_and_contexts, limits);

fn cases() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/beams/golden.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    golden["cases"].as_array().unwrap().clone()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn options(case: &Value) -> BeamOptions {
    let settings = &case["options"];
    let count = |key: &str| settings[key].as_u64().unwrap() as usize;
    BeamOptions {
        num_beams: count("num_beams"),
        num_return_sequences: count("num_return_sequences"),
        length_penalty: settings["length_penalty"].as_f64().unwrap(),
        early_stopping: match &settings["early_stopping"] {
            Value::Bool(true) => EarlyStopping::AtOnce,
            Value::Bool(false) => EarlyStopping::WhenWorse,
            _ => EarlyStopping::Never,
        },
        max_tokens: count("max_new_tokens"),
        stop_tokens: ids(&case["eos"]),
        sampling: SamplingOptions {
            repetition_penalty: settings.get("repetition_penalty").and_then(Value::as_f64),
            no_repeat_ngram_size: settings
                .get("no_repeat_ngram_size")
                .map(|size| size.as_u64().unwrap() as usize),
            ..Default::default()
        },
    }
}

/// One pass over all tokens of every row, without a cache.
fn last_logits<B: Kernels>(model: &Decoder<B>, rows: &[BeamRow<'_>], device: &B::Device) -> Vec<f32> {
    let seq = rows[0].tokens.len();
    let tokens: Vec<u32> = rows.iter().flat_map(|row| row.tokens).copied().collect();
    let input = ForwardInput::new(int_tensor(&tokens, [rows.len(), seq], device));
    to_host(model.logits(model.hidden(input).narrow(1, seq - 1, 1)))
}

fn beams<B: Kernels>(device: &B::Device) {
    let cases = cases();
    assert!(cases.len() > 150, "{} cases", cases.len());
    for name in ["llama_mha", "gpt2"] {
        let (config, model) = load::<B>(&golden_folder(name), device).unwrap();
        for case in cases.iter().filter(|case| case["model"] == name) {
            let (options, prompt) = (options(case), ids(&case["prompt"]));
            let mut before: Vec<Vec<u32>> = vec![prompt.clone()];
            let mut logits = |rows: &[BeamRow<'_>]| {
                for row in rows.iter().filter(|row| row.tokens.len() > prompt.len()) {
                    assert_eq!(row.tokens[..row.tokens.len() - 1], before[row.parent], "the parent of a row");
                }
                before = rows.iter().map(|row| row.tokens.to_vec()).collect();
                Ok(last_logits(&model, rows, device))
            };
            let found = beam_search(&prompt, &options, &mut logits).unwrap();
            compare(case, &options, &found);
            let cached = generate_beams(&model, &config, &prompt, &options, device, || true).unwrap();
            compare(case, &options, &cached);
        }
    }
}

fn compare(case: &Value, options: &BeamOptions, found: &[BeamSequence]) {
    let without_stop = |ids: Vec<u32>| {
        let stopped = ids.last().is_some_and(|last| options.stop_tokens.contains(last));
        ids[..ids.len() - usize::from(stopped)].to_vec()
    };
    let expected: Vec<Vec<u32>> = case["ids"].as_array().unwrap().iter().map(ids).map(without_stop).collect();
    let tokens: Vec<Vec<u32>> = found.iter().map(|sequence| sequence.tokens.clone()).collect();
    assert_eq!(tokens, expected, "{case}");
    for (sequence, score) in found.iter().zip(case["scores"].as_array().into_iter().flatten()) {
        let score = score.as_f64().unwrap();
        let error = (f64::from(sequence.score) - score).abs();
        assert!(error <= 1e-5 * score.abs().max(10.0), "{} is not {score} in {case}", sequence.score);
    }
}

/// The limits of a model with a window and of its context.
fn limits<B: Kernels>(device: &B::Device) {
    let (config, model) = load::<B>(&golden_folder("mistral_swa"), device).unwrap();
    let context = config.decoder.context_length();
    let prompt: Vec<u32> = (0..40).map(|at| at * 7 % 100).collect();
    let options =
        BeamOptions { max_tokens: 12, num_beams: 3, num_return_sequences: 3, ..BeamOptions::default() };
    let whole = beam_search(&prompt, &options, |rows| Ok(last_logits(&model, rows, device))).unwrap();
    let cached = generate_beams(&model, &config, &prompt, &options, device, || true).unwrap();
    let tokens =
        |found: &[BeamSequence]| found.iter().map(|sequence| sequence.tokens.clone()).collect::<Vec<_>>();
    assert_eq!(tokens(&cached), tokens(&whole));
    let long = vec![1; context - 2];
    let found = generate_beams(&model, &config, &long, &options, device, || true).unwrap();
    assert!(found.iter().all(|sequence| sequence.tokens.len() == 2));
    assert!(generate_beams(&model, &config, &vec![1; context], &options, device, || true).is_err());
    assert!(generate_beams(&model, &config, &[], &options, device, || true).is_err());
}

#[test]
fn beams_that_cannot_be_are_refused() {
    let refused = |options: BeamOptions| {
        let mut never = |_: &[BeamRow<'_>]| -> Result<Vec<f32>, GenerateError> {
            unreachable!("options are checked first")
        };
        beam_search(&[1], &options, &mut never).unwrap_err().to_string()
    };
    let base = BeamOptions::default();
    assert_eq!(
        refused(BeamOptions { num_beams: 0, ..base.clone() }),
        "`num_beams` is 0, expected a whole number from 1"
    );
    assert_eq!(
        refused(BeamOptions { num_return_sequences: 5, ..base.clone() }),
        "`num_return_sequences` is 5, expected a whole number from 1 to `num_beams`"
    );
    assert_eq!(
        refused(BeamOptions { length_penalty: f64::NAN, ..base.clone() }),
        "`length_penalty` is NaN, expected a finite number"
    );
    let sampling = SamplingOptions { temperature: 0.5, ..Default::default() };
    assert_eq!(
        refused(BeamOptions { sampling, ..base.clone() }),
        "`temperature` is 0.5, expected 0, as beams are not drawn"
    );
    let mut damaged = |rows: &[BeamRow<'_>]| Ok(vec![f32::NAN; 5 * rows.len()]);
    assert!(beam_search(&[1], &base, &mut damaged).is_err());
}

/// With as many beams as there are sequences of the length, the search is exhaustive.
#[test]
fn enough_beams_find_the_likeliest_sequence() {
    let table = |tokens: &[u32]| -> Vec<f32> {
        let key = tokens.iter().fold(7u32, |key, token| key.wrapping_mul(31).wrapping_add(token * 17 + 3));
        (0..3u32).map(|id| (key.wrapping_mul(id * 2 + 1) % 97) as f32 / 20.0).collect()
    };
    let logprob = |tokens: &[u32], token: u32| {
        let logits = table(tokens);
        let sum: f32 = logits.iter().map(|logit| logit.exp()).sum();
        logits[token as usize] - sum.ln()
    };
    let mut all: Vec<(f32, Vec<u32>)> = Vec::new();
    for code in 0..81u32 {
        let tokens: Vec<u32> = (0..4).map(|place| code / 3u32.pow(place) % 3).collect();
        let score = (0..4).map(|at| logprob(&[&[2], &tokens[..at]].concat(), tokens[at])).sum();
        all.push((score, tokens));
    }
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let options = BeamOptions {
        num_beams: 81,
        num_return_sequences: 3,
        length_penalty: 0.0,
        max_tokens: 4,
        ..BeamOptions::default()
    };
    let mut logits = |rows: &[BeamRow<'_>]| Ok(rows.iter().flat_map(|row| table(row.tokens)).collect());
    let found = beam_search(&[2], &options, &mut logits).unwrap();
    for (sequence, (score, tokens)) in found.iter().zip(&all) {
        assert_eq!(&sequence.tokens, tokens);
        assert!((sequence.score - score).abs() < 1e-4);
    }
    assert_eq!(found.len(), 3);
}
