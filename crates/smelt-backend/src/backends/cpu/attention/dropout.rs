//! Dropout of probabilities, each from a number of its own, so that the backward and every tile drop the same ones.

use crate::backends::cpu::simd::vectorized;
use crate::kernels::AttentionDropout;

/// What is dropped, and what becomes of the rest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dropout {
    seed: u64,
    /// Of 2^32 numbers, those below are dropped.
    below: u32,
    scale: f32,
}

impl Dropout {
    /// # Panics
    /// If the probability is not in `[0, 1)`.
    pub fn new(AttentionDropout { probability, seed }: AttentionDropout) -> Self {
        assert!((0.0..1.0).contains(&probability), "dropout probability is {probability}");
        let below = (probability * 2f64.powi(32)) as u32;
        Self { seed, below, scale: (1.0 / (1.0 - probability)) as f32 }
    }

    /// Drops numbers of the query `[batch, head, row]`, which belong to the keys from `first` on.
    pub fn drop(self, numbers: &mut [f32], place: [usize; 3], first: usize) {
        let row = place.into_iter().fold(self.seed, |seed, at| {
            // The finalizer of SplitMix64 (Steele et al. 2014).
            let mixed = seed.wrapping_add((at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        });
        drop_row(numbers, [row as u32, (row >> 32) as u32], first as u32, self.below, self.scale);
    }
}

vectorized! {
    fn drop_row(numbers: &mut [f32], row: [u32; 2], first: u32, below: u32, scale: f32) {
        for (at, number) in (first..).zip(numbers.iter_mut()) {
            let kept = if mixed(mixed(at ^ row[0]) ^ row[1]) < below { 0.0 } else { scale };
            *number *= kept;
        }
    }
}

/// A mixture of all bits of 32 in each (Wellons 2018, "lowbias32").
#[inline(always)]
fn mixed(mut bits: u32) -> u32 {
    bits = (bits ^ bits >> 16).wrapping_mul(0x7feb_352d);
    bits = (bits ^ bits >> 15).wrapping_mul(0x846c_a68b);
    bits ^ bits >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_dropped_as_asked_for_and_none_together() {
        let dropout = Dropout::new(AttentionDropout { probability: 0.3, seed: 7 });
        let (rows, keys) = (200, 500);
        let masks: Vec<Vec<f32>> = (0..rows)
            .map(|row| {
                let mut mask = vec![1.0; keys];
                dropout.drop(&mut mask, [0, 1, row], 0);
                mask
            })
            .collect();
        let dropped = |mask: &[f32]| mask.iter().filter(|kept| **kept == 0.0).count() as f64 / keys as f64;
        let mean = masks.iter().map(|mask| dropped(mask)).sum::<f64>() / rows as f64;
        // Five standard deviations of the mean of 100 000.
        assert!((mean - 0.3).abs() < 0.0073, "{mean}");
        let both = |a: &[f32], b: &[f32]| a.iter().zip(b).filter(|(a, b)| **a == 0.0 && **b == 0.0).count();
        let together: usize = masks.windows(2).map(|pair| both(&pair[0], &pair[1])).sum();
        let together = together as f64 / ((rows - 1) * keys) as f64;
        assert!((together - 0.09).abs() < 0.006, "{together}");
        let mut part = vec![1.0; 30];
        dropout.drop(&mut part, [0, 1, 3], 470);
        assert_eq!(part, masks[3][470..]);
    }
}
