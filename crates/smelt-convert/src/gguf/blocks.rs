//! From blocks of ggml's quantizations to f32, in the order of operations of `ggml-quants.c` and of the
//! `gguf` package, so that values are the same to the last bit.

use half::f16;
use rayon::prelude::*;

use super::k_blocks;
use super::kind::TensorKind;

/// Values of the blocks of one part that one core works on.
const PART_BLOCKS: usize = 1 << 10;

/// The levels of `IQ4_NL`.
const NON_LINEAR: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// The values of whole blocks.
///
/// # Panics
/// If `bytes` are no whole blocks, or `kind` has none.
pub(super) fn dequantized(kind: TensorKind, bytes: &[u8]) -> Vec<f32> {
    let (block_values, block_bytes) = (kind.block_values(), kind.block_bytes());
    assert!(bytes.len().is_multiple_of(block_bytes), "{} bytes are no blocks of {block_bytes}", bytes.len());
    let unpack = unpacker(kind);
    let mut values = vec![0.0; bytes.len() / block_bytes * block_values];
    let parts = values.par_chunks_mut(PART_BLOCKS * block_values);
    parts.zip(bytes.par_chunks(PART_BLOCKS * block_bytes)).for_each(|(values, bytes)| {
        for (values, block) in values.chunks_exact_mut(block_values).zip(bytes.chunks_exact(block_bytes)) {
            unpack(block, values);
        }
    });
    values
}

fn unpacker(kind: TensorKind) -> fn(&[u8], &mut [f32]) {
    match kind {
        TensorKind::Q4_0 => q4_0,
        TensorKind::Q4_1 => q4_1,
        TensorKind::Q5_0 => q5_0,
        TensorKind::Q5_1 => q5_1,
        TensorKind::Q8_0 => q8_0,
        TensorKind::Q2_K => k_blocks::q2_k,
        TensorKind::Q3_K => k_blocks::q3_k,
        TensorKind::Q4_K => k_blocks::q4_k,
        TensorKind::Q5_K => k_blocks::q5_k,
        TensorKind::Q6_K => k_blocks::q6_k,
        TensorKind::IQ4_NL => iq4_nl,
        TensorKind::F32 | TensorKind::F16 | TensorKind::BF16 | TensorKind::F64 => {
            unreachable!("plain values have no blocks")
        }
    }
}

/// The f16 at byte `at`.
pub(super) fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Each byte of `packed` holds a value of the first half of a block and one of the second.
fn nibbles(packed: &[u8], values: &mut [f32], value: impl Fn(usize, u8) -> f32) {
    let half = packed.len();
    for (index, byte) in packed.iter().enumerate() {
        values[index] = value(index, byte & 0x0F);
        values[index + half] = value(index + half, byte >> 4);
    }
}

/// The fifth bits of a block's values.
pub(super) fn high_bits(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// That of value `index`, in its place.
pub(super) fn fifth(high: u32, index: usize) -> u8 {
    (((high >> index) & 1) << 4) as u8
}

fn q4_0(block: &[u8], values: &mut [f32]) {
    let scale = half_at(block, 0);
    nibbles(&block[2..], values, |_, code| scale * f32::from(code as i8 - 8));
}

fn q4_1(block: &[u8], values: &mut [f32]) {
    let (scale, least) = (half_at(block, 0), half_at(block, 2));
    nibbles(&block[4..], values, |_, code| scale * f32::from(code) + least);
}

fn q5_0(block: &[u8], values: &mut [f32]) {
    let (scale, high) = (half_at(block, 0), high_bits(block, 2));
    nibbles(&block[6..], values, |index, code| scale * f32::from((code | fifth(high, index)) as i8 - 16));
}

fn q5_1(block: &[u8], values: &mut [f32]) {
    let (scale, least, high) = (half_at(block, 0), half_at(block, 2), high_bits(block, 4));
    nibbles(&block[8..], values, |index, code| scale * f32::from(code | fifth(high, index)) + least);
}

fn q8_0(block: &[u8], values: &mut [f32]) {
    let scale = half_at(block, 0);
    values.iter_mut().zip(&block[2..]).for_each(|(value, code)| *value = f32::from(*code as i8) * scale);
}

fn iq4_nl(block: &[u8], values: &mut [f32]) {
    let scale = half_at(block, 0);
    nibbles(&block[2..], values, |_, code| scale * f32::from(NON_LINEAR[usize::from(code)]));
}

#[cfg(test)]
mod tests {
    use smelt_testkit::Golden;

    use super::*;
    use crate::gguf::quantize::encoded;

    fn bytes(golden: &Golden, name: &str) -> Vec<u8> {
        golden.tensor(name).ints().iter().map(|byte| u8::try_from(*byte).unwrap()).collect()
    }

    #[test]
    fn blocks_of_llama_quantize_have_the_values_that_the_gguf_package_reads() {
        let golden = Golden::open("ggml_blocks");
        for kind in [TensorKind::Q2_K, TensorKind::Q3_K, TensorKind::Q4_K, TensorKind::Q5_K, TensorKind::Q6_K]
        {
            let name = kind.name();
            let values = dequantized(kind, &bytes(&golden, &format!("{name}.blocks")));
            assert_eq!(values, golden.tensor(&format!("{name}.values")).floats(), "{name}");
        }
    }

    #[test]
    fn values_become_the_bytes_that_the_gguf_package_writes() {
        let golden = Golden::open("ggml_blocks");
        let source = golden.tensor("source").floats();
        for kind in [
            TensorKind::Q8_0,
            TensorKind::Q4_0,
            TensorKind::Q4_1,
            TensorKind::Q5_0,
            TensorKind::Q5_1,
            TensorKind::BF16,
        ] {
            let name = kind.name();
            assert_eq!(encoded(kind, source), bytes(&golden, &format!("{name}.encoded")), "{name}");
        }
    }
}
