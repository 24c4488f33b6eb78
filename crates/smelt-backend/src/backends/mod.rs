//! One file per backend: its type, its device, its specialised kernels.

use crate::{Kernels, Name};

#[cfg(feature = "candle")]
pub(crate) mod candle;
#[cfg(feature = "cpu")]
pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(feature = "metal")]
pub(crate) mod metal;
#[cfg(feature = "ndarray")]
pub(crate) mod ndarray;
#[cfg(feature = "wgpu")]
pub(crate) mod wgpu;

/// How smelt reaches one backend of the build.
pub(crate) trait Driver {
    /// The burn backend.
    type Backend: Kernels;

    /// Finds the device, or says why there is none.
    fn open() -> Result<Opened<Self>, String>;
}

/// A device that was found.
pub(crate) struct Opened<D: Driver + ?Sized> {
    pub device: <D::Backend as burn::tensor::backend::BackendTypes>::Device,
    /// The device in the words of its driver.
    pub description: String,
    pub memory_total_bytes: Option<u64>,
    pub memory_available_bytes: Option<u64>,
    /// Emulated on the CPU: `auto` passes over it.
    pub software: bool,
}

impl<D: Driver + ?Sized> Opened<D> {
    /// A device that computes in the machine's own memory.
    pub fn in_system_memory(
        device: <D::Backend as burn::tensor::backend::BackendTypes>::Device,
        description: String,
    ) -> Self {
        Self {
            device,
            description,
            memory_total_bytes: Some(crate::memory::system_total_bytes()),
            memory_available_bytes: Some(crate::memory::system_available_bytes()),
            software: false,
        }
    }
}

/// The processor, for devices that are it.
#[cfg(any(feature = "cpu", feature = "ndarray", feature = "candle"))]
pub(crate) fn processor() -> String {
    use sysinfo::{CpuRefreshKind, RefreshKind, System};
    let system = System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()));
    let brand = system.cpus().first().map_or("processor", |cpu| cpu.brand()).trim().to_owned();
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    format!("{brand}, {threads} threads")
}

/// Evaluates `$body` with `$D` as the driver called `$name`, or `$missing` if it is not in this build.
macro_rules! with_driver {
    ($name:expr, $D:ident => $body:expr, else $missing:expr) => {
        match $name {
            #[cfg(feature = "cpu")]
            $crate::Name::Cpu => {
                type $D = $crate::backends::cpu::Cpu;
                $body
            }
            #[cfg(feature = "ndarray")]
            $crate::Name::Ndarray => {
                type $D = $crate::backends::ndarray::Ndarray;
                $body
            }
            #[cfg(feature = "candle")]
            $crate::Name::Candle => {
                type $D = $crate::backends::candle::CandleCpu;
                $body
            }
            #[cfg(feature = "metal")]
            $crate::Name::Metal => {
                type $D = $crate::backends::metal::Metal;
                $body
            }
            #[cfg(feature = "wgpu")]
            $crate::Name::Wgpu => {
                type $D = $crate::backends::wgpu::Wgpu;
                $body
            }
            #[cfg(feature = "cuda")]
            $crate::Name::Cuda => {
                type $D = $crate::backends::cuda::Cuda;
                $body
            }
            #[allow(unreachable_patterns, reason = "unreachable in a build with every backend")]
            _ => $missing,
        }
    };
}
pub(crate) use with_driver;

/// The backends of this build.
pub fn in_build() -> Vec<Name> {
    Name::ALL.into_iter().filter(|name| with_driver!(*name, D => is_driver::<D>(), else false)).collect()
}

fn is_driver<D: Driver>() -> bool {
    true
}
