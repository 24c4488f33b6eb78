//! Loops over numbers on the host, as vectors of the widest registers there are.

/// Loops that [`vectorized`] runs.
pub trait Loops {
    /// What they come to.
    type Output;

    /// The loops, in plain Rust. To be compiled for each instruction set, they and what they call are marked
    /// `#[inline(always)]`, and visit their elements with `for` rather than with closures.
    fn run(self) -> Self::Output;
}

/// Runs `loops`, compiled for the instruction set of this machine where the build has the `cpu` backend, which knows
/// it, and for what all machines have elsewhere. The result is the same.
pub fn vectorized<L: Loops>(loops: L) -> L::Output {
    #[cfg(feature = "cpu")]
    return crate::backends::cpu::run(loops);
    #[cfg(not(feature = "cpu"))]
    loops.run()
}

/// Numbers that are taken side by side.
pub(crate) const LANES: usize = 16;

/// The largest of `x`; `-inf` if there are none.
#[inline(always)]
pub fn largest(x: &[f32]) -> f32 {
    best(x, f32::NEG_INFINITY, |a, b| if b > a { b } else { a })
}

/// The smallest of `x`; `inf` if there are none.
#[inline(always)]
pub fn smallest(x: &[f32]) -> f32 {
    best(x, f32::INFINITY, |a, b| if b < a { b } else { a })
}

#[inline(always)]
fn best(x: &[f32], start: f32, better: impl Fn(f32, f32) -> f32) -> f32 {
    // Four registers, of which none waits for the one before.
    let (blocks, rest) = x.as_chunks::<{ 4 * LANES }>();
    let mut wide = [start; 4 * LANES];
    for block in blocks {
        for (lane, x) in wide.iter_mut().zip(block) {
            *lane = better(*lane, *x);
        }
    }
    let (chunks, rest) = rest.as_chunks::<LANES>();
    let mut lanes = [start; LANES];
    for chunk in wide.as_chunks::<LANES>().0.iter().chain(chunks) {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = better(*lane, *x);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = better(*lane, *x);
    }
    reduce(lanes, better)
}

/// Puts lanes together pairwise.
#[inline(always)]
pub(crate) fn reduce(mut lanes: [f32; LANES], both: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = both(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// `e^x` within 2 units in the last place, without a branch.
///
/// Range reduction by `ln 2` in two parts and the polynomial of Cephes' `expf`. Below -87 the result is 0.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// Adding it rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let inside = x.clamp(-87.0, 88.0);
    let rounded = inside * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = inside - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4f32;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 5e-1;
    let p = p * r * r + r + 1.0;
    let scale = f32::from_bits((rounded.to_bits() << 23).wrapping_add(1f32.to_bits()));
    if x < -87.0 { 0.0 } else { p * scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate_over_its_range() {
        for step in -8_700..8_800 {
            let x = step as f32 / 100.0;
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((found / expected - 1.0).abs() < 3e-7, "exp({x}) is {found}, expected {expected}");
        }
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::NAN).is_nan());
    }
}
