//! Numbers that look random and are the same everywhere: generators of fixtures make them, too.

/// `count` numbers in `-1.0..1.0`, by the linear congruential generator of Numerical Recipes.
pub fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}
