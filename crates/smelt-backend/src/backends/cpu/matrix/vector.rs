//! Registers of f32, so that a product is written once for all instruction sets.
//!
//! The methods compile to single instructions only inside of a function with the instruction set enabled:
//! they are `inline(always)`, and `super::dispatch` is where such functions begin.

#![allow(unsafe_code, reason = "instructions that not every machine has, on memory given by pointers")]

/// A register of `LANES` numbers.
///
/// # Safety
/// Every method needs the instruction set of the implementation; those that take a pointer read or write
/// `LANES` values there, of any alignment.
pub(in super::super) trait Vector<const LANES: usize>: Copy {
    /// Rows of `a` in a tile of the product: with two registers of columns each, they fill the registers.
    const ROWS: usize;

    unsafe fn zero() -> Self;
    /// The number at `from` in every lane.
    unsafe fn splat(from: *const f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// `self + a * b`, rounded once where the machine can.
    unsafe fn mul_add(self, a: Self, b: Self) -> Self;
    /// Rows become columns.
    unsafe fn transposed(rows: [Self; LANES]) -> [Self; LANES];
    /// The first four numbers in 32 bits of `LANES` rows that are `stride` apart, as columns, where `from` says where
    /// every fourth row begins.
    unsafe fn four_columns<T>(from: [*const T; 4], stride: usize) -> [Self; 4];
    /// Each lane holds two numbers in bf16: the ones in the low halves, and the ones in the high halves.
    unsafe fn pairs_of_bf16(self) -> [Self; 2];
    /// As [`Vector::pairs_of_bf16`] for f16.
    unsafe fn pairs_of_f16(self) -> [Self; 2];
    /// Brings the line at `address` near, which may be anywhere.
    fn prefetch(address: *const u8);
}

/// `sum + a * b`, rounded once where every machine of the architecture multiplies and adds in one instruction;
/// elsewhere it would be a call.
#[inline(always)]
fn mul_add(sum: f32, a: f32, b: f32) -> f32 {
    if cfg!(target_arch = "aarch64") { a.mul_add(b, sum) } else { sum + a * b }
}

/// Loops of plain Rust, for machines without a better implementation.
#[derive(Clone, Copy)]
pub(in super::super) struct Portable(pub [f32; 4]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|lane| f(self.0[lane], other.0[lane])))
    }

    #[inline(always)]
    fn halves(self, value: impl Fn(u16) -> f32) -> [Self; 2] {
        let bits = self.0.map(f32::to_bits);
        [Self(bits.map(|bits| value(bits as u16))), Self(bits.map(|bits| value((bits >> 16) as u16)))]
    }
}

impl Vector<4> for Portable {
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; 4])
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        Self([unsafe { *from }; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|lane| mul_add(self.0[lane], a.0[lane], b.0[lane])))
    }

    #[inline(always)]
    unsafe fn transposed(rows: [Self; 4]) -> [Self; 4] {
        std::array::from_fn(|column| Self(rows.map(|row| row.0[column])))
    }

    #[inline(always)]
    unsafe fn four_columns<T>([from, ..]: [*const T; 4], stride: usize) -> [Self; 4] {
        // SAFETY: the caller's promise.
        unsafe { Self::transposed([0, 1, 2, 3].map(|row| Self::load(from.add(row * stride).cast()))) }
    }

    #[inline(always)]
    unsafe fn pairs_of_bf16(self) -> [Self; 2] {
        self.halves(super::stored::bf16_value)
    }

    #[inline(always)]
    unsafe fn pairs_of_f16(self) -> [Self; 2] {
        self.halves(super::stored::f16_value)
    }

    #[inline(always)]
    fn prefetch(_address: *const u8) {}
}
