//! `smelt chat`: a conversation with a model, by its chat template.

use std::fs;
use std::io::IsTerminal as _;

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use smelt_generate::StopReason;
use smelt_generate::engine::CompletionOptions;
use smelt_text::Conversation;

use super::generate::{ModelFlags, SamplingFlags, show, summary};
use crate::config::BackendSection;
use crate::context::Context;
use crate::engine::{EngineThread, with_engine};
use crate::error::CliError;
use crate::generation::{TextReport, TextRequest, completion};
use crate::line_editor::LineEditor;
use crate::text_model::TextModel;

const EXAMPLES: &str = "\
Examples:
  smelt chat --model ~/models/qwen
  smelt chat --model ~/models/qwen --adapter runs/lora --system 'Answer in one sentence.'
  echo 'What is a shell?' | smelt chat --model ~/models/qwen --json";

const COMMANDS: &str = "\
/reset        forget the conversation
/system TEXT  begin anew with this system message; without TEXT, with none
/save FILE    write the conversation as a line of JSON, as `smelt train --data` reads it
/exit         leave (or Ctrl-D); Ctrl-C stops an answer";

/// Arguments of `smelt chat`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ChatArgs {
    #[command(flatten)]
    model: ModelFlags,
    /// System message
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 1024)]
    max_tokens: usize,
    #[command(flatten)]
    sampling: SamplingFlags,
}

/// What `--json` prints for each answer.
#[derive(Debug, Serialize)]
struct Record<'a> {
    prompt: &'a str,
    seed: u64,
    #[serde(flatten)]
    report: &'a TextReport,
}

pub fn run(args: &ChatArgs, context: &Context) -> Result<(), CliError> {
    let request = args.model.request(&args.sampling, args.max_tokens, context)?;
    request.sampling.validate()?;
    let model = request.decoding.open(&request.model, request.adapter.as_deref())?;
    let needed = model.required_bytes(1, usize::MAX, request.decoding.kv_bits);
    let backend = context.select(&BackendSection::default(), Some(needed))?.name;
    if model.template.is_default() {
        context.output.note("the model has no chat template: using ChatML");
    }
    let engine = request.decoding.engine(1, true);
    with_engine(backend, std::slice::from_ref(&model), engine, |engine| {
        engine.load_first()?;
        let options = completion(&model, &request)?;
        let (system, turns) = (args.system.clone(), Vec::new());
        let mut chat = Chat { model: &model, request: &request, options, system, turns };
        chat.run(engine, context)
    })
}

/// A conversation.
struct Chat<'a> {
    model: &'a TextModel,
    request: &'a TextRequest,
    /// What is asked of each answer.
    options: CompletionOptions,
    system: Option<String>,
    /// The messages since.
    turns: Vec<Value>,
}

impl Chat<'_> {
    fn run(&mut self, engine: &EngineThread, context: &Context) -> Result<(), CliError> {
        let mut editor = LineEditor::new("chat-history.txt")?;
        let asks = std::io::stdin().is_terminal();
        if asks {
            context.output.note("/help lists the commands");
        }
        while let Some(line) = editor.read("> ")? {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            // What is piped in is said as it is.
            if asks && line.starts_with('/') {
                if self.command(line, context)?.is_break() {
                    return Ok(());
                }
                continue;
            }
            self.say(line, engine, context)?;
        }
        Ok(())
    }

    /// Answers `text`; a turn that has no answer is forgotten.
    fn say(&mut self, text: &str, engine: &EngineThread, context: &Context) -> Result<(), CliError> {
        self.turns.push(json!({ "role": "user", "content": text }));
        let rendered = self.model.template.render(&Conversation {
            messages: &self.messages(),
            add_generation_prompt: true,
            ..Conversation::default()
        });
        let prompt = match rendered.and_then(|text| self.model.tokenizer.encode(&text)) {
            Ok(prompt) => prompt,
            // The template of some models takes no system message, say: another may do.
            Err(error) => {
                crate::output::report(&error.into());
                self.turns.pop();
                return Ok(());
            }
        };
        let mut options = self.options.clone();
        // Each answer has draws of its own, and the same conversation the same.
        options.sampling.seed = options.sampling.seed.wrapping_add(self.turns.len() as u64 / 2);
        let Some(answer) = show(engine, prompt, options, context)? else {
            self.turns.pop();
            return Ok(());
        };
        if answer.text.is_empty() && answer.stop_reason() == StopReason::Caller {
            self.turns.pop();
            return Ok(());
        }
        self.turns.push(json!({ "role": "assistant", "content": answer.text }));
        let report = TextReport::new(answer);
        let seed = self.request.sampling.seed;
        context.output.record(&Record { prompt: text, seed, report: &report })?;
        context.output.note(&summary(&report));
        Ok(())
    }

    fn messages(&self) -> Vec<Value> {
        let system = self.system.as_ref().map(|text| json!({ "role": "system", "content": text }));
        system.into_iter().chain(self.turns.iter().cloned()).collect()
    }

    fn command(&mut self, line: &str, context: &Context) -> Result<std::ops::ControlFlow<()>, CliError> {
        let (command, argument) = line.split_once(' ').unwrap_or((line, ""));
        let argument = argument.trim();
        match command {
            "/exit" | "/quit" => return Ok(std::ops::ControlFlow::Break(())),
            "/reset" => self.turns.clear(),
            "/system" => {
                self.system = (!argument.is_empty()).then(|| argument.to_owned());
                self.turns.clear();
            }
            "/save" if !argument.is_empty() => {
                let line = format!("{}\n", json!({ "messages": self.messages() }));
                match fs::write(argument, line) {
                    Ok(()) => context.output.note(&format!("written to {argument}")),
                    Err(source) => crate::output::report(&CliError::Io {
                        action: "write",
                        path: argument.into(),
                        source,
                    }),
                }
            }
            "/help" => context.output.note(COMMANDS),
            _ => context.output.note(&format!("there is no such command; these are there:\n{COMMANDS}")),
        }
        Ok(std::ops::ControlFlow::Continue(()))
    }
}
