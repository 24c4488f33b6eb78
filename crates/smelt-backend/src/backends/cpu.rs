//! `cpu`: burn-flex with smelt's kernels.

use burn_flex::{Flex, FlexDevice};

use super::{Driver, Opened};
use crate::Kernels;

/// Reaches [`Flex`].
pub(crate) struct Cpu;

impl Driver for Cpu {
    type Backend = Flex;

    fn open() -> Result<Opened<Self>, String> {
        Ok(Opened::in_system_memory(FlexDevice, super::processor()))
    }
}

impl Kernels for Flex {}
