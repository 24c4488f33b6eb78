//! Results of the CPU backend that must be equal to the last bit, so that requests that are served together get the
//! tokens that they get alone.

#![cfg(feature = "cpu")]

use burn::tensor::{DType, Tensor};
use smelt_backend::kernels::quantized::quantize;
use smelt_backend::kernels::{AttentionOptions, QuantizationFormat, QuantizedWeight};
use smelt_backend::{Job, Kernels, Name, dispatch, float_tensor, to_host};
use smelt_testkit::numbers;

fn random<B: Kernels, const D: usize>(shape: [usize; D], seed: u32, device: &B::Device) -> Tensor<B, D> {
    float_tensor(numbers(shape.iter().product(), seed), shape, device)
}

/// What a sequence gets does not depend on which others are decoded with it.
struct RowsAlone;

impl Job for RowsAlone {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        let (inner, outer) = (600, 331);
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let weight = random::<B, 2>([outer, inner], 2, &device).cast(dtype);
            let bias = random::<B, 1>([outer], 3, &device);
            let linear = |x| to_host(Kernels::linear(x, weight.clone(), Some(bias.clone())));
            let x = random::<B, 2>([100, inner], 1, &device);
            let alone: Vec<f32> = (0..100).flat_map(|row| linear(x.clone().narrow(0, row, 1))).collect();
            for rows in (1..=17).chain([40, 100]) {
                let together = linear(x.clone().narrow(0, 0, rows));
                assert_eq!(together, alone[..rows * outer], "{rows} rows, a weight in {dtype:?}");
            }
            let backward = |grad: Tensor<B, 2>| {
                let x = Tensor::zeros([grad.dims()[0], inner], &device);
                B::linear_backward(x, weight.clone(), grad, [true, false, false]).x.map(to_host)
            };
            let grad = random::<B, 2>([20, outer], 4, &device);
            let alone = (0..20).filter_map(|row| backward(grad.clone().narrow(0, row, 1)));
            let alone: Vec<f32> = alone.flatten().collect();
            for rows in 1..=20 {
                let together = backward(grad.clone().narrow(0, 0, rows)).expect("the gradient of x");
                assert_eq!(together, alone[..rows * inner], "{rows} gradients, a weight in {dtype:?}");
            }
        }
    }
}

/// As [`RowsAlone`], for packed weights.
struct QuantizedRowsAlone;

impl Job for QuantizedRowsAlone {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        let formats = [(2, 32), (3, 64), (4, 32), (4, 64), (4, 128), (6, 32), (8, 32), (8, 64), (8, 128)];
        for (bits, group_size) in formats {
            let format = QuantizationFormat::new(bits, group_size).expect("a known format");
            for dtype in [DType::F32, DType::F16, DType::BF16] {
                // Many rows go several ways.
                let rows = if group_size == 64 { 300 } else { 40 };
                Self::check::<B>(format, dtype, rows, &device);
            }
        }
    }
}

impl QuantizedRowsAlone {
    fn check<B: Kernels>(format: QuantizationFormat, dtype: DType, count: usize, device: &B::Device) {
        let shape @ [outer, inner] = [331, 640];
        let bytes = quantize(&numbers(outer * inner, 2), shape, format, dtype).expect("whole groups");
        let rounded = QuantizedWeight::from_bytes(bytes, shape, format, device).expect("just made");
        for weight in [rounded.clone(), rounded.unrounded()] {
            Self::check_weight::<B>(&weight, count, device);
        }
    }

    fn check_weight<B: Kernels>(weight: &QuantizedWeight<B>, count: usize, device: &B::Device) {
        let [outer, inner] = weight.dims();
        let bias = random::<B, 1>([outer], 3, device);
        let linear = |x| to_host(Kernels::quantized_linear(x, weight.clone(), Some(bias.clone())));
        let x = random::<B, 2>([count, inner], 1, device);
        let alone: Vec<f32> = (0..count).flat_map(|row| linear(x.clone().narrow(0, row, 1))).collect();
        for rows in (1..=17).chain([40, count]) {
            let together = linear(x.clone().narrow(0, 0, rows));
            assert!(together == alone[..rows * outer], "{rows} rows of {weight:?}");
        }
    }
}

/// Positions that enter one by one see what they see in one pass, to the last bit.
struct AttentionStepByStep;

impl Job for AttentionStepByStep {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        for (head_dim, kv_heads) in [(16, 4), (16, 2), (24, 2), (64, 2), (64, 1), (48, 4)] {
            Self::check::<B>(head_dim, kv_heads, &device);
        }
    }
}

impl AttentionStepByStep {
    fn check<B: Kernels>(head_dim: usize, kv_heads: usize, device: &B::Device) {
        let (heads, length) = (4, 530);
        let q = random::<B, 4>([1, heads, length, head_dim], 1, device);
        let [k, v] = [2, 3].map(|seed| random::<B, 4>([1, kv_heads, length, head_dim], seed, device));
        for (sliding_window, softcap) in [(None, None), (Some(100), None), (None, Some(2.0))] {
            let options =
                AttentionOptions { scale: 0.125, causal: true, sliding_window, softcap, dropout: None };
            let whole = Kernels::attention(q.clone(), k.clone(), v.clone(), None, options);
            for position in [0, 1, 63, 64, 255, 256, 400, 529] {
                let first = |t: &Tensor<B, 4>| t.clone().narrow(2, 0, position + 1);
                let q = q.clone().narrow(2, position, 1);
                let step = Kernels::attention(q, first(&k), first(&v), None, options);
                let expected = whole.clone().narrow(2, position, 1);
                assert_eq!(
                    to_host(step),
                    to_host(expected),
                    "position {position} of {head_dim}, {options:?}"
                );
            }
        }
    }
}

#[test]
fn rows_come_out_as_they_do_alone() {
    dispatch(Name::Cpu, RowsAlone);
    dispatch(Name::Cpu, QuantizedRowsAlone);
}

#[test]
fn attention_step_by_step_is_that_of_one_pass() {
    dispatch(Name::Cpu, AttentionStepByStep);
}
