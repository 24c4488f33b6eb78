//! Backwards over rows that also sum over them, as those of norms do.

use super::team;

/// Rows a thread takes at a time; also the unit in which sums are made.
pub(super) const ROWS: usize = 32;

/// Calls `backward` with [`ROWS`] rows of `output` and of both `inputs` at a time, and with `N` sums over these rows
/// to add to; returns the sums over all rows. All rows have `width` features.
///
/// Sums of chunks are added in order: the same for any number of threads.
pub(super) fn row_sums<const N: usize>(
    output: &mut [f32],
    inputs: [&[f32]; 2],
    width: usize,
    backward: impl Fn(&mut [f32], [&[f32]; 2], &mut [Vec<f32>; N]) + Sync,
) -> [Vec<f32>; N] {
    let zeros = || std::array::from_fn(|_| vec![0.0; width]);
    let [a, b] = inputs.map(|input| input.chunks(ROWS * width));
    let mut partial: Vec<[Vec<f32>; N]> =
        (0..output.len().div_ceil((ROWS * width).max(1))).map(|_| zeros()).collect();
    let chunks = output.chunks_mut(ROWS * width).zip(a.zip(b)).zip(&mut partial);
    team::for_each(chunks, |((output, (a, b)), sums)| backward(output, [a, b], sums));
    let total = partial.into_iter().reduce(|mut total, more| {
        for (total, more) in total.iter_mut().zip(more) {
            total.iter_mut().zip(more).for_each(|(total, more)| *total += more);
        }
        total
    });
    total.unwrap_or_else(zeros)
}
