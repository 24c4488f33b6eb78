//! `smelt doctor`: one page to paste into a bug report.

use std::process::Command;

use clap::Args;
use serde::Serialize;
use smelt_backend::{BackendReport, in_build, memory, survey};

use super::backends::table;
use crate::context::Context;
use crate::error::CliError;
use crate::quantity::bytes;
use crate::table::facts;

const EXAMPLES: &str = "\
Examples:
  smelt doctor
  smelt doctor --json > report.json";

/// Environment that changes how smelt or its libraries behave.
const VARIABLES: [&str; 7] = [
    "SMELT_LOG",
    "RAYON_NUM_THREADS",
    "VK_ICD_FILENAMES",
    "WGPU_BACKEND",
    "CUDA_VISIBLE_DEVICES",
    "XDG_RUNTIME_DIR",
    "RUST_BACKTRACE",
];

/// Arguments of `smelt doctor`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DoctorArgs {}

#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    build: &'static str,
    system: String,
    cpu_features: Vec<&'static str>,
    threads: usize,
    memory_total_bytes: u64,
    memory_available_bytes: u64,
    backends_in_build: Vec<String>,
    environment: Vec<String>,
    backends: Vec<BackendReport>,
}

pub fn run(_args: &DoctorArgs, context: &Context) -> Result<(), CliError> {
    let report = gather();
    context.output.record(&report)?;
    context.output.line(&page(&report))?;
    let tested = report.backends.iter().filter(|backend| backend.self_test.is_some());
    let failed = tested.clone().filter(|backend| backend.self_test == Some(false)).count();
    if failed > 0 { Err(CliError::ChecksFailed { failed, total: tested.count() }) } else { Ok(()) }
}

fn gather() -> Report {
    let set = |name: &&str| std::env::var(name).ok().map(|value| format!("{name}={value}"));
    Report {
        version: env!("CARGO_PKG_VERSION"),
        build: if cfg!(debug_assertions) { "debug (slow: build with --release)" } else { "release" },
        system: system(),
        cpu_features: cpu_features(),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        memory_total_bytes: memory::system_total_bytes(),
        memory_available_bytes: memory::system_available_bytes(),
        backends_in_build: in_build().iter().map(ToString::to_string).collect(),
        environment: VARIABLES.iter().filter_map(set).collect(),
        backends: survey(),
    }
}

fn page(report: &Report) -> String {
    let or_none = |list: String| if list.is_empty() { "none".to_owned() } else { list };
    let (free, total) = (bytes(report.memory_available_bytes), bytes(report.memory_total_bytes));
    let about = facts(&[
        ("smelt", format!("{} ({})", report.version, report.build)),
        ("system", report.system.clone()),
        ("threads", report.threads.to_string()),
        ("CPU features", or_none(report.cpu_features.join(" "))),
        ("memory", format!("{free} free of {total}")),
        ("build holds", report.backends_in_build.join(", ")),
        ("environment", or_none(report.environment.join(" "))),
    ]);
    format!("{about}\n\n{}", table(&report.backends))
}

/// The system in its own words, or in Rust's where it does not answer.
fn system() -> String {
    let constants = || format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
    let answer = Command::new("uname").arg("-srm").output().ok().filter(|answer| answer.status.success());
    answer.map_or_else(constants, |answer| String::from_utf8_lossy(&answer.stdout).trim().to_owned())
}

#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<&'static str> {
    [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
    ]
    .into_iter()
    .filter_map(|(name, found)| found.then_some(name))
    .collect()
}

#[cfg(target_arch = "aarch64")]
fn cpu_features() -> Vec<&'static str> {
    [
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod")),
        ("fp16", std::arch::is_aarch64_feature_detected!("fp16")),
        ("i8mm", std::arch::is_aarch64_feature_detected!("i8mm")),
    ]
    .into_iter()
    .filter_map(|(name, found)| found.then_some(name))
    .collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn cpu_features() -> Vec<&'static str> {
    Vec::new()
}
