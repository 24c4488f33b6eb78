//! Values of packed weights in f32, for what needs a few rows of them.

use super::panel::Packed;
use super::scales::Scale;
use crate::backends::cpu::simd::vectorized;
use crate::backends::cpu::team;
use crate::kernels::quantized::unpack;

/// Values that a thread expands at a time.
const TASK_VALUES: usize = 1 << 14;

/// Writes the values of the rows from `start` on, as many as there is room for.
pub(super) fn rows<T: Scale>(weight: Packed<'_, T>, start: usize, to: &mut [f32]) {
    let inner = weight.inner();
    let count = (TASK_VALUES / inner).max(1);
    team::for_each(to.chunks_mut(count * inner).enumerate(), |(task, to)| {
        let mut codes = vec![0; inner];
        for (row, to) in to.chunks_exact_mut(inner).enumerate() {
            let (packed, scales, biases) = weight.row(start + task * count + row);
            unpack(packed, weight.format(), &mut codes);
            let group_size = weight.format().group_size();
            let groups = codes.chunks_exact(group_size).zip(to.chunks_exact_mut(group_size));
            for ((codes, to), (scale, bias)) in groups.zip(scales.iter().zip(biases)) {
                affine(codes, scale.value(), bias.value(), to);
            }
        }
    });
}

vectorized! {
    fn affine(codes: &[u8], scale: f32, bias: f32, to: &mut [f32]) {
        for (to, code) in to.iter_mut().zip(codes) {
            *to = scale * f32::from(*code) + bias;
        }
    }
}
