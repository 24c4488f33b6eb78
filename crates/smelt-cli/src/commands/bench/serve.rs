//! `smelt bench serve`: many clients against our own server on loopback.
//!
//! What is measured is what a client sees: the server, HTTP and the clients share the machine with the engine.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use smelt_serve::{ServeOptions, Server};

use super::clients::Clients;
use super::plot::{Panel, Series, draw};
use crate::commands::serve::{EngineArgs, ModelArgs, Served};
use crate::context::Context;
use crate::engine::with_engine;
use crate::error::CliError;
use crate::table::{Align, render};

/// What takes less is more noise than measurement.
const SHORTEST: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  smelt bench serve
  smelt bench serve --model ~/models/gpt2 --concurrency 1,8,32 --plot serve.svg";

/// Arguments of `smelt bench serve`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchServeArgs {
    #[command(flatten)]
    models: ModelArgs,
    /// Clients at a time, one measurement each
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,2,4,8,16", value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: Vec<u16>,
    /// Requests of each client, at least: they go on until a second has passed
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    requests: u32,
    /// Tokens of each prompt
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    prompt_tokens: u32,
    /// Tokens of each answer
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..))]
    max_tokens: u32,
    /// File to draw the figures into, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
}

/// The figures of one number of clients.
#[derive(Debug, Serialize)]
pub struct Level {
    clients: u16,
    requests: usize,
    tokens: usize,
    seconds: f64,
    tokens_per_second: f64,
    /// Of the level with the fewest clients.
    speedup: f64,
    /// None where no answer had a text, as those of a model without training may.
    first_token_ms: Option<Percentiles>,
    /// None where none had two.
    between_tokens_ms: Option<Percentiles>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Percentiles {
    p50: f64,
    p90: f64,
    p99: f64,
}

pub fn run(args: &BenchServeArgs, context: &Context) -> Result<(), CliError> {
    let served = Served::find(&args.models, context)?;
    let vocab_size = served.models()[0].config.decoder.vocab_size;
    let backend = served.select(context)?;
    let levels = with_engine(backend, served.models(), args.engine.options(served.models())?, |engine| {
        let models = served.for_server();
        let server = Server::bind("127.0.0.1", 0, engine.handle.clone(), models, ServeOptions::default())?;
        engine.load_first()?;
        let (address, ended) = (server.address(), AtomicUsize::new(0));
        thread::scope(|scope| {
            let stops = || engine.has_ended() || ended.load(Ordering::Relaxed) > 0;
            scope.spawn(move || server.run(stops));
            let levels = measure(args, address, vocab_size, context);
            ended.store(1, Ordering::Relaxed);
            levels
        })
    })?;
    for level in &levels {
        context.output.record(level)?;
    }
    context.output.line(&table(&levels))?;
    let Some(path) = &args.plot else { return Ok(()) };
    std::fs::write(path, picture(&levels)).map_err(|source| CliError::Io {
        action: "write",
        path: path.clone(),
        source,
    })?;
    context.output.note(&format!("drawn into {}", path.display()));
    Ok(())
}

fn measure(
    args: &BenchServeArgs,
    address: SocketAddr,
    vocab_size: usize,
    context: &Context,
) -> Result<Vec<Level>, CliError> {
    let clients = Clients::new(address, args.prompt_tokens, args.max_tokens, vocab_size);
    // Whatever is made at its first use is made now.
    level(&clients, args.concurrency.iter().copied().max().unwrap_or(1), 1, Duration::ZERO)?;
    let mut levels: Vec<Level> = Vec::new();
    for count in &args.concurrency {
        if context.interrupt.requested() {
            return Err(CliError::Interrupted { hint: None });
        }
        context.output.note(&format!("measuring {count} clients"));
        let mut level = level(&clients, *count, args.requests, SHORTEST)?;
        let first = levels.first().map_or(level.tokens_per_second, |level| level.tokens_per_second);
        level.speedup = level.tokens_per_second / first;
        levels.push(level);
    }
    Ok(levels)
}

/// So many clients, each asking `requests` things, one after the other, and more until `least` has passed.
fn level(clients: &Clients, count: u16, requests: u32, least: Duration) -> Result<Level, CliError> {
    let started = Instant::now();
    let seen = clients.ask(count, requests, least).map_err(|error| CliError::Usage {
        message: format!("the server refused a request: {error}"),
        hint: "fewer clients, or a larger `--max-waiting`; a prompt and its answer must fit the context"
            .to_owned(),
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let tokens = seen.iter().map(|seen| seen.tokens).sum();
    Ok(Level {
        clients: count,
        requests: seen.len(),
        tokens,
        seconds,
        tokens_per_second: tokens as f64 / seconds,
        speedup: 1.0,
        first_token_ms: percentiles(seen.iter().flat_map(|seen| &seen.first_ms).copied().collect()),
        between_tokens_ms: percentiles(seen.iter().flat_map(|seen| &seen.between_ms).copied().collect()),
    })
}

/// By nearest rank; `None` of nothing.
fn percentiles(mut values: Vec<f64>) -> Option<Percentiles> {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let rank = (values.len() as f64 * share).ceil() as usize;
        values.get(rank.saturating_sub(1)).copied()
    };
    Some(Percentiles { p50: at(0.5)?, p90: at(0.9)?, p99: at(0.99)? })
}

fn table(levels: &[Level]) -> String {
    let right = Align::Right;
    let columns = [
        ("clients", right),
        ("tokens/s", right),
        ("speedup", right),
        ("first token p50", right),
        ("p90", right),
        ("p99", right),
        ("between tokens p50", right),
        ("p90", right),
        ("p99", right),
    ];
    let row = |level: &Level| {
        let mut row = vec![
            level.clients.to_string(),
            format!("{:.1}", level.tokens_per_second),
            format!("{:.2}x", level.speedup),
        ];
        for measured in [level.first_token_ms, level.between_tokens_ms] {
            row.extend(match measured {
                Some(Percentiles { p50, p90, p99 }) => [p50, p90, p99].map(|value| format!("{value:.1} ms")),
                None => [(); 3].map(|()| "-".to_owned()),
            });
        }
        row
    };
    render(&columns, &levels.iter().map(row).collect::<Vec<_>>())
}

fn picture(levels: &[Level]) -> String {
    let series = |label: &'static str, value: &dyn Fn(&Level) -> Option<f64>| Series {
        label,
        points: levels.iter().filter_map(|level| Some((f64::from(level.clients), value(level)?))).collect(),
    };
    let of = |figures: &dyn Fn(&Level) -> Option<Percentiles>| {
        vec![
            series("p50", &|level| Some(figures(level)?.p50)),
            series("p90", &|level| Some(figures(level)?.p90)),
            series("p99", &|level| Some(figures(level)?.p99)),
        ]
    };
    draw(&[
        Panel {
            title: "tokens per second",
            series: vec![series("all clients", &|level| Some(level.tokens_per_second))],
        },
        Panel { title: "first token, ms", series: of(&|level| level.first_token_ms) },
        Panel { title: "between tokens, ms", series: of(&|level| level.between_tokens_ms) },
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let Percentiles { p50, p90, p99 } = percentiles((1..=200).rev().map(f64::from).collect()).unwrap();
        assert_eq!((p50, p90, p99), (100.0, 180.0, 198.0));
        let one = percentiles(vec![7.0]).unwrap();
        assert_eq!((one.p50, one.p99), (7.0, 7.0));
        assert!(percentiles(Vec::new()).is_none());
    }
}
