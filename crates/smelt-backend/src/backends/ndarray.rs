//! `ndarray`: burn-ndarray, the reference CPU backend, with the default kernels only.

use burn_ndarray::{NdArray, NdArrayDevice};

use super::{Driver, Opened};
use crate::Kernels;

/// Reaches [`NdArray`].
pub(crate) struct Ndarray;

impl Driver for Ndarray {
    type Backend = NdArray;

    fn open() -> Result<Opened<Self>, String> {
        Ok(Opened::in_system_memory(NdArrayDevice::Cpu, super::processor()))
    }
}

impl Kernels for NdArray {
    fn is_read_by_any_thread(_: &NdArrayDevice) -> bool {
        true
    }
}
