//! Steps of a chore: commands run one after the other, each timed, with a table at the end.

use std::io;
use std::process::Command;
use std::time::Instant;

/// One named command.
pub struct Step {
    /// A word or two for the table.
    pub name: String,
    /// What runs; its output goes to the terminal.
    pub command: Command,
}

/// How a step ended.
pub struct Finished {
    /// The step's name.
    pub name: String,
    /// Whether its exit code was 0.
    pub passed: bool,
    /// Wall-clock time.
    pub elapsed_seconds: f64,
}

impl Step {
    /// A step that runs `command`.
    pub fn new(name: impl Into<String>, command: Command) -> Self {
        Self { name: name.into(), command }
    }

    /// Prints the command line, runs it and waits for its end.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn run(mut self) -> io::Result<Finished> {
        println!("\n$ {}", command_line(&self.command));
        let start = Instant::now();
        let status = self.command.status().map_err(|error| {
            let program = self.command.get_program().to_string_lossy();
            io::Error::new(error.kind(), format!("cannot start `{program}`: {error}"))
        })?;
        if !status.success() {
            // A program that was killed says nothing itself.
            println!("{}: {status}", self.name);
        }
        Ok(Finished::after(self.name, status.success(), start))
    }
}

impl Finished {
    /// A step that began at `start` and has just ended.
    pub fn after(name: impl Into<String>, passed: bool, start: Instant) -> Self {
        Self { name: name.into(), passed, elapsed_seconds: start.elapsed().as_secs_f64() }
    }
}

/// A line per step: pass or fail, seconds, name.
pub fn table(steps: &[Finished]) -> String {
    let line = |step: &Finished| {
        let word = if step.passed { "pass" } else { "FAIL" };
        format!("{word}  {:>7.1} s  {}\n", step.elapsed_seconds, step.name)
    };
    steps.iter().map(line).collect()
}

/// The command as one would type it; the program's folder is left out.
fn command_line(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let program = program.file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_tells_failures_from_passes() {
        let steps = [
            Finished { name: "fmt".into(), passed: true, elapsed_seconds: 0.25 },
            Finished { name: "tests".into(), passed: false, elapsed_seconds: 61.0 },
        ];
        assert_eq!(table(&steps), "pass      0.2 s  fmt\nFAIL     61.0 s  tests\n");
    }

    #[test]
    fn command_line_leaves_the_programs_folder_out() {
        let mut command = Command::new("bin/cargo");
        command.args(["fmt", "--check"]);
        assert_eq!(command_line(&command), "cargo fmt --check");
    }
}
