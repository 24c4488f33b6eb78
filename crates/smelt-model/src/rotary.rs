//! Frequencies of rotary position embedding (Su et al. 2021, arXiv:2104.09864) and their scalings.
//!
//! On the host, in the rounding of transformers: a frequency and an angle are f32, whatever the device
//! computes in. Turning the angles into a rotation is the business of `blocks::rotary`.

use std::f64::consts::TAU;

use smelt_backend::kernels::RotaryStyle;

/// One kind of rotation.
#[derive(Debug, Clone, PartialEq)]
pub struct RotaryConfig {
    /// Leading features of a head that rotate; the others stay.
    pub rotary_dim: usize,
    /// Base of the wavelengths.
    pub theta: f64,
    /// How frequencies change for long contexts.
    pub scaling: RopeScaling,
    /// Which features form a pair.
    pub style: RotaryStyle,
}

/// How frequencies change for contexts longer than those of pretraining.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// They do not.
    None,
    /// All divided by `factor` (Chen et al. 2023, arXiv:2306.15595).
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// The base grows with the sequence, once it is longer than `original_length`.
    Dynamic {
        /// How much longer than `original_length` the context becomes.
        factor: f64,
        /// The context of pretraining.
        original_length: usize,
    },
    /// Low frequencies divided, high ones kept, a ramp between (Peng et al. 2023, arXiv:2309.00071).
    Yarn(Yarn),
    /// Low frequencies divided, high ones kept, by wavelength (Llama 3.1).
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Wavelengths above `original_length / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original_length / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// The context of pretraining.
        original_length: usize,
    },
    /// A divisor for each frequency, in two sets (Ding et al. 2024, arXiv:2402.13753).
    LongRope {
        /// Divisors up to `original_length`.
        short_factor: Vec<f64>,
        /// Divisors beyond.
        long_factor: Vec<f64>,
        /// The context of pretraining.
        original_length: usize,
        /// Factor on cosines and sines.
        attention_factor: f64,
    },
    /// The base is set by the length of the prompt and kept while decoding (Qwen 1).
    PromptNtk {
        /// The context of pretraining.
        original_length: usize,
    },
}

/// The constants of [`RopeScaling::Yarn`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Yarn {
    /// The divisor of low frequencies.
    pub factor: f64,
    /// The context of pretraining.
    pub original_length: usize,
    /// Rotations over that context from which on a frequency is kept.
    pub beta_fast: f64,
    /// Rotations over that context up to which a frequency is divided.
    pub beta_slow: f64,
    /// Factor on cosines and sines.
    pub attention_factor: f64,
    /// The ends of the ramp are whole numbers.
    pub truncate: bool,
}

/// The lengths that choose the frequencies of one pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RopeLengths {
    /// Positions so far, those of the pass included.
    pub sequence: usize,
    /// Positions of the prompt that the sequence began with.
    pub prompt: usize,
}

impl RotaryConfig {
    /// Positions that the scaling serves, for a model of `max_position_embeddings`.
    pub fn context_length(&self, max_position_embeddings: usize) -> usize {
        let scaled = |length: usize, factor: f64| (length as f64 * factor) as usize;
        let extended = match &self.scaling {
            RopeScaling::Linear { factor } => scaled(max_position_embeddings, *factor),
            RopeScaling::Dynamic { factor, original_length } => scaled(*original_length, *factor),
            RopeScaling::Yarn(yarn) => scaled(yarn.original_length, yarn.factor),
            _ => max_position_embeddings,
        };
        extended.max(max_position_embeddings)
    }

    /// The length beyond which another set of frequencies applies to all positions, cached ones too.
    pub fn switches_beyond(&self) -> Option<usize> {
        match &self.scaling {
            RopeScaling::LongRope { original_length, .. } => Some(*original_length),
            _ => None,
        }
    }

    /// What a position becomes depends on the length of its sequence.
    pub fn depends_on_length(&self) -> bool {
        use RopeScaling::{Dynamic, LongRope, PromptNtk};
        matches!(self.scaling, Dynamic { .. } | LongRope { .. } | PromptNtk { .. })
    }

    /// How much a sequence of `length` positions may grow before any frequency changes.
    pub fn unchanged_for(&self, length: usize) -> usize {
        match &self.scaling {
            RopeScaling::Dynamic { original_length, .. } => original_length.saturating_sub(length),
            RopeScaling::LongRope { original_length, .. } if length <= *original_length => {
                original_length - length
            }
            _ => usize::MAX,
        }
    }

    /// Cosines and sines of `positions`, each `[positions, rotary_dim / 2]`.
    pub fn tables(&self, positions: &[u32], lengths: RopeLengths) -> (Vec<f32>, Vec<f32>) {
        let frequencies = self.inverse_frequencies(lengths);
        let factor = self.attention_factor();
        let angle = |position: u32, frequency: f32| f64::from(position as f32 * frequency).sin_cos();
        positions
            .iter()
            .flat_map(|position| frequencies.iter().map(move |frequency| angle(*position, *frequency)))
            .map(|(sine, cosine)| ((cosine * factor) as f32, (sine * factor) as f32))
            .unzip()
    }

    /// Radians per position of each pair, `[rotary_dim / 2]`.
    pub fn inverse_frequencies(&self, lengths: RopeLengths) -> Vec<f32> {
        let plain = self.powers(self.theta);
        let scaled: Vec<f64> = match &self.scaling {
            RopeScaling::None => plain,
            RopeScaling::Linear { factor } => plain.iter().map(|frequency| frequency / factor).collect(),
            RopeScaling::Dynamic { factor, original_length } => {
                let length = lengths.sequence.max(*original_length) as f64;
                let growth = factor * length / *original_length as f64 - (factor - 1.0);
                self.powers(self.grown_theta(growth))
            }
            RopeScaling::Yarn(yarn) => yarn.ramped(&plain, self.rotary_dim, self.theta),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_length } => {
                let bands = [*low_freq_factor, *high_freq_factor];
                plain.iter().map(|f| llama3(*f, *factor, bands, *original_length)).collect()
            }
            RopeScaling::LongRope { short_factor, long_factor, original_length, .. } => {
                let long = lengths.sequence > *original_length;
                let divisors = if long { long_factor } else { short_factor };
                plain.iter().zip(divisors).map(|(frequency, divisor)| frequency / divisor).collect()
            }
            RopeScaling::PromptNtk { original_length } => {
                self.powers(self.grown_theta(prompt_growth(lengths.prompt, *original_length)))
            }
        };
        scaled.into_iter().map(|frequency| frequency as f32).collect()
    }

    fn attention_factor(&self) -> f64 {
        match &self.scaling {
            RopeScaling::Yarn(yarn) => yarn.attention_factor,
            RopeScaling::LongRope { attention_factor, .. } => *attention_factor,
            _ => 1.0,
        }
    }

    /// `1 / theta^(2i / rotary_dim)`
    fn powers(&self, theta: f64) -> Vec<f64> {
        let dim = self.rotary_dim as f64;
        (0..self.rotary_dim / 2).map(|pair| theta.powf(2.0 * pair as f64 / dim).recip()).collect()
    }

    /// The base with which the lowest frequency is divided by `growth`, and the highest kept.
    fn grown_theta(&self, growth: f64) -> f64 {
        let dim = self.rotary_dim as f64;
        if self.rotary_dim > 2 { self.theta * growth.powf(dim / (dim - 2.0)) } else { self.theta }
    }
}

impl Yarn {
    fn ramped(&self, plain: &[f64], rotary_dim: usize, theta: f64) -> Vec<f64> {
        let dim = rotary_dim as f64;
        let pair_of = |rotations: f64| {
            dim * (self.original_length as f64 / (rotations * TAU)).ln() / (2.0 * theta.ln())
        };
        let (mut low, mut high) = (pair_of(self.beta_fast), pair_of(self.beta_slow));
        if self.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(dim - 1.0));
        if low == high {
            high += 0.001;
        }
        let divided = |pair: usize| ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
        let scale = |(pair, frequency): (usize, &f64)| {
            frequency * (divided(pair) / self.factor + (1.0 - divided(pair)))
        };
        plain.iter().enumerate().map(scale).collect()
    }
}

/// One frequency of [`RopeScaling::Llama3`]; `bands` are its low and high frequency factors.
fn llama3(frequency: f64, factor: f64, [low, high]: [f64; 2], original_length: usize) -> f64 {
    let rotations = original_length as f64 * frequency / TAU;
    if rotations > high {
        frequency
    } else if rotations < low {
        frequency / factor
    } else {
        let smooth = (rotations - low) / (high - low);
        (1.0 - smooth) * frequency / factor + smooth * frequency
    }
}

/// `2^(ceil(log2(prompt / original)) + 1) - 1`, at least 1.
fn prompt_growth(prompt: usize, original_length: usize) -> f64 {
    let doublings = (prompt.max(1) as f64 / original_length as f64).log2();
    ((doublings + 1.0).ceil().exp2() - 1.0).max(1.0)
}
