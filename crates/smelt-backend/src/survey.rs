//! What `smelt backends` shows: every backend, and how it stands on this machine.

use serde::Serialize;

use crate::select::{device_facts, self_test};
use crate::{Name, in_build};

/// How one backend stands.
#[derive(Debug, Clone, Serialize)]
pub struct BackendReport {
    /// The backend.
    pub name: Name,
    /// Whether its cargo feature was on.
    pub in_build: bool,
    /// Whether it found a device that passes the self-test.
    pub available: bool,
    /// Why it is not available.
    pub reason: Option<String>,
    /// Its device in the driver's words.
    pub device: Option<String>,
    /// Memory of the device, where the driver tells.
    pub memory_total_bytes: Option<u64>,
    /// Memory of the device that is free, where the driver tells.
    pub memory_available_bytes: Option<u64>,
    /// Float types its tensors can have.
    pub dtypes: Vec<&'static str>,
    /// Whether the self-test passed; `None` if it was not run.
    pub self_test: Option<bool>,
}

impl BackendReport {
    fn absent(name: Name, in_build: bool, reason: String) -> Self {
        Self {
            name,
            in_build,
            available: false,
            reason: Some(reason),
            device: None,
            memory_total_bytes: None,
            memory_available_bytes: None,
            dtypes: Vec::new(),
            self_test: None,
        }
    }
}

/// Examines every backend smelt knows, self-test included.
pub fn survey() -> Vec<BackendReport> {
    Name::ALL.into_iter().map(report).collect()
}

fn report(name: Name) -> BackendReport {
    if !in_build().contains(&name) {
        return BackendReport::absent(name, false, "not in this build".to_owned());
    }
    let facts = match device_facts(name) {
        Ok(facts) => facts,
        Err(reason) => return BackendReport::absent(name, true, reason),
    };
    let test = self_test(name);
    BackendReport {
        name,
        in_build: true,
        available: test.is_ok(),
        self_test: Some(test.is_ok()),
        reason: test.err(),
        device: Some(facts.description),
        memory_total_bytes: facts.memory_total_bytes,
        memory_available_bytes: facts.memory_available_bytes,
        dtypes: facts.dtypes,
    }
}
