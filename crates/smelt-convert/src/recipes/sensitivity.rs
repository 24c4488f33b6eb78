//! How much the predictions of a model suffer from fewer bits, module by module.
//!
//! One module at a time is rounded to few bits, and the Kullback-Leibler divergence of the predictions from those of the
//! whole model measured on a text. What more bits would cost follows from what rounding changes in the outputs of the
//! module: the loss grows with the square of that.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use burn::tensor::DType;
use indexmap::IndexMap;
use safetensors::Dtype;
use smelt_backend::kernels::QuantizationFormat;
use smelt_backend::{Kernels, float_tensor, to_host};
use smelt_model::Decoder;
use smelt_model::blocks::Matrix;
use smelt_model::calibration::{InputMoments, Stream};
use smelt_model::quantization::{QuantizationPlan, every_expert};

use super::calibrate::{HEAD, TABLES};
use super::energy::Energy;
use super::quality::summed_divergence;
use super::search::{Choice, Sensitivity};
use super::unrounded::Unrounded;
use super::{failed, go_on, quantized_dtypes};
use crate::{ConvertError, Source};

/// Widths that a module may get, those of [`PROBES`] first.
const WIDTHS: [u64; 5] = [2, 3, 4, 6, 8];
/// Widths at which predictions are measured. With the last of them they change enough to be told from rounding in f32,
/// and not so much that the square no longer holds for wider ones.
const PROBES: [u64; 2] = [2, 3];

/// What sensitivities are measured by.
pub struct Probe<'a> {
    /// Where the model comes from.
    pub source: &'a Source,
    /// The modules that may be quantized are those of this plan, and their groups.
    pub plan: &'a QuantizationPlan,
    /// What was asked for as the dtype of scales and of all that stays in floats.
    pub dtype: Option<Dtype>,
    /// What the model reads, in tokens: some thousand tell enough.
    pub sequences: &'a [Vec<u32>],
    /// Called with the numbers of modules that are done and that there are, and with the next.
    pub on_module: &'a mut (dyn FnMut(usize, usize, &str) -> ControlFlow<()> + 'a),
}

/// What fewer bits cost each module of `model`, in the order of the model; experts of a block together.
///
/// Runs the model, or on average half of it twice, for each module.
///
/// # Errors
/// [`ConvertError::Model`] for a matrix that cannot be quantized; [`ConvertError::Interrupted`] if `on_module` breaks.
///
/// # Panics
/// If there is no sequence, or one is empty, does not fit the context, or has ids outside of the vocabulary.
pub fn sensitivities<'a, B: Kernels>(
    probe: Probe<'a>,
    model: &'a Decoder<B>,
    device: &'a B::Device,
) -> Result<Vec<Sensitivity>, ConvertError> {
    let layers = model.layers.len();
    let mut streams = vec![model.stream(probe.sequences, device)];
    for layer in 0..layers {
        let mut stream = streams[layer].clone();
        model.advance(layer, &mut stream);
        streams.push(stream);
    }
    let dtypes = quantized_dtypes(probe.source, &probe.source.parameters()?, probe.dtype);
    let mut run = Run { probe, model, dtypes, streams, device, done: Vec::new(), all: 0 };
    let modules = run.modules();
    run.all = modules.len();
    for (module, parts) in modules {
        run.measure(module, &parts)?;
    }
    Ok(run.done)
}

/// `model` with each weight of the modules of `plan` rounded to the nearest value.
///
/// # Errors
/// [`ConvertError::Model`] for a matrix that cannot be quantized.
pub fn nearest<B: Kernels>(
    source: &Source,
    plan: &QuantizationPlan,
    model: &Decoder<B>,
    device: &B::Device,
) -> Result<Decoder<B>, ConvertError> {
    let mut rounded = model.clone();
    for parameter in source.config.parameters() {
        let Some(path) = parameter.path.strip_suffix(".weight") else { continue };
        let (Some(format), Some(matrix)) = (plan.format_of(path), model.matrix(path)) else { continue };
        let (values, dims) = (to_host(matrix.values()), matrix.dims());
        let found = Unrounded { values, dims, format, dtype: DType::F32 }.nearest();
        let values = found.map_err(|error| failed(source, path, error))?.values;
        rounded.put_matrix(path, Matrix::of(float_tensor(values, dims, device)));
    }
    Ok(rounded)
}

struct Run<'a, B: Kernels> {
    probe: Probe<'a>,
    model: &'a Decoder<B>,
    /// What parameters will be stored in, by their paths.
    dtypes: BTreeMap<String, DType>,
    /// What enters each block, and what leaves the last.
    streams: Vec<Stream<B>>,
    device: &'a B::Device,
    done: Vec<Sensitivity>,
    all: usize,
}

/// Projections that are quantized alike, and the block that they are in.
struct Parts {
    paths: Vec<String>,
    dims: [usize; 2],
    layer: Option<usize>,
}

