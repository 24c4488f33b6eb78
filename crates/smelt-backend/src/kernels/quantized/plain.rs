//! The kernels of quantized weights in plain burn operations: blocks of rows are expanded, multiplied and forgotten.

use burn::tensor::{DType, Int, Tensor, TensorData};

use super::{QuantizedWeight, dequantize};
use crate::{Kernels, float_tensor};

/// Values that exist in f32 at a time.
const BLOCK_VALUES: usize = 1 << 21;

/// [`Kernels::quantized_linear`] by blocks of outputs.
pub fn linear<B: Kernels>(
    x: Tensor<B, 2>,
    weight: QuantizedWeight<B>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 2> {
    let outputs = blocks(weight).map(|(start, block)| {
        let bias = bias.clone().map(|bias| bias.narrow(0, start, block.dims()[0]));
        Kernels::linear(x.clone(), expanded(block), bias)
    });
    joined(outputs.collect(), 1)
}

/// [`Kernels::quantized_linear_backward`] as a sum over blocks.
pub fn linear_backward<B: Kernels>(weight: QuantizedWeight<B>, grad: Tensor<B, 2>) -> Tensor<B, 2> {
    let [rows, _] = grad.dims();
    let zeros = Tensor::zeros([rows, weight.dims()[1]], &grad.device());
    blocks(weight).fold(zeros, |sum, (start, block)| {
        sum + grad.clone().narrow(1, start, block.dims()[0]).matmul(expanded(block))
    })
}

/// [`Kernels::quantized_embedding`]: only the rows that are looked up are expanded.
pub fn embedding<B: Kernels>(weight: QuantizedWeight<B>, ids: Tensor<B, 2, Int>) -> Tensor<B, 3> {
    let [batch, seq] = ids.dims();
    let rows = expanded(weight.selected(ids.reshape([batch * seq])));
    let features = rows.dims()[1];
    rows.reshape([batch, seq, features])
}

/// [`Kernels::dequantized`], joined from blocks.
pub fn dequantized<B: Kernels>(weight: QuantizedWeight<B>) -> Tensor<B, 2> {
    joined(blocks(weight).map(|(_, block)| expanded(block)).collect(), 0)
}

fn joined<B: Kernels>(mut parts: Vec<Tensor<B, 2>>, dim: usize) -> Tensor<B, 2> {
    match parts.len() {
        1 => parts.remove(0),
        _ => Tensor::cat(parts, dim),
    }
}

/// Blocks of rows, each with its first row.
fn blocks<B: Kernels>(weight: QuantizedWeight<B>) -> impl Iterator<Item = (usize, QuantizedWeight<B>)> {
    let [out, features] = weight.dims();
    let count = (BLOCK_VALUES / features).max(1);
    (0..out).step_by(count).map(move |start| (start, weight.rows(start, count.min(out - start))))
}

/// What the codes stand for, `[out, in]` in f32 ([`GroupScale::value`](super::GroupScale::value)).
fn expanded<B: Kernels>(weight: QuantizedWeight<B>) -> Tensor<B, 2> {
    let ([out, features], dtype, device) = (weight.dims(), weight.rounding(), weight.device());
    let computes_in =
        |dtype| dtype == DType::F32 || B::keeps_weights_in(dtype) || B::supports_dtype(&device, dtype);
    if !computes_in(dtype) {
        // The device cannot round to this format.
        let values = dequantize(&weight.to_bytes(), [out, features], weight.format());
        return float_tensor(values.expect("the bytes of a weight"), [out, features], &device);
    }
    let format = weight.format();
    let groups = [out, features / format.group_size(), 1];
    let codes = codes(weight.packed, format.bits()).reshape([out, groups[1], format.group_size()]);
    let [scales, biases] = [weight.scales, weight.biases].map(|part| part.cast(DType::F32).reshape(groups));
    let rounded = |x: Tensor<B, 3>| if dtype == DType::F32 { x } else { x.cast(dtype).cast(DType::F32) };
    rounded(rounded(codes * scales) + biases).reshape([out, features])
}

/// Every code as a number: `packed` `[out, words]` -> `[out * words / bits, 32]`.
///
/// 32 codes fill as many words as they have bits. A code is in one of them, or in the end of one and the beginning of
/// the next. Only division, multiplication and subtraction, of u32 by tensors, work everywhere: burn-candle has no
/// shifts and no masks, and cannot divide by a number.
fn codes<B: Kernels>(packed: Tensor<B, 2, Int>, bits: u32) -> Tensor<B, 2> {
    const CODES: u32 = 32;
    let device = packed.device();
    let units = packed.shape().num_elements() / bits as usize;
    let words = packed.reshape([units, bits as usize]);
    let constants = |value: &dyn Fn(u32) -> u32| {
        let values: Vec<u32> = (0..CODES).map(|code| value(code * bits)).collect();
        Tensor::<B, 2, Int>::from_data(TensorData::new(values, [1, CODES as usize]), (&device, DType::U32))
    };
    let word = |words: &Tensor<B, 2, Int>, number: &dyn Fn(u32) -> u32| {
        let numbers: Vec<u32> = (0..CODES).map(|code| number(code * bits)).collect();
        words.clone().select(1, crate::int_tensor(&numbers, [CODES as usize], &device))
    };
    let low_bits = |at: u32| bits.min(32 - at % 32);
    let low = word(&words, &|at| at / 32) / constants(&|at| 1 << (at % 32));
    let low = remainder(low, constants(&|at| 1 << low_bits(at)));
    if 32 % bits == 0 {
        return low.float();
    }
    let high = word(&words, &|at| (at / 32 + 1).min(bits - 1));
    let high = remainder(high, constants(&|at| 1 << (bits - low_bits(at))));
    (low + high * constants(&|at| 1 << low_bits(at))).float()
}

fn remainder<B: Kernels>(x: Tensor<B, 2, Int>, divisors: Tensor<B, 2, Int>) -> Tensor<B, 2, Int> {
    x.clone() - x / divisors.clone() * divisors
}
