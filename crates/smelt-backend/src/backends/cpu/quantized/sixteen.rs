//! Sixteen numbers side by side, in as many registers as they take.

#![allow(unsafe_code, reason = "instructions that not every machine has, on memory given by pointers")]

/// How many they are.
pub(super) const LANES: usize = 16;

/// Numbers in f32.
///
/// # Safety
/// Every method needs the instruction set of the implementation; those that take a pointer read or write 16 values
/// there, of any alignment, or as many as they say.
pub(super) trait Sixteen: Copy {
    /// The number at `from` in every lane.
    unsafe fn splat(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;

    /// The first `count` numbers at `from` in f32, and zeros.
    unsafe fn load_f32(from: *const f32, count: usize) -> Self;
    /// As [`Sixteen::load_f32`] for f16.
    unsafe fn load_f16(from: *const u16, count: usize) -> Self;
    /// As [`Sixteen::load_f32`] for bf16.
    unsafe fn load_bf16(from: *const u16, count: usize) -> Self;
    /// Bytes as numbers.
    unsafe fn load_bytes(from: *const u8) -> Self;
    /// Rounded to the nearest number in f16.
    unsafe fn in_f16(self) -> Self;
    /// Rounded to the nearest number in bf16, of numbers below 2^111.
    unsafe fn in_bf16(self) -> Self;
}

/// Loops of plain Rust, for machines without a better implementation.
impl Sixteen for [f32; LANES] {
    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        [unsafe { *from }; LANES]
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<Self>().write_unaligned(self) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] + other[lane])
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] * other[lane])
    }

    #[inline(always)]
    unsafe fn load_f32(from: *const f32, count: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe { first(from, count, |x| x) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16, count: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe { first(from, count, |bits| half::f16::from_bits(bits).to_f32()) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16, count: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe { first(from, count, |bits| half::bf16::from_bits(bits).to_f32()) }
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        // SAFETY: the caller's promise.
        unsafe { first(from, LANES, f32::from) }
    }

    #[inline(always)]
    unsafe fn in_f16(self) -> Self {
        self.map(|x| half::f16::from_f32(x).to_f32())
    }

    #[inline(always)]
    unsafe fn in_bf16(self) -> Self {
        self.map(|x| half::bf16::from_f32(x).to_f32())
    }
}

/// The first `count` numbers at `from`, and zeros.
///
/// # Safety
/// They are there.
#[inline(always)]
unsafe fn first<T: Copy>(from: *const T, count: usize, value: impl Fn(T) -> f32) -> [f32; LANES] {
    std::array::from_fn(|lane| match lane < count {
        // SAFETY: the caller's promise.
        true => value(unsafe { from.add(lane).read_unaligned() }),
        false => 0.0,
    })
}
