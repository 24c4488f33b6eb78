//! How fast a device multiplies matrices: the limit that training is held against.

use std::hint::black_box;
use std::time::{Duration, Instant};

use burn::tensor::{Distribution, Tensor};

use crate::{Kernels, scalar};

/// Floating-point operations per second of products of f32 matrices of `size` x `size`.
///
/// The best of the rounds that fit into `time`, after one that does not count.
pub fn matmul_flops_per_second<B: Kernels>(size: usize, time: Duration, device: &B::Device) -> f64 {
    let matrix = || Tensor::<B, 2>::random([size, size], Distribution::Uniform(-1.0, 1.0), device);
    let (a, b) = (matrix(), matrix());
    // Reading one number back waits for the device.
    let multiply =
        || scalar::<B>(Kernels::linear(a.clone(), b.clone(), None).slice([0..1, 0..1]).reshape([1]));
    black_box(multiply());
    let started = Instant::now();
    let mut best = f64::INFINITY;
    while started.elapsed() < time || best.is_infinite() {
        let round = Instant::now();
        black_box(multiply());
        best = best.min(round.elapsed().as_secs_f64());
    }
    2.0 * (size as f64).powi(3) / best
}
