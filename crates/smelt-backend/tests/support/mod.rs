//! What tests of kernels share.

use burn::tensor::Tensor;
use smelt_backend::{Job, Kernels, Name, dispatch, float_tensor, in_build};
use smelt_testkit::numbers;

/// Runs `job` on each backend that computes on this machine without a GPU.
pub fn on_each_backend<J: Job<Output = ()> + Clone>(job: J) {
    let names: Vec<Name> = in_build()
        .into_iter()
        .filter(|name| matches!(name, Name::Cpu | Name::Ndarray | Name::Candle))
        .collect();
    assert!(!names.is_empty(), "build with --features cpu, ndarray or candle");
    for name in names {
        eprintln!("backend {name}");
        dispatch(name, job.clone());
    }
}

/// Numbers that a seed decides.
pub fn random<B: Kernels, const D: usize>(shape: [usize; D], seed: u32, device: &B::Device) -> Tensor<B, D> {
    float_tensor(numbers(shape.iter().product(), seed), shape, device)
}
