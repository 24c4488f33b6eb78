//! What every command gets: how to speak, when to stop, where to compute.

use std::sync::OnceLock;

use smelt_backend::{Name, Precision, Request, Selection, select};

use crate::arguments::GlobalOptions;
use crate::config::BackendSection;
use crate::error::CliError;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::profile::Profile;

/// The surroundings of a command.
#[derive(Debug, Clone)]
pub struct Context {
    /// Where results and notes go.
    pub output: Output,
    /// Ctrl-C.
    pub interrupt: Interrupt,
    /// `--backend`, which overrides every config.
    pub backend: Option<String>,
    /// `--offline`: ask no hub.
    pub offline: bool,
    /// `--profile`: what the spans of training add up to.
    pub profile: Option<Profile>,
    /// What was said of the first backend that was selected.
    told: OnceLock<String>,
}

impl Context {
    /// The surroundings that the user's options describe; listens for Ctrl-C from here on.
    pub fn new(options: &GlobalOptions, profile: Option<Profile>) -> Self {
        let output = Output { json: options.json, quiet: options.quiet };
        Self {
            output,
            interrupt: Interrupt::install(output),
            backend: options.backend.clone(),
            offline: options.offline,
            profile,
            told: OnceLock::new(),
        }
    }

    /// Selects a backend and says which, with the reasons against those before it; not again for the same.
    ///
    /// # Errors
    /// [`CliError::Backend`] if the one that was named, or every one, cannot serve.
    pub fn select(
        &self,
        section: &BackendSection,
        required_bytes: Option<u64>,
    ) -> Result<Selection, CliError> {
        let mut section = section.clone();
        if let Some(name) = &self.backend {
            section.name.clone_from(name);
        }
        let selection = select_backend(&section, required_bytes)?;
        let choice = selection.to_string();
        if self.told.set(choice.clone()).is_ok() || self.told.get() != Some(&choice) {
            self.output.note(&choice);
        }
        Ok(selection)
    }
}

/// Selects the backend of a config.
///
/// # Errors
/// [`CliError::Backend`] if the one that was named, or every one, cannot serve.
pub fn select_backend(section: &BackendSection, required_bytes: Option<u64>) -> Result<Selection, CliError> {
    select_to_train(section, required_bytes, Precision::F32)
}

/// As [`select_backend`], for training in `precision`.
///
/// # Errors
/// As there.
pub fn select_to_train(
    section: &BackendSection,
    required_bytes: Option<u64>,
    precision: Precision,
) -> Result<Selection, CliError> {
    let name = (section.name != "auto").then(|| section.name.parse()).transpose()?;
    let mut preference =
        section.preference.iter().map(|name| name.parse()).collect::<Result<Vec<Name>, _>>()?;
    let rest: Vec<Name> = Name::PREFERENCE.into_iter().filter(|name| !preference.contains(name)).collect();
    preference.extend(rest);
    Ok(select(&Request { name, required_bytes, precision, preference })?)
}
