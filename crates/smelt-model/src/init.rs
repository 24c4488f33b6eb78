//! Values for training from scratch, drawn on the host.
//!
//! Every parameter has a generator of its own, seeded by the run's seed and the parameter's path, so that
//! the values are the same on every backend and whatever else the model holds.

use burn::module::Param;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rayon::prelude::*;
use smelt_backend::Kernels;

use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::parameters::{ParameterInfo, ParameterMapper};

/// How the values of a parameter are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Distribution {
    /// All the same.
    Constant(f32),
    /// Evenly between `-bound` and `bound`.
    Uniform {
        /// Largest magnitude.
        bound: f64,
    },
    /// Normal around 0.
    Normal {
        /// Standard deviation.
        std: f64,
    },
}

/// Values that share a generator; large parameters are drawn in parallel.
const CHUNK: usize = 1 << 16;

impl<B: Kernels> Decoder<B> {
    /// A model for training from scratch, by its family's own rule.
    ///
    /// The same `config` and `seed` give the same values on every backend.
    pub fn init(config: &ModelConfig, seed: u64, device: &B::Device) -> Self {
        let structure = Self::structure(&config.decoder, device);
        structure.map_parameters(&config.family.names, &mut Draw { config, seed })
    }
}

struct Draw<'a> {
    config: &'a ModelConfig,
    seed: u64,
}

impl<B: Backend> ParameterMapper<B> for Draw<'_> {
    fn map<const D: usize>(
        &mut self,
        info: &ParameterInfo,
        parameter: Param<Tensor<B, D>>,
    ) -> Param<Tensor<B, D>> {
        let distribution = (self.config.family.init)(info, &self.config.decoder);
        let data = TensorData::new(distribution.draw(info, self.seed), info.shape.clone());
        let tensor = Tensor::from_data(data, &parameter.lazy_device());
        let id = parameter.id;
        parameter.transform_for_load(tensor, id)
    }
}

impl Distribution {
    pub(crate) fn draw(self, info: &ParameterInfo, seed: u64) -> Vec<f32> {
        let seed = seed ^ fnv1a(&info.path);
        let mut values = vec![0.0; info.elements()];
        values.par_chunks_mut(CHUNK).enumerate().for_each(|(index, chunk)| {
            let mut generator = StdRng::seed_from_u64(mixed(seed, index as u64));
            match self {
                Self::Constant(value) => chunk.fill(value),
                Self::Uniform { bound } => fill_uniform(chunk, bound, &mut generator),
                Self::Normal { std } => fill_normal(chunk, std, &mut generator),
            }
        });
        values
    }
}

fn fill_uniform(values: &mut [f32], bound: f64, generator: &mut StdRng) {
    values.fill_with(|| (bound * (2.0 * generator.random::<f64>() - 1.0)) as f32);
}

/// Box-Muller (1958): two normal values from two uniform ones.
fn fill_normal(values: &mut [f32], std: f64, generator: &mut StdRng) {
    for pair in values.chunks_mut(2) {
        let radius = std * (-2.0 * (1.0 - generator.random::<f64>()).ln()).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * generator.random::<f64>()).sin_cos();
        for (value, factor) in pair.iter_mut().zip([cosine, sine]) {
            *value = (radius * factor) as f32;
        }
    }
}

/// FNV-1a: a hash that is the same in every build, unlike the standard library's.
pub(crate) fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A seed of its own for number `index` of `seed`: the finalizer of SplitMix64 (Steele et al. 2014).
pub(crate) fn mixed(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add((index.wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
