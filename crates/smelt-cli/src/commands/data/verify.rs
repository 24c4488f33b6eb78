//! `smelt data verify`: checks every file of a prepared folder.

use std::path::PathBuf;

use clap::Args;
use smelt_data::verify_folder;

use crate::context::Context;
use crate::error::CliError;
use crate::table::{Align, render};

const EXAMPLES: &str = "\
Examples:
  smelt data verify data/bash
  smelt data verify runs/quickstart/data --json";

/// Arguments of `smelt data verify`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct VerifyFolderArgs {
    /// Prepared folder
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

pub fn run(args: &VerifyFolderArgs, context: &Context) -> Result<(), CliError> {
    let checks = verify_folder(&args.folder);
    let mut rows = Vec::new();
    for check in &checks {
        context.output.record(check)?;
        let verdict = if check.passed { "ok" } else { "FAILED" };
        rows.push(vec![check.subject.clone(), verdict.to_owned(), check.finding.clone()]);
    }
    let header = [("check", Align::Left), ("", Align::Left), ("found", Align::Left)];
    context.output.line(&render(&header, &rows))?;
    match checks.iter().filter(|check| !check.passed).count() {
        0 => Ok(()),
        failed => Err(CliError::ChecksFailed { failed, total: checks.len() }),
    }
}
