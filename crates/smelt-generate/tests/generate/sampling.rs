//! Samplers: probabilities against transformers' processors, and properties for any logits.

use std::collections::BTreeMap;

use proptest::prelude::*;
use smelt_generate::{Filter, Sampler, SamplingOptions, TokenLogprobs, TokenMask, order_by_mean_logprob};
use smelt_testkit::{Golden, Tolerance, assert_close};

fn probabilities(options: &SamplingOptions, logits: &[f32], tokens: &[u32]) -> Vec<f32> {
    Sampler::new(options).unwrap().probabilities(logits, tokens, None).unwrap()
}

fn plain() -> SamplingOptions {
    SamplingOptions { temperature: 1.0, ..Default::default() }
}

#[test]
fn probabilities_match() {
    let golden = Golden::open("sampling");
    let [rows, vocab] = golden.tensor("logits").dims();
    let previous = golden.tensor("prev_ids").ids();
    let width = previous.len() / rows;
    let cases = golden.meta["cases"].as_object().unwrap();
    assert_eq!(cases.len(), 8);
    for (name, settings) in cases {
        let mut settings = settings.as_object().unwrap().clone();
        settings.retain(|key, _| key != "rule" && key != "order");
        settings.entry("temperature").or_insert(1.0.into());
        let options: SamplingOptions = serde_json::from_value(settings.into()).unwrap();
        let expected = golden.tensor(&format!("{name}.probs")).floats();
        for row in 0..rows {
            let logits = &golden.tensor("logits").floats()[row * vocab..(row + 1) * vocab];
            let found = probabilities(&options, logits, &previous[row * width..(row + 1) * width]);
            let expected = &expected[row * vocab..(row + 1) * vocab];
            assert_close(&format!("{name}, row {row}"), &found, expected, Tolerance::Probabilities);
        }
    }
}

/// Pearson's statistic of draws at different positions against the probabilities, with the number of
/// tokens that can be drawn.
fn chi_square(options: &SamplingOptions, logits: &[f32], draws: usize) -> (f64, usize) {
    let expected = probabilities(options, logits, &[]);
    let mut sampler = Sampler::new(options).unwrap();
    let mut counts = vec![0.0; logits.len()];
    let mut tokens = Vec::new();
    for _ in 0..draws {
        let token = sampler.sample(logits, &tokens).unwrap();
        counts[token as usize] += 1.0;
        tokens.push(token);
    }
    let possible: Vec<usize> = (0..logits.len()).filter(|id| expected[*id] > 0.0).collect();
    assert_eq!(possible.iter().map(|id| counts[*id]).sum::<f64>(), draws as f64, "no other token came");
    let term = |id: &usize| {
        let mean = f64::from(expected[*id]) * draws as f64;
        (counts[*id] - mean).powi(2) / mean
    };
    (possible.iter().map(term).sum(), possible.len())
}

#[test]
fn draws_follow_the_probabilities() {
    let logits: Vec<f32> = (0..20).map(|id| (id as f32 * 0.7).sin() * 2.0).collect();
    let filtered = SamplingOptions { temperature: 0.8, top_k: Some(12), top_p: Some(0.95), ..plain() };
    let shaped = SamplingOptions { min_p: Some(0.1), typical_p: Some(0.9), ..plain() };
    for (seed, options) in [(1, plain()), (2, filtered), (3, shaped)] {
        let (statistic, possible) = chi_square(&SamplingOptions { seed, ..options }, &logits, 40_000);
        // The mean is the number of degrees of freedom, the variance twice that: five deviations.
        let freedom = (possible - 1) as f64;
        assert!(statistic < freedom + 5.0 * (2.0 * freedom).sqrt(), "{statistic} of {freedom}");
    }
}

/// One draw from each of many sequences, which differ in their seed alone, and all start with the same
/// position: seeds must be as independent as positions.
#[test]
fn draws_of_different_seeds_follow_the_probabilities() {
    let logits = [0.3, -1.0, 2.0, 1.1, 0.0, -0.4];
    let expected = probabilities(&plain(), &logits, &[]);
    let mut counts = [0.0f64; 6];
    for seed in 0..20_000 {
        let options = SamplingOptions { seed, ..plain() };
        counts[Sampler::new(&options).unwrap().sample(&logits, &[7]).unwrap() as usize] += 1.0;
    }
    let terms = counts.iter().zip(&expected).map(|(count, probability)| {
        let mean = 20_000.0 * f64::from(*probability);
        (count - mean).powi(2) / mean
    });
    let statistic: f64 = terms.sum();
    assert!(statistic < 5.0 + 5.0 * 10f64.sqrt(), "{statistic}");
}

