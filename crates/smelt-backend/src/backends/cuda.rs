//! `cuda`: burn-cuda on NVIDIA GPUs; the driver is loaded at run time.

use burn_cuda::CudaDevice;
use cudarc::driver::result;

use super::{Driver, Opened};
use crate::Kernels;
use crate::probe::quietly;

/// Reaches [`burn_cuda::Cuda`].
pub(crate) struct Cuda;

impl Driver for Cuda {
    type Backend = burn_cuda::Cuda;

    fn open() -> Result<Opened<Self>, String> {
        let (description, memory) = quietly(first_device)
            .map_err(|_| "the CUDA driver library is not installed".to_owned())?
            .map_err(|error| format!("no device ({error})"))?;
        let (free, total) = memory.unzip();
        Ok(Opened {
            device: CudaDevice::default(),
            description,
            memory_total_bytes: total,
            memory_available_bytes: free,
            software: false,
        })
    }
}

impl Kernels for burn_cuda::Cuda {}

/// Name of device 0 and its free and total memory; panics if the driver library cannot be loaded.
fn first_device() -> Result<(String, Option<(u64, u64)>), result::DriverError> {
    result::init()?;
    let device = result::device::get(0)?;
    let name = result::device::get_name(device)?;
    Ok((name, free_and_total(device)))
}

#[allow(unsafe_code, reason = "the CUDA driver's context calls have no safe form")]
fn free_and_total(device: cudarc::driver::sys::CUdevice) -> Option<(u64, u64)> {
    // SAFETY: `device` comes from `device::get` of an initialised driver; the primary context is retained
    // for the life of the process, as burn-cuda does itself.
    unsafe {
        let context = result::primary_ctx::retain(device).ok()?;
        result::ctx::set_current(context).ok()?;
    }
    let (free, total) = result::mem_get_info().ok()?;
    Some((free as u64, total as u64))
}
