//! Which backend runs: what the build holds, what the machine has, whether the work fits, whether it computes.

use std::fmt;

use burn::tensor::DType;
use burn::tensor::backend::Backend;

use crate::backends::{Driver, with_driver};
use crate::probe::quietly;
use crate::self_test::SelfTest;
use crate::{BackendError, Kernels, Name, Precision, dispatch, in_build};

/// What is asked of a backend.
#[derive(Debug, Clone)]
pub struct Request {
    /// The backend a user named; `None` for `auto`.
    pub name: Option<Name>,
    /// Memory the work will need.
    pub required_bytes: Option<u64>,
    /// The number format that training will compute in.
    pub precision: Precision,
    /// The order in which `auto` tries backends.
    pub preference: Vec<Name>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            name: None,
            required_bytes: None,
            precision: Precision::F32,
            preference: Name::PREFERENCE.to_vec(),
        }
    }
}

/// Why a backend was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Its cargo feature was off.
    NotInBuild,
    /// The machine has no device for it, in the driver's words.
    NoDevice(String),
    /// It does not train in this number format.
    Precision(Precision),
    /// Its device is emulated on the CPU, which `auto` passes over.
    Software(String),
    /// The work does not fit its memory.
    TooSmall {
        /// Bytes the work needs.
        required_bytes: u64,
        /// Bytes the device has free.
        available_bytes: u64,
    },
    /// It computes wrong results.
    SelfTest(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NotInBuild => f.write_str("not in this build"),
            Reason::NoDevice(why) => f.write_str(why),
            Reason::Precision(precision) => write!(f, "does not train in {precision}"),
            Reason::Software(device) => write!(f, "{device} is emulated on the CPU"),
            Reason::TooSmall { required_bytes, available_bytes } => {
                let gigabytes = |bytes: u64| bytes as f64 / 1e9;
                write!(
                    f,
                    "needs {:.1} GB, {:.1} GB are free",
                    gigabytes(*required_bytes),
                    gigabytes(*available_bytes)
                )
            }
            Reason::SelfTest(why) => f.write_str(why),
        }
    }
}

/// The backend taken, and what became of those before it.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The backend taken.
    pub name: Name,
    /// Its device in the driver's words.
    pub device: String,
    /// Backends preferred to it, each with its reason.
    pub rejected: Vec<(Name, Reason)>,
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "backend: {}", self.name)?;
        if self.rejected.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", crate::error::reasons(&self.rejected))
    }
}

/// Chooses the backend for `request`.
///
/// A named backend is taken or refused, never replaced; `auto` takes the first of the preference that can
/// serve.
///
/// # Errors
/// [`BackendError::NotInBuild`] or [`BackendError::Unusable`] for a named backend,
/// [`BackendError::NoneLeft`] for `auto`.
pub fn select(request: &Request) -> Result<Selection, BackendError> {
    if let Some(name) = request.name {
        return match examine(name, request, Software::Accepted) {
            Ok(device) => Ok(Selection { name, device, rejected: Vec::new() }),
            Err(Reason::NotInBuild) => Err(BackendError::NotInBuild { name }),
            Err(reason) => Err(BackendError::Unusable { name, reason }),
        };
    }
    let mut rejected = Vec::new();
    for &name in &request.preference {
        match examine(name, request, Software::Refused) {
            Ok(device) => return Ok(Selection { name, device, rejected }),
            Err(reason) => rejected.push((name, reason)),
        }
    }
    Err(BackendError::NoneLeft { rejected })
}

/// Whether a device emulated on the CPU will do.
#[derive(Clone, Copy, PartialEq)]
enum Software {
    Accepted,
    Refused,
}

/// The device of a backend that can serve.
fn examine(name: Name, request: &Request, software: Software) -> Result<String, Reason> {
    if !in_build().contains(&name) {
        return Err(Reason::NotInBuild);
    }
    if !trains_in(name, request.precision) {
        return Err(Reason::Precision(request.precision));
    }
    let facts = device_facts(name).map_err(Reason::NoDevice)?;
    if facts.software && software == Software::Refused {
        return Err(Reason::Software(facts.description));
    }
    if let (Some(required_bytes), Some(available_bytes)) =
        (request.required_bytes, facts.memory_available_bytes)
        && required_bytes > available_bytes
    {
        return Err(Reason::TooSmall { required_bytes, available_bytes });
    }
    self_test(name).map_err(Reason::SelfTest)?;
    Ok(facts.description)
}

/// Whether the backend called `name` is in this build and trains in `precision`.
pub fn trains_in(name: Name, precision: Precision) -> bool {
    with_driver!(name, D => <D as Driver>::Backend::trains_in(precision), else false)
}

/// What a driver tells of its device.
pub(crate) struct DeviceFacts {
    pub description: String,
    pub memory_total_bytes: Option<u64>,
    pub memory_available_bytes: Option<u64>,
    pub software: bool,
    pub dtypes: Vec<&'static str>,
}

/// Asks the driver of a backend for its device.
pub(crate) fn device_facts(name: Name) -> Result<DeviceFacts, String> {
    with_driver!(name, D => facts_of::<D>(), else Err(Reason::NotInBuild.to_string()))
}

fn facts_of<D: Driver>() -> Result<DeviceFacts, String> {
    let opened = D::open()?;
    Ok(DeviceFacts {
        dtypes: supported_dtypes::<D::Backend>(&opened.device),
        description: opened.description,
        memory_total_bytes: opened.memory_total_bytes,
        memory_available_bytes: opened.memory_available_bytes,
        software: opened.software,
    })
}

fn supported_dtypes<B: Backend>(device: &B::Device) -> Vec<&'static str> {
    [("f32", DType::F32), ("bf16", DType::BF16), ("f16", DType::F16)]
        .into_iter()
        .filter(|(_, dtype)| B::supports_dtype(device, *dtype))
        .map(|(name, _)| name)
        .collect()
}

/// Computes on the device and compares with the host.
pub(crate) fn self_test(name: Name) -> Result<(), String> {
    quietly(|| dispatch(name, SelfTest)).and_then(|result| result)
}
