//! Randomness without a generator: a hash of the seed, the position and the token.
//!
//! A token is drawn by the Gumbel-max trick (Maddison et al. 2014, arXiv:1411.0030): to each logit comes
//! noise of its own, and the largest sum wins, which happens with the probability of the softmax. The noise
//! of token `i` at position `n` depends on the seed, `n` and `i` alone. So there is no state to keep or to
//! roll back, and two models that draw with one seed share their noise: they agree on a token with
//! probability at least (1 - d) / (1 + d), where d is the total variation between their distributions
//! (Daliri et al. 2024, arXiv:2408.07978). Speculative decoding lives from that.

use std::f64::consts::LN_2;

use smelt_backend::{Loops, largest, vectorized};

/// The increment of SplitMix64 (Steele et al. 2014): odd, its bits without a pattern.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// Logits whose largest says which noise of theirs would be enough.
const CHUNK: usize = 64;

/// Separates the decisions of a position that are not about a token.
const CHANCES: u64 = 0x5851_F42D_4C95_7F2D;

/// The noise of one position.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noise {
    key: u64,
}

impl Noise {
    /// Of the position after `position` tokens, in a sequence drawn with `seed`.
    pub(super) fn new(seed: u64, position: usize) -> Self {
        Self { key: mix(mix(seed).wrapping_add((position as u64).wrapping_mul(STEP))) }
    }

    /// True with `probability`: the decision whether this position is one with XTC.
    pub(super) fn chance(self, probability: f64) -> bool {
        uniform(mix(self.key ^ CHANCES)) < probability
    }

    /// The index with the largest sum of logit and noise, the noise being that of the token in `ids`, or, without
    /// them, of the index.
    ///
    /// `likeliest` is the index of the largest logit, which is finite.
    pub(super) fn draw(self, logits: &[f32], likeliest: usize, ids: Option<&[u32]>) -> usize {
        vectorized(Draw { noise: self, logits, likeliest, ids })
    }

    #[inline(always)]
    fn bits(self, id: u32) -> u64 {
        mix(self.key.wrapping_add(u64::from(id).wrapping_mul(STEP)))
    }
}

struct Draw<'a> {
    noise: Noise,
    logits: &'a [f32],
    likeliest: usize,
    ids: Option<&'a [u32]>,
}

impl Loops for Draw<'_> {
    type Output = usize;

    #[inline(always)]
    fn run(self) -> usize {
        let Self { noise, logits, likeliest, ids } = self;
        let bits = |index: usize| noise.bits(ids.map_or(index as u32, |ids| ids[index]));
        let mut best = likeliest;
        let mut score = f64::from(logits[best]) + gumbel(bits(best));
        for (start, chunk) in (0..).step_by(CHUNK).zip(logits.chunks(CHUNK)) {
            // A logarithm is dear: few tokens of a vocabulary have bits that may be enough.
            let enough = most_bits(score - f64::from(largest(chunk)));
            let mut least = u64::MAX;
            match ids {
                Some(ids) => {
                    for id in &ids[start..start + chunk.len()] {
                        least = least.min(noise.bits(*id));
                    }
                }
                None => {
                    for id in start as u32..(start + chunk.len()) as u32 {
                        least = least.min(noise.bits(id));
                    }
                }
            }
            if least > enough {
                continue;
            }
            for (index, logit) in (start..).zip(chunk) {
                let bits = bits(index);
                if bits <= enough {
                    let sum = f64::from(*logit) + gumbel(bits);
                    if sum > score {
                        (best, score) = (index, sum);
                    }
                }
            }
        }
        best
    }
}

/// The finalizer of SplitMix64.
#[inline(always)]
fn mix(bits: u64) -> u64 {
    let bits = bits.wrapping_add(STEP);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// Above 0 and below 1.
fn uniform(bits: u64) -> f64 {
    ((bits >> 12) as f64 + 0.5) / (1u64 << 52) as f64
}

/// Bits above this are of noise below `gumbel`.
fn most_bits(gumbel: f64) -> u64 {
    // Noise is at most ln 2 times one more than the leading zeros of its bits.
    let zeros = gumbel / LN_2 - 1.0 - 1e-9;
    u64::MAX.checked_shr(zeros as u32).unwrap_or(0)
}

/// `-ln(-ln(1 - u))`: the noise of a token.
fn gumbel(bits: u64) -> f64 {
    -(-(-uniform(bits)).ln_1p()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_of_the_noise_holds() {
        let noise = Noise::new(3, 5);
        let extremes = [0, 1, 1 << 12, u64::MAX, 1 << 63, (1 << 63) - 1];
        for bits in (0..100_000).map(|id| noise.bits(id)).chain(extremes) {
            assert!(gumbel(bits).is_finite());
            assert!(bits <= most_bits(gumbel(bits)), "{bits:x}");
        }
    }

    /// Mean and variance of a standard Gumbel variable over ids, positions and seeds.
    #[test]
    fn the_noise_is_gumbel_along_every_axis() {
        let count = 200_000u32;
        let axes: [Box<dyn Fn(u32) -> u64>; 3] = [
            Box::new(|at| Noise::new(7, 11).bits(at)),
            Box::new(|at| Noise::new(7, at as usize).bits(11)),
            Box::new(|at| Noise::new(at.into(), 11).bits(7)),
        ];
        for axis in axes {
            let noise: Vec<f64> = (0..count).map(|at| gumbel(axis(at))).collect();
            let mean = noise.iter().sum::<f64>() / f64::from(count);
            let variance = noise.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(count);
            // Five standard errors.
            assert!((mean - 0.577_215_7).abs() < 0.0144, "mean {mean}");
            assert!((variance - std::f64::consts::PI.powi(2) / 6.0).abs() < 0.04, "variance {variance}");
        }
    }
}
