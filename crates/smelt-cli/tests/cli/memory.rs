//! The estimate against the peak that a run reports.

use crate::smelt::Place;

#[test]
fn the_estimate_of_the_quick_start_is_within_15_percent() {
    let place = Place::new();
    let estimate = &place.done(&["estimate", "--json", "--backend", "cpu"]).records()[0];
    let estimated = estimate["training"]["peak_bytes"].as_f64().unwrap();
    let run = place.done(&[
        "train",
        "--max-steps",
        "3",
        "--warmup-steps",
        "1",
        "--json",
        "--quiet",
        "--backend",
        "cpu",
    ]);
    let measured = run.record("done")["peak_memory_bytes"].as_f64().unwrap();
    let error = (estimated - measured) / measured;
    assert!(error.abs() < 0.15, "estimated {estimated:.3e}, measured {measured:.3e}: {:.0} %", error * 100.0);
}

#[test]
fn a_config_that_does_not_fit_is_told_what_to_change() {
    let place = Place::new();
    let args = ["estimate", "--backend", "cpu", "--batch-size", "1000000", "--json"];
    let estimate = &place.done(&args).records()[0];
    assert_eq!(estimate["backends"][0]["training_fits"], false);
    assert!(estimate["advice"].as_str().unwrap().starts_with("`--batch-size "), "{estimate}");
}
