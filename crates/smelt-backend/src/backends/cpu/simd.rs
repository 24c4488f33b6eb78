//! Loops compiled for several instruction sets, chosen at run time.
//!
//! The loops are plain Rust that the compiler turns into vectors; sums are divided into a fixed number of
//! lanes, so that they come out the same whatever the instruction set.

use crate::vectorized::{LANES, reduce};
use crate::{Loops, exp};

/// An instruction set that loops are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// What every machine of the architecture has.
    Baseline,
    /// AVX2, with FMA and F16C, which come with it.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW, DQ, VL.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// NEON. Compilers use it for [`Level::Baseline`], too; this stands for loops written in it.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Level {
    fn is_detected(self) -> bool {
        match self {
            Self::Baseline => true,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
        }
    }
}

/// Instructions that multiply numbers in bf16 and add up in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bf16Unit {
    /// Pairs of numbers in each lane: AVX512-BF16.
    #[cfg(target_arch = "x86_64")]
    Pairs,
    /// Squares of numbers: AMX.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Squares,
}

impl Bf16Unit {
    fn is_detected(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Pairs => is_x86_feature_detected!("avx512bf16"),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Squares => super::amx::is_granted(),
        }
    }
}

/// What a processor may have.
#[derive(Clone, Copy)]
struct Machine {
    /// As `SMELT_CPU` names it.
    name: &'static str,
    level: Level,
    bf16: Option<Bf16Unit>,
}

/// Those of the architecture, the fastest first.
const MACHINES: &[Machine] = &[
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Machine { name: "amx", level: Level::Avx512, bf16: Some(Bf16Unit::Squares) },
    #[cfg(target_arch = "x86_64")]
    Machine { name: "avx512bf16", level: Level::Avx512, bf16: Some(Bf16Unit::Pairs) },
    #[cfg(target_arch = "x86_64")]
    Machine { name: "avx512", level: Level::Avx512, bf16: None },
    #[cfg(target_arch = "x86_64")]
    Machine { name: "avx2", level: Level::Avx2, bf16: None },
    #[cfg(target_arch = "aarch64")]
    Machine { name: "neon", level: Level::Neon, bf16: None },
    Machine { name: "scalar", level: Level::Baseline, bf16: None },
];

impl Machine {
    fn is_detected(&self) -> bool {
        self.level.is_detected() && self.bf16.is_none_or(Bf16Unit::is_detected)
    }

    /// What this process uses: the best that this machine has, or what `SMELT_CPU` names.
    fn current() -> Self {
        static CURRENT: std::sync::OnceLock<Machine> = std::sync::OnceLock::new();
        *CURRENT.get_or_init(|| {
            let best = || MACHINES.iter().find(|machine| machine.is_detected()).copied();
            let plain = Self { name: "scalar", level: Level::Baseline, bf16: None };
            Self::requested().ok().flatten().or_else(best).unwrap_or(plain)
        })
    }

    fn requested() -> Result<Option<Self>, String> {
        let Some(value) = std::env::var_os("SMELT_CPU").filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        let Some(machine) = MACHINES.iter().find(|machine| value == *machine.name) else {
            let names: Vec<&str> = MACHINES.iter().map(|machine| machine.name).collect();
            return Err(format!(
                "`SMELT_CPU` is `{}`, expected one of {}",
                value.display(),
                names.join(", ")
            ));
        };
        if !machine.is_detected() {
            let name = machine.name;
            return Err(format!("`SMELT_CPU` asks for `{name}`, which this processor does not have"));
        }
        Ok(Some(*machine))
    }
}

/// The instruction set of this process: the widest of this machine, or the one that `SMELT_CPU` names.
pub(super) fn level() -> Level {
    Machine::current().level
}

/// The unit of this process for products in bf16.
pub(super) fn bf16_unit() -> Option<Bf16Unit> {
    Machine::current().bf16
}

/// Whether products of bytes are computed in squares, too: by AMX.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) fn multiplies_squares_of_bytes() -> bool {
    bf16_unit() == Some(Bf16Unit::Squares)
}

/// Whether this machine can do what `SMELT_CPU` asks for.
///
/// # Errors
/// If that is no instruction set, or this machine does not have it.
pub(super) fn check_requested() -> Result<(), String> {
    Machine::requested().map(drop)
}

/// Defines a function whose body is compiled once per [`Level`] and called at the machine's.
macro_rules! vectorized {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident $(<$generic:ident: $bound:path>)? ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)?
        $body:block
    ) => {
        $(#[$meta])*
        $vis fn $name $(<$generic: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body $(<$generic: $bound>)? ($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                use $crate::backends::cpu::simd::{Level, level};
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512 $(<$generic: $bound>)? ($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                #[target_feature(enable = "avx2")]
                fn avx2 $(<$generic: $bound>)? ($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                #[allow(unsafe_code, reason = "calling a function that needs an instruction set")]
                match level() {
                    // SAFETY: `level` detected the instruction set on this machine.
                    Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    Level::Avx2 => return unsafe { avx2($($arg),*) },
                    Level::Baseline => {}
                }
            }
            body($($arg),*)
        }
    };
}
pub(super) use vectorized;

vectorized! {
    /// [`Loops::run`] at the machine's [`Level`].
    pub(crate) fn run<L: Loops>(loops: L) -> L::Output {
        loops.run()
    }
}

/// `sum f(x)` in fixed lanes.
#[inline(always)]
pub(super) fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut lanes = [0f32; LANES];
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += f(*x);
        }
    }
    reduce(lanes, |a, b| a + b) + rest.iter().map(|x| f(*x)).sum::<f32>()
}

/// `sum f(x, y)` in fixed lanes.
#[inline(always)]
pub(super) fn sum2(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let ((x_chunks, x_rest), (y_chunks, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut lanes = [0f32; LANES];
    for (x, y) in x_chunks.iter().zip(y_chunks) {
        for (lane, (x, y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
            *lane += f(*x, *y);
        }
    }
    reduce(lanes, |a, b| a + b) + x_rest.iter().zip(y_rest).map(|(x, y)| f(*x, *y)).sum::<f32>()
}

/// `tanh x` by [`exp`].
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (exp(2.0 * x) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::largest;

    #[test]
    fn tanh_is_accurate() {
        for step in -2_000..2_000 {
            let x = step as f32 / 100.0;
            assert!((tanh(x) - x.tanh()).abs() < 3e-7, "tanh({x}) is {}", tanh(x));
        }
    }

    #[test]
    fn sums_and_maxima_count_every_element() {
        let x: Vec<f32> = (0..37).map(|value| value as f32).collect();
        assert_eq!(sum(&x, |x| x), 666.0);
        assert_eq!(sum2(&x, &x, |x, y| x * y), 16206.0);
        assert_eq!(largest(&x), 36.0);
        assert_eq!(largest(&[]), f32::NEG_INFINITY);
    }
}
