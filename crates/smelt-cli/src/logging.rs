//! Diagnostics of the crates below: `-v` shows them, `SMELT_LOG` filters them by module.

use tracing_subscriber::EnvFilter;

use crate::output::Stderr;

/// Sends diagnostics to stderr: warnings, with `-v` information, with `-vv` details.
pub fn install(verbosity: u8) {
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
    // A second call (tests, a program on the library face) keeps what is there.
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Stderr).without_time().try_init();
}
