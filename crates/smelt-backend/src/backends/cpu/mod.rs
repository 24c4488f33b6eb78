//! `cpu`: burn-flex with smelt's kernels.
//!
//! One file per kernel. A kernel takes the f32 case that it is written for and leaves the rest to the
//! plain version. Work is divided by rows or heads, never within a sum, so results do not depend on the
//! number of threads.

mod activation;
mod adamw;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
mod attention;
mod embedding;
mod fill;
mod gated;
mod half_precision;
mod heads;
mod layer_norm;
mod linear;
mod matrix;
mod parts;
mod positions;
mod quantized;
mod rms_norm;
mod rotary;
mod row_sums;
mod simd;
mod team;
mod token_loss;

use std::ops::Range;

use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Int, Tensor, TensorData, TensorPrimitive};
use burn_flex::{Flex, FlexDevice, FlexTensor};

pub(crate) use simd::run;

use super::{Driver, Opened};
use crate::kernels::{
    self, Activation, AdamWState, AdamWStep, AttentionGradients, AttentionOptions, AttentionSegment,
    LayerNormGradients, LinearGradients, QuantizedWeight, RmsNormGradients, RotaryStyle, TokenLoss,
};
use crate::{Kernels, Precision};

/// Reaches [`Flex`].
pub(crate) struct Cpu;

impl Driver for Cpu {
    type Backend = Flex;

    fn open() -> Result<Opened<Self>, String> {
        simd::check_requested()?;
        Ok(Opened::in_system_memory(FlexDevice, super::processor()))
    }
}

impl Kernels for Flex {
    fn keeps_weights_in(dtype: DType) -> bool {
        matches!(dtype, DType::F32 | DType::U32) || half_precision::holds(dtype)
    }

    fn is_read_by_any_thread(_: &FlexDevice) -> bool {
        true
    }

    fn passes_at_once(_: &FlexDevice, weight_bytes: u64, sequences: usize) -> usize {
        team::passes_at_once(weight_bytes, sequences)
    }

    fn side_by_side<T: Send, R: Send>(_: &FlexDevice, items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
        team::map(items, work)
    }

    fn trains_in(_precision: Precision) -> bool {
        true
    }

    fn rounded(x: Tensor<Self, 2>, dtype: DType) -> Tensor<Self, 2> {
        if !all_f32([&x]) || !half_precision::holds(dtype) {
            return x.cast(dtype);
        }
        half_precision::narrowed(x, dtype)
    }

    fn linear(x: Tensor<Self, 2>, weight: Tensor<Self, 2>, bias: Option<Tensor<Self, 1>>) -> Tensor<Self, 2> {
        if half_precision::holds(weight.dtype()) {
            return half_precision::forward(x, weight, bias);
        }
        if !all_f32([&x, &weight]) {
            return kernels::linear::plain(x, weight, bias);
        }
        linear::forward(x, weight, bias)
    }

    fn linear_backward(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 2>,
        grad: Tensor<Self, 2>,
        needed: [bool; 3],
    ) -> LinearGradients<Self> {
        if half_precision::holds(weight.dtype()) {
            return half_precision::backward(x, weight, grad, needed);
        }
        if !all_f32([&x, &weight]) {
            return kernels::linear::plain_backward(x, weight, grad, needed);
        }
        linear::backward(x, weight, grad, needed)
    }

