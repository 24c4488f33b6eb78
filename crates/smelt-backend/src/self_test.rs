//! A numeric test of a device against the host: silently wrong GPU kernels are known upstream.
//!
//! burn issue 4966 (matmul near zero above about 500 rows on M1) and 4907 (zeros without autotune and
//! fusion) are why the sizes are what they are, and a product of one row between element-wise operations
//! because burn 0.21 got that wrong with fusion on Vulkan.

use burn::tensor::{IndexingUpdateOp, Tensor, activation};

use crate::host::{float_tensor, int_tensor, to_host};
use crate::kernels::Activation;
use crate::{Job, Kernels};

/// Largest error accepted, relative to the largest expected magnitude.
const TOLERANCE: f32 = 1e-3;

/// Runs the test on a device; `Err` names the operation that is wrong.
pub(crate) struct SelfTest;

impl Job for SelfTest {
    type Output = Result<(), String>;

    fn run<B: Kernels>(self, device: B::Device) -> Self::Output {
        for [rows, inner, columns] in [[3, 5, 2], [64, 64, 64], [600, 48, 40]] {
            matmul::<B>(rows, inner, columns, &device)?;
        }
        one_row::<B>(&device)?;
        softmax::<B>(&device)?;
        embedding_gradient::<B>(&device)
    }
}

/// Numbers in `[-1, 1)` that no symmetry can hide errors behind.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn compare(operation: &str, found: &[f32], expected: &[f32]) -> Result<(), String> {
    let magnitude = expected.iter().fold(1e-6f32, |largest, value| largest.max(value.abs()));
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs() / magnitude;
        // A NaN fails every comparison, so the test is written to pass only what is small.
        if error.is_nan() || error > TOLERANCE {
            return Err(format!("self-test of {operation}: element {index} is {found}, expected {expected}"));
        }
    }
    Ok(())
}

fn matmul<B: Kernels>(rows: usize, inner: usize, columns: usize, device: &B::Device) -> Result<(), String> {
    let (a, b) = (numbers(rows * inner, 1), numbers(columns * inner, 2));
    let mut expected = vec![0f32; rows * columns];
    for (row, a) in a.chunks(inner).enumerate() {
        for (column, b) in b.chunks(inner).enumerate() {
            expected[row * columns + column] = a.iter().zip(b).map(|(a, b)| a * b).sum();
        }
    }
    let a = float_tensor::<B, 2>(a, [rows, inner], device);
    let b = float_tensor::<B, 2>(b, [columns, inner], device);
    let found = to_host(Kernels::linear(a, b, None));
    compare(&format!("matmul {rows} x {inner} x {columns}"), &found, &expected)
}

/// What decoding runs all the time: an activation, then a linear map of a single row.
fn one_row<B: Kernels>(device: &B::Device) -> Result<(), String> {
    let (inner, outer) = (128, 32);
    let (x, weight, bias) = (numbers(inner, 5), numbers(outer * inner, 6), numbers(outer, 7));
    let active: Vec<f32> = x.iter().map(|x| x.max(0.0)).collect();
    let rows = weight.chunks(inner).zip(&bias);
    let expected: Vec<f32> =
        rows.map(|(row, bias)| row.iter().zip(&active).map(|(w, x)| w * x).sum::<f32>() + bias).collect();
    let found = Kernels::linear(
        Kernels::activation(float_tensor::<B, 2>(x, [1, inner], device), Activation::Relu),
        float_tensor(weight, [outer, inner], device),
        Some(float_tensor(bias, [outer], device)),
    );
    compare("a linear map of one row", &to_host(found), &expected)
}

fn softmax<B: Kernels>(device: &B::Device) -> Result<(), String> {
    let (rows, columns) = (7, 33);
    let x: Vec<f32> = numbers(rows * columns, 3).into_iter().map(|value| value * 30.0).collect();
    let mut expected = Vec::with_capacity(x.len());
    for row in x.chunks(columns) {
        let largest = row.iter().fold(f32::MIN, |a, b| a.max(*b));
        let total: f32 = row.iter().map(|value| (value - largest).exp()).sum();
        expected.extend(row.iter().map(|value| (value - largest).exp() / total));
    }
    let found = to_host(activation::softmax(float_tensor::<B, 2>(x, [rows, columns], device), 1));
    compare("softmax", &found, &expected)
}

fn embedding_gradient<B: Kernels>(device: &B::Device) -> Result<(), String> {
    let (vocabulary, width) = (11, 6);
    let ids = [3, 0, 3, 10, 7, 3, 0];
    let gradients = numbers(ids.len() * width, 4);
    let mut expected = vec![0f32; vocabulary * width];
    for (id, gradient) in ids.iter().zip(gradients.chunks(width)) {
        for (column, value) in gradient.iter().enumerate() {
            expected[*id as usize * width + column] += value;
        }
    }
    let values = float_tensor::<B, 2>(gradients, [ids.len(), width], device);
    let found = Tensor::<B, 2>::zeros([vocabulary, width], device).select_assign(
        0,
        int_tensor::<B, 1>(&ids, [ids.len()], device),
        values,
        IndexingUpdateOp::Add,
    );
    compare("the embedding gradient", &to_host(found), &expected)
}
