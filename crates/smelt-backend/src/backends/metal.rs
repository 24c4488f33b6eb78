//! `metal`: burn-candle on Apple's GPU, through candle-metal-kernels.
//!
//! The kernels are those of `candle`: the same Rust path runs on candle's CPU device in tests.

#![allow(deprecated, reason = "burn-candle is the Metal path of burn 0.21; see the pins in Cargo.toml")]

use burn_candle::{Candle, CandleDevice};
use candle_core::Device;

use super::{Driver, Opened};
use crate::probe::quietly;

/// Reaches [`Candle`] on Metal.
pub(crate) struct Metal;

impl Driver for Metal {
    type Backend = Candle;

    fn open() -> Result<Opened<Self>, String> {
        let device = quietly(|| Device::new_metal(0))?.map_err(|error| error.to_string())?;
        Ok(Opened::in_system_memory(CandleDevice::from(device), "Apple GPU, unified memory".to_owned()))
    }
}
