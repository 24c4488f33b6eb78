//! Every optimizer against its reference implementation, on every backend of the build
//! (`tests/golden/optimizers/make.py`).

use burn::tensor::{Tensor, TensorData, TensorPrimitive};
use smelt_backend::{Kernels, to_host};
use smelt_model::weights::{TensorFile, TensorFileWriter};
use smelt_model::{ParameterInfo, Role};
use smelt_testkit::{Golden, Tolerance, assert_close, backend_test, numbers};

use super::rule::{Step, flat};
use super::slot::Held;
use super::{HEAD_PATH, Optimizer};
use crate::{MuonAdjustLrFn, OptimizerKind, TrainConfig};

const STEPS: u64 = 20;
const CLIP: f64 = 0.5;
/// The tensors of the fixture, in the order that seeds their numbers.
const SMALL: [(&str, &[usize]); 3] = [("wide", &[12, 20]), ("tall", &[20, 7]), ("vector", &[24])];
const LARGE: [(&str, &[usize]); 1] = [("large", &[83, 61])];

fn gradient(shape: &[usize], index: usize, step: u64) -> Vec<f32> {
    let mut values = numbers(shape.iter().product(), 100 * (step as u32 + 1) + index as u32);
    let width = shape[shape.len() - 1];
    values.iter_mut().skip(width - 1).step_by(width).for_each(|value| *value *= 1e-3);
    values
}

fn tensor<B: Kernels>(values: Vec<f32>, shape: &[usize], device: &B::Device) -> B::FloatTensorPrimitive {
    B::float_from_data(TensorData::new(values, shape.to_vec()).convert::<B::FloatElem>(), device)
}

fn host<B: Kernels>(tensor: B::FloatTensorPrimitive) -> Vec<f32> {
    to_host(Tensor::<B, 1>::from_primitive(TensorPrimitive::Float(flat_primitive::<B>(tensor))))
}

fn flat_primitive<B: Kernels>(tensor: B::FloatTensorPrimitive) -> B::FloatTensorPrimitive {
    flat::<B>(tensor).into_primitive().tensor()
}

fn info(name: &str, shape: &[usize]) -> ParameterInfo {
    ParameterInfo {
        path: name.to_owned(),
        key: name.to_owned(),
        shape: shape.to_vec(),
        role: if shape.len() == 2 { Role::Matrix } else { Role::Bias },
        transposed: false,
    }
}

/// The settings of every case of the generator.
fn config(optimizer: OptimizerKind) -> TrainConfig {
    TrainConfig {
        optimizer,
        learning_rate: 1e-2,
        weight_decay: 0.1,
        decay_all_parameters: true,
        adam_beta1: 0.9,
        adam_beta2: 0.95,
        ..TrainConfig::default()
    }
}

/// Parameters after all steps, and the optimizer then; it is saved and loaded half-way.
fn trained<B: Kernels>(
    config: &TrainConfig,
    shapes: &[(&str, &[usize])],
    device: &B::Device,
) -> (Vec<Vec<f32>>, Optimizer<B>) {
    let mut optimizer = Optimizer::<B>::new(config);
    let infos: Vec<ParameterInfo> = shapes.iter().map(|(name, shape)| info(name, shape)).collect();
    let start = |index: usize, shape: &[usize]| numbers(shape.iter().product(), 1 + index as u32);
    let mut values: Vec<Vec<f32>> =
        shapes.iter().enumerate().map(|(index, (_, shape))| start(index, shape)).collect();
    for step in 0..STEPS {
        for (index, info) in infos.iter().enumerate() {
            let value = tensor::<B>(values[index].clone(), &info.shape, device);
            let gradient = tensor::<B>(gradient(&info.shape, index, step), &info.shape, device);
            let numbers =
                Step { learning_rate: config.learning_rate, number: step + 1, gradient_scale: CLIP };
            values[index] = host::<B>(optimizer.update(info, value, gradient, &numbers));
        }
        if step == STEPS / 2 {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let path = folder.path().join("optimizer.safetensors");
            optimizer.file().write(&path).expect("the state is written");
            let before = std::fs::read(&path).expect("it is there");
            optimizer = Optimizer::load(config, &path, &infos, device).expect("the state is read");
            optimizer.file().write(&path).expect("the state is written again");
            assert!(before == std::fs::read(&path).expect("it is there"), "the state survives its file");
        }
    }
    (values, optimizer)
}