    fn quantized_linear(
        x: Tensor<Self, 2>,
        weight: QuantizedWeight<Self>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 2> {
        let [y] = Self::quantized_linears(x, [(weight, bias)]);
        y
    }

    fn quantized_linears<const N: usize>(
        x: Tensor<Self, 2>,
        weights: [(QuantizedWeight<Self>, Option<Tensor<Self, 1>>); N],
    ) -> [Tensor<Self, 2>; N] {
        if !all_f32([&x]) {
            return weights.map(|(weight, bias)| kernels::quantized::plain::linear(x.clone(), weight, bias));
        }
        quantized::forward(x, weights)
    }

    fn quantized_linear_backward(weight: QuantizedWeight<Self>, grad: Tensor<Self, 2>) -> Tensor<Self, 2> {
        if !all_f32([&grad]) {
            return kernels::quantized::plain::linear_backward(weight, grad);
        }
        quantized::backward(weight, grad)
    }

    fn quantized_embedding(weight: QuantizedWeight<Self>, ids: Tensor<Self, 2, Int>) -> Tensor<Self, 3> {
        quantized::embedding(weight, ids)
    }

    fn dequantized(weight: QuantizedWeight<Self>) -> Tensor<Self, 2> {
        quantized::dequantized(weight)
    }

    fn embedding_backward(
        weight: Tensor<Self, 2>,
        ids: Tensor<Self, 2, Int>,
        grad: Tensor<Self, 3>,
    ) -> Tensor<Self, 2> {
        if !all_f32([&weight]) || !all_f32([&grad]) {
            return kernels::embedding::plain_backward(weight, ids, grad);
        }
        embedding::backward(weight.dims(), ids, grad)
    }

    fn layer_norm(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 1>,
        bias: Option<Tensor<Self, 1>>,
        epsilon: f64,
    ) -> Tensor<Self, 2> {
        if !all_f32([&x]) {
            return kernels::layer_norm::plain(x, weight, bias, epsilon);
        }
        layer_norm::forward(x, weight, bias, epsilon as f32)
    }

    fn layer_norm_backward(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 1>,
        grad: Tensor<Self, 2>,
        epsilon: f64,
    ) -> LayerNormGradients<Self> {
        if !all_f32([&x]) {
            return kernels::layer_norm::plain_backward(x, weight, grad, epsilon);
        }
        layer_norm::backward(x, weight, grad, epsilon as f32)
    }

    fn rms_norm(x: Tensor<Self, 2>, weight: Tensor<Self, 1>, epsilon: f64) -> Tensor<Self, 2> {
        if !all_f32([&x]) {
            return kernels::rms_norm::plain(x, weight, epsilon);
        }
        rms_norm::forward(x, weight, epsilon as f32)
    }

    fn rms_norm_backward(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 1>,
        grad: Tensor<Self, 2>,
        epsilon: f64,
    ) -> RmsNormGradients<Self> {
        if !all_f32([&x]) {
            return kernels::rms_norm::plain_backward(x, weight, grad, epsilon);
        }
        rms_norm::backward(x, weight, grad, epsilon as f32)
    }

    fn joined<const D: usize>(parts: Vec<Tensor<Self, D>>, dim: usize) -> Tensor<Self, D> {
        if !parts.iter().all(|part| all_f32([part])) {
            return Tensor::cat(parts, dim);
        }
        parts::joined(parts, dim)
    }

    fn rotary(
        x: Tensor<Self, 4>,
        cos: Tensor<Self, 3>,
        sin: Tensor<Self, 3>,
        style: RotaryStyle,
    ) -> Tensor<Self, 4> {
        if !all_f32([&x]) {
            return kernels::rotary::plain(x, cos, sin, style);
        }
        rotary::forward(x, cos, sin, style)
    }

    fn gated(gate: Tensor<Self, 2>, up: Tensor<Self, 2>, kind: Activation) -> Tensor<Self, 2> {
        if !all_f32([&gate, &up]) || kind != Activation::Silu {
            return kernels::activation::plain_gated(gate, up, kind);
        }
        gated::forward(gate, up)
    }

    fn gated_backward(
        gate: Tensor<Self, 2>,
        up: Tensor<Self, 2>,
        grad: Tensor<Self, 2>,
        kind: Activation,
    ) -> (Tensor<Self, 2>, Tensor<Self, 2>) {
        if !all_f32([&gate, &up]) || kind != Activation::Silu {
            return kernels::activation::plain_gated_backward(gate, up, grad, kind);
        }
        gated::backward(gate, up, grad)
    }

    fn activation(x: Tensor<Self, 2>, kind: Activation) -> Tensor<Self, 2> {
        if !all_f32([&x]) || kind != Activation::GeluTanh {
            return kernels::activation::plain(x, kind);
        }
        activation::gelu_tanh(x)
    }

    fn activation_backward(x: Tensor<Self, 2>, grad: Tensor<Self, 2>, kind: Activation) -> Tensor<Self, 2> {
        if !all_f32([&x]) || kind != Activation::GeluTanh {
            return kernels::activation::plain_derivative(x, kind) * grad;
        }
        activation::gelu_tanh_backward(x, grad)
    }

    fn attention(
        q: Tensor<Self, 4>,
        k: Tensor<Self, 4>,
        v: Tensor<Self, 4>,
        mask: Option<Tensor<Self, 4>>,
        options: AttentionOptions,
    ) -> Tensor<Self, 4> {
        if !all_f32([&q, &k, &v]) {
            return kernels::attention::plain(q, k, v, mask, options);
        }
        attention::forward(q, k, v, mask, options)
    }

    fn attention_over_segments(
        q: Tensor<Self, 4>,
        segments: Vec<AttentionSegment<Self>>,
        options: AttentionOptions,
    ) -> Tensor<Self, 4> {
        if !all_f32([&q]) || !segments.iter().all(|segment| all_f32([&segment.keys, &segment.values])) {
            return kernels::attention::one_by_one(q, segments, options);
        }
        attention::over_segments(q, segments, options)
    }

    fn write_positions(
        buffer: Tensor<Self, 4>,
        rows: &Tensor<Self, 4>,
        taken: Range<usize>,
        start: usize,
    ) -> Tensor<Self, 4> {
        if !all_f32([&buffer, rows]) {
            return kernels::positions::plain(buffer, rows, taken, start);
        }
        positions::write(buffer, rows, taken, start)
    }

    fn attention_backward(
        q: Tensor<Self, 4>,
        k: Tensor<Self, 4>,
        v: Tensor<Self, 4>,
        mask: Option<Tensor<Self, 4>>,
        output: Tensor<Self, 4>,
        grad: Tensor<Self, 4>,
        options: AttentionOptions,
    ) -> AttentionGradients<Self> {
        if !all_f32([&q, &k, &v]) {
            return kernels::attention::plain_backward(q, k, v, mask, output, grad, options);
        }
        attention::backward(q, k, v, mask, output, grad, options)
    }

    fn token_loss(
        logits: Tensor<Self, 2>,
        targets: Tensor<Self, 1, Int>,
        token_weights: Tensor<Self, 1>,
        z_loss: f64,
        with_gradient: bool,
    ) -> TokenLoss<Self> {
        if !all_f32([&logits]) {
            return kernels::cross_entropy::plain(logits, targets, token_weights, z_loss, with_gradient);
        }
        token_loss::token_loss(logits, targets, token_weights, z_loss, with_gradient)
    }

    fn adamw_step(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        state: AdamWState<Self>,
        step: &AdamWStep,
    ) -> (FloatTensor<Self>, AdamWState<Self>) {
        if parameter.dtype() != DType::F32 {
            return kernels::adamw::plain(parameter, gradient, state, step);
        }
        adamw::step(parameter, gradient, state, step)
    }
}

fn all_f32<const N: usize, const D: usize>(tensors: [&Tensor<Flex, D>; N]) -> bool {
    tensors.iter().all(|tensor| tensor.dtype() == DType::F32)
}

/// The storage of a tensor.
fn flex<const D: usize>(tensor: Tensor<Flex, D>) -> FlexTensor {
    tensor.into_primitive().tensor()
}

/// The storage of a tensor, copied into row-major order if it is a view of another kind.
fn contiguous<const D: usize>(tensor: Tensor<Flex, D>) -> FlexTensor {
    into_contiguous(flex(tensor))
}

/// In row-major order; a tensor that already is stays the only owner of its storage, if it was.
fn into_contiguous(tensor: FlexTensor) -> FlexTensor {
    let layout = tensor.layout();
    let bytes = layout.num_elements() * tensor.dtype().size();
    // What it would return then is a copy of the layout.
    if layout.is_contiguous() && layout.start_offset() == 0 && tensor.bytes().len() == bytes {
        return tensor;
    }
    tensor.to_contiguous()
}

/// Values of a row-major tensor.
fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("the tensor is contiguous f32")
}

/// A tensor of `values` in row-major order.
fn from_vec<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<Flex, D> {
    wrap(FlexTensor::from_data(TensorData::new(values, shape)))
}

fn wrap<const D: usize>(tensor: FlexTensor) -> Tensor<Flex, D> {
    Tensor::from_primitive(TensorPrimitive::Float(tensor))
}
