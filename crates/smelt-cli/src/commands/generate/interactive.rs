//! Completes one typed line after the other; the model stays in memory.

use std::io::IsTerminal as _;
use std::ops::ControlFlow;

use smelt_generate::engine::CompletionOptions;

use super::summary;
use crate::config::BackendSection;
use crate::context::Context;
use crate::engine::{Answer, EngineThread, with_engine};
use crate::error::CliError;
use crate::generation::{TextReport, TextRequest, completion};
use crate::line_editor::LineEditor;

/// Until the input ends.
pub fn run(request: &TextRequest, context: &Context) -> Result<(), CliError> {
    let model = request.decoding.open(&request.model, request.adapter.as_deref())?;
    let needed = model.required_bytes(1, usize::MAX, request.decoding.kv_bits);
    let backend = context.select(&BackendSection::default(), Some(needed))?.name;
    let engine = request.decoding.engine(1, true);
    with_engine(backend, std::slice::from_ref(&model), engine, |engine| {
        engine.load_first()?;
        if std::io::stdin().is_terminal() {
            context.output.note("type the beginning of a text; Ctrl-C stops it, Ctrl-D ends");
        }
        let options = completion(&model, request)?;
        let mut editor = LineEditor::new("generate-history.txt")?;
        while let Some(line) = editor.read("> ")? {
            if line.is_empty() {
                continue;
            }
            let prompt = model.prompt(Some(&line))?;
            if let Some(answer) = show(engine, prompt, options.clone(), context)? {
                let report = TextReport::new(answer);
                context.output.record(&report)?;
                context.output.note(&summary(&report));
            }
        }
        Ok(())
    })
}

/// Streams a text until it ends or Ctrl-C ends it; `None`, after saying why, where the prompt does not fit.
pub fn show(
    engine: &EngineThread,
    prompt: Vec<u32>,
    options: CompletionOptions,
    context: &Context,
) -> Result<Option<Answer>, CliError> {
    // Who types may go on; what comes through a pipe is over.
    let ends = || context.interrupt.take() && !std::io::stdin().is_terminal();
    if ends() {
        return Err(CliError::Interrupted { hint: None });
    }
    let mut closed = None;
    let answer = engine.ask(prompt, options, &mut |text| {
        closed = context.output.stream(text).err();
        if closed.is_some() || context.interrupt.requested() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    if let Some(error) = closed {
        return Err(error);
    }
    if ends() {
        return Err(CliError::Interrupted { hint: None });
    }
    match answer {
        Ok(answer) => {
            context.output.line("")?;
            Ok(Some(answer))
        }
        Err(error) if engine.has_ended() => Err(error),
        Err(error) => {
            crate::output::report(&error);
            Ok(None)
        }
    }
}