/// Compares a case of the fixture, parameters and state.
fn matches<B: Kernels>(
    case: &str,
    config: &TrainConfig,
    shapes: &[(&str, &[usize])],
    tolerance: Tolerance,
    device: &B::Device,
) {
    let golden = Golden::open("optimizers");
    let (values, optimizer) = trained::<B>(config, shapes, device);
    for ((name, _), values) in shapes.iter().zip(values) {
        let expected = golden.tensor(&format!("{case}.{name}")).floats();
        assert_close(&format!("{case}: {name}"), &values, expected, tolerance);
        let kept = &optimizer.kept[*name];
        for (slot, held) in kept.slots.iter().zip(&kept.state) {
            let key = format!("{case}.{name}.{}", slot.name);
            match held {
                Held::Tensor(held) => {
                    assert_close(&key, &host::<B>(held.clone()), golden.tensor(&key).floats(), tolerance);
                }
                Held::Floats(held) => assert_close(&key, held, golden.tensor(&key).floats(), tolerance),
                Held::Bytes(held) => {
                    let expected = golden.tensor(&key).ints();
                    let off = held.iter().zip(expected).filter(|(a, b)| i64::from(**a) != **b).count();
                    // A value between two codes may round to either.
                    assert!(off * 200 <= held.len(), "{key}: {off} of {} codes differ", held.len());
                }
            }
        }
    }
}

fn references<B: Kernels>(device: &B::Device) {
    let update = Tolerance::OptimizerStep;
    matches::<B>("adamw", &config(OptimizerKind::Adamw), &SMALL, update, device);
    matches::<B>("adafactor", &config(OptimizerKind::Adafactor), &SMALL, update, device);
    let lion = TrainConfig {
        learning_rate: 1e-3,
        weight_decay: 0.3,
        adam_beta2: 0.99,
        ..config(OptimizerKind::Lion)
    };
    matches::<B>("lion", &lion, &SMALL, update, device);
    let sgd = |momentum, nesterov| TrainConfig { momentum, nesterov, ..config(OptimizerKind::Sgd) };
    matches::<B>("sgd", &sgd(0.9, false), &SMALL, update, device);
    matches::<B>("sgd_nesterov", &sgd(0.9, true), &SMALL, update, device);
    matches::<B>("sgd_plain", &sgd(0.0, false), &SMALL, update, device);
    matches::<B>("adamw_8bit", &config(OptimizerKind::Adamw8bit), &LARGE, update, device);
}

backend_test!(twenty_steps_are_those_of_the_reference, references);

fn muon<B: Kernels>(device: &B::Device) {
    let config = |muon_adjust_lr_fn| TrainConfig {
        momentum: 0.95,
        nesterov: true,
        muon_adjust_lr_fn,
        ..config(OptimizerKind::Muon)
    };
    let matrices = &SMALL[..2];
    for (name, adjust) in [
        ("original", MuonAdjustLrFn::Original),
        ("match_rms_adamw", MuonAdjustLrFn::MatchRmsAdamw),
        ("spectral_unclamped", MuonAdjustLrFn::SpectralUnclamped),
    ] {
        matches::<B>(&format!("muon_{name}"), &config(adjust), matrices, Tolerance::OptimizerStep, device);
    }
    // PyTorch's own, whose iteration rounds to bf16.
    matches::<B>("muon_bf16", &config(MuonAdjustLrFn::Original), matrices, Tolerance::MuonInBf16, device);
}

backend_test!(muon_is_that_of_pytorch, muon);

