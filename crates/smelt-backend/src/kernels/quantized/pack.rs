//! Codes as MLX packs them: a stream of `bits` each, from the lowest bit of the first byte on.
//!
//! As `uint32` in little-endian order this is MLX's layout for every width: values of 2, 4 and 8 bits fill words from
//! their lowest bits, those of 3, 5 and 6 run on from byte to byte.

use super::QuantizationFormat;

/// Codes that fill whole bytes at any width.
const UNIT: usize = 8;

/// Packs `codes`, each below `2^bits`.
///
/// # Panics
/// If `packed` is not as long as the codes take, which are a multiple of 8.
pub fn pack(codes: &[u8], format: QuantizationFormat, packed: &mut [u8]) {
    let (bits, width) = (format.bits(), check(codes.len(), format, packed.len()));
    for (codes, packed) in codes.chunks_exact(UNIT).zip(packed.chunks_exact_mut(width)) {
        let stream = codes.iter().rev().fold(0u64, |stream, code| stream << bits | u64::from(*code));
        packed.copy_from_slice(&stream.to_le_bytes()[..width]);
    }
}

/// Codes of what [`pack`] packed.
///
/// # Panics
/// As [`pack`].
pub fn unpack(packed: &[u8], format: QuantizationFormat, codes: &mut [u8]) {
    check(codes.len(), format, packed.len());
    match format.bits() {
        2 => unpack_of::<2>(packed, codes),
        3 => unpack_of::<3>(packed, codes),
        4 => unpack_of::<4>(packed, codes),
        5 => unpack_of::<5>(packed, codes),
        6 => unpack_of::<6>(packed, codes),
        _ => codes.copy_from_slice(packed),
    }
}

fn unpack_of<const BITS: usize>(packed: &[u8], codes: &mut [u8]) {
    for (codes, packed) in codes.as_chunks_mut::<UNIT>().0.iter_mut().zip(packed.as_chunks::<BITS>().0) {
        let mut bytes = [0; 8];
        bytes[..BITS].copy_from_slice(packed);
        *codes = spread::<BITS>(u64::from_le_bytes(bytes)).to_le_bytes();
    }
}

/// Eight fields of `BITS` each become eight bytes, by halving three times what stands together.
fn spread<const BITS: usize>(fields: u64) -> u64 {
    const fn low(bits: usize, width: usize) -> u64 {
        let (mut mask, mut at) = (0, 0);
        while at < 64 {
            mask |= ((1u64 << bits) - 1) << at;
            at += width;
        }
        mask
    }
    const fn halves(fields: u64, bits: usize, width: usize) -> u64 {
        let low = low(bits, width);
        fields & low | (fields & low << bits) << (width / 2 - bits)
    }
    let fours = halves(fields, 4 * BITS, 64);
    let twos = halves(fours, 2 * BITS, 32);
    halves(twos, BITS, 16)
}

/// Bytes of a unit.
fn check(codes: usize, format: QuantizationFormat, packed: usize) -> usize {
    let width = format.bits() as usize * UNIT / 8;
    assert!(
        codes.is_multiple_of(UNIT) && codes / UNIT * width == packed,
        "{codes} codes of {} bits in {packed} bytes",
        format.bits()
    );
    width
}
