//! A run that is saved and resumed ends in the files of one that was not, whatever its settings.

use std::path::Path;

use smelt_backend::{Kernels, Precision};
use smelt_model::{AdapterConfig, Decoder};
use smelt_testkit::backend_test;
use smelt_train::{Base, Checkpoints, LrSchedule, OptimizerKind, TrainConfig, Trainer};

use crate::nano::{batch, model_config, settings, trainer};

const STEPS: u64 = 6;

fn advance<B: Kernels>(trainer: &mut Trainer<B>, to: u64) {
    while trainer.steps() < to {
        let step = trainer.steps();
        if let Err(fault) = trainer.step(&[batch(2 * step), batch(2 * step + 1)]) {
            trainer.skip(fault).unwrap();
        }
    }
}

fn resume<B: Kernels>(checkpoint: &Path, settings: &TrainConfig, device: &B::Device) -> Trainer<B> {
    Trainer::resume(checkpoint, settings.clone(), &model_config(), "nano", device.clone()).unwrap()
}

/// Compares the last checkpoints of an uninterrupted run and of one that was resumed.
fn same<B: Kernels>(what: &str, settings: &TrainConfig, device: &B::Device) {
    let folder = tempfile::tempdir().unwrap();
    let save = |name: &str, trainer: &Trainer<B>| {
        Checkpoints::new(&folder.path().join(name), Vec::new())
            .write(trainer.snapshot("nano").unwrap())
            .unwrap()
    };
    let mut whole = trainer::<B>(settings, device);
    advance(&mut whole, STEPS);
    let whole = save("whole", &whole);
    let mut resumed = trainer::<B>(settings, device);
    for stop in [2, 3] {
        advance(&mut resumed, stop);
        resumed = resume(&save("resumed", &resumed), settings, device);
    }
    advance(&mut resumed, STEPS);
    let resumed = save("resumed", &resumed);
    let average = settings.ema_decay.map(|_| "ema/model.safetensors");
    let files = ["model.safetensors", "optimizer.safetensors", "trainer_state.json"];
    for file in files.into_iter().chain(average) {
        let read = |checkpoint: &Path| std::fs::read(checkpoint.join(file)).unwrap();
        assert!(read(&whole) == read(&resumed), "{what}: {file} differs");
    }
}

fn optimizers<B: Kernels>(device: &B::Device) {
    for optimizer in OptimizerKind::ALL {
        let usual = optimizer.defaults();
        let settings = TrainConfig {
            optimizer,
            learning_rate: usual.learning_rate,
            momentum: usual.momentum,
            gradient_accumulation_steps: 2,
            ..settings()
        };
        same::<B>(&format!("{optimizer:?}"), &settings, device);
    }
}

backend_test!(every_optimizer_resumes_exactly, optimizers);

fn state<B: Kernels>(device: &B::Device) {
    let settings =
        TrainConfig { ema_decay: Some(0.99), lr_schedule: LrSchedule::Wsd, decay_steps: 4, ..settings() };
    same::<B>("a moving average", &settings, device);
    for precision in Precision::ALL.into_iter().filter(|precision| B::trains_in(*precision)) {
        // The first steps overflow in f16, and back off.
        let settings = TrainConfig { precision, loss_scale_init: 2f64.powi(22), ..settings.clone() };
        same::<B>(precision.as_str(), &settings, device);
    }
}

backend_test!(averages_and_loss_scales_resume_exactly, state);

fn adapters<B: Kernels>(device: &B::Device) {
    let folder = tempfile::tempdir().unwrap();
    let precision = if B::trains_in(Precision::Bf16) { Precision::Bf16 } else { Precision::F32 };
    let settings =
        TrainConfig { optimizer: OptimizerKind::Muon, ema_decay: Some(0.9), precision, ..settings() };
    let adapter = AdapterConfig { r: 2, lora_dropout: 0.1, ..AdapterConfig::default() };
    let base = || Base {
        config: model_config(),
        model: Decoder::<B>::init(&model_config(), 1, device),
        fingerprint: "base".to_owned(),
    };
    let start = || Trainer::with_new_adapter(settings.clone(), base(), &adapter, device.clone()).unwrap();
    let save = |name: &str, trainer: &Trainer<B>| {
        Checkpoints::new(&folder.path().join(name), Vec::new())
            .write(trainer.snapshot("nano").unwrap())
            .unwrap()
    };
    let mut whole = start();
    advance(&mut whole, STEPS);
    let whole = save("whole", &whole);
    let mut resumed = start();
    advance(&mut resumed, 3);
    let checkpoint = save("resumed", &resumed);
    let settings = settings.clone();
    let mut resumed =
        Trainer::resume_adapter(&checkpoint, settings, base(), &adapter, "nano", device.clone()).unwrap();
    advance(&mut resumed, STEPS);
    let resumed = save("resumed", &resumed);
    let adapter = "adapter_model.safetensors";
    for file in [adapter, "optimizer.safetensors", "trainer_state.json", &format!("ema/{adapter}")] {
        let read = |checkpoint: &Path| std::fs::read(checkpoint.join(file)).unwrap();
        assert!(read(&whole) == read(&resumed), "{file} differs");
    }
}

backend_test!(the_average_of_an_adapter_resumes_exactly, adapters);

fn conflicts<B: Kernels>(device: &B::Device) {
    let folder = tempfile::tempdir().unwrap();
    let mut first = trainer::<B>(&settings(), device);
    advance(&mut first, 1);
    let checkpoint =
        Checkpoints::new(folder.path(), Vec::new()).write(first.snapshot("nano").unwrap()).unwrap();
    let message = |settings: TrainConfig| {
        let trainer = Trainer::<B>::resume(&checkpoint, settings, &model_config(), "nano", device.clone());
        trainer.err().unwrap().to_string()
    };
    let other = message(TrainConfig { optimizer: OptimizerKind::Lion, ..settings() });
    assert!(other.ends_with("was trained with `optimizer` \"adamw\", this run has \"lion\""), "{other}");
    let other = message(TrainConfig { ema_decay: Some(0.9), ..settings() });
    assert!(other.ends_with("was trained with `ema_decay` null, this run has 0.9"), "{other}");
    let free = TrainConfig { keep_best: true, early_stopping_patience: Some(9), ..settings() };
    resume::<B>(&checkpoint, &free, device);
}

backend_test!(another_optimizer_is_refused_by_name, conflicts);
