//! Host data to tensors and back: the one place where integer widths of backends do not matter.

use burn::tensor::backend::Backend;
use burn::tensor::{AllocationProperty, BasicOps, Bytes, DType, Int, Tensor, TensorData};

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

/// Zeros, which take no memory before they are written to where the system hands out zeros. Those of `Tensor::zeros` are
/// written and copied by burn-flex.
pub fn zeros<B: Backend, const D: usize>(shape: [usize; D], device: &B::Device) -> Tensor<B, D> {
    Tensor::full(shape, 0.0, device)
}

/// A tensor of `dtype` over `bytes`, row-major and little-endian: read where it lies by backends that compute in
/// system memory, and copied by others. Who writes to the tensor gets a copy of its own.
///
/// # Panics
/// If `bytes` do not fill `shape`.
pub fn tensor_over<B: Backend, const D: usize, K: BasicOps<B>>(
    bytes: bytes::Bytes,
    dtype: DType,
    shape: [usize; D],
    device: &B::Device,
) -> Tensor<B, D, K> {
    assert_eq!(bytes.len(), shape.iter().product::<usize>() * dtype.size(), "bytes of a {shape:?} tensor");
    let aligned = bytes.as_ptr().addr().is_multiple_of(dtype.size());
    let bytes = match aligned {
        true => Bytes::from_shared(bytes, AllocationProperty::File),
        false => Bytes::from_bytes_vec(bytes.to_vec()),
    };
    Tensor::from_data(TensorData::from_bytes(bytes, shape, dtype), (device, dtype))
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

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use burn::tensor::Float;
    use burn_flex::{Flex, FlexDevice};

    use super::*;

    #[test]
    fn a_tensor_over_bytes_reads_them_in_place_unless_they_are_misaligned() {
        let values: Vec<u8> = [1.5f32, -2.0, 3.25].iter().flat_map(|value| value.to_le_bytes()).collect();
        for start in 0..4 {
            // Padding in front moves the values off their alignment.
            let padded = bytes::Bytes::from([vec![0; 8 - start], values.clone()].concat());
            let over = padded.slice(8 - start..);
            let place = over.as_ptr();
            let tensor = tensor_over::<Flex, 1, Float>(over, DType::F32, [3], &FlexDevice);
            let primitive = tensor.clone().into_primitive().tensor();
            let in_place = std::ptr::eq(primitive.bytes().as_ptr(), place);
            assert_eq!(in_place, place.addr().is_multiple_of(4), "{start} bytes off");
            assert_eq!(to_host(tensor * 2.0), [3.0, -4.0, 6.5]);
        }
    }
}
