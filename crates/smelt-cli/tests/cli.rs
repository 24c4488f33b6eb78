//! The binary as a user sees it: exit codes, stdout and stderr.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "cli/adapters.rs"]
mod adapters;
#[path = "cli/calibration.rs"]
mod calibration;
#[path = "cli/convert.rs"]
mod convert;
#[path = "cli/data.rs"]
mod data;
#[path = "cli/download.rs"]
mod download;
#[path = "cli/faults.rs"]
mod faults;
#[path = "cli/flags.rs"]
mod flags;
#[path = "cli/generate.rs"]
mod generate;
#[path = "cli/instructions.rs"]
mod instructions;
#[path = "cli/memory.rs"]
mod memory;
#[path = "cli/python.rs"]
mod python;
#[path = "cli/resume.rs"]
mod resume;
#[path = "cli/runs.rs"]
mod runs;
#[path = "cli/serve.rs"]
mod serve;
#[allow(dead_code, reason = "written for the tests of smelt-data, which use all of it")]
#[path = "../../smelt-data/tests/hub/server.rs"]
mod server;
#[path = "cli/smelt.rs"]
mod smelt;
#[path = "cli/tokenizer.rs"]
mod tokenizer;
#[path = "cli/verify.rs"]
mod verify;
