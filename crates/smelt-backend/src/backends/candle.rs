//! `candle`: burn-candle on the CPU, and the kernels that it shares with `metal`.
//!
//! The kernels call candle's own fused operations, which have no backward of their own: gradients come
//! from smelt's.

#![allow(deprecated, reason = "burn-candle is the Metal path of burn 0.21; see the pins in Cargo.toml")]

use burn::tensor::{Tensor, TensorPrimitive};
use burn_candle::{Candle, CandleDevice, CandleTensor};
use candle_core::Result;
use candle_nn::{ops, rotary_emb};

use super::{Driver, Opened};
use crate::Kernels;
use crate::kernels::{Activation, LinearGradients, RotaryStyle, activation, layer_norm};

/// Reaches [`Candle`] on the CPU.
pub(crate) struct CandleCpu;

impl Driver for CandleCpu {
    type Backend = Candle;

    fn open() -> std::result::Result<Opened<Self>, String> {
        Ok(Opened::in_system_memory(CandleDevice::Cpu, super::processor()))
    }
}

impl Kernels for Candle {
    fn is_read_by_any_thread(device: &CandleDevice) -> bool {
        matches!(device, CandleDevice::Cpu)
    }

    /// burn-candle copies a transposed right-hand side; candle itself multiplies by the view.
    fn linear(x: Tensor<Self, 2>, weight: Tensor<Self, 2>, bias: Option<Tensor<Self, 1>>) -> Tensor<Self, 2> {
        let (x, weight, bias) = (candle(x), candle(weight), bias.map(candle));
        wrap(weight.t().and_then(|weight| x.matmul(&weight)).and_then(|y| match &bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }))
    }

    fn linear_backward(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 2>,
        grad: Tensor<Self, 2>,
        [need_x, need_weight, need_bias]: [bool; 3],
    ) -> LinearGradients<Self> {
        let (x, weight, grad) = (candle(x), candle(weight), candle(grad));
        LinearGradients {
            x: need_x.then(|| wrap(grad.matmul(&weight))),
            weight: need_weight.then(|| wrap(grad.t().and_then(|grad| grad.matmul(&x)))),
            bias: need_bias.then(|| wrap(grad.sum(0))),
        }
    }

    fn layer_norm(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 1>,
        bias: Option<Tensor<Self, 1>>,
        epsilon: f64,
    ) -> Tensor<Self, 2> {
        let Some(bias) = bias else { return layer_norm::plain(x, weight, None, epsilon) };
        let (weight, bias) = (candle(weight), candle(bias));
        wrap(candle(x).contiguous().and_then(|x| ops::layer_norm(&x, &weight, &bias, epsilon as f32)))
    }

    fn rms_norm(x: Tensor<Self, 2>, weight: Tensor<Self, 1>, epsilon: f64) -> Tensor<Self, 2> {
        let weight = candle(weight);
        wrap(candle(x).contiguous().and_then(|x| ops::rms_norm(&x, &weight, epsilon as f32)))
    }

    fn activation(x: Tensor<Self, 2>, kind: Activation) -> Tensor<Self, 2> {
        match kind {
            Activation::GeluTanh => wrap(candle(x).gelu()),
            Activation::Silu => wrap(candle(x).silu()),
            Activation::Gelu | Activation::Relu => activation::plain(x, kind),
        }
    }

    fn rotary(
        x: Tensor<Self, 4>,
        cos: Tensor<Self, 3>,
        sin: Tensor<Self, 3>,
        style: RotaryStyle,
    ) -> Tensor<Self, 4> {
        let rotate = match style {
            RotaryStyle::Half => rotary_emb::rope,
            RotaryStyle::Interleaved => rotary_emb::rope_i,
        };
        wrap(candle(x).contiguous().and_then(|x| rotate(&x, &table(cos)?, &table(sin)?)))
    }
}

/// `[batch, seq, half]`, or `[seq, half]` where all of the batch share it, as candle expects.
fn table(angles: Tensor<Candle, 3>) -> Result<candle_core::Tensor> {
    let angles = candle(angles);
    let angles = if angles.dim(0)? == 1 { angles.squeeze(0)? } else { angles };
    angles.contiguous()
}

/// Wraps what candle computed.
///
/// # Panics
/// If candle refused: the kernels' callers pass shapes that fit.
fn wrap<const D: usize>(result: Result<candle_core::Tensor>) -> Tensor<Candle, D> {
    let tensor = result.unwrap_or_else(|error| panic!("candle: {error}"));
    Tensor::from_primitive(TensorPrimitive::Float(CandleTensor::new(tensor)))
}

/// Candle's own tensor in one of burn.
fn candle<const D: usize>(tensor: Tensor<Candle, D>) -> candle_core::Tensor {
    unwrap(tensor.into_primitive().tensor())
}

/// burn-candle 0.21 has no way to give back the tensor that `CandleTensor::new` wraps.
#[allow(unsafe_code, reason = "the only field of `CandleTensor` is private to its crate")]
fn unwrap(tensor: CandleTensor) -> candle_core::Tensor {
    const {
        assert!(size_of::<CandleTensor>() == size_of::<candle_core::Tensor>());
        assert!(align_of::<CandleTensor>() == align_of::<candle_core::Tensor>());
    }
    // SAFETY: `CandleTensor` is a struct of one field, a `candle_core::Tensor`, in the pinned version;
    // a struct of one field of the same size and alignment holds it at offset 0.
    unsafe { std::mem::transmute::<CandleTensor, candle_core::Tensor>(tensor) }
}
