//! Completes the prompts of a file, several at a time, into another file in the same order.
//!
//! Every line is written when it and all before it are done, so that a stopped run goes on where it was.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;

use serde_json::{Map, Value, json};
use smelt_generate::SamplingOptions;
use smelt_generate::engine::CompletionOptions;
use smelt_text::Conversation;

use crate::config::BackendSection;
use crate::context::Context;
use crate::engine::{Asked, EngineThread, with_engine};
use crate::error::CliError;
use crate::generation::{TextReport, TextRequest, completion};
use crate::progress::{Progress, Unit};
use crate::text_model::TextModel;

/// Requests in flight for each that runs: enough that nobody waits for the oldest to be written.
const AHEAD: usize = 4;

/// Where prompts come from and completions go.
pub struct Files<'a> {
    pub prompts: &'a Path,
    pub output: &'a Path,
    pub overwrite: bool,
}

/// A line of the input.
struct Line {
    /// All that it holds.
    object: Map<String, Value>,
    prompt: Vec<u32>,
}

/// Completes all lines that have no completion yet.
pub fn run(
    request: &TextRequest,
    files: &Files<'_>,
    batch_size: usize,
    context: &Context,
) -> Result<(), CliError> {
    let model = request.decoding.open(&request.model, request.adapter.as_deref())?;
    let lines = read(files.prompts, &model)?;
    let done = if files.overwrite { 0 } else { finished(files.output, &lines)? };
    if done > 0 {
        context.output.note(&format!("{done} of {} are in {} already", lines.len(), files.output.display()));
    }
    let longest = lines.iter().map(|line| line.prompt.len()).max().unwrap_or_default();
    let tokens = longest.saturating_add(request.max_tokens);
    let needed = model.required_bytes(batch_size, tokens, request.decoding.kv_bits);
    let backend = context.select(&BackendSection::default(), Some(needed))?.name;
    let mut output = opened(files, done)?;
    let engine = request.decoding.engine(batch_size, true);
    let failed = with_engine(backend, std::slice::from_ref(&model), engine, |engine| {
        let options = completion(&model, request)?;
        let mut batch = Batch { engine, request, context, options };
        batch.complete(&lines, done, batch_size * AHEAD, |record| {
            writeln!(output, "{record}").and_then(|()| output.flush()).map_err(writing(files.output))
        })
    })?;
    match failed {
        0 => Ok(()),
        failed => Err(CliError::PromptsFailed { failed, total: lines.len(), path: files.output.to_owned() }),
    }
}

struct Batch<'a> {
    engine: &'a EngineThread,
    request: &'a TextRequest,
    context: &'a Context,
    options: CompletionOptions,
}

impl Batch<'_> {
    /// Hands a record of each line from `done` on to `write`; returns how many lines could not be completed.
    fn complete(
        &mut self,
        lines: &[Line],
        done: usize,
        in_flight: usize,
        mut write: impl FnMut(&Value) -> Result<(), CliError>,
    ) -> Result<usize, CliError> {
        let progress =
            Progress::start(self.context.output, "prompts", Unit::Steps, lines.len() as u64, done as u64);
        let (mut asked, mut next, mut failed) = (VecDeque::new(), done, 0);
        for (index, line) in lines.iter().enumerate().skip(done) {
            while next < lines.len() && asked.len() < in_flight {
                asked.push_back(self.submit(next, &lines[next]));
                next += 1;
            }
            let Some(oldest) = asked.pop_front() else { break };
            let record = match oldest.and_then(|asked| self.answered(asked)) {
                Ok(report) => recorded(index, line, json!(report)),
                Err(error @ CliError::Interrupted { .. }) => return Err(error),
                Err(error) if self.engine.has_ended() => return Err(error),
                Err(error) => {
                    failed += 1;
                    recorded(index, line, json!({ "error": error.to_string() }))
                }
            };
            write(&record)?;
            self.context.output.record(&record)?;
            progress.advance(index as u64 + 1, String::new);
        }
        Ok(failed)
    }

    fn submit(&self, index: usize, line: &Line) -> Result<Asked, CliError> {
        // A line's draws do not depend on the others.
        let seed = self.request.sampling.seed.wrapping_add(index as u64);
        let sampling = SamplingOptions { seed, ..self.request.sampling.clone() };
        let options = CompletionOptions { sampling, ..self.options.clone() };
        self.engine.submit(line.prompt.clone(), options)
    }

    fn answered(&self, asked: Asked) -> Result<TextReport, CliError> {
        let Some(answer) = asked.finished(|| !self.context.interrupt.requested())? else {
            let hint = Some("the same command goes on from here".to_owned());
            return Err(CliError::Interrupted { hint });
        };
        Ok(TextReport { peak_memory_bytes: None, ..TextReport::new(answer) })
    }
}