/// Two models that draw with one seed agree at least as often as Daliri et al. (2024) prove.
#[test]
fn models_with_one_seed_agree_often() {
    let target: Vec<f32> = (0..200).map(|id| (id as f32 * 1.3).sin() * 3.0).collect();
    let draft: Vec<f32> =
        target.iter().enumerate().map(|(id, l)| l + (id as f32 * 2.1).cos() * 0.4).collect();
    let (p, q) = (probabilities(&plain(), &target, &[]), probabilities(&plain(), &draft, &[]));
    let distance: f64 = p.iter().zip(&q).map(|(p, q)| f64::from((p - q).abs())).sum::<f64>() / 2.0;
    let (mut first, mut second) = (Sampler::new(&plain()).unwrap(), Sampler::new(&plain()).unwrap());
    let count = 5000;
    let tokens = vec![0; count];
    let agree = |at: &usize| {
        first.sample(&target, &tokens[..*at]).unwrap() == second.sample(&draft, &tokens[..*at]).unwrap()
    };
    let share = (0..count).filter(agree).count() as f64 / count as f64;
    let least = (1.0 - distance) / (1.0 + distance);
    let error = (least * (1.0 - least) / count as f64).sqrt();
    assert!(share > least - 3.0 * error, "{share} of draws agree, expected {least} at distance {distance}");
}

#[test]
fn damaged_logits_are_an_error() {
    let mut sampler = Sampler::new(&plain()).unwrap();
    let mut greedy = Sampler::new(&SamplingOptions::default()).unwrap();
    for logits in [vec![], vec![f32::NAN, 1.0], vec![f32::NEG_INFINITY; 4], vec![1.0, f32::INFINITY]] {
        assert!(sampler.sample(&logits, &[]).is_err(), "{logits:?}");
        assert!(greedy.sample(&logits, &[]).is_err(), "{logits:?}");
        assert!(TokenLogprobs::new(&logits, 0, 1).is_err(), "{logits:?}");
    }
    assert_eq!(sampler.sample(&[f32::NEG_INFINITY, 3.0, f32::NEG_INFINITY], &[]).unwrap(), 1);
}

#[test]
fn options_that_do_not_fit_are_named() {
    let base = SamplingOptions::default();
    let share = "a number above 0 and at most 1";
    let cases = [
        (
            SamplingOptions { temperature: -1.0, ..base.clone() },
            "`temperature` is -1, expected a number from 0".into(),
        ),
        (
            SamplingOptions { temperature: f64::NAN, ..base.clone() },
            "`temperature` is NaN, expected a number from 0".to_owned(),
        ),
        (SamplingOptions { top_p: Some(0.0), ..base.clone() }, format!("`top_p` is 0, expected {share}")),
        (
            SamplingOptions { min_p: Some(1.1), ..base.clone() },
            "`min_p` is 1.1, expected a number from 0 to 1".to_owned(),
        ),
        (
            SamplingOptions { typical_p: Some(2.0), ..base.clone() },
            format!("`typical_p` is 2, expected {share}"),
        ),
        (
            SamplingOptions { repetition_penalty: Some(0.0), ..base.clone() },
            "`repetition_penalty` is 0, expected a number above 0".to_owned(),
        ),
        (
            SamplingOptions { presence_penalty: Some(-2.5), ..base.clone() },
            "`presence_penalty` is -2.5, expected a number from -2 to 2".to_owned(),
        ),
        (
            SamplingOptions { frequency_penalty: Some(f64::INFINITY), ..base.clone() },
            "`frequency_penalty` is inf, expected a number from -2 to 2".to_owned(),
        ),
        (
            SamplingOptions { xtc_threshold: Some(0.7), ..base.clone() },
            "`xtc_threshold` is 0.7, expected a number from 0 to 0.5".to_owned(),
        ),
        (
            SamplingOptions { xtc_probability: Some(-0.1), ..base.clone() },
            "`xtc_probability` is -0.1, expected a number from 0 to 1".to_owned(),
        ),
        (
            SamplingOptions { logit_bias: BTreeMap::from([(3, 101.0)]), ..base.clone() },
            "`logit_bias` is 101, expected a number from -100 to 100 for each id".to_owned(),
        ),
        (
            SamplingOptions { order: Some(vec![Filter::TopK, Filter::TopK]), ..base.clone() },
            r#"`order` is ["top_k","top_k"], expected each filter at most once"#.to_owned(),
        ),
        (
            SamplingOptions { order: Some(vec![Filter::TopK]), top_p: Some(0.5), ..base },
            r#"`order` is ["top_k"], expected every filter that is asked for"#.to_owned(),
        ),
    ];
    for (options, expected) in cases {
        assert_eq!(Sampler::new(&options).unwrap_err().to_string(), expected);
    }
    let beyond = SamplingOptions { logit_bias: BTreeMap::from([(3, 1.0)]), ..plain() };
    let error = Sampler::new(&beyond).unwrap().sample(&[1.0; 3], &[]).unwrap_err().to_string();
    assert_eq!(error, "`logit_bias` is for the id 3, expected ids of the vocabulary");
}

