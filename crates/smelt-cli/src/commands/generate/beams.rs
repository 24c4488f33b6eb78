//! The likeliest of several texts: by beam search, or by drawing several.

use std::time::Instant;

use smelt_backend::{Job, Kernels, dispatch};
use smelt_generate::engine::CompletionOptions;
use smelt_generate::{
    BeamOptions, BeamSequence, GenerateError, SamplingOptions, generate_beams, order_by_mean_logprob,
};

use super::finish;
use crate::config::BackendSection;
use crate::context::Context;
use crate::engine::{Answer, Asked, with_engine};
use crate::error::CliError;
use crate::generation::{TextReport, TextRequest, completion};
use crate::text_model::TextModel;

/// Prints the likeliest of the sequences that `beams` beams find.
pub fn run(
    request: &TextRequest,
    beams: usize,
    length_penalty: f64,
    context: &Context,
) -> Result<(), CliError> {
    let model = request.decoding.open(&request.model, request.adapter.as_deref())?;
    let prompt = model.prompt(request.prompt.as_deref())?;
    let needed = model.required_bytes(beams, prompt.len().saturating_add(request.max_tokens), None);
    let backend = context.select(&BackendSection::default(), Some(needed))?.name;
    let options = BeamOptions {
        num_beams: beams,
        length_penalty,
        max_tokens: request.max_tokens,
        stop_tokens: model.stop_tokens.clone(),
        sampling: SamplingOptions { temperature: 0.0, ..request.sampling.clone() },
        ..BeamOptions::default()
    };
    let started = Instant::now();
    let found = dispatch(backend, BeamJob { model: &model, prompt: &prompt, options, context })?;
    let best = found.into_iter().next().map_or_else(Vec::new, |sequence| sequence.tokens);
    let text = model.tokenizer.decode(&best)?;
    context.output.line(&text)?;
    let mut answer = Answer { text, generated_tokens: best.len(), ..Answer::default() };
    answer.prompt.tokens = prompt.len();
    let seconds = started.elapsed().as_secs_f64();
    let mut report = TextReport::new(answer);
    report.generation_seconds = seconds;
    report.generation_tokens_per_second = best.len() as f64 / seconds;
    finish(request, &report, context)
}

struct BeamJob<'a> {
    model: &'a TextModel,
    prompt: &'a [u32],
    options: BeamOptions,
    context: &'a Context,
}

impl Job for BeamJob<'_> {
    type Output = Result<Vec<BeamSequence>, CliError>;

    fn run<B: Kernels>(self, device: B::Device) -> Self::Output {
        let model = self.model.load::<B>(&device)?.decoder;
        let is_wanted = || !self.context.interrupt.requested();
        match generate_beams(&model, &self.model.config, self.prompt, &self.options, &device, is_wanted) {
            Err(GenerateError::Unwanted) => Err(CliError::Interrupted { hint: None }),
            found => Ok(found?),
        }
    }
}

/// Prints the likeliest of `texts` texts that are drawn with one seed after the other.
pub fn best_of(request: &TextRequest, texts: usize, context: &Context) -> Result<(), CliError> {
    let model = request.decoding.open(&request.model, request.adapter.as_deref())?;
    let prompt = model.prompt(request.prompt.as_deref())?;
    let tokens = prompt.len().saturating_add(request.max_tokens);
    let needed = model.required_bytes(texts, tokens, request.decoding.kv_bits);
    let backend = context.select(&BackendSection::default(), Some(needed))?.name;
    let options = CompletionOptions { logprobs: Some(0), ..completion(&model, request)? };
    let options = |index: usize| {
        let seed = request.sampling.seed.wrapping_add(index as u64);
        CompletionOptions {
            sampling: SamplingOptions { seed, ..request.sampling.clone() },
            ..options.clone()
        }
    };
    let engine = request.decoding.engine(texts, true);
    let mut answers = with_engine(backend, std::slice::from_ref(&model), engine, |engine| {
        let asked = (0..texts).map(|index| engine.submit(prompt.clone(), options(index)));
        let asked = asked.collect::<Result<Vec<Asked>, CliError>>()?;
        let answers = asked.into_iter().map(|asked| {
            let answer = asked.finished(|| !context.interrupt.requested())?;
            answer.ok_or(CliError::Interrupted { hint: None })
        });
        answers.collect::<Result<Vec<Answer>, CliError>>()
    })?;
    let logprobs: Vec<Vec<f32>> =
        answers.iter_mut().map(|answer| std::mem::take(&mut answer.logprobs)).collect();
    let best = order_by_mean_logprob(&logprobs)[0];
    let report = TextReport::new(answers.swap_remove(best));
    context.output.line(&report.text)?;
    finish(request, &report, context)
}
