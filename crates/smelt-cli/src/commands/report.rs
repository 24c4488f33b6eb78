//! `smelt report`: one page about a run, or about several side by side.

mod chart;
mod history;
mod page;
mod summary;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use smelt_model::weights::write_atomic;

pub use self::chart::COLORS;
use self::history::History;
use crate::context::Context;
use crate::error::CliError;
use crate::folders::REPORT;

const EXAMPLES: &str = "\
Examples:
  smelt report runs/quickstart                    writes runs/quickstart/report.html
  smelt report runs/a runs/b --output a-b.html    both in the same curves";

/// Arguments of `smelt report`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ReportArgs {
    /// Folders of runs
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,
    /// The page [default: report.html in the first RUN]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

pub fn run(args: &ReportArgs, context: &Context) -> Result<(), CliError> {
    let histories = args.runs.iter().map(|run| History::read(run)).collect::<Result<Vec<_>, _>>()?;
    let names = names(&args.runs);
    let damaged: u64 = histories.iter().map(|history| history.damaged_lines).sum();
    for (name, history) in names.iter().zip(&histories).filter(|(_, history)| history.damaged_lines > 0) {
        let lines = history.damaged_lines;
        context.output.note(&format!("{name}: {lines} damaged lines of the log are left out"));
    }
    let page = page::render(&names, &histories);
    let path = args.output.clone().unwrap_or_else(|| args.runs[0].join(REPORT));
    write_atomic(&path, |file| file.write_all(page.as_bytes())).map_err(|source| CliError::Io {
        action: "write",
        path: path.clone(),
        source,
    })?;
    context.output.record(&json!({"report": path, "runs": args.runs, "damaged_lines": damaged}))?;
    context.output.line(&format!("report: {}", path.display()))
}

/// What to call the runs: their folders' names, or whole paths where these do not tell them apart.
fn names(runs: &[PathBuf]) -> Vec<String> {
    let whole = |path: &Path| path.display().to_string();
    let short: Vec<String> = runs
        .iter()
        .map(|run| run.file_name().map_or_else(|| whole(run), |name| name.to_string_lossy().into_owned()))
        .collect();
    let differ = |name: &String| short.iter().filter(|other| *other == name).count() == 1;
    runs.iter().zip(&short).map(|(run, name)| if differ(name) { name.clone() } else { whole(run) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_one_name_are_called_by_their_paths() {
        let names = |runs: &[&str]| names(&runs.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(names(&["runs/a/", "runs/b"]), ["a", "b"]);
        assert_eq!(names(&["x/a", "y/a", "b"]), ["x/a", "y/a", "b"]);
    }
}
