//! `smelt backends`: every backend, and how it stands on this machine.

use clap::Args;
use smelt_backend::{BackendReport, survey};

use crate::context::Context;
use crate::error::CliError;
use crate::quantity::bytes;
use crate::table::{Align, render};

const EXAMPLES: &str = "\
Examples:
  smelt backends
  smelt backends --json";

/// Arguments of `smelt backends`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BackendsArgs {}

pub fn run(_args: &BackendsArgs, context: &Context) -> Result<(), CliError> {
    let reports = survey();
    for report in &reports {
        context.output.record(report)?;
    }
    context.output.line(&table(&reports))
}

/// The survey as a table.
pub fn table(reports: &[BackendReport]) -> String {
    let header = ["backend", "in build", "usable", "self-test", "dtypes", "memory free", "device"];
    let columns = header.map(|name| (name, if name == "memory free" { Align::Right } else { Align::Left }));
    render(&columns, &reports.iter().map(row).collect::<Vec<_>>())
}

fn row(report: &BackendReport) -> Vec<String> {
    let yes_or_no = |yes| if yes { "yes" } else { "no" }.to_owned();
    let self_test = match report.self_test {
        Some(true) => "passed",
        Some(false) => "FAILED",
        None => "-",
    };
    let reason = report.reason.as_ref().map(|reason| if report.in_build { reason.as_str() } else { "-" });
    let device = [report.device.as_deref(), reason].into_iter().flatten().collect::<Vec<_>>().join(": ");
    vec![
        report.name.to_string(),
        yes_or_no(report.in_build),
        yes_or_no(report.available),
        self_test.to_owned(),
        if report.dtypes.is_empty() { "-".to_owned() } else { report.dtypes.join(" ") },
        report.memory_available_bytes.map_or("-".to_owned(), bytes),
        device,
    ]
}
