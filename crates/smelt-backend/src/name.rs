//! The names by which users choose a backend.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::BackendError;

/// A backend, in this build or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Name {
    /// burn-flex with smelt's kernels.
    Cpu,
    /// burn-ndarray, the reference CPU backend.
    Ndarray,
    /// burn-candle on the CPU.
    Candle,
    /// burn-candle on Apple's Metal.
    Metal,
    /// burn-wgpu: Vulkan, DX12, Metal through wgpu.
    Wgpu,
    /// burn-cuda: NVIDIA.
    Cuda,
}

impl Name {
    /// Every backend smelt knows.
    pub const ALL: [Name; 6] = [Name::Cpu, Name::Ndarray, Name::Candle, Name::Metal, Name::Wgpu, Name::Cuda];

    /// The order in which `auto` tries backends, fastest device first.
    pub const PREFERENCE: [Name; 6] =
        [Name::Metal, Name::Cuda, Name::Wgpu, Name::Cpu, Name::Candle, Name::Ndarray];

    /// Whether it computes on the machine's processor.
    pub fn is_processor(self) -> bool {
        matches!(self, Name::Cpu | Name::Ndarray | Name::Candle)
    }

    /// The name as typed on the command line, which is also that of the cargo feature.
    pub fn as_str(self) -> &'static str {
        match self {
            Name::Cpu => "cpu",
            Name::Ndarray => "ndarray",
            Name::Candle => "candle",
            Name::Metal => "metal",
            Name::Wgpu => "wgpu",
            Name::Cuda => "cuda",
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Name {
    type Err = BackendError;

    fn from_str(text: &str) -> Result<Self, BackendError> {
        Self::ALL
            .into_iter()
            .find(|name| name.as_str() == text)
            .ok_or_else(|| BackendError::UnknownName { name: text.to_owned() })
    }
}
