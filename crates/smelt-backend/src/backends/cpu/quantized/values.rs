//! Values of packed weights in f32, 32 codes at a time: what a few of them are multiplied as, or written.

#![allow(unsafe_code, reason = "registers, and memory given by pointers")]

use std::marker::PhantomData;

use super::scales::Scale;
use super::sixteen::{LANES, Sixteen};
use super::unpack::Rows;

/// Codes that become values together.
pub(super) const UNIT: usize = 32;
/// Numbers that are prepared for a group, at most.
pub(super) const MAX_CONSTANTS: usize = 7;

/// A way from codes to values, each operation rounded to one format: the same values on every way.
///
/// # Safety
/// Every method needs the instruction set of the implementation, and what its pointers promise.
pub(super) trait Values {
    type Register: Sixteen;
    /// What is the same for all groups.
    type Kept: Copy;
    /// What is the same for all codes of a group.
    type Group: Copy;
    /// Bytes of a unit of codes.
    const BYTES: usize;

    unsafe fn kept() -> Self::Kept;

    /// Writes what groups need, up to [`MAX_CONSTANTS`] numbers each, every kind `stride` behind the last: a multiple
    /// of 16, and no less than there are groups. Scales and biases in f32 are there as the first two.
    #[inline(always)]
    unsafe fn prepare(_constants: *mut f32, _stride: usize) {}

    /// The group whose numbers are at `constants`.
    unsafe fn group(constants: *const f32, stride: usize) -> Self::Group;

    /// Values of the unit of codes at `codes`, in the order of [`PackedOrder`].
    unsafe fn of(kept: Self::Kept, group: Self::Group, codes: *const u8) -> [Self::Register; 2];
}

/// In which order values come from packed codes: of each [`UNIT`], number `at` is code `source(at)`.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum PackedOrder {
    /// Their own.
    Bytes,
    /// That of [`Sixteen::look_up`].
    Pairs,
}

impl PackedOrder {
    pub fn source(self, at: usize) -> usize {
        match self {
            Self::Bytes => at,
            Self::Pairs => 8 * (at % 4) + 2 * (at % LANES / 4) + at / LANES,
        }
    }
}

/// Values of bytes, each computed.
pub(super) struct Computed<V, R>(PhantomData<(V, R)>);

impl<V: Sixteen, R: Scale> Values for Computed<V, R> {
    type Register = V;
    type Kept = ();
    type Group = [V; 2];
    const BYTES: usize = UNIT;

    #[inline(always)]
    unsafe fn kept() {}

    #[inline(always)]
    unsafe fn group(constants: *const f32, stride: usize) -> [V; 2] {
        // SAFETY: the caller's promise.
        unsafe { [V::splat(constants), V::splat(constants.add(stride))] }
    }

    #[inline(always)]
    unsafe fn of(_kept: (), [scale, bias]: [V; 2], codes: *const u8) -> [V; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let [first, second] = [V::load_bytes(codes), V::load_bytes(codes.add(LANES))];
            let [first, second] = [R::rounded(first.mul(scale)), R::rounded(second.mul(scale))];
            [R::rounded(first.add(bias)), R::rounded(second.add(bias))]
        }
    }
}

/// Values of two codes in a byte, looked up in a table of the 16 of a group.
pub(super) struct LookedUp<V, R>(PhantomData<(V, R)>);

impl<V: Sixteen, R: Scale> Values for LookedUp<V, R> {
    type Register = V;
    type Kept = ();
    type Group = V;
    const BYTES: usize = UNIT / 2;

    #[inline(always)]
    unsafe fn kept() {}

    #[inline(always)]
    unsafe fn group(constants: *const f32, stride: usize) -> V {
        // SAFETY: the caller's promise.
        unsafe { R::table(constants, constants.add(stride)) }
    }

    #[inline(always)]
    unsafe fn of(_kept: (), table: V, codes: *const u8) -> [V; 2] {
        // SAFETY: the caller's promise.
        unsafe { [table.look_up::<0>(codes), table.look_up::<1>(codes)] }
    }
}

/// Numbers of the groups of some rows, one row after the other.
#[derive(Clone, Copy)]
pub(super) struct Groups {
    /// As [`Values::prepare`] leaves them.
    pub constants: *const f32,
    pub stride: usize,
    /// Codes of a group.
    pub size: usize,
    /// Groups of a row.
    pub count: usize,
}

