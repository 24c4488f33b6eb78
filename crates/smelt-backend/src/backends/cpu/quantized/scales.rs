//! Formats of scales and biases, which values are rounded to.

#![allow(unsafe_code, reason = "registers, and memory given by pointers")]

use burn::tensor::Element;
use bytemuck::Pod;
use half::{bf16, f16};

use super::sixteen::{LANES, Sixteen};
use crate::backends::cpu::matrix::Stored;

/// A format of scales and biases.
pub(super) trait Scale: Stored + Pod + Element {
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
}

impl Scale for f32 {
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
}

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
