//! Host data to tensors and back: the one place where integer widths of backends do not matter.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};

/// Uploads ids, row-major.
///
/// # Panics
/// If `values` does not fill `shape`, or an id is above `i32::MAX`.
pub fn int_tensor<B: Backend, const D: usize>(
    values: &[u32],
    shape: [usize; D],
    device: &B::Device,
) -> Tensor<B, D, Int> {
    let values: Vec<i32> = values.iter().map(|&id| i32::try_from(id).expect("ids fit i32")).collect();
    Tensor::from_data(TensorData::new(values, shape).convert::<B::IntElem>(), device)
}

/// Uploads numbers, row-major.
///
/// # Panics
/// If `values` does not fill `shape`.
pub fn float_tensor<B: Backend, const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    device: &B::Device,
) -> Tensor<B, D> {
    Tensor::from_data(TensorData::new(values, shape).convert::<B::FloatElem>(), device)
}

/// Downloads a tensor as f32, row-major.
pub fn to_host<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    let data = tensor.into_data().convert::<f32>();
    data.into_vec().expect("data converted to f32 reads as f32")
}

/// Waits for the device by reading one number back.
///
/// `Backend::sync` is an error on Metal in burn-candle 0.21.
pub fn scalar<B: Backend>(tensor: Tensor<B, 1>) -> f64 {
    f64::from(to_host(tensor)[0])
}
