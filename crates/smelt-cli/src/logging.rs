//! Diagnostics of the crates below: `-v` shows them, `SMELT_LOG` filters them by module.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt, registry};

use crate::output::Stderr;
use crate::profile::Profile;

/// Sends diagnostics to stderr: warnings, with `-v` information, with `-vv` details; and spans to `profile`. The
/// server has a verbosity of its own.
pub fn install(verbosity: u8, of_server: u8, profile: Option<&Profile>) {
    let level = |verbosity| match verbosity {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    // Only smelt's own modules: those of the libraries are for their authors.
    let filter = EnvFilter::try_from_env("SMELT_LOG").unwrap_or_else(|_| {
        let modules = [
            "smelt_cli",
            "smelt_backend",
            "smelt_text",
            "smelt_data",
            "smelt_model",
            "smelt_train",
            "smelt_generate",
        ];
        let others = modules.map(|module| format!("{module}={}", level(verbosity))).join(",");
        EnvFilter::new(format!("{others},smelt_serve={}", level(of_server)))
    });
    let lines = fmt::layer().with_writer(|| Stderr).with_ansi(io::stderr().is_terminal());
    // What a server logs is read later.
    let lines = if of_server > verbosity { lines.boxed() } else { lines.without_time().boxed() };
    let diagnostics = lines.with_filter(filter);
    let spans = profile.map(Profile::layer);
    // A second call (tests, a program on the library face) keeps what is there.
    let _ = registry().with(diagnostics).with(spans).try_init();
}
