//! Skipping, stopping early, the best checkpoint, and the moving average.

use std::path::Path;

use serde_json::Value;
use smelt_backend::{Kernels, to_host};
use smelt_model::Decoder;
use smelt_testkit::backend_test;
use smelt_train::{
    Checkpoints, METRICS_FILE, MetricsLog, NonFinitePolicy, Observer, Outcome, TrainConfig, TrainError,
    Trainer, train,
};

use crate::nano::{Batches, batch, data, settings, trainer};

struct Silent;

impl<B: Kernels> Observer<B> for Silent {}

fn run<B: Kernels>(trainer: &mut Trainer<B>, batches: Batches, folder: &Path) -> Result<Outcome, TrainError> {
    let checkpoints = Checkpoints::new(folder, Vec::new());
    let log = MetricsLog::open(folder, trainer.steps())?;
    train(trainer, &data(folder, batches), log, &checkpoints, &mut Silent)
}

fn records(run: &Path, kind: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join(METRICS_FILE)).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.filter(|record| record["kind"] == kind).collect()
}

/// All weights of a model, one after the other.
fn weights<B: Kernels>(model: &Decoder<B>, folder: &Path) -> Vec<u8> {
    let config = crate::nano::model_config();
    smelt_model::save(&config, model, folder).unwrap();
    std::fs::read(folder.join("model.safetensors")).unwrap()
}

fn skipping<B: Kernels>(device: &B::Device) {
    let folder = tempfile::tempdir().unwrap();
    let bad = || Batches { bad: vec![2, 3, 6] };
    let error = run(&mut trainer::<B>(&settings(), device), bad(), folder.path()).unwrap_err();
    assert!(error.to_string().starts_with("step 3: the loss is not finite"), "{error}");

    let policy = TrainConfig { non_finite: NonFinitePolicy::Skip, max_skipped_steps: 2, ..settings() };
    let run_folder = folder.path().join("skips");
    std::fs::create_dir(&run_folder).unwrap();
    let mut skips = trainer::<B>(&policy, device);
    let outcome = run(&mut skips, bad(), &run_folder).unwrap();
    assert_eq!((outcome.steps, skips.progress().skipped_steps), (8, 3));
    let skipped: Vec<(u64, u64)> = records(&run_folder, "skipped")
        .iter()
        .map(|record| (record["step"].as_u64().unwrap(), record["consecutive"].as_u64().unwrap()))
        .collect();
    assert_eq!(skipped, [(3, 1), (4, 2), (7, 1)]);
    assert!(records(&run_folder, "skipped").iter().all(|record| record["what"] == "the loss"));
    assert_eq!(records(&run_folder, "train").len(), 5);

    // A third one in a row is too many.
    let mut bounded = trainer::<B>(&policy, device);
    let error = run(&mut bounded, Batches { bad: vec![1, 2, 3] }, &run_folder).unwrap_err();
    assert!(error.to_string().starts_with("step 4: "), "{error}");
}

backend_test!(steps_that_are_not_finite_are_skipped_by_policy, skipping);

fn unchanged<B: Kernels>(device: &B::Device) {
    let folder = tempfile::tempdir().unwrap();
    let policy = TrainConfig { non_finite: NonFinitePolicy::Skip, ..settings() };
    let mut trainer = trainer::<B>(&policy, device);
    trainer.step(&[batch(0)]).unwrap();
    let before = weights(&trainer.model(), folder.path());
    let mut spoilt = batch(1);
    // Large enough that the gradient overflows where the loss does not.
    spoilt.loss_mask.fill(0.0);
    spoilt.loss_mask[0] = f32::INFINITY;
    let fault = trainer.step(&[spoilt]).unwrap_err();
    trainer.skip(fault).unwrap();
    assert!(before == weights(&trainer.model(), folder.path()), "a skipped step changes nothing");
    assert_eq!(trainer.steps(), 2);
    let other = TrainError::NothingToLearn { step: 3 };
    assert!(trainer.skip(other).is_err(), "only what is not finite is skipped");
}

backend_test!(a_skipped_step_changes_nothing, unchanged);

