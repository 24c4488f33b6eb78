//! Training in bf16 and f16 against PyTorch's autocast and against f32.

use burn::module::Param;
use burn::tensor::Tensor;
use serde_json::Value;
use smelt_backend::{Kernels, Precision, to_host};
use smelt_data::TokenBatch;
use smelt_model::{ParameterInfo, ParameterVisitor};
use smelt_testkit::{Golden, backend_test};
use smelt_train::{LrSchedule, TrainConfig, TrainError, Trainer};

use crate::nano::{batch, settings, trainer};

/// Batch `step` of the fixture of training.
fn golden_batch(golden: &Golden, step: usize) -> TokenBatch {
    let ids = golden.tensor("batches");
    let [count, batch_size, seq_length] = ids.dims();
    let size = batch_size * seq_length;
    let first = step % count * size;
    let input_ids = ids.ids()[first..first + size].to_vec();
    let keep = golden.tensor("attention_mask").ids()[first..first + size].to_vec();
    let next =
        |values: &[u32], at: usize| if (at + 1).is_multiple_of(seq_length) { 0 } else { values[at + 1] };
    TokenBatch {
        batch_size,
        seq_length,
        targets: (0..size).map(|at| next(&input_ids, at)).collect(),
        loss_mask: (0..size).map(|at| next(&keep, at) as f32).collect(),
        input_ids,
        document_ids: None,
        position_ids: None,
    }
}

fn golden_settings(precision: Precision) -> TrainConfig {
    TrainConfig {
        batch_size: 4,
        seq_length: 24,
        max_steps: 20,
        warmup_steps: 0,
        learning_rate: 1e-3,
        lr_schedule: LrSchedule::Constant,
        weight_decay: 0.1,
        decay_all_parameters: true,
        precision,
        ..TrainConfig::default()
    }
}

fn losses(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|loss| loss.as_f64().unwrap()).collect()
}

/// Twenty steps in bf16 stay as near to PyTorch's as PyTorch's stay to f32, times two: both round, each in its
/// own places.
fn autocast<B: Kernels>(device: &B::Device) {
    if !B::trains_in(Precision::Bf16) {
        return;
    }
    let (golden, reference) = (Golden::open("train_llama"), Golden::open("mixed_precision"));
    let (config, model) = smelt_model::load_for_training::<B>(&golden.folder, device).unwrap();
    let settings = golden_settings(Precision::Bf16);
    let mut trainer = Trainer::new(settings, config, model, device.clone()).unwrap();
    let (expected, exact) = (losses(&reference.meta["losses"]), losses(&reference.meta["f32_losses"]));
    let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let found: Vec<f64> =
        (0..20).map(|step| trainer.step(&[golden_batch(&golden, step)]).unwrap().loss).collect();
    let bound = 2.0 * distance(&expected, &exact);
    assert!(distance(&found, &expected) <= bound, "{} from PyTorch", distance(&found, &expected));
    assert!(distance(&found, &exact) <= bound, "{} from f32", distance(&found, &exact));
    assert!(distance(&found, &exact) > 1e-6, "nothing was rounded");
}

backend_test!(bf16_trains_as_pytorch_autocast_does, autocast);

/// The first gradients in bf16, as one vector, are as near to PyTorch's as two roundings allow.
fn gradients<B: Kernels>(device: &B::Device) {
    if !B::trains_in(Precision::Bf16) {
        return;
    }
    let (golden, reference) = (Golden::open("train_llama"), Golden::open("mixed_precision"));
    let (config, model) = smelt_model::load_for_training::<B>(&golden.folder, device).unwrap();
    // With plain gradient descent, one step shows the gradient.
    let settings = TrainConfig {
        optimizer: smelt_train::OptimizerKind::Sgd,
        momentum: 0.0,
        weight_decay: 0.0,
        max_grad_norm: 0.0,
        learning_rate: 1.0,
        ..golden_settings(Precision::Bf16)
    };
    let names = config.family.names;
    let mut before = Weights::default();
    model.visit_parameters(&names, &mut before);
    let mut trainer = Trainer::new(settings, config, model, device.clone()).unwrap();
    trainer.step(&[golden_batch(&golden, 0)]).unwrap();
    let mut after = Weights::default();
    trainer.model().visit_parameters(&names, &mut after);
    let (mut error, mut norm) = (0.0, 0.0);
    for ((name, before), (_, after)) in before.0.iter().zip(&after.0) {
        if !reference.contains(name) {
            continue;
        }
        for ((before, after), expected) in before.iter().zip(after).zip(reference.tensor(name).floats()) {
            error += f64::from(before - after - expected).powi(2);
            norm += f64::from(*expected).powi(2);
        }
    }
    let allowed = 2.0 * reference.meta["relative_error_of_first_gradient"].as_f64().unwrap();
    let found = (error / norm).sqrt();
    assert!(norm > 0.0 && found <= allowed, "{found} of the gradient's norm, {allowed} is allowed");
}

