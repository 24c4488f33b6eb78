//! The page: charts, figures, samples and settings put into its template.

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment};
use serde::Serialize;

use super::chart::{COLORS, Chart, Curve, Scale, Stroke};
use super::history::{Fields, Group, History, step};
use super::summary::{FIGURES, differences, figures, settings, word};
use crate::quantity::{bytes, count};

const TEMPLATE: &str = include_str!("../../../assets/report.html");

/// Samples shown of a run; of more, some are left out between the first and the last.
const MOST_SAMPLES: usize = 12;

/// A run as the template reads it.
#[derive(Debug, Serialize)]
struct Run<'a> {
    name: &'a str,
    color: String,
    damaged_lines: u64,
    samples: Vec<SampleText<'a>>,
    /// Lines about each process.
    processes: Vec<String>,
    settings: Vec<(String, String)>,
}

#[derive(Debug, Serialize)]
struct SampleText<'a> {
    step: u64,
    prompt: &'a str,
    text: &'a str,
}

/// What the template reads.
#[derive(Debug, Serialize)]
struct Page<'a> {
    runs: Vec<Run<'a>>,
    /// A figure, and its value for each run.
    figures: Vec<(&'a str, Vec<String>)>,
    /// A setting, and its value in each run.
    differences: Vec<(String, Vec<String>)>,
    /// Titles and pictures.
    charts: Vec<(&'a str, String)>,
    version: &'a str,
}

/// Renders the page about `histories`, which are called `names`.
pub fn render(names: &[String], histories: &[History]) -> String {
    let runs: Vec<Run<'_>> = names.iter().zip(histories).enumerate().map(run).collect();
    let settings: Vec<_> = runs.iter().map(|run| run.settings.clone()).collect();
    let charts = charts(names, histories);
    let charts = charts.iter().filter_map(|chart| Some((chart.title, chart.svg()?))).collect();
    let differences = differences(&settings);
    let figures = compared_figures(histories);
    let page = Page { runs, figures, differences, charts, version: env!("CARGO_PKG_VERSION") };
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    let page = environment.render_str(TEMPLATE, Serde(page));
    page.expect("the template is a constant that a test renders")
}

/// Every figure that some run has.
fn compared_figures(histories: &[History]) -> Vec<(&'static str, Vec<String>)> {
    let runs: Vec<[String; 13]> = histories.iter().map(figures).collect();
    let rows = FIGURES.iter().enumerate();
    let rows = rows.map(|(at, name)| (*name, runs.iter().map(|figures| figures[at].clone()).collect()));
    rows.filter(|(_, values): &(_, Vec<String>)| values.iter().any(|value| !value.is_empty())).collect()
}

fn run<'a>((index, (name, history)): (usize, (&'a String, &'a History))) -> Run<'a> {
    let (red, green, blue) = COLORS[index % COLORS.len()];
    Run {
        name,
        color: format!("rgb({red} {green} {blue})"),
        damaged_lines: history.damaged_lines,
        samples: samples(history),
        processes: history.starts.iter().map(process).collect(),
        settings: settings(history),
    }
}

fn samples(history: &History) -> Vec<SampleText<'_>> {
    let all = &history.samples;
    let shown = all.len().min(MOST_SAMPLES);
    // Evenly spread, the first and the last among them.
    let place = |index: usize| index * (all.len() - 1) / (shown - 1).max(1);
    (0..shown)
        .map(|index| &all[place(index)])
        .map(|sample| SampleText {
            step: step(sample).unwrap_or_default(),
            prompt: word(sample, "prompt"),
            text: word(sample, "text"),
        })
        .collect()
}

/// What a process ran on.
fn process(start: &Fields) -> String {
    let begun = match step(start).unwrap_or_default() {
        0 => "started".to_owned(),
        step => format!("continued after step {step}"),
    };
    let commit = Some(word(start, "commit")).filter(|commit| !commit.is_empty());
    let commit = commit.map_or(String::new(), |commit| format!(" ({commit})"));
    let threads = start.get("threads").and_then(serde_json::Value::as_u64).unwrap_or_default();
    format!(
        "{begun} by smelt {}{commit} on {}, backend {} ({}), {threads} threads",
        word(start, "version"),
        word(start, "system"),
        word(start, "backend"),
        word(start, "device"),
    )
}

/// Draws each plan with the curves of every run.
fn charts(names: &[String], histories: &[History]) -> Vec<Chart> {
    let chart = |plan: &Plan| {
        let mut curves = Vec::new();
        for (color, (name, history)) in names.iter().zip(histories).enumerate() {
            for (group, stroke) in plan.groups {
                let what = if *group == Group::Train { "training" } else { "validation" };
                let (label, points) = (format!("{name}, {what}"), history.series(*group, plan.key));
                curves.push(Curve { label, color, stroke: *stroke, points });
            }
        }
        Chart { title: plan.title, scale: plan.scale, format: plan.format, curves }
    };
    PLANS.iter().map(chart).collect()
}

