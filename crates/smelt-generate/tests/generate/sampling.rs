//! Samplers: probabilities against transformers' processors, and properties for any logits.

use proptest::prelude::*;
use smelt_generate::{Sampler, SamplingOptions};
use smelt_testkit::{Golden, Tolerance, assert_close};

fn case(name: &str) -> SamplingOptions {
    let golden = Golden::open("sampling");
    let settings = &golden.meta["cases"][name];
    let number = |key: &str| settings.get(key).and_then(|value| value.as_f64());
    SamplingOptions {
        temperature: number("temperature").unwrap_or(1.0),
        top_k: number("top_k").map(|k| k as usize),
        top_p: number("top_p"),
        min_p: number("min_p"),
        repetition_penalty: number("repetition_penalty"),
        seed: 0,
    }
}

#[test]
fn probabilities_match() {
    let golden = Golden::open("sampling");
    let [rows, vocab] = golden.tensor("logits").dims();
    let previous = golden.tensor("prev_ids").ids();
    let width = previous.len() / rows;
    for name in ["temperature", "top_k", "top_p", "min_p", "repetition", "temp_topk_topp"] {
        let options = case(name);
        let expected = golden.tensor(&format!("{name}.probs")).floats();
        for row in 0..rows {
            let logits = &golden.tensor("logits").floats()[row * vocab..(row + 1) * vocab];
            let found = options.probabilities(logits, &previous[row * width..(row + 1) * width]).unwrap();
            let expected = &expected[row * vocab..(row + 1) * vocab];
            assert_close(&format!("{name}, row {row}"), &found, expected, Tolerance::Probabilities);
        }
    }
}

#[test]
fn draws_follow_the_probabilities() {
    let logits = [0.3, -1.0, 2.0, 1.1, 0.0, -0.4];
    let options = SamplingOptions { temperature: 0.8, top_k: Some(4), seed: 11, ..Default::default() };
    let expected = options.probabilities(&logits, &[]).unwrap();
    let mut sampler = Sampler::new(&options).unwrap();
    let draws = 20_000;
    let mut counts = [0u32; 6];
    for _ in 0..draws {
        counts[sampler.sample(&logits, &[]).unwrap() as usize] += 1;
    }
    for (id, (count, probability)) in counts.iter().zip(&expected).enumerate() {
        let expected_count = f64::from(draws) * f64::from(*probability);
        let spread = 5.0 * expected_count.sqrt() + f64::EPSILON;
        assert!(
            (f64::from(*count) - expected_count).abs() <= spread,
            "id {id}: {count}, not {expected_count}"
        );
    }
}

#[test]
fn damaged_logits_are_an_error() {
    let mut sampler = Sampler::new(&SamplingOptions { temperature: 1.0, ..Default::default() }).unwrap();
    for logits in [vec![], vec![f32::NAN, 1.0], vec![f32::NEG_INFINITY; 4]] {
        assert!(sampler.sample(&logits, &[]).is_err(), "{logits:?}");
    }
    assert_eq!(sampler.sample(&[f32::NEG_INFINITY, 3.0, f32::NEG_INFINITY], &[]).unwrap(), 1);
}

#[test]
fn options_that_do_not_fit_are_named() {
    let base = SamplingOptions::default();
    let cases = [
        (
            SamplingOptions { temperature: -1.0, ..base.clone() },
            "`temperature` is -1, expected a number from 0",
        ),
        (
            SamplingOptions { temperature: f64::NAN, ..base.clone() },
            "`temperature` is NaN, expected a number from 0",
        ),
        (SamplingOptions { top_k: Some(0), ..base.clone() }, "`top_k` is 0, expected a whole number from 1"),
        (
            SamplingOptions { top_p: Some(0.0), ..base.clone() },
            "`top_p` is 0, expected a number above 0 and at most 1",
        ),
        (
            SamplingOptions { min_p: Some(1.1), ..base.clone() },
            "`min_p` is 1.1, expected a number from 0 to 1",
        ),
        (
            SamplingOptions { repetition_penalty: Some(0.0), ..base },
            "`repetition_penalty` is 0, expected a number above 0",
        ),
    ];
    for (options, expected) in cases {
        assert_eq!(Sampler::new(&options).unwrap_err().to_string(), expected);
    }
}

