//! Blocks of ggml that are scales, offsets and codes of 32 values, as packed matrices of the model.
//!
//! The values are the same to the last bit: a scale times a code is exact in f32. Blocks of 16 values have no such
//! form here and become f32.

use smelt_backend::kernels::QuantizationFormat;
use smelt_backend::kernels::quantized::pack;

use super::blocks::{fifth, half_at, high_bits};
use super::k_blocks::{four_bits, scale_and_offset};
use super::kind::TensorKind;

/// Values that share a scale.
const GROUP: usize = 32;

/// One group: `value = scale * code + bias`.
struct Group {
    scale: f32,
    bias: f32,
    codes: [u8; GROUP],
}

/// The format of packed matrices that `kind` fits, if one does.
pub(super) fn format_of(kind: TensorKind) -> Option<QuantizationFormat> {
    let bits = match kind {
        TensorKind::Q4_0 | TensorKind::Q4_1 | TensorKind::Q4_K => 4,
        TensorKind::Q5_0 | TensorKind::Q5_1 | TensorKind::Q5_K => 5,
        TensorKind::Q8_0 => 8,
        _ => return None,
    };
    QuantizationFormat::new(bits, GROUP as u64).ok()
}

/// What a packed matrix consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Codes,
    Scales,
    Biases,
}

/// The bytes of one part of the matrix that whole blocks of `kind` are.
///
/// # Panics
/// If [`format_of`] has no format for `kind`.
pub(super) fn packed_part(kind: TensorKind, blocks: &[u8], part: Part) -> Vec<u8> {
    let format = format_of(kind).expect("a kind that can be packed");
    let mut bytes = Vec::new();
    let mut codes = vec![0; format.group_bytes()];
    for block in blocks.chunks_exact(kind.block_bytes()) {
        for index in 0..kind.block_values() / GROUP {
            let group = group(kind, block, index);
            match part {
                Part::Codes => {
                    pack(&group.codes, format, &mut codes);
                    bytes.extend_from_slice(&codes);
                }
                Part::Scales => bytes.extend(group.scale.to_le_bytes()),
                Part::Biases => bytes.extend(group.bias.to_le_bytes()),
            }
        }
    }
    bytes
}

fn group(kind: TensorKind, block: &[u8], index: usize) -> Group {
    let codes = |code: &dyn Fn(usize) -> u8| std::array::from_fn(code);
    let nibble = |from: usize| move |at: usize| block[from + at % 16] >> (4 * (at / 16)) & 0x0F;
    let scale = half_at(block, 0);
    match kind {
        TensorKind::Q4_0 => Group { scale, bias: -8.0 * scale, codes: codes(&nibble(2)) },
        TensorKind::Q4_1 => Group { scale, bias: half_at(block, 2), codes: codes(&nibble(4)) },
        TensorKind::Q5_0 => {
            let (low, high) = (nibble(6), high_bits(block, 2));
            Group { scale, bias: -16.0 * scale, codes: codes(&|at| low(at) | fifth(high, at)) }
        }
        TensorKind::Q5_1 => {
            let (low, high) = (nibble(8), high_bits(block, 4));
            Group { scale, bias: half_at(block, 2), codes: codes(&|at| low(at) | fifth(high, at)) }
        }
        TensorKind::Q8_0 => {
            Group { scale, bias: -128.0 * scale, codes: codes(&|at| block[2 + at].wrapping_add(128)) }
        }
        TensorKind::Q4_K => of_super_block(block, index, &|at| four_bits(&block[16..], at)),
        TensorKind::Q5_K => {
            let fifth = |at: usize| (block[16 + at % 32] >> (at / 32) & 1) << 4;
            of_super_block(block, index, &|at| four_bits(&block[48..], at) | fifth(at))
        }
        other => unreachable!("{} is not packed", other.name()),
    }
}

fn of_super_block(block: &[u8], index: usize, code: &dyn Fn(usize) -> u8) -> Group {
    let (scale, offset) = (half_at(block, 0), half_at(block, 2));
    let (six_bit_scale, six_bit_offset) = scale_and_offset(&block[4..16], index);
    Group {
        scale: scale * f32::from(six_bit_scale),
        bias: -(offset * f32::from(six_bit_offset)),
        codes: std::array::from_fn(|at| code(index * GROUP + at)),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::DType;
    use smelt_backend::kernels::QuantizedBytes;
    use smelt_backend::kernels::quantized::dequantize;
    use smelt_testkit::Golden;

    use super::*;
    use crate::gguf::blocks::dequantized;

    #[test]
    fn packed_blocks_stand_for_the_values_of_the_blocks() {
        let golden = Golden::open("ggml_blocks");
        for (kind, name) in [
            (TensorKind::Q4_K, "q4_k.blocks"),
            (TensorKind::Q5_K, "q5_k.blocks"),
            (TensorKind::Q4_0, "q4_0.encoded"),
            (TensorKind::Q4_1, "q4_1.encoded"),
            (TensorKind::Q5_0, "q5_0.encoded"),
            (TensorKind::Q5_1, "q5_1.encoded"),
            (TensorKind::Q8_0, "q8_0.encoded"),
        ] {
            let blocks: Vec<u8> =
                golden.tensor(name).ints().iter().map(|byte| u8::try_from(*byte).unwrap()).collect();
            let expected = dequantized(kind, &blocks);
            let part = |part| packed_part(kind, &blocks, part).into();
            let bytes = QuantizedBytes {
                packed: part(Part::Codes),
                scales: part(Part::Scales),
                biases: part(Part::Biases),
                dtype: DType::F32,
            };
            let found = dequantize(&bytes, [1, expected.len()], format_of(kind).unwrap()).unwrap();
            assert_eq!(found, expected, "{name}");
        }
    }
}
