//! From "k-quants", super-blocks of 256 values, to f32.
//!
//! Every super-block has scales of its own for 16 or 32 values, which are themselves quantized.

use super::blocks::half_at;

/// Values of a super-block.
const SUPER_BLOCK: usize = 256;

/// `scales` `[16]` of four bits each for scale and offset, `codes` of two bits, then both super scales.
pub(super) fn q2_k(block: &[u8], values: &mut [f32]) {
    let (scales, codes) = (&block[..16], &block[16..80]);
    let (scale, offset) = (half_at(block, 80), half_at(block, 82));
    for (group, values) in values.chunks_exact_mut(16).enumerate() {
        let group_scale = scale * f32::from(scales[group] & 0x0F);
        let group_offset = offset * f32::from(scales[group] >> 4);
        for (index, value) in values.iter_mut().enumerate() {
            let code = two_bits(codes, group * 16 + index);
            *value = group_scale * f32::from(code) - group_offset;
        }
    }
}

/// A mask of third bits, `codes` of two bits, 16 scales of six bits, then the super scale.
pub(super) fn q3_k(block: &[u8], values: &mut [f32]) {
    let (mask, codes, packed) = (&block[..32], &block[32..96], &block[96..108]);
    let scale = half_at(block, 108);
    for (group, values) in values.chunks_exact_mut(16).enumerate() {
        let low = packed[group % 8] >> (4 * (group / 8)) & 0x0F;
        let high = packed[8 + group % 4] >> (2 * (group / 4)) & 0x03;
        let group_scale = scale * f32::from((low | high << 4) as i8 - 32);
        for (index, value) in values.iter_mut().enumerate() {
            let at = group * 16 + index;
            let third = mask[at % 32] >> (at / 32) & 1;
            // A bit that is not set stands for 4 below.
            let code = two_bits(codes, at) as i8 - ((third ^ 1) << 2) as i8;
            *value = group_scale * f32::from(code);
        }
    }
}

/// Both super scales, eight scales and offsets of six bits, `codes` of four.
pub(super) fn q4_k(block: &[u8], values: &mut [f32]) {
    let codes = &block[16..144];
    scaled_groups(block, values, |at| four_bits(codes, at));
}

/// As [`q4_k`], with a mask of fifth bits in front of the codes.
pub(super) fn q5_k(block: &[u8], values: &mut [f32]) {
    let (mask, codes) = (&block[16..48], &block[48..176]);
    scaled_groups(block, values, |at| four_bits(codes, at) | (mask[at % 32] >> (at / 32) & 1) << 4);
}

/// `codes` of four bits, two bits more of each, 16 scales of eight bits, then the super scale.
pub(super) fn q6_k(block: &[u8], values: &mut [f32]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let scale = half_at(block, 208);
    for (group, values) in values.chunks_exact_mut(16).enumerate() {
        let group_scale = scale * f32::from(scales[group] as i8);
        for (index, value) in values.iter_mut().enumerate() {
            let at = group * 16 + index;
            let (half, within) = (at / 128, at % 128);
            let four = low[half * 64 + within % 64] >> (4 * (within / 64)) & 0x0F;
            let two = high[half * 32 + within % 32] >> (2 * (within / 32)) & 0x03;
            *value = group_scale * f32::from((four | two << 4) as i8 - 32);
        }
    }
}

/// The head that `q4_k` and `q5_k` share; `code` is that of a value.
fn scaled_groups(block: &[u8], values: &mut [f32], code: impl Fn(usize) -> u8) {
    let (scale, offset, packed) = (half_at(block, 0), half_at(block, 2), &block[4..16]);
    for (group, values) in values.chunks_exact_mut(32).enumerate() {
        let (six_bit_scale, six_bit_offset) = scale_and_offset(packed, group);
        let (group_scale, group_offset) =
            (scale * f32::from(six_bit_scale), offset * f32::from(six_bit_offset));
        for (index, value) in values.iter_mut().enumerate() {
            *value = group_scale * f32::from(code(group * 32 + index)) - group_offset;
        }
    }
}

/// Six bits each, of which the last four groups have two in the bytes of the first four.
pub(super) fn scale_and_offset(packed: &[u8], group: usize) -> (u8, u8) {
    match group {
        0..4 => (packed[group] & 0x3F, packed[group + 4] & 0x3F),
        _ => {
            let (low, first, second) = (packed[group + 4], packed[group - 4], packed[group]);
            ((low & 0x0F) | (first >> 2 & 0x30), (low >> 4) | (second >> 2 & 0x30))
        }
    }
}

/// Of every 128 values, 32 bytes hold four each, 32 apart.
fn two_bits(codes: &[u8], at: usize) -> u8 {
    debug_assert!(at < SUPER_BLOCK, "value {at} of a super-block");
    let (half, within) = (at / 128, at % 128);
    codes[half * 32 + within % 32] >> (2 * (within / 32)) & 0x03
}

/// Of every 64 values, 32 bytes hold two each, 32 apart.
pub(super) fn four_bits(codes: &[u8], at: usize) -> u8 {
    let (part, within) = (at / 64, at % 64);
    codes[part * 32 + within % 32] >> (4 * (within / 32)) & 0x0F
}