impl<B: Kernels> Run<'_, B> {
    /// What gets a width of its own.
    fn modules(&self) -> IndexMap<String, Parts> {
        let mut modules = IndexMap::new();
        let mut add = |path: String, dims: [usize; 2], layer: Option<usize>| {
            if self.probe.plan.format_of(&path).is_some() {
                let parts = || Parts { paths: Vec::new(), dims, layer };
                modules.entry(every_expert(&path)).or_insert_with(parts).paths.push(path);
            }
        };
        let matrix = |path: &str| Some((path.to_owned(), self.model.matrix(path)?.dims()));
        TABLES.iter().filter_map(|path| matrix(path)).for_each(|(path, dims)| add(path, dims, None));
        for layer in 0..self.model.layers.len() {
            let projections = self.model.block_projections(layer);
            projections.into_iter().for_each(|(path, dims)| add(path, dims, Some(layer)));
        }
        matrix(HEAD).into_iter().for_each(|(path, dims)| add(path, dims, None));
        modules
    }

    fn measure(&mut self, module: String, parts: &Parts) -> Result<(), ConvertError> {
        go_on((self.probe.on_module)(self.done.len(), self.all, &module))?;
        let group_size =
            self.probe.plan.format_of(&parts.paths[0]).map_or(0, QuantizationFormat::group_size) as u64;
        let mut errors = [0.0; WIDTHS.len()];
        let mut probed = PROBES.map(|_| self.model.clone());
        let moments = self.moments(parts);
        for (index, path) in parts.paths.iter().enumerate() {
            let moments = moments.as_ref().map(|moments| &moments[index]);
            let energy = moments.filter(|moments| moments.rows > 0);
            let energy = energy.map(|moments| Energy::<B>::new(moments, self.device));
            for (at, (width, sum)) in WIDTHS.into_iter().zip(&mut errors).enumerate() {
                let (change, values) = self.rounded(path, width, group_size)?;
                *sum += match (&energy, moments) {
                    (Some(energy), _) => energy.of(&change, parts.dims),
                    // An expert that no token chose.
                    (None, Some(_)) => 0.0,
                    (None, None) => change.iter().map(|change| f64::from(*change).powi(2)).sum(),
                };
                if let Some(probed) = probed.get_mut(at) {
                    probed.put_matrix(path, Matrix::of(float_tensor(values, parts.dims, self.device)));
                }
            }
        }
        let measured = probed.map(|probed| self.divergence(&probed, parts.layer));
        let (last, last_error) = (measured[PROBES.len() - 1], errors[PROBES.len() - 1]);
        let loss = |at: usize| match measured.get(at) {
            Some(measured) => *measured,
            None if last_error > 0.0 => last * errors[at] / last_error,
            None => 0.0,
        };
        let values = (parts.paths.len() * parts.dims[0] * parts.dims[1]) as u64;
        let scale_bytes = self.dtypes[&format!("{}.weight", parts.paths[0])].size() as u64;
        let choice = |(at, bits): (usize, u64)| Choice {
            bits: bits as u32,
            bytes: values * bits / 8 + 2 * scale_bytes * values / group_size,
            loss: loss(at),
        };
        let choices = WIDTHS.into_iter().enumerate().map(choice).collect();
        self.done.push(Sensitivity { module, choices });
        Ok(())
    }

    /// Those of what enters the projections; `None` for tables.
    fn moments(&self, parts: &Parts) -> Option<Vec<InputMoments>> {
        match parts.layer {
            Some(layer) => Some(self.model.observed(layer, &parts.paths, &self.streams[layer], self.device)),
            None if parts.paths[0] == HEAD => {
                let last = self.streams.last().expect("the stream that leaves the model");
                Some(vec![self.model.observed_at_head(last, self.device)])
            }
            None => None,
        }
    }

    /// The change of the matrix at `path` in `width` bits, each value rounded to the nearest, and the values then.
    fn rounded(&self, path: &str, width: u64, group_size: u64) -> Result<(Vec<f32>, Vec<f32>), ConvertError> {
        let matrix = self.model.matrix(path).expect("a module of the model");
        let (values, dims) = (to_host(matrix.values()), matrix.dims());
        let found = QuantizationFormat::new(width, group_size).and_then(|format| {
            let matrix = Unrounded { values, dims, format, dtype: DType::F32 };
            let rounded = matrix.nearest()?;
            Ok((matrix.change(&rounded), rounded.values))
        });
        found.map_err(|error| failed(self.probe.source, path, error))
    }

    /// The mean Kullback-Leibler divergence of the predictions of `probed` from those of the model, in nats per token.
    /// They are the same up to block `layer`.
    fn divergence(&self, probed: &Decoder<B>, layer: Option<usize>) -> f64 {
        let mut stream = match layer {
            Some(layer) => self.streams[layer].clone(),
            None => probed.stream(self.probe.sequences, self.device),
        };
        (layer.unwrap_or(0)..probed.layers.len()).for_each(|layer| probed.advance(layer, &mut stream));
        let last = self.streams.last().expect("the stream that leaves the model");
        let (mut sum, mut rows) = (0.0, 0usize);
        for (found, expected) in stream.activations().zip(last.activations()) {
            let [own, _] = found.dims();
            let (found, expected) = (probed.norm.forward(found), self.model.norm.forward(expected));
            sum += summed_divergence(probed, found, self.model, expected);
            rows += own;
        }
        (sum / rows as f64).max(0.0)
    }
}
