//! Formats of scales and biases, which values are rounded to.

#![allow(unsafe_code, reason = "registers, and memory given by pointers")]

use burn::tensor::Element;
use bytemuck::Pod;
use half::{bf16, f16};

use super::sixteen::{LANES, Sixteen};
#[cfg(target_arch = "x86_64")]
use super::{
    fp16,
    values::{Computed, LookedUp, Values},
};
use crate::backends::cpu::matrix::Stored;

/// A format of scales and biases.
pub(super) trait Scale: Stored + Pod + Element {
    /// How a machine with AVX512-FP16 gets values of bytes.
    #[cfg(target_arch = "x86_64")]
    type Bytes: Values;
    /// How it gets those of two codes in a byte.
    #[cfg(target_arch = "x86_64")]
    type Pairs: Values;

    /// The first `count` numbers at `from`, in f32, and zeros.
    ///
    /// # Safety
    /// As [`Sixteen`] says.
    unsafe fn load<V: Sixteen>(from: *const Self, count: usize) -> V;

    /// `x` rounded to the nearest number of this format.
    ///
    /// # Safety
    /// As [`Sixteen`] says.
    unsafe fn rounded<V: Sixteen>(x: V) -> V;

    /// What the codes 0 to 15 stand for.
    ///
    /// # Safety
    /// As [`Sixteen`] says.
    #[inline(always)]
    unsafe fn table<V: Sixteen>(scale: *const f32, bias: *const f32) -> V {
        const CODES: [f32; LANES] =
            [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];
        // SAFETY: the caller's promise.
        unsafe {
            let product = Self::rounded(V::load(CODES.as_ptr()).mul(V::splat(scale)));
            Self::rounded(product.add(V::splat(bias)))
        }
    }
}

impl Scale for f32 {
    #[cfg(target_arch = "x86_64")]
    type Bytes = Computed<std::arch::x86_64::__m512, Self>;
    #[cfg(target_arch = "x86_64")]
    type Pairs = LookedUp<std::arch::x86_64::__m512, Self>;

    #[inline(always)]
    unsafe fn load<V: Sixteen>(from: *const Self, count: usize) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load_f32(from, count) }
    }

    #[inline(always)]
    unsafe fn rounded<V: Sixteen>(x: V) -> V {
        x
    }
}

impl Scale for f16 {
    #[cfg(target_arch = "x86_64")]
    type Bytes = fp16::Bytes;
    #[cfg(target_arch = "x86_64")]
    type Pairs = fp16::Pairs;

    #[inline(always)]
    unsafe fn load<V: Sixteen>(from: *const Self, count: usize) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load_f16(from.cast(), count) }
    }

    #[inline(always)]
    unsafe fn rounded<V: Sixteen>(x: V) -> V {
        // SAFETY: the caller's promise.
        unsafe { x.in_f16() }
    }
}

impl Scale for bf16 {
    #[cfg(target_arch = "x86_64")]
    type Bytes = fp16::BytesOfBf16;
    #[cfg(target_arch = "x86_64")]
    type Pairs = LookedUp<std::arch::x86_64::__m512, Self>;

    #[inline(always)]
    unsafe fn load<V: Sixteen>(from: *const Self, count: usize) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load_bf16(from.cast(), count) }
    }

    #[inline(always)]
    unsafe fn rounded<V: Sixteen>(x: V) -> V {
        // SAFETY: the caller's promise.
        unsafe { x.in_bf16() }
    }

    /// Products are those of one of 128 numbers from 1 to 2 and a power of two, which changes no rounding.
    #[inline(always)]
    unsafe fn table<V: Sixteen>(scale: *const f32, bias: *const f32) -> V {
        // SAFETY: the caller's promise.
        unsafe {
            let bits = (*scale).to_bits();
            let power = f32::from_bits(bits & 0xff80_0000);
            let products = V::load(PRODUCTS[(bits >> 16 & 127) as usize].0.as_ptr());
            Self::rounded(V::splat(bias).mul_add(products, V::splat(&power)))
        }
    }
}

/// A line of the caches.
#[repr(align(64))]
struct Line([f32; LANES]);

/// `[m][q]`: `(1 + m / 128) q`, rounded to bf16.
static PRODUCTS: [Line; 128] = {
    let mut products = [const { Line([0.0; LANES]) }; 128];
    let mut m = 0;
    while m < 128 {
        let mut code = 0;
        while code < LANES {
            let bits = ((128 + m) as f32 / 128.0 * code as f32).to_bits();
            let to_even = 0x7fff + (bits >> 16 & 1);
            products[m].0[code] = f32::from_bits((bits + to_even) & 0xffff_0000);
            code += 1;
        }
        m += 1;
    }
    products
};

/// Writes `count` numbers in f32, and zeros up to a multiple of 16.
///
/// # Safety
/// As [`Sixteen`] says; there are as many, and as much room.
#[inline(always)]
pub(super) unsafe fn widen<V: Sixteen, T: Scale>(from: *const T, count: usize, to: *mut f32) {
    for first in (0..count).step_by(LANES) {
        // SAFETY: the caller's promise.
        unsafe { T::load::<V>(from.add(first), count - first).store(to.add(first)) };
    }
}