backend_test!(bf16_gradients_are_those_of_pytorch_autocast, gradients);

#[derive(Default)]
struct Weights(Vec<(String, Vec<f32>)>);

impl<B: Kernels> ParameterVisitor<B> for Weights {
    fn visit<const D: usize>(&mut self, info: &ParameterInfo, parameter: &Param<Tensor<B, D>>) {
        self.0.push((info.key.clone(), to_host(parameter.val())));
    }
}

/// A loss scale that is far too high is found, halved until it fits, and training goes on near f32.
fn overflow<B: Kernels>(device: &B::Device) {
    if !B::trains_in(Precision::F16) {
        return;
    }
    let f16 = TrainConfig {
        precision: Precision::F16,
        loss_scale_init: 2f64.powi(28),
        loss_scale_growth_interval: 4,
        ..settings()
    };
    let mut mixed = trainer::<B>(&f16, device);
    let mut exact = trainer::<B>(&settings(), device);
    let mut skips = 0;
    let first = loop {
        match mixed.step(&[batch(0)]) {
            Ok(report) => break report,
            Err(fault) => {
                assert!(
                    matches!(&fault, TrainError::NonFinite { what, .. } if what.contains("gradient of `"))
                );
                let skipped = mixed.skip(fault).unwrap();
                skips += 1;
                assert_eq!(skipped.loss_scale, Some(2f64.powi(28 - skips)));
            }
        }
    };
    assert!((2..20).contains(&skips), "{skips} steps overflowed");
    assert_eq!(first.loss_scale, Some(2f64.powi(28 - skips)));
    let reference = exact.step(&[batch(0)]).unwrap();
    // Dropout has another pattern at another step, so that the first losses differ by more than rounding.
    assert!((first.loss - reference.loss).abs() < 0.1, "{} and {}", first.loss, reference.loss);
    assert!((first.grad_norm / reference.grad_norm - 1.0).abs() < 0.2, "the scale is taken away again");
    let mut scales = Vec::new();
    for step in 1..30 {
        match mixed.step(&[batch(step % 3)]) {
            Ok(report) => scales.push(report.loss_scale.unwrap()),
            Err(fault) => drop(mixed.skip(fault).unwrap()),
        }
    }
    let largest = scales.iter().copied().fold(0.0, f64::max);
    assert!(largest > first.loss_scale.unwrap() / 2.0, "the scale grows again: {scales:?}");
    assert!(mixed.evaluate([batch(0)]).unwrap().loss < first.loss - 0.3, "it learns");
}

backend_test!(an_overflow_in_f16_is_recovered, overflow);

/// Losses in 16 bits stay near those in f32: the model's products are off by a unit of the format each, 2^-8 and
/// 2^-11 of their size, and logits of an untrained model are about 1.
fn near_f32<B: Kernels>(device: &B::Device) {
    let curve = |precision| {
        let mut trainer = trainer::<B>(&TrainConfig { precision, ..settings() }, device);
        (0..20).map(|step| trainer.step(&[batch(step % 4)]).unwrap().loss).collect::<Vec<_>>()
    };
    let exact = curve(Precision::F32);
    for (precision, bound) in [(Precision::Bf16, 2e-2), (Precision::F16, 4e-3)] {
        if B::trains_in(precision) {
            for (step, (found, expected)) in curve(precision).iter().zip(&exact).enumerate() {
                assert!(
                    (found - expected).abs() < bound,
                    "{precision}, step {step}: {found}, not {expected}"
                );
            }
        }
    }
}

backend_test!(losses_in_16_bits_stay_near_those_in_f32, near_f32);

/// Checkpoints hold the masters, in f32.
fn masters<B: Kernels>(device: &B::Device) {
    for precision in Precision::ALL.into_iter().filter(|precision| B::trains_in(*precision)) {
        let mut trainer = trainer::<B>(&TrainConfig { precision, ..settings() }, device);
        trainer.step(&[batch(0)]).unwrap();
        let head = trainer.model().lm_head.unwrap().weight.values();
        assert_eq!(head.dtype(), burn::tensor::DType::F32, "{precision}");
        // What was f16 or bf16 ends in zeros.
        let more_digits = |value: &f32| value.to_bits() & 0x1fff != 0;
        assert!(
            to_host(head).iter().any(more_digits),
            "{precision}: the master has no more digits than a copy"
        );
    }
}

backend_test!(masters_are_in_f32, masters);
