//! Rules on the crates: which may use which, exact pins, and the lock file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use super::Finding;
use crate::outcome::Result;
use crate::workspace::Workspace;

/// Which crates of the workspace each may use; what those may use is allowed with them.
const ARROWS: [(&str, &[&str]); 13] = [
    ("smelt-backend", &[]),
    ("smelt-text", &[]),
    ("smelt-data", &["smelt-text"]),
    ("smelt-model", &["smelt-backend"]),
    ("smelt-convert", &["smelt-model", "smelt-data"]),
    ("smelt-train", &["smelt-model", "smelt-data"]),
    ("smelt-generate", &["smelt-model", "smelt-text"]),
    ("smelt-eval", &["smelt-generate", "smelt-data"]),
    ("smelt-rl", &["smelt-train", "smelt-generate", "smelt-eval"]),
    ("smelt-serve", &["smelt-generate", "smelt-text"]),
    ("smelt-cli", &["smelt-convert", "smelt-rl", "smelt-serve"]),
    ("smelt-testkit", &[]),
    ("xtask", &[]),
];

/// For tests alone.
const TESTKIT: &str = "smelt-testkit";

/// Crates that hold host arrays and text only.
const WITHOUT_TENSORS: [&str; 2] = ["smelt-data", "smelt-text"];

/// Beginnings of the names of crates that are a backend, or that only one needs.
const BACKEND_CRATES: [&str; 10] = [
    "burn-flex",
    "burn-ndarray",
    "burn-candle",
    "burn-wgpu",
    "burn-cuda",
    "candle-",
    "cubecl",
    "cudarc",
    "objc2",
    "wgpu",
];

/// Families whose members only fit each other at one version.
const PINNED: [&str; 2] = ["burn", "candle-"];

/// The index that every locked package comes from.
const PUBLIC_INDEX: &str = concat!("registry+https://github.com/rust-lang/", "crates", ".io-index");

/// A dependency as a manifest states it.
struct Dependency {
    user: String,
    name: String,
    requirement: String,
    is_dev: bool,
}

/// Every rule on the manifests and the lock file.
pub fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let dependencies = dependencies(workspace)?;
    let mut findings: Vec<Finding> = dependencies.iter().flat_map(check_dependency).collect();
    let lock = fs::read_to_string(workspace.root.join("Cargo.lock"))
        .map_err(|error| format!("cannot read `Cargo.lock`: {error}"))?;
    findings.extend(check_lock(&lock));
    if workspace.is_tracked("Cargo.lock") == Some(false) {
        findings.push(Finding::new("Cargo.lock", 0, "not committed"));
    }
    Ok(findings)
}

/// Direct dependencies of every crate of the workspace.
fn dependencies(workspace: &Workspace) -> Result<Vec<Dependency>> {
    let metadata = workspace.metadata()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut dependencies = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            dependencies.push(Dependency {
                user: text(&package["name"]),
                name: text(&dependency["name"]),
                requirement: text(&dependency["req"]),
                is_dev: dependency["kind"] == "dev",
            });
        }
    }
    Ok(dependencies)
}

fn check_dependency(dependency: &Dependency) -> Vec<Finding> {
    let Dependency { user, name, requirement, is_dev } = dependency;
    let mut messages = Vec::new();
    let in_workspace = ARROWS.iter().any(|(member, _)| member == name) || name.starts_with("smelt-");
    if name == TESTKIT && !is_dev {
        messages.push(format!("uses `{name}`, which is for tests"));
    } else if name != TESTKIT && in_workspace && !reachable(user).contains(name.as_str()) {
        messages.push(format!(
            "must not use `{name}`; the arrows are in ARCHITECTURE.md and xtask/src/tidy/crates.rs"
        ));
    }
    if user != "smelt-backend" && BACKEND_CRATES.iter().any(|start| name.starts_with(start)) {
        messages.push(format!("names the backend `{name}`; only smelt-backend may"));
    }
    if PINNED.iter().any(|start| name.starts_with(start)) && !requirement.starts_with('=') {
        messages.push(format!(
            "asks for `{name}` {requirement}; the burn and candle families are pinned with `=`"
        ));
    }
    let path = if user == "xtask" { "xtask/Cargo.toml".into() } else { format!("crates/{user}/Cargo.toml") };
    messages.into_iter().map(|message| Finding::new(&path, 0, message)).collect()
}