/// Writes the values of all rows of codes, one row after the other.
///
/// # Safety
/// As [`Values`] says; there are as many codes and groups, and as much room.
#[inline(always)]
pub(super) unsafe fn write<D: Values>(codes: Rows<u8>, groups: Groups, mut to: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        let kept = D::kept();
        for row in 0..codes.count {
            let mut codes = codes.from.add(row * codes.stride);
            for index in row * groups.count..(row + 1) * groups.count {
                let group = D::group(groups.constants.add(index), groups.stride);
                for _ in 0..groups.size / UNIT {
                    let [first, second] = D::of(kept, group, codes);
                    first.store(to);
                    second.store(to.add(LANES));
                    (codes, to) = (codes.add(D::BYTES), to.add(UNIT));
                }
            }
        }
    }
}

/// Calls [`Values::prepare`].
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn prepare<D: Values>(constants: *mut f32, stride: usize) {
    // SAFETY: the caller's promise.
    unsafe { D::prepare(constants, stride) };
}

#[cfg(test)]
mod tests {
    use burn::tensor::DType;
    use half::{bf16, f16};

    use super::*;
    use crate::backends::cpu::quantized::leaves;
    use crate::kernels::quantized::GroupScale;

    /// Scales and biases as they are chosen for weights, and others: of one sign, 0, and far from each other.
    fn groups(dtype: DType) -> Vec<GroupScale> {
        let ratios = (100..=300).step_by(3).map(|steps| -steps as f32);
        let ratios = ratios.chain([-1e-4, -1.0, -7.0, -15.0, -50.0, -1000.0, -1e5, 1.0, 8.0, 200.0, 0.0]);
        let groups = ratios.flat_map(|ratio| {
            (0..160).map(move |at| {
                let size = [0.001, -0.001, 3e-6][at % 3];
                let scale = (1.0 + at as f32 / 128.0) * size;
                GroupScale { scale, bias: scale * ratio }
            })
        });
        let zeros = [0.5, -0.5, 0.0].map(|bias| GroupScale { scale: 0.0, bias });
        groups.chain(zeros).map(|group| group.rounded(dtype)).collect()
    }

    /// Every code of every group, against what it stands for.
    fn check<R: Scale>(order: PackedOrder, dtype: DType) {
        let groups = groups(dtype);
        let stride = groups.len().next_multiple_of(LANES);
        let mut constants = vec![0.0; MAX_CONSTANTS * stride];
        for (at, group) in groups.iter().enumerate() {
            (constants[at], constants[stride + at]) = (group.scale, group.bias);
        }
        let bytes: Vec<u8> = (0..=255).collect();
        let codes: Vec<u8> = match order {
            PackedOrder::Bytes => bytes.clone(),
            PackedOrder::Pairs => bytes.iter().flat_map(|byte| [byte & 15, byte >> 4]).collect(),
        };
        let mut found = vec![0.0; codes.len()];
        let row = Rows { from: bytes.as_ptr(), stride: bytes.len(), count: 1 };
        // SAFETY: there is room for all constants.
        unsafe { leaves::prepare::<R>(order, constants.as_mut_ptr(), stride) };
        for (at, group) in groups.iter().enumerate() {
            let constants = constants[at..].as_ptr();
            let one = Groups { constants, stride, size: found.len(), count: 1 };
            // SAFETY: the group has as many codes, and there is room for as many values.
            unsafe { leaves::write::<R>(order, row, one, found.as_mut_ptr()) };
            for (place, found) in found.iter().enumerate() {
                let code = codes[place / UNIT * UNIT + order.source(place % UNIT)];
                let expected = group.value(code, dtype);
                assert!(*found == expected, "{code} of {group:?} is {found}, not {expected} in {dtype:?}");
            }
        }
    }

    #[test]
    fn values_are_what_codes_stand_for() {
        for order in [PackedOrder::Bytes, PackedOrder::Pairs] {
            check::<f32>(order, DType::F32);
            check::<f16>(order, DType::F16);
            check::<bf16>(order, DType::BF16);
        }
    }
}
