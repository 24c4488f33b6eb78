//! A seeded permutation of `0..len` that is never written down.
//!
//! A Feistel network over the next power of four, walked along its cycles until it lands inside (Black and
//! Rogaway 2002): every index costs a few multiplications, and no memory grows with `len`.

use crate::{derive_seed, mix};

/// Fewer rounds leave visible patterns in small ranges.
const ROUNDS: usize = 8;

/// A one-to-one map of `0..len` onto itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permutation {
    len: u64,
    half_bits: u32,
    keys: [u64; ROUNDS],
}

impl Permutation {
    /// The permutation of `0..len` that belongs to `seed`.
    pub fn new(len: u64, seed: u64) -> Self {
        let bits = u64::BITS - len.saturating_sub(1).leading_zeros();
        let keys = std::array::from_fn(|round| derive_seed(seed, round as u64));
        Self { len, half_bits: bits.div_ceil(2).max(1), keys }
    }

    /// Where `index` goes.
    ///
    /// # Panics
    /// If `index` is not below `len`.
    pub fn at(&self, index: u64) -> u64 {
        assert!(index < self.len, "index {index} of a permutation of {}", self.len);
        let mut image = self.encipher(index);
        // The network permutes fewer than four times `len` numbers, so this takes few steps, and as
        // `index` itself is inside, its cycle comes back inside.
        while image >= self.len {
            image = self.encipher(image);
        }
        image
    }

    fn encipher(&self, number: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (number >> self.half_bits, number & mask);
        for key in self.keys {
            (left, right) = (right, left ^ mix(right ^ key) & mask);
        }
        left << self.half_bits | right
    }
}

/// Numbers counted through all epochs, each epoch in an order of its own.
#[derive(Debug, Clone)]
pub struct Shuffle {
    len: u64,
    seed: u64,
}

impl Shuffle {
    /// Of `0..len`, which is not empty.
    pub fn new(len: u64, seed: u64) -> Self {
        assert!(len > 0, "nothing to shuffle");
        Self { len, seed }
    }

    /// Numbers in an epoch.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The seed of the epoch of `index`, and the number that stands there.
    pub fn at(&self, index: u64) -> (u64, u64) {
        let epoch_seed = derive_seed(self.seed, index / self.len);
        (epoch_seed, Permutation::new(self.len, epoch_seed).at(index % self.len))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_index_is_hit_exactly_once(len in 1_u64..3000, seed: u64) {
            let permutation = Permutation::new(len, seed);
            let mut images: Vec<u64> = (0..len).map(|index| permutation.at(index)).collect();
            images.sort_unstable();
            prop_assert!(images.into_iter().eq(0..len));
        }

        #[test]
        fn huge_ranges_stay_inside(len in 1_u64.., seed: u64, index: u64) {
            let permutation = Permutation::new(len, seed);
            prop_assert!(permutation.at(index % len) < len);
        }
    }

    /// Over many seeds every place is taken about equally often by every index.
    #[test]
    fn small_permutations_are_spread_evenly() {
        for len in [2_u64, 3, 5, 10] {
            let seeds = 6000;
            let mut counts = vec![0_u32; (len * len) as usize];
            for seed in 0..seeds {
                let permutation = Permutation::new(len, seed);
                (0..len).for_each(|index| counts[(index * len + permutation.at(index)) as usize] += 1);
            }
            let expected = f64::from(seeds as u32) / len as f64;
            for count in counts {
                let ratio = f64::from(count) / expected;
                assert!((0.85..1.15).contains(&ratio), "length {len}: {ratio} times the expected count");
            }
        }
    }
}