/// A chart of what records hold under one key.
struct Plan {
    title: &'static str,
    key: &'static str,
    groups: &'static [(Group, Stroke)],
    scale: Scale,
    format: fn(f64) -> String,
}

const BOTH: &[(Group, Stroke)] = &[(Group::Train, Stroke::Smoothed), (Group::Validation, Stroke::Dotted)];
const SMOOTHED: &[(Group, Stroke)] = &[(Group::Train, Stroke::Smoothed)];
const PLAIN: &[(Group, Stroke)] = &[(Group::Train, Stroke::Plain)];

const PLANS: [Plan; 8] = [
    Plan {
        title: "Loss",
        key: "loss",
        groups: BOTH,
        scale: Scale::Linear,
        format: |loss| format!("{loss:.3}"),
    },
    Plan { title: "Perplexity", key: "perplexity", groups: BOTH, scale: Scale::Logarithmic, format: number },
    Plan {
        title: "Learning rate",
        key: "learning_rate",
        groups: PLAIN,
        scale: Scale::Linear,
        format: |rate| format!("{rate:.1e}"),
    },
    Plan {
        title: "Gradient norm",
        key: "grad_norm",
        groups: SMOOTHED,
        scale: Scale::Logarithmic,
        format: number,
    },
    Plan {
        title: "Tokens per second",
        key: "tokens_per_second",
        groups: SMOOTHED,
        scale: Scale::Linear,
        format: |speed| count(speed.max(0.0) as u64),
    },
    Plan {
        title: "Share of peak FLOPs",
        key: "mfu",
        groups: SMOOTHED,
        scale: Scale::Linear,
        format: |share| format!("{:.0} %", share * 100.0),
    },
    Plan {
        title: "Memory",
        key: "memory_bytes",
        groups: PLAIN,
        scale: Scale::Linear,
        format: |size| bytes(size.max(0.0) as u64),
    },
    Plan { title: "Loss scale", key: "loss_scale", groups: PLAIN, scale: Scale::Logarithmic, format: number },
];

/// A number of any size in few digits.
fn number(value: f64) -> String {
    match value.abs() {
        0.01..10.0 => format!("{value:.2}"),
        10.0..1000.0 => format!("{value:.0}"),
        1000.0..1e12 => count(value as u64),
        _ => format!("{value:.0e}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_oneof};
    use proptest::proptest;

    use super::*;

    proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(64))]

        #[test]
        fn any_numbers_make_a_page(
            records in proptest::collection::vec(
                (any::<u64>(), prop_oneof![any::<f64>(), -1e3..1e3]), 0..20),
            noise in any::<Vec<u8>>(),
        ) {
            let mut history = History::default();
            history.add(&noise);
            for (step, value) in records {
                for kind in ["begins", "train", "validation", "sample"] {
                    let record = serde_json::json!({"kind": kind, "step": step, "loss": value, "perplexity": value,
                        "learning_rate": value, "grad_norm": value, "tokens_per_second": value, "mfu": value,
                        "memory_bytes": value, "peak_memory_bytes": value, "tokens_seen": value,
                        "elapsed_seconds": value});
                    history.add(record.to_string().as_bytes());
                }
            }
            render(&["run".to_owned()], &[history]);
        }
    }

    #[test]
    fn nothing_of_a_log_reaches_the_page_as_markup() {
        let mut history = History::default();
        let hostile = "<script>alert('x')</script>";
        for line in [
            serde_json::json!({"kind": "begins", "step": 0, "version": hostile, "family": hostile,
                "config": {hostile: {hostile: hostile}}}),
            serde_json::json!({"kind": "train", "step": 1, "loss": 2.0}),
            serde_json::json!({"kind": "sample", "step": 1, "prompt": hostile, "text": hostile}),
        ] {
            history.add(line.to_string().as_bytes());
        }
        let page = render(&[hostile.to_owned()], &[history]);
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;"), "{page}");
    }

    #[test]
    fn of_many_samples_the_first_and_the_last_are_shown() {
        let sample = |step: usize| format!("{{\"kind\":\"sample\",\"step\":{step},\"text\":\"\"}}");
        for (all, shown) in [(0, 0), (1, 1), (2, 2), (12, 12), (100, 12)] {
            let mut history = History::default();
            (0..all).for_each(|step| history.add(sample(step).as_bytes()));
            let steps: Vec<u64> = samples(&history).iter().map(|sample| sample.step).collect();
            assert_eq!(steps.len(), shown);
            assert_eq!(steps.last().copied(), (all as u64).checked_sub(1));
            assert!(steps.first().is_none_or(|first| *first == 0 || all == 1));
        }
    }
}
