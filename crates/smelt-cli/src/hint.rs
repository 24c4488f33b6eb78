//! What a user can do about an error: the last line of a message.
//!
//! Errors of the other crates say what is wrong; what helps depends on the commands and flags, which only
//! this crate knows.

use std::error::Error;
use std::io;

use smelt_backend::{BackendError, Reason, in_build, trains_in};
use smelt_convert::ConvertError;
use smelt_data::DataError;
use smelt_data::hub::HubError;
use smelt_generate::GenerateError;
use smelt_model::ModelError;
use smelt_serve::ServeError;
use smelt_text::{TOKENIZER_FILE, TextError};
use smelt_train::TrainError;

use crate::error::CliError;

/// The way out of `error`, where one is known.
pub fn hint(error: &CliError) -> Option<String> {
    specific(error).or_else(|| io_kind(error).and_then(of_system))
}

fn specific(error: &CliError) -> Option<String> {
    let hint = match error {
        CliError::Config(error) => return error.hint(),
        CliError::Backend(error) => return Some(of_backend(error)),
        CliError::Data(error) | CliError::Train(TrainError::Data(error)) => return of_data(error),
        CliError::Hub(error) | CliError::NeitherFolderNorRepo { source: error, .. } => return of_hub(error),
        CliError::Model(error) | CliError::Train(TrainError::Model(error)) => return of_model(error),
        CliError::Train(error) => return of_training(error),
        CliError::Convert(error) => return of_conversion(error),
        CliError::ConversionDiffers { .. } => {
            "the result is left where it is; more bits lose less, and `smelt doctor` shows what to report"
        }
        CliError::NoTokenizer { .. } => "convert a model together with its tokenizer, or use its folder",
        CliError::Text(error) => return of_text(error),
        CliError::Usage { hint, .. } => return Some(hint.clone()),
        CliError::MemoryLimit { advice, .. }
        | CliError::MemoryLacks { advice, .. }
        | CliError::OutOfMemory { advice, .. } => return Some(advice.clone()),
        CliError::Interrupted { hint } => return hint.clone(),
        CliError::RunExists { .. } => {
            "continue it with `--resume auto`, keep it with another `--output`, or replace it with `--overwrite`"
        }
        CliError::NoBase { .. } => "give the base with `--model DIR`, and the adapter with `--adapter DIR`",
        CliError::Serve(ServeError::Bind { .. }) => {
            "choose another `--host` or `--port`; `--port 0` takes one that is free"
        }
        CliError::NoRecords { .. } => "give the folder of a run that `smelt train` has trained",
        CliError::NoModel { .. } => "train one with `smelt train`, or give another `--model`",
        CliError::VocabularyTooSmall { tokenizer, .. } => {
            return Some(format!(
                "set `--set model.vocab_size={tokenizer}`, or with `--model` use data of that model's own tokenizer"
            ));
        }
        CliError::Generate(GenerateError::PromptTooLong { .. }) | CliError::TooLong { .. } => {
            "shorten it, or use a model with a longer context"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

fn of_backend(error: &BackendError) -> String {
    match error {
        BackendError::UnknownName { .. } => "`smelt backends` lists them".to_owned(),
        BackendError::NotInBuild { name } => {
            let others = in_build().into_iter().map(|name| name.to_string()).collect::<Vec<_>>().join(" or ");
            format!("rebuild with `cargo run --release --features {name} -- ...`, or use {others}")
        }
        BackendError::Unusable { reason: Reason::Precision(precision), .. } => {
            let able: Vec<String> = in_build()
                .into_iter()
                .filter(|name| trains_in(*name, *precision))
                .map(|name| format!("`--backend {name}`"))
                .collect();
            let able =
                if able.is_empty() { String::new() } else { format!("use {}, or ", able.join(" or ")) };
            format!("{able}train with `--precision f32`")
        }
        BackendError::Unusable { .. } => {
            "`smelt backends` shows what works here; `auto` falls back".to_owned()
        }
        BackendError::NoneLeft { .. } => {
            "`smelt doctor` shows more; a smaller model or batch needs less memory".to_owned()
        }
    }
}

fn of_conversion(error: &ConvertError) -> Option<String> {
    let hint = match error {
        ConvertError::BadGguf { .. } => {
            "the file is cut or damaged, or of a kind that is not known; copy it again"
        }
        ConvertError::Inexpressible { .. } => "`--to hf` holds every model that smelt runs",
        ConvertError::TooSmall { .. } => {
            "give more, or a larger `--group-size`: there are fewer scales then; `--dtype f16` halves those of f32"
        }
        ConvertError::OutOfRange { .. } => "`--dtype bf16` has the range of f32",
        ConvertError::OutputExists { .. } | ConvertError::FileExists { .. } => "give another `--output`",
        _ => return None,
    };
    Some(hint.to_owned())
}

fn of_text(error: &TextError) -> Option<String> {
    let hint = match error {
        TextError::Parse { .. } => "the file is cut or damaged, or no tokenizer; copy it again",
        TextError::VocabTooSmall { .. } => "give a larger `--vocab-size`, or fewer special tokens",
        TextError::Io { path, .. } if path.ends_with(TOKENIZER_FILE) && !path.exists() => {
            "a tokenizer is a `tokenizer.json`, a `tokenizer.model`, or `vocab.json` with `merges.txt`"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

fn of_data(error: &DataError) -> Option<String> {
    let hint = match error {
        DataError::NoDocuments { .. } => {
            "text is read from text files, `.jsonl`, `.parquet`, `.gz` and `.zst` of these, and folders of them"
        }
        DataError::TooFewTokens { .. } => "give more text, or a smaller `--seq-length`",
        DataError::BadLine { .. } | DataError::BadFile { .. } => {
            "mend it, or count and leave out what is broken with `smelt data prepare --skip-bad-lines`"
        }
        DataError::Busy { .. } => "wait for it to end, or choose another `--output`",
        DataError::UnknownVersion { .. } => "it is of another version of smelt; prepare it again",
        DataError::Disagrees { .. } | DataError::PartialToken { .. } | DataError::BadMeta { .. } => {
            "the prepared data is damaged; prepare it again with `--overwrite` or another `--output`"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

fn of_hub(error: &HubError) -> Option<String> {
    let hint = match error {
        HubError::Connection { .. } => {
            "check the path or the network; `HF_ENDPOINT` names another hub, `--offline` takes what was downloaded before"
        }
        HubError::Cut { .. } | HubError::Status { .. } => "the same command continues where this one stopped",
        HubError::Checksum { .. } => "it was not kept; the same command downloads it again",
        HubError::Busy { .. } => "wait for it to end, then run this again",
        HubError::Denied { has_token: false, .. } => {
            "log in with `HF_TOKEN`, and accept the terms at the repository's page where it has some"
        }
        HubError::Denied { .. } => {
            "accept the terms at the repository's page, or use the token of who may see it"
        }
        HubError::NotFound { .. } => "check the spelling; a private repository needs `HF_TOKEN`",
        HubError::Offline { .. } => "leave out `--offline` (or `HF_HUB_OFFLINE`) once to download it",
        HubError::NothingSelected { .. } => "check `--include` and `--exclude`",
        _ => return None,
    };
    Some(hint.to_owned())
}

fn of_model(error: &ModelError) -> Option<String> {
    let hint = match error {
        ModelError::BadTensorFile { .. } | ModelError::BadIndex { .. } | ModelError::NonFinite { .. } => {
            "the file is cut or damaged; copy it again, or use an older checkpoint of the run"
        }
        ModelError::Json { .. } | ModelError::MissingKey { .. } | ModelError::BadValue { .. } => {
            "check the model's `config.json`"
        }
        ModelError::Mismatch { .. } => "check that `config.json` and the weights are of the same model",
        ModelError::Packed { .. } => "train an adapter on it with `--method qlora`",
        ModelError::Quantized { .. } => "quantize the model that it was made from",
        ModelError::BadRule { .. } | ModelError::NothingQuantized => {
            "a rule is a pattern such as `layers.0-10.attention`, `layers.*.mlp.down_proj` or `lm_head` with `{bits: 4}`"
        }
        ModelError::NoWeights { .. } => {
            "weights are read from safetensors, and from the zip archives of PyTorch 1.6 and later"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

fn of_training(error: &TrainError) -> Option<String> {
    let hint = match error {
        TrainError::Conflict { key, .. } if key == "quantization" => {
            "continue with the `--q-bits` and `--q-group-size` that it was started with, or start anew with another `--output`".to_owned()
        }
        TrainError::Conflict { key, saved, .. } if !saved.starts_with('{') => {
            format!("continue with `{key}` {saved}, or start anew with another `--output`")
        }
        TrainError::Conflict { .. } => "a run continues on the same model and data; start anew with another `--output`".to_owned(),
        TrainError::NonFinite { .. } => {
            "a lower `--learning-rate` or a longer `--warmup-steps` helps; `--resume auto` continues before it, and `--set train.non_finite=skip` passes over such steps".to_owned()
        }
        TrainError::NothingToValidate { .. } => {
            "give `valid.jsonl` or more text, or leave the setting out".to_owned()
        }
        TrainError::Io { path, .. } if path.ends_with("trainer_state.json") && !path.exists() => {
            "the folder is a model, not a checkpoint of a run; start from it with `--model`".to_owned()
        }
        TrainError::State { .. } | TrainError::OptimizerMismatch { .. } => {
            "resume from an older checkpoint with `--resume RUN/checkpoints/step-N`".to_owned()
        }
        _ => return None,
    };
    Some(hint)
}

/// The first system error in the chain.
fn io_kind(error: &CliError) -> Option<io::ErrorKind> {
    let mut cause = error.source();
    while let Some(current) = cause {
        if let Some(error) = current.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        cause = current.source();
    }
    None
}

fn of_system(kind: io::ErrorKind) -> Option<String> {
    let hint = match kind {
        io::ErrorKind::NotFound => "check the path; it is taken from the current folder",
        io::ErrorKind::PermissionDenied => "check who may read or write it, or choose another folder",
        io::ErrorKind::ReadOnlyFilesystem => "the disk is mounted read-only; choose another folder",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the disk is full; what was saved before is intact. Free some space and continue with `--resume auto`"
        }
        io::ErrorKind::NotADirectory => "a file stands where a folder is expected",
        io::ErrorKind::IsADirectory => "a folder stands where a file is expected",
        _ => return None,
    };
    Some(hint.to_owned())
}