#[test]
fn zero_turns_a_limit_off() {
    let logits = [0.5, 1.0, -2.0];
    let off = SamplingOptions { top_k: Some(0), no_repeat_ngram_size: Some(0), min_p: Some(0.0), ..plain() };
    assert_eq!(probabilities(&off, &logits, &[0, 1, 0]), probabilities(&plain(), &logits, &[]));
}

#[test]
fn extreme_settings_still_draw() {
    let logits = [1e30, -1e30, 5.0, 1e30];
    for temperature in [1e-300, 1e-30, 1e-3, 1e30, 1e300] {
        for penalty in [1e-300, 1e300] {
            let options = SamplingOptions {
                temperature,
                top_p: Some(1e-12),
                min_p: Some(1.0),
                repetition_penalty: Some(penalty),
                ..Default::default()
            };
            let mut sampler = Sampler::new(&options).unwrap();
            assert!(sampler.sample(&logits, &[0, 1, 2]).unwrap() < 4);
            let mask = TokenMask::from_iter([1]);
            assert_eq!(sampler.sample_allowed(&logits, &[0, 1, 2], Some(&mask)).unwrap(), 1);
        }
    }
}

#[test]
fn the_order_of_filters_matters_and_is_kept() {
    let logits = [3.0, 2.5, 1.0, 0.0];
    let base = SamplingOptions { temperature: 3.0, top_p: Some(0.8), ..plain() };
    let last = SamplingOptions { order: Some(vec![Filter::TopP, Filter::Temperature]), ..base.clone() };
    let support = |options| probabilities(options, &logits, &[]).iter().filter(|p| **p > 0.0).count();
    assert_eq!((support(&base), support(&last)), (3, 2));
}

/// OpenAI's definition: `logit - count * frequency - (count > 0) * presence`, of generated tokens.
#[test]
fn presence_and_frequency_count_generated_tokens_alone() {
    let logits = [1.0, 2.0, 3.0, 0.5];
    let options = SamplingOptions { presence_penalty: Some(0.5), frequency_penalty: Some(0.25), ..plain() };
    let mut sampler = Sampler::new(&options).unwrap().with_prompt_length(2);
    let found = sampler.probabilities(&logits, &[3, 3, 1, 0, 1], None).unwrap();
    assert_eq!(found, probabilities(&plain(), &[1.0 - 0.75, 2.0 - 1.0, 3.0, 0.5], &[]));
    // Back to fewer tokens, and to the prompt.
    let found = sampler.probabilities(&logits, &[3, 3, 1], None).unwrap();
    assert_eq!(found, probabilities(&plain(), &[1.0, 2.0 - 0.75, 3.0, 0.5], &[]));
    assert_eq!(sampler.probabilities(&logits, &[3, 3], None).unwrap(), probabilities(&plain(), &logits, &[]));
    // Without a length, the prompt is what the first call had.
    let mut sampler = Sampler::new(&options).unwrap();
    sampler.sample(&logits, &[3, 3]).unwrap();
    let found = sampler.probabilities(&logits, &[3, 3, 1], None).unwrap();
    assert_eq!(found, probabilities(&plain(), &[1.0, 2.0 - 0.75, 3.0, 0.5], &[]));
}

#[test]
fn xtc_leaves_the_least_of_the_top_choices() {
    let logits = [4.0, 0.0, 3.5, 3.0, -1.0];
    let options = SamplingOptions { xtc_probability: Some(1.0), xtc_threshold: Some(0.1), ..plain() };
    let found = probabilities(&options, &logits, &[]);
    assert!(found[0] == 0.0 && found[2] == 0.0 && found[1] > 0.0 && found[3] > 0.8 && found[4] > 0.0);
    let alone = SamplingOptions { xtc_threshold: Some(0.5), ..options.clone() };
    assert_eq!(probabilities(&alone, &logits, &[]), probabilities(&plain(), &logits, &[]));
    // Half of the positions: the count of 2000 is off by 112 in one of a million seeds.
    let half = SamplingOptions { xtc_probability: Some(0.5), ..options };
    let mut sampler = Sampler::new(&half).unwrap();
    let tokens = [0; 2000];
    let excluded = |at: &usize| sampler.probabilities(&logits, &tokens[..*at], None).unwrap()[0] == 0.0;
    let count = (0..2000).filter(excluded).count();
    assert!(count.abs_diff(1000) < 112, "{count}");
}

