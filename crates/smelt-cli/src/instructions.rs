//! Instruction data of a run: records through the tokenizer and the chat template of a model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use smelt_data::{
    BucketedBatches, EvalLimit, InstructionFolder, InstructionOptions, LossOn, OnBadRecord, PromptFormat,
    bucket_lengths,
};
use smelt_text::Tokenizer;
use smelt_train::Data;

use crate::config::RunConfig;
use crate::error::CliError;
use crate::model_files;

/// What the default template begins a turn with.
const DEFAULT_TURN: &str = "<|im_start|>";

/// The examples of a folder, and what tokenized them.
pub struct Instructions {
    /// Folder of the tokenizer and its template.
    pub tokenizer_folder: PathBuf,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The examples.
    pub folder: InstructionFolder,
}

impl Instructions {
    /// Reads the records in `folder` for `config`, with the tokenizer and the template in `tokenizer_folder`.
    ///
    /// # Errors
    /// [`CliError`] for files that cannot be read, and records that are none unless they are to be left out.
    pub fn read(folder: &Path, tokenizer_folder: PathBuf, config: &RunConfig) -> Result<Self, CliError> {
        let tokenizer = model_files::tokenizer(&tokenizer_folder)?;
        let template = model_files::chat_template(&tokenizer_folder, &tokenizer)?;
        // A model that never saw a turn is not taught one by a prompt and its completion.
        let chats = !template.is_default() || tokenizer.token_to_id(DEFAULT_TURN).is_some();
        let options = InstructionOptions {
            seq_length: config.train.seq_length,
            loss_on: if config.data.mask_prompt { LossOn::Completions } else { LossOn::Everything },
            prompt_format: if chats { PromptFormat::Chat } else { PromptFormat::Plain },
            bad_record: if config.data.skip_bad_lines { OnBadRecord::Skip } else { OnBadRecord::Fail },
        };
        let folder = InstructionFolder::open(folder, &tokenizer, &template, &options)?;
        Ok(Self { tokenizer_folder, tokenizer, folder })
    }

    /// Batches of about equal lengths; validation where the folder has `valid.jsonl`.
    ///
    /// # Errors
    /// [`CliError`] if a size is 0.
    pub fn batches(&self, config: &RunConfig) -> Result<Data, CliError> {
        let train = &config.train;
        let lengths = bucket_lengths(train.seq_length);
        let batches =
            |examples| BucketedBatches::new(Arc::new(examples), train.batch_size, &lengths, train.seed);
        let valid = self.folder.valid.clone().map(batches).transpose()?;
        Ok(Data {
            train: Arc::new(batches(self.folder.train.clone())?),
            validation: valid.map(|valid| valid.validation(EvalLimit::Batches(train.eval_batches))),
            fingerprint: self.folder.train.fingerprint(),
        })
    }
}
