//! `smelt data stats`: documents and tokens of a prepared folder, and how long its documents are.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use smelt_data::{Prepared, ShardStatistics, Statistics};
use smelt_text::write_atomically;

use super::histogram::{bars, svg};
use crate::context::Context;
use crate::error::CliError;
use crate::quantity::{bytes, count};
use crate::table::facts;

const EXAMPLES: &str = "\
Examples:
  smelt data stats data/bash
  smelt data stats data/bash --svg lengths.svg";

/// Arguments of `smelt data stats`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct StatsArgs {
    /// Prepared folder
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Write the lengths of documents as a picture, too
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

pub fn run(args: &StatsArgs, context: &Context) -> Result<(), CliError> {
    let statistics = Statistics::of(&Prepared::open(&args.folder)?);
    if let Some(path) = &args.svg {
        write_svg(path, &statistics)?;
        context.output.note(&format!("wrote {}", path.display()));
    }
    context.output.record(&record(&args.folder, &statistics))?;
    context.output.line(&page(&statistics))
}

fn write_svg(path: &Path, statistics: &Statistics) -> Result<(), CliError> {
    write_atomically(path, svg(statistics).as_bytes()).map_err(|source| CliError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

fn record(folder: &Path, statistics: &Statistics) -> Value {
    let mut record = json!({"kind": "statistics", "folder": folder});
    let numbers = serde_json::to_value(statistics).expect("statistics are plain data");
    if let (Value::Object(record), Value::Object(numbers)) = (&mut record, numbers) {
        record.extend(numbers);
    }
    record
}

fn page(statistics: &Statistics) -> String {
    let Statistics { train, val, lengths, suggested_seq_length, fitting_documents, fitting_tokens } =
        statistics;
    let spread = format!(
        "median {}, mean {:.0}, 90% up to {}, 99% up to {}, longest {}",
        lengths.median, lengths.mean, lengths.p90, lengths.p99, lengths.max
    );
    let suggestion = format!(
        "{suggested_seq_length} (holds {:.1}% of the documents whole, {:.1}% of the tokens)",
        fitting_documents * 100.0,
        fitting_tokens * 100.0
    );
    let rows = [
        ("train", shard(train)),
        ("validation", shard(val)),
        ("tokens per document", spread),
        ("suggested --seq-length", suggestion),
    ];
    format!("{}\n\n{}", facts(&rows), bars(&lengths.histogram))
}

fn shard(numbers: &ShardStatistics) -> String {
    format!(
        "{} documents, {} tokens, {}, {:.2} bytes per token",
        numbers.documents,
        count(numbers.tokens),
        bytes(numbers.text_bytes),
        numbers.bytes_per_token
    )
}
