//! `smelt serve`: answers HTTP requests in OpenAI's words, and serves a page to chat on.
//!
//! The engine has the main thread, which owns the models; the server has one of its own.

mod engine_args;
mod models;

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use smelt_serve::{Limits, ServeOptions, Server};

pub use self::engine_args::EngineArgs;
pub use self::models::{ModelArgs, Served};
use crate::context::Context;
use crate::engine::with_engine;
use crate::error::CliError;
use crate::quantity::ByteSize;

const EXAMPLES: &str = "\
Examples:
  smelt serve
  smelt serve --model ~/models/qwen --model small=runs/quickstart --adapter polite=runs/lora
  SMELT_API_KEY=secret smelt serve --host 0.0.0.0 --port 8000";

/// Variable with a key, for those who would not write it on a command line.
const KEY_VARIABLE: &str = "SMELT_API_KEY";

/// Arguments of `smelt serve`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ServeArgs {
    #[command(flatten)]
    models: ModelArgs,
    /// Address to listen at; 0.0.0.0 lets other machines in
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    host: String,
    /// Port to listen at; 0 takes one that is free
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,
    /// Key that requests must bring; may be given several times [default: that in SMELT_API_KEY]
    #[arg(long, value_name = "KEY")]
    api_key: Vec<String>,
    /// Origin whose pages may use the server, or `*`; may be given several times
    #[arg(long, value_name = "ORIGIN")]
    cors: Vec<String>,
    /// Most tokens of a chat answer where the request does not say
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
    /// Largest request
    #[arg(long, value_name = "SIZE", default_value = "4MiB")]
    max_request_size: ByteSize,
    /// Most connections at a time
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: u32,
    /// Seconds from a request to the end of its answer
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..))]
    time_limit: u32,
    /// Seconds that a client may take to send a request or to read on, and that a connection may be idle
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    client_timeout: u32,
    #[command(flatten)]
    engine: EngineArgs,
}

/// What `--json` prints when requests are taken.
#[derive(Debug, Serialize)]
struct Ready<'a> {
    url: &'a str,
    host: String,
    port: u16,
    models: Vec<&'a str>,
    backend: String,
    pid: u32,
}

pub fn run(args: &ServeArgs, context: &Context) -> Result<(), CliError> {
    let options = options(args)?;
    let served = Served::find(&args.models, context)?;
    let backend = served.select(context)?;
    with_engine(backend, served.models(), args.engine.options(served.models())?, |engine| {
        let handle = engine.handle.clone();
        let server = Server::bind(&args.host, args.port, handle, served.for_server(), options)?;
        engine.load_first()?;
        let address = server.address();
        let url = format!("http://{address}");
        let (host, port, models) = (address.ip().to_string(), address.port(), served.names());
        let list = models.join(", ");
        let (backend, pid) = (backend.to_string(), std::process::id());
        context.output.record(&Ready { url: &url, host, port, models, backend, pid })?;
        context.output.line(&format!("serving {list} at {url} (the page to chat on, and /v1)"))?;
        server.run(|| context.interrupt.requested() || engine.has_ended());
        Ok(())
    })
}

fn options(args: &ServeArgs) -> Result<ServeOptions, CliError> {
    let mut api_keys = args.api_key.clone();
    if api_keys.is_empty() {
        api_keys.extend(std::env::var(KEY_VARIABLE).ok());
    }
    if api_keys.iter().any(String::is_empty) {
        return Err(CliError::Usage {
            message: "an API key is empty".to_owned(),
            hint: format!("give one with characters, or none (unset {KEY_VARIABLE})"),
        });
    }
    if let Some(origin) = args.cors.iter().find(|origin| !is_origin(origin)) {
        return Err(CliError::Usage {
            message: format!("`{origin}` is no origin"),
            hint: "an origin is `*`, or a scheme and a host without a path, such as `https://example.org`"
                .to_owned(),
        });
    }
    let client_time = Duration::from_secs(args.client_timeout.into());
    Ok(ServeOptions {
        api_keys,
        cors_origins: args.cors.clone(),
        default_max_tokens: args.max_tokens as usize,
        limits: Limits {
            request_bytes: usize::try_from(args.max_request_size.0).unwrap_or(usize::MAX),
            connections: args.max_connections as usize,
            header_time: client_time,
            read_time: client_time,
            write_time: client_time,
            request_time: Duration::from_secs(args.time_limit.into()),
        },
    })
}

/// As browsers write it.
fn is_origin(text: &str) -> bool {
    let host = text.split_once("://").map(|(_, host)| host);
    text == "*"
        || host
            .is_some_and(|host| !host.is_empty() && host.chars().all(|it| it.is_ascii_graphic() && it != '/'))
}
