//! The estimate against the peak that a run reports, and what is told where it does not fit.
//!
//! `cargo xtask memory-table` compares more shapes and ways of training.

use crate::smelt::{Place, golden};

/// The quick start's model, wide enough that the program itself is a small part.
const SETTINGS: [&str; 8] =
    ["--backend", "cpu", "--json", "--quiet", "--batch-size", "8", "--set", "model.hidden_size=384"];

fn within_10_percent(flags: &[&str]) -> f64 {
    let place = Place::new();
    let estimate = &place.done(&[&["estimate"], &SETTINGS[..], flags].concat()).records()[0];
    let estimated = estimate["training"]["peak_bytes"].as_f64().unwrap();
    let steps = ["--max-steps", "2", "--warmup-steps", "1", "--set", "train.eval_batches=1"];
    let run = place.done(&[&["train"], &SETTINGS[..], flags, &steps].concat());
    let measured = run.record("done")["peak_memory_bytes"].as_f64().unwrap();
    let error = estimated / measured - 1.0;
    assert!(error.abs() < 0.10, "{flags:?}: estimated {estimated:.3e}, measured {measured:.3e}: {error:+.3}");
    measured
}

#[test]
fn estimates_are_within_10_percent_of_what_is_measured() {
    let whole = within_10_percent(&[]);
    let by_block = within_10_percent(&["--gradient-checkpointing"]);
    assert!(by_block < 0.75 * whole, "{by_block:.3e} with checkpointing, {whole:.3e} without");
    within_10_percent(&["--gradient-accumulation", "2"]);
}

#[test]
fn a_config_that_does_not_fit_is_told_what_to_change() {
    let place = Place::new();
    let args = ["estimate", "--backend", "cpu", "--batch-size", "1000000", "--json"];
    let estimate = &place.done(&args).records()[0];
    assert_eq!(estimate["backends"][0]["training_fits"], false);
    assert!(estimate["advice"].as_str().unwrap().starts_with("`--batch-size "), "{estimate}");
}

#[test]
fn packed_weights_are_counted_as_they_lie() {
    let place = Place::new();
    let model = golden("mlx_quant");
    let estimate = |flags: &[&str]| {
        let model = ["estimate", "--backend", "cpu", "--json", "--model", model.to_str().unwrap()];
        place.done(&[&model[..], &["--seq-length", "32", "--method"], flags].concat()).records()[0].clone()
    };
    let (lora, qlora) = (estimate(&["lora"]), estimate(&["qlora", "--q-bits", "4", "--lora-rank", "4"]));
    let saved = |part: &str| {
        let [lora, qlora] = [&lora, &qlora].map(|found| found[part]["weights_bytes"].as_i64().unwrap());
        (lora - qlora, lora)
    };
    let (of_generation, dense) = saved("inference");
    assert!(4 * of_generation > 3 * dense, "{of_generation} of {dense}");
    assert!(saved("training").0 >= of_generation, "the adapter is smaller, too: {lora} {qlora}");
}

#[test]
fn a_run_over_its_memory_limit_is_refused_with_the_same_advice() {
    let place = Place::new();
    let limits = ["--backend", "cpu", "--batch-size", "64", "--memory-limit", "200MiB"];
    let refused = place.smelt(&[&["train"], &limits[..]].concat());
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    let estimate = &place.done(&[&["estimate", "--json"], &limits[..]].concat()).records()[0];
    let advice = estimate["advice"].as_str().unwrap();
    assert!(advice.contains("`--gradient-checkpointing") && advice.contains("MiB"), "{advice}");
    let lines: Vec<&str> = refused.stderr.lines().collect();
    assert!(lines[0].ends_with("`train.memory_limit` allows 200.0 MiB"), "{lines:?}");
    assert_eq!(lines[1], format!("  hint: {advice}"));
    assert!(!place.path("runs").exists(), "a refused run leaves nothing behind");
    let ran = place.smelt(&["train", "--memory-limit", "much"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
}
