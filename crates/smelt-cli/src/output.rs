//! The one place that writes to the terminal.
//!
//! Results go to stdout: text for people, or JSON lines with `--json`. Everything else (notes,
//! progress, errors) goes to stderr, so that a pipe carries results alone.

use std::error::Error;
use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use crate::error::CliError;
use crate::hint::hint;
use crate::terminal;

/// What the user wants to see.
#[derive(Debug, Clone, Copy, Default)]
pub struct Output {
    /// JSON lines on stdout in place of text.
    pub json: bool,
    /// No notes and no progress on stderr.
    pub quiet: bool,
}

impl Output {
    /// A result as a line of text on stdout; nothing with `--json`.
    ///
    /// # Errors
    /// [`CliError::OutputClosed`] if nobody reads stdout any more.
    pub fn line(&self, text: &str) -> Result<(), CliError> {
        if self.json { Ok(()) } else { write_stdout(format_args!("{text}\n")) }
    }

    /// A piece of streamed text on stdout, shown at once; nothing with `--json`.
    ///
    /// # Errors
    /// [`CliError::OutputClosed`] if nobody reads stdout any more.
    pub fn stream(&self, text: &str) -> Result<(), CliError> {
        if self.json { Ok(()) } else { write_stdout(format_args!("{text}")) }
    }

    /// A result as one JSON line on stdout; nothing without `--json`.
    ///
    /// # Errors
    /// [`CliError::OutputClosed`] if nobody reads stdout any more.
    pub fn record(&self, record: &impl Serialize) -> Result<(), CliError> {
        if !self.json {
            return Ok(());
        }
        let text = serde_json::to_string(record).expect("a record is plain data");
        write_stdout(format_args!("{text}\n"))
    }

    /// A line on stderr, unless `--quiet`.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            write_stderr(format_args!("{text}\n"));
        }
    }

    /// Asks on the terminal, where there is one to ask at.
    pub fn confirm(&self, question: &str) -> Option<bool> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return None;
        }
        write_stderr(format_args!("{question} [y/N] "));
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).ok()?;
        Some(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
    }

    /// Whether a progress bar can be drawn.
    pub fn draws_bars(&self) -> bool {
        !self.quiet && io::stderr().is_terminal() && !terminal::is_taken()
    }
}

/// stderr for those who write bytes, such as the diagnostics of the crates below.
#[derive(Debug, Clone, Copy)]
pub struct Stderr;

impl io::Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_stderr(format_args!("{}", String::from_utf8_lossy(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Prints an error with its causes and the way out.
pub fn report(error: &CliError) {
    write_stderr(format_args!("{}", rendered(error)));
}

/// Writes generated text such as a completion script as it is.
///
/// # Errors
/// [`CliError::OutputClosed`] if nobody reads stdout any more.
pub fn write_raw(text: &[u8]) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text).and_then(|()| stdout.flush()).map_err(closed)
}

fn rendered(error: &CliError) -> String {
    let mut text = format!("error: {error}\n");
    let mut last = error.to_string();
    let mut cause = error.source();
    while let Some(current) = cause {
        let message = current.to_string();
        // Some libraries repeat the message of their source in their own.
        if !last.contains(&message) {
            text += &format!("  cause: {message}\n");
            last = message;
        }
        cause = current.source();
    }
    if let Some(way_out) = hint(error) {
        text += &format!("  hint: {way_out}\n");
    }
    text
}

fn write_stdout(text: std::fmt::Arguments<'_>) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    stdout.write_fmt(text).and_then(|()| stdout.flush()).map_err(closed)
}

fn closed(error: io::Error) -> CliError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => CliError::OutputClosed,
        _ => CliError::Stdout { source: error },
    }
}

fn write_stderr(text: std::fmt::Arguments<'_>) {
    if terminal::divert(text) {
        return;
    }
    // Nothing is left to tell the user where stderr itself is gone.
    let _ = io::stderr().lock().write_fmt(text);
}