#[test]
fn a_mask_is_obeyed() {
    let logits: Vec<f32> = (0..100).map(|id| id as f32 / 10.0).collect();
    let mask = TokenMask::from_iter([3, 40, 64]);
    assert_eq!(mask.ids().collect::<Vec<_>>(), [3, 40, 64]);
    let mut greedy = Sampler::new(&SamplingOptions::default()).unwrap();
    assert_eq!(greedy.sample_allowed(&logits, &[], Some(&mask)).unwrap(), 64);
    let mut sampler = Sampler::new(&SamplingOptions { top_k: Some(2), ..plain() }).unwrap();
    let found = sampler.probabilities(&logits, &[], Some(&mask)).unwrap();
    let kept: Vec<usize> = (0..100).filter(|id| found[*id] > 0.0).collect();
    assert_eq!(kept, [40, 64]);
    let error = greedy.sample_allowed(&logits, &[], Some(&TokenMask::from_iter([]))).unwrap_err();
    assert_eq!(error.to_string(), "the grammar and `no_repeat_ngram_size` forbid every token");
}

#[test]
fn the_best_of_several_has_the_largest_mean() {
    let sequences = [vec![-1.0, -1.0], vec![-0.5], vec![], vec![-0.5, -0.75, -0.25]];
    assert_eq!(order_by_mean_logprob(&sequences), [1, 3, 0, 2]);
}

fn any_logits() -> impl Strategy<Value = Vec<f32>> {
    // Long ones are gone over in another way.
    let lengths = prop_oneof![3 => 1usize..80, 1 => 300usize..1500];
    lengths.prop_flat_map(|length| proptest::collection::vec(-20.0f32..20.0, length))
}

fn kept(probabilities: &[f32]) -> Vec<usize> {
    (0..probabilities.len()).filter(|id| probabilities[*id] > 0.0).collect()
}

prop_compose! {
    fn any_options()(
        temperature in 0.05f64..4.0,
        top_k in proptest::option::of(0usize..90),
        top_p in proptest::option::of(0.01f64..=1.0),
        min_p in proptest::option::of(0.0f64..=1.0),
        typical_p in proptest::option::of(0.01f64..=1.0),
        xtc_probability in proptest::option::of(0.0f64..=1.0),
        repetition_penalty in proptest::option::of(0.5f64..2.0),
        presence_penalty in proptest::option::of(-2.0f64..=2.0),
        frequency_penalty in proptest::option::of(-2.0f64..=2.0),
        bias in proptest::option::of(-100.0f64..=100.0),
        order in Just(Filter::ALL.to_vec()).prop_shuffle(),
        seed in any::<u64>(),
    ) -> SamplingOptions {
        SamplingOptions {
            temperature, top_k, top_p, min_p, typical_p, xtc_probability, repetition_penalty, presence_penalty,
            frequency_penalty, seed,
            logit_bias: bias.map(|bias| (0, bias)).into_iter().collect(),
            order: Some(order),
            ..Default::default()
        }
    }
}