#[test]
fn extreme_settings_still_draw() {
    let logits = [1e30, -1e30, 5.0, 1e30];
    for temperature in [1e-30, 1e-3, 1e30] {
        let options =
            SamplingOptions { temperature, top_p: Some(1e-12), min_p: Some(1.0), ..Default::default() };
        let token = Sampler::new(&options).unwrap().sample(&logits, &[]).unwrap();
        assert!(token < 4);
    }
}

fn any_logits() -> impl Strategy<Value = Vec<f32>> {
    proptest::collection::vec(-20.0f32..20.0, 1..80)
}

fn kept(probabilities: &[f32]) -> Vec<usize> {
    (0..probabilities.len()).filter(|id| probabilities[*id] > 0.0).collect()
}

proptest! {
    #[test]
    fn probabilities_add_up(
        logits in any_logits(),
        temperature in 0.05f64..4.0,
        top_k in proptest::option::of(1usize..90),
        top_p in proptest::option::of(0.01f64..1.0),
        min_p in proptest::option::of(0.0f64..1.0),
        repetition_penalty in proptest::option::of(0.5f64..2.0),
        seed in any::<u64>(),
    ) {
        let options = SamplingOptions { temperature, top_k, top_p, min_p, repetition_penalty, seed };
        let probabilities = options.probabilities(&logits, &[0, 0]).unwrap();
        prop_assert!((probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-4);
        let mut sampler = Sampler::new(&options).unwrap();
        let token = sampler.sample(&logits, &[0, 0]).unwrap();
        prop_assert!((token as usize) < logits.len());
        let mut again = Sampler::new(&options).unwrap();
        prop_assert_eq!(again.sample(&logits, &[0, 0]).unwrap(), token);
    }

    #[test]
    fn top_k_keeps_the_k_largest(logits in any_logits(), k in 1usize..90) {
        let options = SamplingOptions { temperature: 1.0, top_k: Some(k), ..Default::default() };
        let kept = kept(&options.probabilities(&logits, &[]).unwrap());
        let mut sorted = logits.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let smallest = sorted[k.min(sorted.len()) - 1];
        // The far tail of a wide distribution is below the smallest f32 only in theory at these logits.
        let expected: Vec<usize> = (0..logits.len()).filter(|id| logits[*id] >= smallest).collect();
        prop_assert_eq!(kept, expected);
    }

    #[test]
    fn top_p_keeps_the_smallest_set_that_reaches_p(logits in any_logits(), p in 0.01f64..0.99) {
        let plain = SamplingOptions { temperature: 1.0, ..Default::default() };
        let all = plain.probabilities(&logits, &[]).unwrap();
        let options = SamplingOptions { top_p: Some(p), ..plain };
        let kept = kept(&options.probabilities(&logits, &[]).unwrap());
        let mass: f64 = kept.iter().map(|id| f64::from(all[*id])).sum();
        let smallest = kept.iter().map(|id| all[*id]).fold(f32::INFINITY, f32::min);
        prop_assert!(mass >= p - 1e-4, "{} of {}", mass, p);
        prop_assert!(mass - f64::from(smallest) <= p + 1e-4, "one token fewer would reach {}", p);
        let largest_dropped = (0..all.len()).filter(|id| !kept.contains(id)).map(|id| all[id]).fold(0.0, f32::max);
        prop_assert!(largest_dropped <= smallest);
    }

    #[test]
    fn greedy_takes_the_largest(logits in any_logits()) {
        let token = Sampler::new(&SamplingOptions::default()).unwrap().sample(&logits, &[]).unwrap();
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        prop_assert_eq!(logits[token as usize], largest);
    }
}