fn rest<B: Kernels>(device: &B::Device) {
    let config = TrainConfig { adam_learning_rate: Some(5e-3), ..config(OptimizerKind::Muon) };
    let optimizer = Optimizer::<B>::new(&config);
    let slots = |info: &ParameterInfo| optimizer.rules.of(info).slots(&info.shape).len();
    assert_eq!(slots(&info("layers.0.mlp.up_proj.weight", &[4, 4])), 1, "Muon's momentum");
    assert_eq!(slots(&info(HEAD_PATH, &[4, 4])), 2, "AdamW's moments");
    assert_eq!(slots(&ParameterInfo { role: Role::Embedding, ..info("embed_tokens.weight", &[4, 4]) }), 2);
    assert_eq!(slots(&info("norm.weight", &[4])), 2);
    // With its own rate, AdamW's part is AdamW at that rate.
    let (found, _) = trained::<B>(&config, &SMALL[2..], device);
    let alone = TrainConfig { optimizer: OptimizerKind::Adamw, learning_rate: 5e-3, ..config };
    let (expected, _) = trained::<B>(&alone, &SMALL[2..], device);
    assert_close("AdamW beside Muon", &found[0], &expected[0], Tolerance::OptimizerStep);
}

backend_test!(muon_leaves_the_rest_to_adamw, rest);

/// How far moments in 8 bits may lead away from f32 AdamW.
///
/// A code is off by half its spacing at most: 0.9 / 128 of the block's largest value for the first moment, and
/// 0.9 / 256 for the second. Each error decays with its beta, so it is at most `1 / (1 - beta)` times that.
fn eight_bits<B: Kernels>(device: &B::Device) {
    let steps = STEPS as f64;
    let exact = config(OptimizerKind::Adamw);
    let (expected, reference) = trained::<B>(&exact, &LARGE, device);
    let (found, _) = trained::<B>(&config(OptimizerKind::Adamw8bit), &LARGE, device);
    let moment = |slot: usize| match &reference.kept["large"].state[slot] {
        Held::Tensor(held) => host::<B>(held.clone()),
        _ => unreachable!("AdamW keeps its moments on the device"),
    };
    let (first, second) = (moment(0), moment(1));
    let largest = |values: &[f32]| values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let first_error = f64::from(largest(&first)) * 0.9 / 128.0 / (1.0 - exact.adam_beta1);
    let second_error = f64::from(largest(&second)) * 0.9 / 256.0 / (1.0 - exact.adam_beta2);
    for (index, (found, expected)) in found[0].iter().zip(&expected[0]).enumerate() {
        let (m, v) = (f64::from(first[index].abs()), f64::from(second[index]));
        // Elements whose second moment is smaller than its error have no bound worth the name.
        if v < 2.0 * second_error {
            continue;
        }
        let update_error = first_error / v.sqrt() + (m + first_error) * second_error / v.powf(1.5);
        let bound = steps * exact.learning_rate * update_error;
        assert!(f64::from((found - expected).abs()) <= bound, "{index}: {found}, not {expected} +- {bound}");
    }
    let mean = found[0].iter().zip(&expected[0]).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>()
        / found[0].len() as f64;
    assert!(mean < 0.01 * steps * exact.learning_rate, "the mean difference is {mean}");
}

backend_test!(moments_in_eight_bits_stay_near_those_in_f32, eight_bits);

fn mismatch<B: Kernels>(device: &B::Device) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("optimizer.safetensors");
    let infos = [info("wide", SMALL[0].1)];
    trained::<B>(&config(OptimizerKind::Lion), &SMALL[..1], device).1.file().write(&path).expect("written");
    let load = |kind| Optimizer::<B>::load(&config(kind), &path, &infos, device);
    let message = |kind| load(kind).err().expect("another optimizer's state").to_string();
    assert!(message(OptimizerKind::Adamw).contains("wide.exp_avg_sq"), "{}", message(OptimizerKind::Adamw));
    assert!(message(OptimizerKind::Sgd).contains("momentum_buffer"));
    let without = TrainConfig { momentum: 0.0, ..config(OptimizerKind::Sgd) };
    assert!(Optimizer::<B>::load(&without, &path, &infos, device).is_err(), "a tensor too many");
    TensorFileWriter::new().write(&path).expect("written");
    assert!(TensorFile::open(&path).expect("a file without tensors opens").names().is_empty());
    assert!(Optimizer::<B>::load(&without, &path, &infos, device).is_ok());
}

backend_test!(the_state_of_another_optimizer_is_refused, mismatch);