proptest! {
    #[test]
    fn probabilities_add_up(
        logits in any_logits(),
        options in any_options(),
        tokens in proptest::collection::vec(0u32..100, 0..20),
    ) {
        let found = probabilities(&options, &logits, &tokens);
        prop_assert!((found.iter().sum::<f32>() - 1.0).abs() < 1e-4);
        let mut sampler = Sampler::new(&options).unwrap();
        let token = sampler.sample(&logits, &tokens).unwrap();
        prop_assert!(found[token as usize] > 0.0);
        // A sampler that saw other things gives the same.
        let mut other = Sampler::new(&options).unwrap().with_prompt_length(tokens.len());
        let _ = other.sample(&logits, &[&tokens[..], &[1, 2, 3]].concat()).unwrap();
        prop_assert_eq!(other.sample(&logits, &tokens).unwrap(), token);
    }

    #[test]
    fn top_k_keeps_the_k_largest(logits in any_logits(), k in 1usize..90) {
        let kept = kept(&probabilities(&SamplingOptions { top_k: Some(k), ..plain() }, &logits, &[]));
        let mut sorted = logits.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let smallest = sorted[k.min(sorted.len()) - 1];
        // The far tail of a wide distribution is below the smallest f32 only in theory at these logits.
        let expected: Vec<usize> = (0..logits.len()).filter(|id| logits[*id] >= smallest).collect();
        prop_assert_eq!(kept, expected);
    }

    #[test]
    fn top_p_keeps_the_smallest_set_that_reaches_p(logits in any_logits(), p in 0.01f64..0.99) {
        let all = probabilities(&plain(), &logits, &[]);
        let kept = kept(&probabilities(&SamplingOptions { top_p: Some(p), ..plain() }, &logits, &[]));
        let mass: f64 = kept.iter().map(|id| f64::from(all[*id])).sum();
        let smallest = kept.iter().map(|id| all[*id]).fold(f32::INFINITY, f32::min);
        prop_assert!(mass >= p - 1e-4, "{} of {}", mass, p);
        prop_assert!(mass - f64::from(smallest) <= p + 1e-4, "one token fewer would reach {}", p);
        let largest_dropped = (0..all.len()).filter(|id| !kept.contains(id)).map(|id| all[id]).fold(0.0, f32::max);
        prop_assert!(largest_dropped <= smallest);
    }

    #[test]
    fn min_p_keeps_what_is_near_the_likeliest(logits in any_logits(), ratio in 0.001f64..1.0) {
        let all = probabilities(&plain(), &logits, &[]);
        let found = probabilities(&SamplingOptions { min_p: Some(ratio), ..plain() }, &logits, &[]);
        let border = ratio as f32 * all.iter().copied().fold(0.0, f32::max);
        for (id, probability) in all.iter().enumerate() {
            let near = (probability / border - 1.0).abs() < 1e-4;
            prop_assert!(near || (found[id] > 0.0) == (*probability > border), "id {}", id);
        }
    }

    #[test]
    fn a_penalty_makes_seen_tokens_less_likely(logits in any_logits(), penalty in 1.01f64..3.0) {
        let before = probabilities(&plain(), &logits, &[]);
        let found = probabilities(&SamplingOptions { repetition_penalty: Some(penalty), ..plain() }, &logits, &[0]);
        prop_assert!(found[0] <= before[0]);
        let biased = SamplingOptions { logit_bias: BTreeMap::from([(0, 1.0)]), ..plain() };
        prop_assert!(probabilities(&biased, &logits, &[])[0] >= before[0]);
    }

    /// Greedy decoding from any logits whatever, until the n-grams are used up.
    #[test]
    fn no_ngram_comes_twice(
        rows in proptest::collection::vec(proptest::collection::vec(-9.0f32..9.0, 12), 1..40),
        prompt in proptest::collection::vec(0u32..12, 0..6),
        size in 1usize..4,
    ) {
        let options = SamplingOptions { no_repeat_ngram_size: Some(size), ..Default::default() };
        let mut sampler = Sampler::new(&options).unwrap();
        let mut tokens = prompt.clone();
        for logits in &rows {
            match sampler.sample(logits, &tokens) {
                Ok(token) => tokens.push(token),
                Err(_) => break,
            }
        }
        prop_assert!(!(tokens.len() == prompt.len() && size > 1 && prompt.len() < 6));
        for at in prompt.len().max(size)..tokens.len() {
            let ngram = &tokens[at + 1 - size..=at];
            prop_assert!(!tokens[..at].windows(size).any(|before| before == ngram), "{:?} at {}", tokens, at);
        }
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest(logits in proptest::collection::vec(-5i8..5, 1..2000)) {
        let logits: Vec<f32> = logits.into_iter().map(f32::from).collect();
        let token = Sampler::new(&SamplingOptions::default()).unwrap().sample(&logits, &[]).unwrap();
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        prop_assert_eq!(token as usize, logits.iter().position(|logit| *logit == largest).unwrap());
    }

    #[test]
    fn logprobs_are_those_of_the_raw_logits(logits in any_logits(), top in 0usize..90, pick in any::<prop::sample::Index>()) {
        let token = pick.index(logits.len());
        let found = TokenLogprobs::new(&logits, token as u32, top).unwrap();
        let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
        let expected = |id: usize| (f64::from(logits[id]) - sum.ln()) as f32;
        prop_assert!((found.logprob - expected(token)).abs() < 1e-5);
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
        order.truncate(top);
        prop_assert_eq!(found.top.iter().map(|(id, _)| *id as usize).collect::<Vec<_>>(), order);
        for (id, logprob) in found.top {
            prop_assert!((logprob - expected(id as usize)).abs() < 1e-5);
        }
    }
}