fn early_stopping<B: Kernels>(device: &B::Device) {
    let folder = tempfile::tempdir().unwrap();
    // Nothing is learnt at this rate, so that nothing improves.
    let patience = TrainConfig {
        learning_rate: 1e-12,
        max_steps: 50,
        early_stopping_patience: Some(3),
        early_stopping_min_delta: 1e-3,
        ..settings()
    };
    let outcome = run(&mut trainer::<B>(&patience, device), Batches::default(), folder.path()).unwrap();
    assert!(outcome.stopped_early && !outcome.interrupted);
    assert_eq!(outcome.steps, 4, "the first evaluation, and three without an improvement");
    let checkpoint = outcome.checkpoint.unwrap();
    assert!(checkpoint.ends_with("step-00000004"));

    // It stays stopped, unless patience grows.
    let resume = |settings: TrainConfig| {
        let mut trainer =
            Trainer::<B>::resume(&checkpoint, settings, &crate::nano::model_config(), "nano", device.clone())
                .unwrap();
        run(&mut trainer, Batches::default(), folder.path()).unwrap()
    };
    assert_eq!(resume(patience.clone()).steps, 4);
    let more = TrainConfig { early_stopping_patience: Some(5), ..patience };
    assert_eq!(resume(more).steps, 6);
}

backend_test!(patience_with_the_validation_loss_runs_out, early_stopping);

fn best<B: Kernels>(device: &B::Device) {
    let folder = tempfile::tempdir().unwrap();
    // What is learnt is of no use for what is validated on, so that the first evaluations are the best.
    let keeps =
        TrainConfig { learning_rate: 3e-2, max_steps: 12, keep_last: 1, keep_best: true, ..settings() };
    let outcome = run(&mut trainer::<B>(&keeps, device), Batches::default(), folder.path()).unwrap();
    let losses: Vec<f64> =
        records(folder.path(), "validation").iter().map(|record| record["loss"].as_f64().unwrap()).collect();
    let lowest = losses.iter().copied().fold(f64::INFINITY, f64::min);
    let best = outcome.best.unwrap();
    assert_eq!(best.loss, lowest);
    assert_eq!(losses[best.step as usize - 1], lowest);
    assert!(best.step < 12, "the last step is the best: this test needs other data");
    let checkpoints = Checkpoints::new(folder.path(), Vec::new());
    let name = |step: u64| folder.path().join(format!("checkpoints/step-{step:08}"));
    assert_eq!(checkpoints.best().unwrap(), name(best.step));
    assert_eq!(checkpoints.list(), [name(best.step), name(12)]);
    let evaluation = {
        let (_, model) = smelt_model::load_for_training::<B>(&name(best.step), device).unwrap();
        let validation = data(folder.path(), Batches::default()).validation.unwrap();
        smelt_train::evaluate(&model, validation, device).unwrap()
    };
    assert!((evaluation.loss - lowest).abs() < 1e-6, "{evaluation:?}");

    let nothing = smelt_train::Data { validation: None, ..data(folder.path(), Batches::default()) };
    let mut again = trainer::<B>(&keeps, device);
    let log = MetricsLog::open(folder.path(), 0).unwrap();
    let error = train(&mut again, &nothing, log, &checkpoints, &mut Silent).unwrap_err();
    assert!(error.to_string().starts_with("`keep_best` judges by the validation loss"), "{error}");
}

backend_test!(the_best_checkpoint_is_kept, best);

fn average<B: Kernels>(device: &B::Device) {
    let averaged = TrainConfig { ema_decay: Some(0.5), ..settings() };
    let mut trainer = trainer::<B>(&averaged, device);
    let head = |model: Decoder<B>| to_host(model.lm_head.unwrap().weight.values());
    let mut expected = head(trainer.model());
    for number in 1..=6u64 {
        trainer.step(&[batch(number)]).unwrap();
        let decay = f64::min(0.5, (1.0 + number as f64) / (10.0 + number as f64));
        for (average, value) in expected.iter_mut().zip(head(trainer.model())) {
            *average = (f64::from(*average) * decay + f64::from(value) * (1.0 - decay)) as f32;
        }
    }
    let found = head(trainer.averaged_model().unwrap());
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6));
    assert_ne!(found, head(trainer.model()));
    assert_eq!(found, head(trainer.best_model()));
    let validation = || [batch(100)];
    let of_average = smelt_train::evaluate(&trainer.averaged_model().unwrap(), validation(), device).unwrap();
    assert_eq!(trainer.evaluate(validation()).unwrap(), of_average);
}

backend_test!(the_average_follows_the_weights_and_is_validated, average);
