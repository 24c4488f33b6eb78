//! `rotary`, reading heads where the projection left them and writing them side by side.

use burn::tensor::Tensor;
use burn_flex::Flex;

use super::heads::Heads;
use super::simd::vectorized;
use super::{contiguous, from_vec, team, values};
use crate::kernels::RotaryStyle;

/// Elements a thread takes at a time.
const CHUNK: usize = 1 << 14;

/// As `Kernels::rotary`.
pub(super) fn forward(
    x: Tensor<Flex, 4>,
    cos: Tensor<Flex, 3>,
    sin: Tensor<Flex, 3>,
    style: RotaryStyle,
) -> Tensor<Flex, 4> {
    let shape @ [_, heads, seq, dim] = x.dims();
    let [rows, _, half] = cos.dims();
    assert_eq!(half * 2, dim, "cos must hold one value for each pair of the {dim} features");
    let (cos, sin) = (contiguous(cos), contiguous(sin));
    let (cos, sin) = (values(&cos), values(&sin));
    let x = Heads::of(x);
    let mut y = vec![0f32; shape.iter().product()];
    // A head of few positions is no work for a thread of its own.
    let heads_at_once = (CHUNK / (seq * dim).max(1)).max(1);
    let one = |index: usize, y: &mut [f32]| {
        let (batch, head) = (index / heads, index % heads);
        let table = if rows == 1 { 0 } else { batch * seq * half };
        let (cos, sin) = (&cos[table..][..seq * half], &sin[table..][..seq * half]);
        let positions = y.chunks_exact_mut(dim).zip(cos.chunks_exact(half).zip(sin.chunks_exact(half)));
        for (position, (y, (cos, sin))) in positions.enumerate() {
            let x = x.features([batch, head, position]);
            match style {
                RotaryStyle::Half => rotate_halves(y, x, cos, sin),
                RotaryStyle::Interleaved => rotate_pairs(y, x, cos, sin),
            }
        }
    };
    let size = (seq * dim).max(1);
    team::for_each(y.chunks_mut(heads_at_once * size).enumerate(), |(chunk, y)| {
        let heads = y.chunks_mut(size).enumerate();
        heads.for_each(|(head, y)| one(chunk * heads_at_once + head, y));
    });
    from_vec(y, shape)
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
