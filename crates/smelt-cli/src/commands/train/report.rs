//! What `smelt train` shows: the run in numbers, its progress, its result, and what to do next.

use std::ops::ControlFlow;
use std::path::Path;

use serde::Serialize;
use serde_json::json;
use smelt_backend::{Name, in_build, memory};
use smelt_data::PrepareProgress;
use smelt_train::{Evaluation, Record, Sample, SkippedStep, StepReport};

use super::dashboard::Dashboard;
use crate::config::RunConfig;
use crate::context::{Context, select_backend};
use crate::error::CliError;
use crate::folders::{TRACE, deployed};
use crate::generation::{Generation, TextRequest};
use crate::profile::{Profile, tables};
use crate::progress::{Progress, Unit};
use crate::quantity::{bytes, count, seconds};
use crate::samples::{default_prompt, sampling};
use crate::terminal;
use crate::training::{RunFacts, TrainEvent, TrainSummary};

/// Length of the sample at the end.
const SAMPLE_TOKENS: usize = 120;

/// Of a sample during the run, on one line.
const SHOWN_CHARACTERS: usize = 100;

/// How a run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Progress and lines.
    Lines,
    /// The whole terminal, where there is one.
    Dashboard,
}

/// Tells a run's events to the user.
pub struct Reporter<'a> {
    context: &'a Context,
    view: View,
    log_interval: u64,
    max_steps: u64,
    backend: Option<Name>,
    progress: Option<Progress>,
    dashboard: Option<Dashboard>,
    /// Trouble with stdout, which ends the run.
    failure: Option<CliError>,
}

impl<'a> Reporter<'a> {
    /// Nothing has happened yet.
    pub fn new(context: &'a Context, config: &RunConfig, view: View) -> Self {
        Self {
            context,
            view,
            log_interval: config.log.log_interval,
            max_steps: config.train.max_steps,
            backend: None,
            progress: None,
            dashboard: None,
            failure: None,
        }
    }

