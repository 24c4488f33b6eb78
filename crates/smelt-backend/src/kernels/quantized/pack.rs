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
    let (bits, width) = (format.bits(), check(codes.len(), format, packed.len()));
    let mask = u64::from(format.largest_code());
    for (codes, packed) in codes.chunks_exact_mut(UNIT).zip(packed.chunks_exact(width)) {
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(packed);
        let stream = u64::from_le_bytes(bytes);
        for (index, code) in codes.iter_mut().enumerate() {
            *code = (stream >> (index as u32 * bits) & mask) as u8;
        }
    }
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