/// Every crate of the workspace that `user` may use.
fn reachable(user: &str) -> BTreeSet<&str> {
    closure(&ARROWS.iter().map(|(member, used)| (*member, used.to_vec())).collect(), user)
}

fn check_lock(lock: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in lock.lines().enumerate() {
        let source = line.strip_prefix("source = \"").and_then(|rest| rest.strip_suffix('"'));
        if let Some(source) = source.filter(|source| *source != PUBLIC_INDEX) {
            findings.push(Finding::new("Cargo.lock", index + 1, format!("package from `{source}`")));
        }
    }
    let graph = locked_packages(lock);
    for user in WITHOUT_TENSORS {
        if let Some(burn) = closure(&graph, user).iter().find(|name| name.starts_with("burn")) {
            findings.push(Finding::new(
                "Cargo.lock",
                0,
                format!("`{user}` depends on `{burn}`; it must not know burn"),
            ));
        }
    }
    findings
}

/// Names of the locked packages and what each depends on; versions are put together.
fn locked_packages(lock: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut packages: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut current = "";
    for line in lock.lines() {
        if let Some(name) = line.strip_prefix("name = \"") {
            current = name.trim_end_matches('"');
            packages.entry(current).or_default();
        } else if let Some(used) = line.strip_prefix(" \"") {
            let name = used.split([' ', '"']).next().unwrap_or_default();
            packages.entry(current).or_default().push(name);
        }
    }
    packages
}

fn closure<'a>(graph: &BTreeMap<&'a str, Vec<&'a str>>, user: &'a str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open = vec![user];
    while let Some(next) = open.pop() {
        open.extend(graph.get(next).into_iter().flatten().copied().filter(|used| found.insert(*used)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(user: &str, name: &str, requirement: &str, is_dev: bool) -> usize {
        let dependency =
            Dependency { user: user.into(), name: name.into(), requirement: requirement.into(), is_dev };
        check_dependency(&dependency).len()
    }

    #[test]
    fn arrows_point_one_way() {
        assert_eq!(findings("smelt-train", "smelt-model", "*", false), 0);
        assert_eq!(
            findings("smelt-train", "smelt-backend", "*", false),
            0,
            "what smelt-model may use comes along"
        );
        assert_eq!(findings("smelt-train", "smelt-eval", "*", false), 1);
        assert_eq!(findings("smelt-train", "smelt-generate", "*", true), 1);
        assert_eq!(findings("smelt-data", "smelt-model", "*", false), 1);
        assert_eq!(findings("smelt-backend", "smelt-text", "*", false), 1);
        assert_eq!(findings("smelt-unknown", "smelt-text", "*", false), 1);
    }

    #[test]
    fn the_table_of_arrows_has_no_circle() {
        for (member, _) in ARROWS {
            assert!(!reachable(member).contains(member), "{member}");
        }
    }

    #[test]
    fn the_testkit_is_for_tests() {
        assert_eq!(findings("smelt-model", "smelt-testkit", "*", true), 0);
        assert_eq!(findings("smelt-model", "smelt-testkit", "*", false), 1);
    }

    #[test]
    fn only_smelt_backend_names_a_backend() {
        assert_eq!(findings("smelt-backend", "burn-wgpu", "=0.21.0", false), 0);
        assert_eq!(findings("smelt-train", "burn-wgpu", "=0.21.0", false), 1);
        assert_eq!(findings("smelt-generate", "candle-core", "=0.10.2", true), 1);
    }

    #[test]
    fn families_are_pinned_exactly() {
        assert_eq!(findings("smelt-model", "burn-core", "=0.21.0", false), 0);
        assert_eq!(findings("smelt-model", "burn-core", "^0.21", false), 1);
        assert_eq!(findings("smelt-model", "serde", "^1", false), 0);
    }

    #[test]
    fn burn_behind_a_locked_package_is_found() {
        let lock = |used: &str| {
            format!(
                "[[package]]\nname = \"smelt-data\"\ndependencies = [\n \"odd\",\n]\n\n[[package]]\nname = \"odd\"\ndependencies = [\n \"{used} 0.21.0\",\n]\n"
            )
        };
        assert_eq!(check_lock(&lock("burn-core")).len(), 1);
        assert_eq!(check_lock(&lock("serde")).len(), 0);
    }

    #[test]
    fn a_package_from_elsewhere_is_found() {
        assert_eq!(check_lock(&format!("source = \"{PUBLIC_INDEX}\"")).len(), 0);
        assert_eq!(check_lock("source = \"git+https://example.org/burn\"").len(), 1);
    }
}
