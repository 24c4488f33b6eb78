//! Downloads from a server on this machine that speaks the hub's API, well and badly.

#![allow(clippy::unwrap_used)]

mod downloads;
mod fake_hub;
mod faults;
mod server;
