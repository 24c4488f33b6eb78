//! `wgpu`: burn-wgpu on Vulkan, DX12 or Metal, whichever adapter the machine has.

use burn_wgpu::WgpuDevice;
use wgpu::{AdapterInfo, Backends, DeviceType, Instance, InstanceDescriptor};

use super::{Driver, Opened};
use crate::Kernels;
use crate::probe::quietly;

/// Reaches [`burn_wgpu::Wgpu`].
pub(crate) struct Wgpu;

impl Driver for Wgpu {
    type Backend = burn_wgpu::Wgpu;

    fn open() -> Result<Opened<Self>, String> {
        name_runtime_folder();
        let adapters = quietly(adapters)?;
        let adapter = adapters
            .into_iter()
            .min_by_key(|adapter| rank(adapter.device_type))
            .ok_or("no adapter (is a Vulkan driver installed?)")?;
        let software = adapter.device_type == DeviceType::Cpu;
        let integrated = software || adapter.device_type == DeviceType::IntegratedGpu;
        Ok(Opened {
            device: WgpuDevice::DefaultDevice,
            description: format!("{} ({})", adapter.name, adapter.backend),
            memory_total_bytes: integrated.then(crate::memory::system_total_bytes),
            memory_available_bytes: integrated.then(crate::memory::system_available_bytes),
            software,
        })
    }
}

impl Kernels for burn_wgpu::Wgpu {}

/// Mesa's drivers complain on stderr about every device where `XDG_RUNTIME_DIR` is not set.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "the driver reads its folder from the environment only")]
fn name_runtime_folder() {
    const NAME: &str = "XDG_RUNTIME_DIR";
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        if std::env::var_os(NAME).is_none_or(|folder| folder.is_empty()) {
            // SAFETY: this runs once, while a backend is selected and before its driver is loaded; no
            // thread of smelt reads the environment by then but this one.
            unsafe { std::env::set_var(NAME, std::env::temp_dir()) };
        }
    });
}

#[cfg(not(target_os = "linux"))]
fn name_runtime_folder() {}

fn adapters() -> Vec<AdapterInfo> {
    let backends = if cfg!(target_os = "macos") {
        Backends::METAL
    } else if cfg!(windows) {
        Backends::DX12 | Backends::VULKAN
    } else {
        Backends::VULKAN
    };
    let instance =
        Instance::new(InstanceDescriptor { backends, ..InstanceDescriptor::new_without_display_handle() });
    let adapters = burn::tensor::read_sync(instance.enumerate_adapters(backends));
    adapters.iter().map(|adapter| adapter.get_info()).collect()
}

fn rank(device_type: DeviceType) -> u8 {
    match device_type {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    }
}
