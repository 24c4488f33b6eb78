//! `candle`: burn-candle on the CPU, and the kernels that it shares with `metal`.

use burn_candle::{Candle, CandleDevice};

use super::{Driver, Opened};
use crate::Kernels;

/// Reaches [`Candle`] on the CPU.
pub(crate) struct CandleCpu;

impl Driver for CandleCpu {
    type Backend = Candle;

    fn open() -> Result<Opened<Self>, String> {
        Ok(Opened::in_system_memory(CandleDevice::Cpu, super::processor()))
    }
}

impl Kernels for Candle {}