/// The keys of the line, and what became of it.
fn recorded(index: usize, line: &Line, result: Value) -> Value {
    let mut record = Map::from_iter([("index".to_owned(), json!(index))]);
    record.extend(line.object.clone());
    if let Value::Object(result) = result {
        let name = |key: String| if key == "text" { "completion".to_owned() } else { key };
        record.extend(result.into_iter().map(|(key, value)| (name(key), value)));
    }
    record.into()
}

/// All prompts of `path`, tokenized.
fn read(path: &Path, model: &TextModel) -> Result<Vec<Line>, CliError> {
    let text = fs::read_to_string(path).map_err(reading(path))?;
    let numbered = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    numbered.map(|(number, line)| parsed(line, path, number, model)).collect()
}

fn parsed(line: &str, path: &Path, number: usize, model: &TextModel) -> Result<Line, CliError> {
    let bad = |reason: String| CliError::BadPrompt { path: path.to_owned(), line: number, reason };
    let object: Map<String, Value> = serde_json::from_str(line).map_err(|error| bad(error.to_string()))?;
    let prompt = match (object.get("prompt"), object.get("messages")) {
        (Some(Value::String(text)), None) => model.prompt(Some(text)),
        (None, Some(Value::Array(messages))) => {
            let conversation = Conversation {
                messages,
                tools: object.get("tools"),
                add_generation_prompt: true,
                ..Conversation::default()
            };
            model
                .template
                .render(&conversation)
                .and_then(|text| model.tokenizer.encode(&text))
                .map_err(CliError::from)
        }
        _ => {
            return Err(
                bad("expected a `prompt`, which is text, or `messages`, which are a list".to_owned()),
            );
        }
    };
    Ok(Line { prompt: prompt.map_err(|error| bad(error.to_string()))?, object })
}

/// How many lines of the output are whole and belong to the input. A line that was cut off is removed.
fn finished(path: &Path, lines: &[Line]) -> Result<usize, CliError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(reading(path)(error)),
    };
    let (mut reader, mut text, mut count, mut whole_bytes) = (BufReader::new(file), Vec::new(), 0, 0);
    loop {
        text.clear();
        let bytes = reader.read_until(b'\n', &mut text).map_err(reading(path))?;
        if !text.ends_with(b"\n") {
            break;
        }
        if !lines.get(count).is_some_and(|line| belongs(&text, line)) {
            return Err(CliError::Usage {
                message: format!(
                    "line {} of `{}` is no completion of these prompts",
                    count + 1,
                    path.display()
                ),
                hint: "give another `--output`, or begin it anew with `--overwrite`".to_owned(),
            });
        }
        count += 1;
        whole_bytes += bytes as u64;
    }
    let file = OpenOptions::new().write(true).open(path).map_err(writing(path))?;
    file.set_len(whole_bytes).map_err(writing(path))?;
    Ok(count)
}

/// A line of the output was made from `line`.
fn belongs(text: &[u8], line: &Line) -> bool {
    let Ok(record) = serde_json::from_slice::<Map<String, Value>>(text) else { return false };
    ["prompt", "messages"].iter().all(|key| record.get(*key) == line.object.get(*key))
}

fn opened(files: &Files<'_>, done: usize) -> Result<File, CliError> {
    let mut options = OpenOptions::new();
    options.create(true);
    if done > 0 {
        options.append(true)
    } else {
        options.write(true).truncate(true)
    };
    options.open(files.output).map_err(writing(files.output))
}

fn reading(path: &Path) -> impl Fn(io::Error) -> CliError + '_ {
    |source| CliError::Io { action: "read", path: path.to_owned(), source }
}

fn writing(path: &Path) -> impl Fn(io::Error) -> CliError + '_ {
    |source| CliError::Io { action: "write", path: path.to_owned(), source }
}
