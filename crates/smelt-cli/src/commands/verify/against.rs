//! One model against another on the same prompts.

use std::path::Path;

use smelt_backend::dispatch;
use smelt_convert::Source;
use smelt_data::hub::RepoKind;

use super::VerifyArgs;
use crate::comparison::{CompareJob, encoded, prompts};
use crate::config::BackendSection;
use crate::context::Context;
use crate::error::CliError;
use crate::folders::model_folder;
use crate::hub::local_folder;

/// Tokens of a prompt that are compared.
const TOKENS: usize = 1024;

/// Compares the model in `model` with the one in `against`.
pub fn run(args: &VerifyArgs, model: &Path, against: &Path, context: &Context) -> Result<(), CliError> {
    let open = |path: &Path| -> Result<Source, CliError> {
        Ok(Source::open(&model_folder(&local_folder(path, RepoKind::Model, context)?)?)?)
    };
    let (found, expected) = (open(model)?, open(against)?);
    let [own, other] = [&found, &expected].map(|source| source.config.decoder.vocab_size);
    if own != other {
        return Err(CliError::Usage {
            message: format!(
                "`{}` has a vocabulary of {own}, `{}` of {other}",
                model.display(),
                against.display()
            ),
            hint: "models of the same vocabulary can be compared".to_owned(),
        });
    }
    let prompts = match &args.prompts {
        Some(path) => encoded(&expected, &texts(path)?, TOKENS)?,
        None => prompts(&expected)?,
    };
    if prompts.is_empty() {
        return Err(CliError::Usage {
            message: "there is no prompt to compare on".to_owned(),
            hint: "give a file with a prompt per line".to_owned(),
        });
    }
    let selection = context.select(&BackendSection::default(), None)?;
    let job = CompareJob { models: [&expected, &found], prompts: &prompts, share: args.tolerance };
    let mut comparison = dispatch(selection.name, job)?;
    if let (Some(before), Some(after)) = (expected.companions.tokenizer()?, found.companions.tokenizer()?) {
        comparison = comparison.with_tokenizers(&before, &after)?;
    }
    context.output.record(&comparison)?;
    context.output.line(&comparison.to_string())?;
    if comparison.passed { Ok(()) } else { Err(CliError::ChecksFailed { failed: 1, total: 1 }) }
}

/// The prompts of a file: each line a text, or an object with a `prompt`.
fn texts(path: &Path) -> Result<Vec<String>, CliError> {
    let text = std::fs::read_to_string(path).map_err(|source| CliError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    let prompt = |line: &str| {
        let object: Option<serde_json::Value> = serde_json::from_str(line).ok();
        let prompt = object.and_then(|object| object["prompt"].as_str().map(str::to_owned));
        prompt.unwrap_or_else(|| line.to_owned())
    };
    Ok(text.lines().filter(|line| !line.trim().is_empty()).map(prompt).collect())
}
