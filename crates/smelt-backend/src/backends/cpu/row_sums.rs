//! Backwards over rows that also sum over them, as those of norms do.

use rayon::prelude::*;

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
    let [a, b] = inputs.map(|input| input.par_chunks(ROWS * width));
    let partial: Vec<[Vec<f32>; N]> = output
        .par_chunks_mut(ROWS * width)
        .zip(a.zip(b))
        .map(|(output, (a, b))| {
            let mut sums = zeros();
            backward(output, [a, b], &mut sums);
            sums
        })
        .collect();
    let total = partial.into_iter().reduce(|mut total, more| {
        for (total, more) in total.iter_mut().zip(more) {
            total.iter_mut().zip(more).for_each(|(total, more)| *total += more);
        }
        total
    });
    total.unwrap_or_else(zeros)
}
