//! Runs the binary in a folder of its own and compares with snapshots.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// A folder in which commands run.
pub struct Place {
    folder: TempDir,
}

/// What a command did.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Place {
    pub fn new() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The command with `args`, in this folder and without the settings of whoever runs the tests.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_smelt"));
        command.args(args).current_dir(self.folder.path());
        for variable in ["CARGO", "SMELT_LOG", "RUST_BACKTRACE", "COLUMNS"] {
            command.env_remove(variable);
        }
        command
    }

    pub fn smelt(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args))
    }

    /// A command that must succeed.
    pub fn done(&self, args: &[&str]) -> Ran {
        let ran = self.smelt(args);
        assert_eq!(ran.code, Some(0), "{args:?}\n{}", ran.stderr);
        ran
    }
}

impl Ran {
    /// What `command` did.
    pub fn of(mut command: Command) -> Self {
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    /// The lines of stdout as JSON.
    pub fn records(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// The first record of a kind.
    pub fn record(&self, kind: &str) -> Value {
        let found = self.records().into_iter().find(|record| record["kind"] == kind);
        found.unwrap_or_else(|| panic!("no record `{kind}` in\n{}", self.stdout))
    }
}

/// A folder of tests/golden, or a file in one.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

/// Compares `text` with `tests/snapshots/NAME.txt`; with `SMELT_BLESS=1`, writes it instead.
pub fn snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(format!("{name}.txt"));
    if std::env::var_os("SMELT_BLESS").is_some() {
        fs::write(&path, text).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
    assert!(
        expected == text,
        "{} differs; if the change is wanted, run with SMELT_BLESS=1\n--- expected\n{expected}\n--- found\n{text}",
        path.display()
    );
}
