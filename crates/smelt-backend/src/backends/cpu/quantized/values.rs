//! Values of packed weights in f32.

#![allow(unsafe_code, reason = "registers, and memory given by pointers")]

use super::scales::Scale;
use super::sixteen::{LANES, Sixteen};

/// Codes of a row, a byte each, and the numbers of their groups.
#[derive(Clone, Copy)]
pub(super) struct Row<T> {
    pub codes: *const u8,
    pub scales: *const T,
    pub biases: *const T,
    pub groups: usize,
    /// Codes of a group.
    pub group_size: usize,
}

/// Writes the values of a row, product and sum rounded to `R`.
///
/// # Safety
/// As [`Sixteen`] says; there are as many codes and groups, and as much room.
#[inline(always)]
pub(super) unsafe fn write<V: Sixteen, R: Scale, T: Scale>(row: Row<T>, to: *mut f32) {
    // SAFETY: the caller's promise; groups are whole registers.
    unsafe {
        for group in 0..row.groups {
            let scale = V::splat(&(*row.scales.add(group)).value());
            let bias = V::splat(&(*row.biases.add(group)).value());
            let first = group * row.group_size;
            for at in (first..first + row.group_size).step_by(LANES) {
                let product = R::rounded(V::load_bytes(row.codes.add(at)).mul(scale));
                R::rounded(product.add(bias)).store(to.add(at));
            }
        }
    }
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
    fn check<R: Scale>(dtype: DType) {
        let codes: Vec<u8> = (0..=255).collect();
        let mut found = [0.0; 256];
        for group in groups(dtype) {
            let (scales, biases) = (&raw const group.scale, &raw const group.bias);
            let row = Row { codes: codes.as_ptr(), scales, biases, groups: 1, group_size: codes.len() };
            // SAFETY: the group has as many codes, and there is room for as many values.
            unsafe { leaves::write::<R, f32>(row, found.as_mut_ptr()) };
            for (code, found) in codes.iter().zip(&found) {
                let expected = group.value(*code, dtype);
                assert!(*found == expected, "{code} of {group:?} is {found}, not {expected} in {dtype:?}");
            }
        }
    }

    #[test]
    fn values_are_what_codes_stand_for() {
        check::<f32>(DType::F32);
        check::<f16>(DType::F16);
        check::<bf16>(DType::BF16);
    }
}
