//! Lines that a person types, with editing and a history; lines of a file or a pipe as they are.

use std::path::PathBuf;

use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor};

use crate::error::CliError;

/// Reads lines from stdin.
pub struct LineEditor {
    editor: Editor<(), FileHistory>,
    history: Option<PathBuf>,
}

impl LineEditor {
    /// With the history called `name`, if there is a place for it.
    ///
    /// # Errors
    /// [`CliError::Terminal`] if the terminal cannot be used.
    pub fn new(name: &str) -> Result<Self, CliError> {
        let config = Config::builder().auto_add_history(true).build();
        let mut editor = Editor::with_config(config).map_err(|source| CliError::Terminal { source })?;
        let history = state_folder().map(|folder| folder.join(name));
        if let Some(path) = &history {
            // None has been kept yet, or it cannot be read: then there is none.
            let _ = editor.load_history(path);
        }
        Ok(Self { editor, history })
    }

    /// The next line; `None` at the end of the input. Ctrl-C gives up the line, which is then empty.
    ///
    /// # Errors
    /// [`CliError::Terminal`] if stdin cannot be read.
    pub fn read(&mut self, prompt: &str) -> Result<Option<String>, CliError> {
        match self.editor.readline(prompt) {
            Ok(line) => Ok(Some(line)),
            Err(ReadlineError::Eof) => Ok(None),
            Err(ReadlineError::Interrupted) => Ok(Some(String::new())),
            Err(source) => Err(CliError::Terminal { source }),
        }
    }
}

impl Drop for LineEditor {
    fn drop(&mut self) {
        let Some(path) = &self.history else { return };
        let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        if let Err(error) = folder.map_err(ReadlineError::from).and_then(|()| self.editor.save_history(path))
        {
            tracing::debug!("the history was not kept: {error}");
        }
    }
}

/// Where programs keep what they remember (XDG base directories).
fn state_folder() -> Option<PathBuf> {
    let named = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::home_dir().map(|home| home.join(".local/state"));
    Some(named.or_else(home)?.join("smelt"))
}
