//! A run that is killed at any moment and resumed ends in the weights of one that was not.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

const STEPS: u32 = 60;

fn train(output: &Path, resume: bool) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smelt"));
    let settings = [
        "model.hidden_size=32",
        "model.num_hidden_layers=2",
        "model.num_attention_heads=4",
        "model.resid_pdrop=0.1",
        "model.vocab_size=400",
    ];
    command.args(["train", "--quiet", "--backend", "cpu", "--batch-size", "2", "--seq-length", "32"]);
    command.args([
        "--warmup-steps",
        "5",
        "--save-interval",
        "7",
        "--eval-interval",
        "20",
        "--log-interval",
        "1",
    ]);
    command.args(["--gradient-accumulation", "2", "--max-steps", &STEPS.to_string()]);
    command.args(settings.iter().flat_map(|setting| ["--set", setting]));
    command.arg("--output").arg(output).args(resume.then_some(["--resume", "auto"]).iter().flatten());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn last_checkpoint(run: &Path) -> PathBuf {
    run.join("checkpoints").join(format!("step-{STEPS:08}"))
}

fn bytes(run: &Path, file: &str) -> Vec<u8> {
    std::fs::read(last_checkpoint(run).join(file)).expect("the run has its last checkpoint")
}

#[test]
fn a_killed_run_resumes_bit_for_bit() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    assert!(train(&whole, false).status().expect("smelt runs").success());

    let mut kills = 0;
    // Delays that fall on the preparation of the data, on steps and on saves alike.
    for attempt in 0..40u64 {
        let mut run = train(&killed, true).spawn().expect("smelt runs");
        sleep(Duration::from_millis(60 + attempt * 37 % 290));
        kills += u32::from(run.try_wait().expect("the run can be asked").is_none());
        run.kill().expect("the run can be killed");
        run.wait().expect("the run ends");
        if last_checkpoint(&killed).exists() {
            break;
        }
    }
    assert!(train(&killed, true).status().expect("smelt runs").success());
    assert!(kills > 0, "no run was killed before it ended");
    for file in ["model.safetensors", "optimizer.safetensors", "trainer_state.json", "tokenizer.json"] {
        assert!(bytes(&whole, file) == bytes(&killed, file), "{file} differs after {kills} kills");
    }
}
