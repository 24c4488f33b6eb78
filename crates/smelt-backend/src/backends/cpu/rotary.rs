//! `rotary`, reading heads where the projection left them and leaving them in its order.

use burn::tensor::Tensor;
use burn_flex::Flex;

use super::fill::zeros;
use super::heads::{Heads, readable};
use super::simd::vectorized;
use super::{contiguous, from_vec, team, values};
use crate::kernels::RotaryStyle;

/// Numbers that a thread takes at a time.
const CHUNK: usize = 1 << 14;

/// As `Kernels::rotary`.
pub(super) fn forward(
    x: Tensor<Flex, 4>,
    cos: Tensor<Flex, 3>,
    sin: Tensor<Flex, 3>,
    style: RotaryStyle,
) -> Tensor<Flex, 4> {
    let [batch, heads, seq, dim] = x.dims();
    let [rows, _, half] = cos.dims();
    assert_eq!(half * 2, dim, "cos must hold one value for each pair of the {dim} features");
    let (cos, sin) = (contiguous(cos), contiguous(sin));
    let (cos, sin) = (values(&cos), values(&sin));
    let x = readable(x);
    let x = Heads::of(&x);
    let mut y = zeros(batch * seq * heads * dim);
    let position = (heads * dim).max(1);
    let at_once = (CHUNK / position).max(1);
    team::for_each(y.chunks_mut(at_once * position).enumerate(), |(chunk, y)| {
        for (index, y) in y.chunks_exact_mut(position).enumerate() {
            let (b, row) = ((chunk * at_once + index) / seq, (chunk * at_once + index) % seq);
            let table = (if rows == 1 { row } else { b * seq + row }) * half;
            let (cos, sin) = (&cos[table..][..half], &sin[table..][..half]);
            for (head, y) in y.chunks_exact_mut(dim).enumerate() {
                let x = x.features([b, head, row]);
                match style {
                    RotaryStyle::Half => rotate_halves(y, x, cos, sin),
                    RotaryStyle::Interleaved => rotate_pairs(y, x, cos, sin),
                }
            }
        }
    });
    from_vec(y, [batch, seq, heads, dim]).swap_dims(1, 2)
}

vectorized! {
    fn rotate_halves(y: &mut [f32], x: &[f32], cos: &[f32], sin: &[f32]) {
        let half = cos.len();
        let ((y_first, y_second), (x_first, x_second)) = (y.split_at_mut(half), x.split_at(half));
        for (((y, (a, b)), cos), sin) in y_first.iter_mut().zip(x_first.iter().zip(x_second)).zip(cos).zip(sin) {
            *y = a * cos - b * sin;
        }
        for (((y, (a, b)), cos), sin) in y_second.iter_mut().zip(x_first.iter().zip(x_second)).zip(cos).zip(sin) {
            *y = b * cos + a * sin;
        }
    }
}

vectorized! {
    fn rotate_pairs(y: &mut [f32], x: &[f32], cos: &[f32], sin: &[f32]) {
        let (y_pairs, x_pairs) = (y.as_chunks_mut::<2>().0, x.as_chunks::<2>().0);
        for (((y, [a, b]), cos), sin) in y_pairs.iter_mut().zip(x_pairs).zip(cos).zip(sin) {
            *y = [a * cos - b * sin, b * cos + a * sin];
        }
    }
}
