//! Diagnostics of the crates below: `-v` shows them, `SMELT_LOG` filters them by module.

use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt, registry};

use crate::output::Stderr;
use crate::profile::Profile;

/// Sends diagnostics to stderr: warnings, with `-v` information, with `-vv` details; and spans to `profile`.
pub fn install(verbosity: u8, profile: Option<&Profile>) {
    let level = match verbosity {
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
        EnvFilter::new(modules.map(|module| format!("{module}={level}")).join(","))
    });
    let diagnostics = fmt::layer().with_writer(|| Stderr).without_time().with_filter(filter);
    let spans = profile.map(Profile::layer);
    // A second call (tests, a program on the library face) keeps what is there.
    let _ = registry().with(diagnostics).with(spans).try_init();
}
