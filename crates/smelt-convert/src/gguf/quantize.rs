//! From f32 to the types that files are written in, with the rounding of the reference implementation in
//! `ggml-quants.c`, so that bytes are those of the `gguf` package.

use half::{bf16, f16};
use rayon::prelude::*;

use super::kind::TensorKind;

/// Values that one core works on at a time: whole blocks of every type.
const PART: usize = 1 << 15;

/// The bytes of `values` as `kind`.
///
/// # Panics
/// If they do not fill blocks, or `kind` is one that is only read.
pub(super) fn encoded(kind: TensorKind, values: &[f32]) -> Vec<u8> {
    let bytes = kind.bytes(values.len()).expect("whole blocks");
    let mut encoded = vec![0; bytes];
    let part_bytes = kind.bytes(PART).expect("parts are whole blocks");
    let encode = |(values, bytes): (&[f32], &mut [u8])| match kind {
        TensorKind::F32 => plain(values, bytes, f32::to_le_bytes),
        TensorKind::F16 => plain(values, bytes, |value| f16::from_f32(value).to_le_bytes()),
        TensorKind::BF16 => plain(values, bytes, |value| bf16::from_f32(value).to_le_bytes()),
        TensorKind::Q8_0 => blocks(kind, values, bytes, q8_0),
        TensorKind::Q4_0 => blocks(kind, values, bytes, q4_0),
        TensorKind::Q4_1 => blocks(kind, values, bytes, q4_1),
        TensorKind::Q5_0 => blocks(kind, values, bytes, q5_0),
        TensorKind::Q5_1 => blocks(kind, values, bytes, q5_1),
        other => unreachable!("{} is only read", other.name()),
    };
    values.par_chunks(PART).zip(encoded.par_chunks_mut(part_bytes)).for_each(encode);
    encoded
}

fn plain<const N: usize>(values: &[f32], bytes: &mut [u8], encode: impl Fn(f32) -> [u8; N]) {
    let slots = bytes.as_chunks_mut::<N>().0;
    slots.iter_mut().zip(values).for_each(|(slot, value)| *slot = encode(*value));
}

fn blocks(kind: TensorKind, values: &[f32], bytes: &mut [u8], encode: impl Fn(&[f32], &mut [u8])) {
    let blocks = values.chunks_exact(kind.block_values());
    blocks.zip(bytes.chunks_exact_mut(kind.block_bytes())).for_each(|(values, block)| encode(values, block));
}

/// 1 / `scale`, or 0 for a block of zeros.
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { scale.recip() }
}

fn put_half(block: &mut [u8], at: usize, value: f32) {
    block[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
}

fn q8_0(values: &[f32], block: &mut [u8]) {
    let scale = values.iter().fold(0.0f32, |most, value| most.max(value.abs())) / 127.0;
    let inverse = inverse(scale);
    put_half(block, 0, scale);
    for (code, value) in block[2..].iter_mut().zip(values) {
        // Halves go away from zero.
        *code = (value * inverse).round() as i8 as u8;
    }
}

/// The first value whose magnitude is the largest.
fn extreme(values: &[f32]) -> f32 {
    values.iter().fold(0.0f32, |most, value| if value.abs() > most.abs() { *value } else { most })
}

/// The smallest and the largest value.
fn range(values: &[f32]) -> (f32, f32) {
    values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(least, most), value| {
        (least.min(*value), most.max(*value))
    })
}

/// The code of a value: rounded towards zero after `shift`, up to `most`.
fn code(scaled: f32, shift: f32, most: u8) -> u8 {
    ((scaled + shift) as u8).min(most)
}

/// Puts the low four bits of `codes` two into a byte, the second half of a block above the first.
fn put_nibbles(codes: &[u8; 32], bytes: &mut [u8]) {
    let (low, high) = codes.split_at(16);
    for ((byte, low), high) in bytes.iter_mut().zip(low).zip(high) {
        *byte = low & 0x0F | high << 4;
    }
}

fn fifth_bits(codes: &[u8; 32]) -> [u8; 4] {
    let bits = codes.iter().enumerate().map(|(index, code)| u32::from(code >> 4) << index);
    bits.fold(0u32, |all, bit| all | bit).to_le_bytes()
}

fn codes(values: &[f32], code: impl Fn(f32) -> u8) -> [u8; 32] {
    let mut codes = [0; 32];
    codes.iter_mut().zip(values).for_each(|(slot, value)| *slot = code(*value));
    codes
}

fn q4_0(values: &[f32], block: &mut [u8]) {
    let scale = extreme(values) / -8.0;
    let inverse = inverse(scale);
    put_half(block, 0, scale);
    put_nibbles(&codes(values, |value| code(value * inverse, 8.5, 15)), &mut block[2..]);
}

fn q4_1(values: &[f32], block: &mut [u8]) {
    let (least, most) = range(values);
    let scale = (most - least) / 15.0;
    let inverse = inverse(scale);
    put_half(block, 0, scale);
    put_half(block, 2, least);
    put_nibbles(&codes(values, |value| code((value - least) * inverse, 0.5, 15)), &mut block[4..]);
}

fn q5_0(values: &[f32], block: &mut [u8]) {
    let scale = extreme(values) / -16.0;
    let inverse = inverse(scale);
    let codes = codes(values, |value| code(value * inverse, 16.5, 31));
    put_half(block, 0, scale);
    block[2..6].copy_from_slice(&fifth_bits(&codes));
    put_nibbles(&codes, &mut block[6..]);
}

fn q5_1(values: &[f32], block: &mut [u8]) {
    let (least, most) = range(values);
    let scale = (most - least) / 31.0;
    let inverse = inverse(scale);
    let codes = codes(values, |value| code((value - least) * inverse, 0.5, 31));
    put_half(block, 0, scale);
    put_half(block, 2, least);
    block[4..8].copy_from_slice(&fifth_bits(&codes));
    put_nibbles(&codes, &mut block[8..]);
}
