//! Whole runs of a model small enough for a test.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::smelt::Place;

/// Two blocks of width 32 on the embedded corpus.
const CONFIG: &str = "\
model: {vocab_size: 300, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, max_position_embeddings: 32, dropout: 0.1}
data: {embedded: true}
train: {batch_size: 4, seq_length: 32, max_steps: 30, warmup_steps: 2, learning_rate: 5.0e-3, eval_interval: 10, eval_batches: 4}
checkpoint: {output_dir: run, save_interval: 10, keep_last: 2}
";

/// The run of [`CONFIG`], finished.
fn trained() -> Place {
    let place = Place::new();
    place.write("nano.yaml", CONFIG);
    place.done(&["train", "--config", "nano.yaml", "--backend", "cpu", "--quiet"]);
    place
}

#[test]
fn a_run_trains_samples_and_says_what_is_next() {
    let place = Place::new();
    place.write("nano.yaml", CONFIG);
    let ran = place.done(&["train", "--config", "nano.yaml", "--backend", "cpu"]);
    for part in [
        "finished: 30 steps; validation loss",
        "checkpoint: run/checkpoints/step-00000030",
        "sample:\n  #!/usr/bin/env bash\n",
        "smelt generate --model run",
    ] {
        assert!(ran.stdout.contains(part), "{part}\n{}", ran.stdout);
    }
    for part in [
        "backend: cpu",
        "step 10: validation loss",
        "step 10: sample \"#!/usr/bin/env bash\\n#",
        "step 20/30",
        "saved run/checkpoints",
    ] {
        assert!(ran.stderr.contains(part), "{part}\n{}", ran.stderr);
    }
    assert!(!place.path("run/checkpoints/step-00000010").exists(), "`keep_last` is 2");

    let again = place.smelt(&["train", "--config", "nano.yaml"]);
    assert_eq!(again.code, Some(1));
    assert!(
        again
            .stderr
            .starts_with("error: `run` already holds a run\n  hint: continue it with `--resume auto`"),
        "{}",
        again.stderr
    );
    let resumed = place.done(&["train", "--resume", "auto", "--output", "run", "--quiet"]);
    assert!(resumed.stdout.starts_with("this run was finished before: 30 steps"), "{}", resumed.stdout);
    let conflict =
        place.smelt(&["train", "--resume", "auto", "--output", "run", "--max-steps", "40", "--quiet"]);
    assert_eq!(conflict.code, Some(1));
    assert!(conflict.stderr.contains("with `max_steps` 30, this run has 40"), "{}", conflict.stderr);
    place.done(&["train", "--config", "nano.yaml", "--overwrite", "--max-steps", "5", "--quiet"]);
    assert!(place.path("run/checkpoints/step-00000005").exists());
}

#[test]
fn training_learns_and_reports_json_lines() {
    let place = Place::new();
    place.write("nano.yaml", CONFIG);
    let args = ["train", "--config", "nano.yaml", "--json", "--backend", "cpu", "--log-interval", "1"];
    let ran = place.done(&args);
    let losses: Vec<f64> = ran
        .records()
        .iter()
        .filter(|record| record["kind"] == "train")
        .map(|record| record["loss"].as_f64().unwrap())
        .collect();
    assert_eq!(losses.len(), 30);
    let (begins, done) = (ran.record("begins"), ran.record("done"));
    assert_eq!((&begins["backend"], &begins["vocab_size"]), (&"cpu".into(), &300.into()));
    let (first, last) = (losses[0], done["loss"].as_f64().unwrap());
    // An untrained model is near ln(300) = 5.7.
    assert!((5.3..6.2).contains(&first) && last < first - 0.7, "{first} to {last}");
    assert!(done["sample"].as_str().unwrap().starts_with("#!/usr/bin/env bash\n#"));
}

/// The lines of a run's log of one kind.
fn logged(place: &Place, kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(place.path("run/metrics.jsonl")).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.filter(|record| record["kind"] == kind).collect()
}