    /// Shows an event; breaks on Ctrl-C.
    pub fn tell(&mut self, event: &TrainEvent<'_>) -> ControlFlow<()> {
        if let Some(dashboard) = &self.dashboard {
            dashboard.tell(event);
        }
        match event {
            TrainEvent::Selected(selection) => {
                self.backend = Some(selection.name);
                self.note(&selection.to_string());
            }
            TrainEvent::Preparing(progress) => self.preparing(*progress),
            TrainEvent::Instructed(report) => self.note(&format!("records: {report}")),
            TrainEvent::Begins(facts) => self.begins(facts),
            TrainEvent::Stepped { report, tokens_per_second } => self.stepped(report, *tokens_per_second),
            TrainEvent::Skipped(skipped) => self.skipped(skipped),
            TrainEvent::Evaluated { step, evaluation } => self.evaluated(*step, evaluation),
            TrainEvent::Sampled(sample) => self.sampled(sample),
            TrainEvent::Saved(checkpoint) => self.saved(checkpoint),
        }
        if self.failure.is_some() || self.context.interrupt.requested() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// Takes the progress bar or the dashboard away.
    ///
    /// # Errors
    /// [`CliError::OutputClosed`] if nobody read the records.
    pub fn finish(self) -> Result<(), CliError> {
        drop(self.progress);
        drop(self.dashboard);
        self.failure.map_or(Ok(()), Err)
    }

    fn note(&self, text: &str) {
        match &self.progress {
            Some(progress) => progress.line(text),
            None => self.context.output.note(text),
        }
    }

    fn record(&mut self, record: &impl Serialize) {
        if let Err(error) = self.context.output.record(record) {
            self.failure = Some(error);
        }
    }

    fn preparing(&mut self, progress: PrepareProgress<'_>) {
        match progress {
            PrepareProgress::Resumed { tally } => {
                self.note(&format!("data: going on after {} documents", tally.read_documents));
            }
            PrepareProgress::Reading { passed_bytes, total_bytes, kept_documents, .. } => {
                self.bar("read", total_bytes).advance(passed_bytes, || format!("{kept_documents} documents"));
            }
            PrepareProgress::Sifted { tally } => {
                self.progress = None;
                let (documents, size) = (tally.kept_documents, bytes(tally.kept_bytes));
                let removed = &tally.removed;
                let left_out =
                    if removed.total() > 0 { format!("; left out: {removed}") } else { String::new() };
                self.note(&format!("data: {documents} documents, {size}{left_out}"));
            }
            PrepareProgress::TrainingTokenizer { text_bytes } => {
                self.note(&format!("training a tokenizer on {}", bytes(text_bytes)));
            }
            PrepareProgress::Encoding { done_bytes, total_bytes, tokens } => {
                self.bar("tokenize", total_bytes).advance(done_bytes, || format!("{} tokens", count(tokens)));
            }
        }
    }

    /// The bar of a stage of the preparation.
    fn bar(&mut self, label: &'static str, total_bytes: u64) -> &Progress {
        let output = self.context.output;
        self.progress.get_or_insert_with(|| Progress::start(output, label, Unit::Bytes, total_bytes, 0))
    }

    fn begins(&mut self, facts: &RunFacts) {
        self.progress = None;
        let RunFacts { train_tokens, val_tokens, vocab_size, max_steps, first_step, .. } = *facts;
        let (trained, validated) = (count(train_tokens), count(val_tokens));
        self.note(&format!(
            "tokens: {trained} to train on, {validated} to validate on, vocabulary {vocab_size}"
        ));
        if vocab_size < facts.requested_vocab_size {
            let wanted = facts.requested_vocab_size;
            self.note(&format!(
                "vocabulary: the text has no more than {vocab_size} pieces of the {wanted} asked for"
            ));
        }
        let (parameters, memory) = (count(facts.parameters), bytes(facts.estimated_bytes));
        self.note(&format!("model: {}, {parameters} parameters; about {memory} of memory", facts.family));
        if first_step > 0 {
            self.note(&format!("continuing after step {first_step} of {max_steps}"));
        }
        self.record(
            &json!({"kind": "begins", "run": facts.run, "backend": self.backend, "family": facts.family,
            "parameters": facts.parameters, "vocab_size": vocab_size, "train_tokens": train_tokens,
            "val_tokens": val_tokens, "first_step": first_step, "max_steps": max_steps,
            "estimated_peak_bytes": facts.estimated_bytes}),
        );
        self.dashboard = self.dashboard(facts);
        self.progress =
            Some(Progress::start(self.context.output, "train", Unit::Steps, max_steps, first_step));
    }

    /// The dashboard, if it is wanted and there is a terminal for it.
    fn dashboard(&self, facts: &RunFacts) -> Option<Dashboard> {
        if self.view == View::Lines {
            return None;
        }
        if !terminal::can_be_taken() {
            self.note("no terminal for `--tui`: plain lines");
            return None;
        }
        Dashboard::open(facts, self.backend, self.context)
            .inspect_err(|error| {
                self.note(&format!("the terminal cannot be drawn on ({error}): plain lines"))
            })
            .ok()
    }

    fn stepped(&mut self, report: &StepReport, tokens_per_second: f64) {
        let StepReport { step, loss, grad_norm, learning_rate, tokens, .. } = *report;
        let left = (self.max_steps.saturating_sub(step) as f64) * tokens as f64 / tokens_per_second;
        let logs = step.is_multiple_of(self.log_interval) || step == 1;
        if let Some(progress) = &self.progress {
            let speed = format!("{} tokens/s  {} left", count(tokens_per_second as u64), seconds(left));
            if progress.has_bar() {
                let memory = memory::process_peak_bytes().map_or("?".to_owned(), bytes);
                progress.advance(step, || format!("loss {loss:.3}  {speed}  {memory}"));
            } else if logs && self.dashboard.is_none() {
                let max_steps = self.max_steps;
                progress.line(&format!(
                    "step {step}/{max_steps}  loss {loss:.4}  grad norm {grad_norm:.2}  lr {learning_rate:.2e}  {speed}"
                ));
            }
        }
        if logs {
            self.record(&json!({"kind": "train", "step": step, "loss": loss, "grad_norm": grad_norm,
                "learning_rate": learning_rate, "tokens_per_second": tokens_per_second}));
        }
    }

    fn skipped(&mut self, skipped: &SkippedStep) {
        let SkippedStep { step, what, value, loss_scale, .. } = skipped;
        let scale = loss_scale.map_or(String::new(), |scale| format!("; the loss scale is {scale} now"));
        self.note(&format!("step {step}: skipped, {what} is not finite ({value}){scale}"));
        self.record(&json!({"kind": "skipped", "step": step, "what": what, "loss_scale": loss_scale}));
    }

    fn evaluated(&mut self, step: u64, evaluation: &Evaluation) {
        let (loss, perplexity) = (evaluation.loss, evaluation.perplexity());
        self.note(&format!("step {step}: validation loss {loss:.4}, perplexity {perplexity:.2}"));
        self.record(&json!({"kind": "validation", "step": step, "loss": loss, "perplexity": perplexity}));
    }

    fn sampled(&mut self, sample: &Sample) {
        let Sample { step, prompt, text, .. } = sample;
        self.note(&format!("step {step}: sample {}", shortened(&format!("{prompt}{text}"))));
        self.record(&Record::Sample(sample.clone()));
    }

    fn saved(&mut self, checkpoint: &Path) {
        self.note(&format!("saved {}", checkpoint.display()));
        self.record(&json!({"kind": "checkpoint", "path": checkpoint}));
    }
}

/// The end of a run that was stopped by Ctrl-C or SIGTERM: where it stands, and how to go on.
pub fn stopped(summary: &TrainSummary, context: &Context) -> Result<(), CliError> {
    let (run, steps) = (summary.run.display(), summary.steps);
    let next = format!("{} train --resume auto --output {run}", invocation());
    context.output.record(&json!({
        "kind": "stopped", "run": summary.run, "checkpoint": summary.checkpoint, "steps": steps, "continue": next,
    }))?;
    context.output.line(&format!("stopped after {steps} steps; continue with\n  {next}"))
}

/// The end of a run that was stopped while its data was prepared.
pub fn stopped_early(hint: Option<String>, context: &Context) -> Result<(), CliError> {
    context.output.record(&json!({"kind": "stopped", "steps": 0}))?;
    context.output.line(&format!("stopped before the first step; {}", hint.unwrap_or_default()))
}

/// Where the time of the run went: the trace in its folder, and the tables.
pub fn profile(profile: &Profile, run: &Path, context: &Context) -> Result<(), CliError> {
    let (output, path) = (context.output, run.join(TRACE));
    let left_out = profile.write_trace(&path).map_err(|source| CliError::Io {
        action: "write",
        path: path.clone(),
        source,
    })?;
    let costs = profile.costs();
    output.record(&json!({"kind": "profile", "trace": path, "costs": costs}))?;
    let Some(tables) = tables(&costs) else { return Ok(()) };
    let cut =
        if left_out > 0 { format!(" (its beginning: {left_out} spans are left out)") } else { String::new() };
    output.line(&format!("{tables}\n\ntrace for chrome://tracing or Perfetto: {}{cut}\n", path.display()))
}

/// The end of a finished run: what came out, a sample, and the next commands.
pub fn result(summary: &TrainSummary, config: &RunConfig, context: &Context) -> Result<(), CliError> {
    let output = context.output;
    let (run, steps) = (summary.run.display(), summary.steps);
    let verb = match (summary.finished_before, summary.stopped_early) {
        (true, _) => "this run was finished before",
        (false, true) => "stopped early, the validation loss falls no more",
        (false, false) => "finished",
    };
    let loss = summary.evaluation.map_or(String::new(), |evaluation| {
        format!("; validation loss {:.4}, perplexity {:.2}", evaluation.loss, evaluation.perplexity())
    });
    let memory = memory::process_peak_bytes().filter(|_| !summary.finished_before);
    let memory = memory.map_or(String::new(), |peak| format!("; peak memory {}", bytes(peak)));
    output.line(&format!("{verb}: {steps} steps{loss}{memory}"))?;
    let sample = sample(summary, config)?;
    output.record(&json!({
        "kind": "done", "run": summary.run, "checkpoint": summary.checkpoint, "steps": steps,
        "finished_before": summary.finished_before, "stopped_early": summary.stopped_early,
        "best": summary.best, "loss": summary.evaluation.map(|evaluation| evaluation.loss),
        "sample": sample, "peak_memory_bytes": memory::process_peak_bytes(),
    }))?;
    if let Some(checkpoint) = &summary.checkpoint {
        output.line(&format!("checkpoint: {}", checkpoint.display()))?;
    }
    if let Some(best) = summary.best.filter(|_| config.checkpoint.keep_best) {
        output.line(&format!("best: step {}, validation loss {:.4}", best.step, best.loss))?;
    }
    output.line(&format!("\nsample:\n{}", indented(&sample)))?;
    let (smelt, prompt) =
        (invocation(), if config.data.embedded { " --prompt '#!/usr/bin/env bash'" } else { "" });
    output.line(&format!(
        "\nnext:\n  {smelt} generate --model {run}{prompt}\n  {smelt} train --data PATH... --output runs/mine\n  {smelt} --help"
    ))
}

/// A text from the finished model, prompt included.
fn sample(summary: &TrainSummary, config: &RunConfig) -> Result<String, CliError> {
    let prompt = default_prompt(config).map(str::to_owned);
    let request = TextRequest {
        model: summary.checkpoint.clone().map_or_else(|| summary.run.clone(), deployed),
        prompt: prompt.clone(),
        max_tokens: SAMPLE_TOKENS,
        sampling: sampling(config),
        ..TextRequest::default()
    };
    let generation = Generation::prepare(&request)?;
    let backend = select_backend(&config.backend, Some(generation.required_bytes()))?;
    let report = generation.run(backend.name, &mut |_| ControlFlow::Continue(()))?;
    Ok(prompt.unwrap_or_default() + &report.text)
}

/// The beginning of a text, on one line.
fn shortened(text: &str) -> String {
    let shown: String = text.chars().take(SHOWN_CHARACTERS).collect();
    let more = if shown.len() < text.len() { " ..." } else { "" };
    format!("{shown:?}{more}")
}

fn indented(text: &str) -> String {
    text.trim_end()
        .lines()
        .map(|line| format!("  {line}").trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

/// How the user started the program: through cargo, or by name.
pub fn invocation() -> String {
    // Cargo tells the programs it runs where it is.
    if std::env::var_os("CARGO").is_none() {
        return "smelt".to_owned();
    }
    let features: Vec<&str> =
        in_build().into_iter().map(|name| name.as_str()).filter(|name| *name != "cpu").collect();
    match features.as_slice() {
        [] => "cargo run --release --".to_owned(),
        features => format!("cargo run --release --features {} --", features.join(",")),
    }
}
