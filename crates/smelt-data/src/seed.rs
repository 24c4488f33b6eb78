//! Random numbers as a function of what they are for, so that nothing has to be stored to resume.
//!
//! SplitMix64's output function (Steele, Lea and Flood 2014). Not for cryptography.

/// The odd constant by which SplitMix64 advances, 2^64 divided by the golden ratio.
const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// Spreads `value` over all 64 bits; different values give different results.
pub fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// The seed of number `counter` of the streams that `seed` spans.
pub fn derive_seed(seed: u64, counter: u64) -> u64 {
    mix(mix(seed.wrapping_add(GOLDEN_GAMMA)).wrapping_add(counter.wrapping_mul(GOLDEN_GAMMA)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs for seed 1234567, from the reference implementation (Vigna, splitmix64.c).
    #[test]
    fn mixing_agrees_with_splitmix64() {
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        for (step, expected) in (1..).zip(expected) {
            assert_eq!(mix(1_234_567_u64.wrapping_add(GOLDEN_GAMMA.wrapping_mul(step))), expected);
        }
    }

    #[test]
    fn neighbouring_streams_differ_in_about_half_of_their_bits() {
        for seed in 0..20 {
            for counter in 0..20 {
                let bits = (derive_seed(seed, counter) ^ derive_seed(seed, counter + 1)).count_ones();
                assert!((10..=54).contains(&bits), "{bits} bits differ at seed {seed}, counter {counter}");
            }
        }
    }
}