#[test]
fn the_log_holds_the_run() {
    let place = trained();
    let [begins] = &logged(&place, "begins")[..] else { panic!("one process") };
    assert_eq!((&begins["step"], &begins["backend"]), (&0.into(), &"cpu".into()));
    assert_eq!(begins["config"]["train"]["batch_size"], 4);
    let peak = begins["peak_flops_per_second"].as_f64().unwrap();
    let train = logged(&place, "train");
    assert_eq!(train.len(), 3);
    for record in &train {
        let [loss, perplexity, speed, mfu] = ["loss", "perplexity", "tokens_per_second", "mfu"]
            .map(|key| record[key].as_f64().unwrap_or_else(|| panic!("{key} in {record}")));
        assert!((perplexity - loss.exp()).abs() < 1e-9 * perplexity);
        let share = speed * begins["flops_per_token"].as_f64().unwrap() / peak;
        assert!(mfu > 0.0 && (mfu - share).abs() < 1e-9, "{record}");
        assert!(record["memory_bytes"].as_u64() <= record["peak_memory_bytes"].as_u64());
    }
    let samples = logged(&place, "sample");
    let steps: Vec<u64> = samples.iter().map(|sample| sample["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [10, 20, 30], "one with every evaluation");
    assert!(samples.iter().all(|sample| sample["prompt"] == "#!/usr/bin/env bash\n#"));
    assert!(samples.iter().any(|sample| !sample["text"].as_str().unwrap().is_empty()));
    let events = |place: &Place| fs::read_dir(place.path("run/tensorboard")).unwrap().count();
    assert_eq!(events(&place), 1);

    // A process that goes back forgets what came after, and brings an event file of its own.
    place.done(&["train", "--resume", "run/checkpoints/step-00000020", "--quiet"]);
    let steps = |kind| logged(&place, kind).iter().map(|record| record["step"].as_u64().unwrap()).collect();
    let [begins, train, validation]: [Vec<u64>; 3] = ["begins", "train", "validation"].map(steps);
    assert_eq!((begins, train, validation), (vec![0, 20], vec![10, 20, 30], vec![10, 20, 30]));
    assert_eq!(events(&place), 2);
}

#[test]
fn samples_and_event_files_can_be_left_out_and_chosen() {
    let place = Place::new();
    place.write("nano.yaml", CONFIG);
    let args = |sets: &[&'static str]| {
        let mut args = vec!["train", "--config", "nano.yaml", "--backend", "cpu", "--overwrite", "--quiet"];
        args.extend(["--max-steps", "4", "--log-interval", "2"]);
        args.extend(sets.iter().flat_map(|set| ["--set", set]));
        args
    };
    place.done(&args(&["log.sample_interval=0", "log.tensorboard=false", "log.peak_tflops=0"]));
    assert!(!place.path("run/tensorboard").exists());
    assert!(logged(&place, "sample").is_empty());
    assert!(logged(&place, "train").iter().all(|record| record.get("mfu").is_none()));

    place.done(&args(&[
        "log.sample_interval=2",
        "log.sample_prompts=[echo, 'for x in']",
        "log.sample_tokens=3",
    ]));
    let samples = logged(&place, "sample");
    let facts: Vec<_> = samples.iter().map(|sample| (&sample["step"], &sample["prompt"])).collect();
    let [two, four, echo, for_x] = [Value::from(2), 4.into(), "echo".into(), "for x in".into()];
    assert_eq!(facts, [(&two, &echo), (&two, &for_x), (&four, &echo), (&four, &for_x)]);

    let long = format!("log.sample_prompts=['{}']", "a b c d ".repeat(100));
    let mut too_long = args(&[]);
    too_long.extend(["--set", &long]);
    let ran = place.smelt(&too_long);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("the context of this model holds 32"), "{}", ran.stderr);
}

#[test]
fn a_report_is_one_page_without_anything_from_elsewhere() {
    let place = trained();
    let ran = place.done(&["report", "run"]);
    assert_eq!(ran.stdout, "report: run/report.html\n");
    let page = fs::read_to_string(place.path("run/report.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"));
    for part in [
        "<h3>Loss</h3>",
        "<svg ",
        "after step 30",
        "train.batch_size",
        "backend cpu",
        "run, validation, step 30",
    ] {
        assert!(page.contains(part), "{part}");
    }
    // The name of a namespace is the one address; nothing is fetched.
    let addresses = page.replace("http://www.w3.org/2000/svg", "");
    for part in ["http:", "https:", "<script", "src=", "url("] {
        assert!(!addresses.contains(part), "{part}");
    }

    // Two runs, one with a log that was cut and written over.
    fs::create_dir(place.path("other")).unwrap();
    let log = fs::read_to_string(place.path("run/metrics.jsonl")).unwrap();
    place.write("other/metrics.jsonl", &format!("{log}\u{0}\u{0}\n<b>\n{{\"kind\":\"train\",\"st"));
    let ran = place.done(&["report", "run", "other", "--output", "both.html"]);
    assert!(ran.stderr.contains("other: 3 damaged lines of the log are left out"), "{}", ran.stderr);
    let page = fs::read_to_string(place.path("both.html")).unwrap();
    assert!(page.contains("other, training, step") && page.contains("3 damaged lines"));

    place.write("other/metrics.jsonl", "no log\n");
    let ran = place.smelt(&["report", "other"]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.starts_with("error: `other/metrics.jsonl` holds no records of a run\n  hint: "),
        "{}",
        ran.stderr
    );
    let ran = place.smelt(&["report", "nowhere"]);
    assert!(ran.stderr.starts_with("error: cannot read `nowhere/metrics.jsonl`"), "{}", ran.stderr);
}

#[test]
fn a_profile_names_phases_and_kernels() {
    let place = Place::new();
    place.write("nano.yaml", CONFIG);
    let args =
        ["train", "--config", "nano.yaml", "--backend", "cpu", "--profile", "--quiet", "--max-steps", "10"];
    let ran = place.done(&args);
    for part in
        ["phase ", "backward ", "optimizer ", "kernel, forward", "linear ", "attention ", "run/trace.json"]
    {
        assert!(ran.stdout.contains(part), "{part}\n{}", ran.stdout);
    }
    let trace: Value = serde_json::from_slice(&fs::read(place.path("run/trace.json")).unwrap()).unwrap();
    let count = |category: &str, name: &str| {
        let events = trace["traceEvents"].as_array().unwrap().iter();
        events.filter(|event| event["cat"] == category && event["name"] == name).count()
    };
    assert_eq!((count("phase", "optimizer"), count("phase", "evaluate")), (10, 1));
    // Four projections in each of two blocks.
    assert_eq!((count("forward", "linear"), count("backward", "linear")), (80, 80));
    assert_eq!((count("forward", "attention"), count("backward", "attention")), (20, 20));
}

#[test]
fn without_a_terminal_the_dashboard_is_lines() {
    let place = Place::new();
    place.write("nano.yaml", CONFIG);
    let ran =
        place.done(&["train", "--config", "nano.yaml", "--backend", "cpu", "--tui", "--max-steps", "10"]);
    assert!(ran.stderr.contains("no terminal for `--tui`: plain lines\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("step 10/10  loss"), "{}", ran.stderr);
}

/// Steps of the newest checkpoint.
fn newest(run: &Path) -> Option<u64> {
    let names = fs::read_dir(run.join("checkpoints")).ok()?.flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.strip_prefix("step-")?.parse().ok()).max()
}

#[cfg(unix)]
#[test]
fn ctrl_c_and_sigterm_save_and_say_how_to_continue() {
    for signal in ["-INT", "-TERM"] {
        let place = Place::new();
        place.write("nano.yaml", CONFIG);
        let args = ["train", "--config", "nano.yaml", "--backend", "cpu", "--max-steps", "100000", "--json"];
        let child = place.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while newest(&place.path("run")).is_none() {
            assert!(Instant::now() < deadline, "no checkpoint in a minute");
            std::thread::sleep(Duration::from_millis(5));
        }
        let pid = child.id().to_string();
        assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        let last: serde_json::Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
        assert_eq!(last["kind"], "stopped", "{stdout}");
        assert_eq!(last["continue"], "smelt train --resume auto --output run");
        assert_eq!(last["steps"].as_u64(), newest(&place.path("run")), "the last step is saved");
    }
}

#[test]
fn data_of_ones_own_names_the_run_and_its_vocabulary() {
    let place = Place::new();
    for index in 0..20 {
        let text: String =
            (0..60).map(|line| format!("echo \"script {index} says {}\"\n", line * index)).collect();
        place.write(&format!("scripts/{index}.sh"), &text);
    }
    let shape =
        "model.hidden_size=32 model.num_hidden_layers=1 model.num_attention_heads=2 train.warmup_steps=1";
    let mut args =
        vec!["train", "--data", "scripts", "--backend", "cpu", "--max-steps", "2", "--seq-length", "16"];
    for set in shape.split(' ') {
        args.extend(["--set", set]);
    }
    let ran = place.done(&args);
    assert!(ran.stderr.contains("data: 20 documents"), "{}", ran.stderr);
    assert!(ran.stderr.contains("vocabulary: the text has no more than"), "{}", ran.stderr);
    assert!(place.path("runs/scripts/run.yaml").is_file());

    // A model folder is a start for another run, with its own tokenizer.
    let args = [
        "train",
        "--model",
        "runs/scripts",
        "--data",
        "scripts",
        "--output",
        "tuned",
        "--backend",
        "cpu",
        "--max-steps",
        "1",
        "--seq-length",
        "16",
        "--warmup-steps",
        "0",
        "--quiet",
    ];
    place.done(&args);
    let vocabulary = |run: &str| place.done(&["info", run, "--json"]).records()[0]["vocab_size"].clone();
    assert_eq!(vocabulary("tuned"), vocabulary("runs/scripts"));
}

#[test]
fn a_trained_model_can_be_used() {
    let place = trained();
    let ran = place.done(&[
        "generate",
        "--model",
        "run",
        "--prompt",
        "#!/usr",
        "--max-tokens",
        "12",
        "--seed",
        "3",
    ]);
    assert!(ran.stderr.contains("generation: 12 tokens") && ran.stderr.contains("seed 3"), "{}", ran.stderr);
    let greedy = |extra: &[&str]| {
        let args = [
            "generate",
            "--model",
            "run",
            "--prompt",
            "#!/usr",
            "--max-tokens",
            "9",
            "--temperature",
            "0",
            "--json",
        ];
        place.done(&[&args[..], extra].concat()).records()[0]["text"].as_str().unwrap().to_owned()
    };
    let text = greedy(&[]);
    assert_eq!(text, greedy(&["--seed", "9"]), "greedy decoding knows no seed");
    let (kept, rest) = text.split_at(text.char_indices().nth(3).unwrap().0);
    let stop: String = rest.chars().take(2).collect();
    assert_eq!(greedy(&["--stop", &stop]), &text[..text.find(&stop).unwrap()]);
    assert!(!kept.is_empty());

    let facts = &place.done(&["info", "run", "--json"]).records()[0];
    assert_eq!((&facts["family"], &facts["vocab_size"]), (&"gpt2".into(), &300.into()));
    assert!(place.done(&["info", "run"]).stdout.contains("parameters"));
}

#[test]
fn damaged_weights_are_named() {
    let place = trained();
    let file = place.path("run/checkpoints/step-00000030/model.safetensors");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let ran = place.smelt(&["generate", "--model", "run", "--prompt", "a", "--quiet"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains("model.safetensors"), "{}", ran.stderr);
    assert!(ran.stderr.contains("\n  cause: "), "{}", ran.stderr);
}

#[test]
fn the_best_checkpoint_is_what_a_run_stands_for() {
    let place = Place::new();
    place.write("nano.yaml", CONFIG);
    let settings = [
        "checkpoint.keep_best=true",
        "train.ema_decay=0.9",
        "train.early_stopping_patience=1",
        // More than can be learnt between two evaluations.
        "train.early_stopping_min_delta=10",
        "train.z_loss=1.0e-4",
    ];
    let mut args =
        vec!["train", "--config", "nano.yaml", "--backend", "cpu", "--json", "--lr-schedule", "wsd"];
    args.extend(["--optimizer", "muon", "--precision", "bf16"]);
    args.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    let ran = place.done(&args);
    let done = ran.record("done");
    assert_eq!((&done["stopped_early"], &done["steps"]), (&true.into(), &20.into()), "{}", ran.stderr);
    assert_eq!(done["best"]["step"], 20);
    let folder = place.path("run/checkpoints/step-00000020");
    assert!(folder.join("ema/tokenizer.json").is_file());
    let described = place.done(&["info", "run"]).stdout;
    assert!(described.contains("ema"), "a run with an average stands for it: {described}");
    let again = place.done(&["train", "--resume", "auto", "--output", "run"]);
    assert!(
        again.stdout.starts_with("stopped early, the validation loss falls no more: 20 steps"),
        "{}",
        again.stdout
    );
}
