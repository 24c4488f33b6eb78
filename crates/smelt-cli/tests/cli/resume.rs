//! A run that is killed at any moment and resumed ends in the files of one that was not.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Steps of a run: some seconds, so that kills find it at work.
const STEPS: u32 = 60;
/// Kills of each run, at least.
const KILLS: u32 = 4;

fn smelt() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smelt"));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.args(["train", "--quiet", "--backend", "cpu", "--batch-size", "2", "--seq-length", "32"]);
    command
}

/// One kind of run.
struct Run<'a> {
    method: &'a str,
    accumulation: &'a str,
    /// The model that adapters are trained on.
    base: &'a Path,
}

impl Run<'_> {
    fn train(&self, output: &Path, resume: bool) -> Command {
        let mut command = smelt();
        if self.method == "full" {
            command.args(SHAPE.iter().flat_map(|setting| ["--set", setting]));
        } else {
            command.arg("--model").arg(self.base);
            command.args(["--method", self.method, "--lora-rank", "4", "--lora-dropout", "0.1"]);
        }
        command.args(["--warmup-steps", "5", "--save-interval", "3", "--eval-interval", "20"]);
        command.args(["--log-interval", "1", "--max-steps", &STEPS.to_string()]);
        command.args(["--gradient-accumulation", self.accumulation]);
        command.arg("--output").arg(output).args(resume.then_some(["--resume", "auto"]).iter().flatten());
        command
    }
}

const SHAPE: [&str; 5] = [
    "model.hidden_size=32",
    "model.num_hidden_layers=2",
    "model.num_attention_heads=4",
    "model.vocab_size=400",
    "model.resid_pdrop=0.1",
];

fn last_checkpoint(run: &Path) -> PathBuf {
    run.join("checkpoints").join(format!("step-{STEPS:08}"))
}

fn bytes(run: &Path, file: &str) -> Vec<u8> {
    std::fs::read(last_checkpoint(run).join(file)).expect("the run has its last checkpoint")
}

/// Waits until a checkpoint is being written; false if the run ended before.
fn saves(run: &Path, child: &mut Child) -> bool {
    let writing = || {
        let entries = std::fs::read_dir(run.join("checkpoints")).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(".partial-"))
    };
    let started = Instant::now();
    // What an earlier kill left is no save.
    sleep(Duration::from_millis(30));
    while child.try_wait().expect("the run can be asked").is_none() && started.elapsed().as_secs() < 20 {
        if writing() {
            return true;
        }
        sleep(Duration::from_micros(100));
    }
    false
}

/// Kills the run again and again, every other time while it saves, until it is through; returns how often.
fn kill_until_done(run: &Run<'_>, output: &Path) -> u32 {
    let mut kills = 0;
    for attempt in 0..200u64 {
        let mut child = run.train(output, true).spawn().expect("smelt runs");
        if attempt % 2 == 0 {
            // Delays that fall on the preparation of the data, on steps and on saves alike.
            sleep(Duration::from_millis(40 + attempt * 37 % 150));
        } else {
            saves(output, &mut child);
        }
        kills += u32::from(child.try_wait().expect("the run can be asked").is_none());
        child.kill().expect("the run can be killed");
        child.wait().expect("the run ends");
        if last_checkpoint(output).exists() {
            break;
        }
        if kills >= KILLS && attempt > 20 {
            break;
        }
    }
    kills
}

#[test]
fn killed_runs_resume_bit_for_bit() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let base = folder.path().join("base");
    let mut made = smelt();
    made.args(SHAPE.iter().flat_map(|setting| ["--set", setting])).args(["--max-steps", "3"]);
    assert!(made.arg("--output").arg(&base).status().expect("smelt runs").success());
    for (method, accumulation) in
        ["full", "lora", "dora"].into_iter().flat_map(|method| [(method, "1"), (method, "4")])
    {
        let run = Run { method, accumulation, base: &base };
        let [whole, killed] =
            ["whole", "killed"].map(|name| folder.path().join(format!("{name}-{method}-{accumulation}")));
        assert!(run.train(&whole, false).status().expect("smelt runs").success());
        let kills = kill_until_done(&run, &killed);
        assert!(run.train(&killed, true).status().expect("smelt runs").success());
        assert!(kills >= KILLS, "{method} x {accumulation}: only {kills} kills before the run ended");
        let weights = if method == "full" { "model.safetensors" } else { "adapter_model.safetensors" };
        for file in [weights, "optimizer.safetensors", "trainer_state.json", "tokenizer.json"] {
            let same = bytes(&whole, file) == bytes(&killed, file);
            assert!(same, "{method} x {accumulation}: {file} differs after {kills} kills");
        }
        println!("{method} x {accumulation}: {kills} kills");
    }
}
