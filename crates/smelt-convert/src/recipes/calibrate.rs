//! A model quantized block by block, each on what the quantized blocks before it make of a text.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use burn::tensor::DType;
use safetensors::Dtype;
use smelt_backend::kernels::{QuantizationError, QuantizationFormat, QuantizedBytes, QuantizedWeight};
use smelt_backend::{Kernels, to_host};
use smelt_model::Decoder;
use smelt_model::blocks::Matrix;
use smelt_model::calibration::{InputMoments, Stream};
use smelt_model::quantization::QuantizationPlan;
use smelt_model::weights::{Replacements, round_to};

use super::energy::Energy;
use super::gptq::gptq;
use super::inverse::inverse_root;
use super::report::ModuleReport;
use super::unrounded::{Candidate, Unrounded};
use super::{Recipe, awq, failed, go_on, quantized_dtypes};
use crate::{ConvertError, Parameter, Source};

/// Memory for the moments of projections that are observed in one pass; one projection may take more.
const MOMENTS_BYTES: usize = 1 << 30;
pub(super) const HEAD: &str = "lm_head";
/// What is looked up, and so has no inputs to observe.
pub(super) const TABLES: [&str; 2] = ["embed_tokens", "embed_positions"];
/// Projections whose outputs are multiplied with each other: AWQ leaves their ranges whole.
const UNCLIPPED: [&str; 3] = [".q_proj", ".k_proj", ".qkv_proj"];

/// What a model is quantized by.
pub struct Calibration<'a> {
    /// Where the model comes from.
    pub source: &'a Source,
    /// The formats of its modules.
    pub plan: &'a QuantizationPlan,
    /// How weights are rounded.
    pub recipe: Recipe,
    /// What the model reads, in tokens.
    pub sequences: &'a [Vec<u32>],
    /// What weights are rounded to before anything else, and what scales are in. Where it is left out, what
    /// the configuration notes; as stored if it notes nothing.
    pub dtype: Option<Dtype>,
    /// Called with the numbers of modules that are done and that there are, and with the next.
    pub on_module: &'a mut (dyn FnMut(usize, usize, &str) -> ControlFlow<()> + 'a),
}

/// A quantized model.
pub struct Calibrated<B: Kernels> {
    /// It computes with packed weights.
    pub model: Decoder<B>,
    /// Its packed weights as files hold them.
    pub replacements: Replacements,
    /// What rounding cost, in the order of the model.
    pub modules: Vec<ModuleReport>,
}

/// Quantizes `model` as `calibration` says.
///
/// Memory besides the model: what enters a block for all sequences, and 1 GiB or what the moments of one projection take,
/// five times the square of its inputs in f32.
///
/// # Errors
/// [`ConvertError::Model`] for a matrix that cannot be quantized; [`ConvertError::Interrupted`] if `on_module` breaks.
///
/// # Panics
/// If there is no sequence, or one is empty, does not fit the context, or has ids outside of the vocabulary.
pub fn calibrate<'a, B: Kernels>(
    calibration: Calibration<'a>,
    model: Decoder<B>,
    device: &'a B::Device,
) -> Result<Calibrated<B>, ConvertError> {
    assert!(!calibration.sequences.is_empty(), "sequences to calibrate with");
    let parameters = calibration.source.parameters()?;
    let is_quantized =
        |parameter: &&Parameter<'_>| calibration.plan.format_of_parameter(&parameter.info().path).is_some();
    let mut walk = Walk {
        dtypes: quantized_dtypes(calibration.source, &parameters, calibration.dtype),
        all: parameters.iter().filter(is_quantized).count(),
        calibration,
        done: Calibrated { model, replacements: Replacements::default(), modules: Vec::new() },
        nearest: BTreeMap::new(),
        inverse: None,
        device,
    };
    for path in TABLES {
        let rounded = walk.rounded(path, None)?;
        walk.put(rounded)?;
    }
    let mut stream = walk.done.model.stream(walk.calibration.sequences, device);
    for layer in 0..walk.calibration.source.config.decoder.num_hidden_layers {
        walk.block(layer, &stream)?;
        walk.done.model.advance(layer, &mut stream);
    }
    if walk.done.model.lm_head.is_some() && walk.calibration.plan.format_of(HEAD).is_some() {
        let moments = walk.done.model.observed_at_head(&stream, device);
        let rounded = walk.rounded(HEAD, Some(&moments))?;
        walk.put(rounded)?;
    }
    Ok(walk.done)
}

struct Walk<'a, B: Kernels> {
    calibration: Calibration<'a>,
    /// What parameters will be stored in, by their paths.
    dtypes: BTreeMap<String, DType>,
    /// Modules that are to be quantized.
    all: usize,
    done: Calibrated<B>,
    /// What rounding to the nearest would have cost the projections of this block, where they have been scaled since.
    nearest: BTreeMap<String, f64>,
    /// Moments, and the root of their inverse: projections beside each other have the same.
    inverse: Option<(Vec<f32>, Vec<f32>)>,
    device: &'a B::Device,
}

/// A module in few bits.
struct Rounded {
    bytes: QuantizedBytes,
    format: QuantizationFormat,
    dims: [usize; 2],
    report: ModuleReport,
}

impl<B: Kernels> Walk<'_, B> {
    /// Quantizes block `layer`, which `stream` enters.
    fn block(&mut self, layer: usize, stream: &Stream<B>) -> Result<(), ConvertError> {
        let mut projections = self.done.model.block_projections(layer);
        projections.retain(|(path, _)| self.calibration.plan.format_of(path).is_some());
        if self.calibration.recipe == Recipe::Awq {
            self.nearest = self.nearest_errors(layer, &projections, stream)?;
            self.fold(layer, stream)?;
        }
        let mut rounded = Vec::with_capacity(projections.len());
        for paths in parts(&projections) {
            let moments = self.done.model.observed(layer, &paths, stream, self.device);
            for (path, moments) in paths.iter().zip(&moments) {
                self.told(rounded.len(), path)?;
                rounded.push(self.rounded(path, Some(moments).filter(|moments| moments.rows > 0))?);
            }
        }
        rounded.into_iter().try_for_each(|rounded| self.put(rounded))
    }

    /// What rounding to the nearest would cost the projections of a block, by their paths.
    fn nearest_errors(
        &mut self,
        layer: usize,
        projections: &[(String, [usize; 2])],
        stream: &Stream<B>,
    ) -> Result<BTreeMap<String, f64>, ConvertError> {
        let mut errors = BTreeMap::new();
        for paths in parts(projections) {
            let moments = self.done.model.observed(layer, &paths, stream, self.device);
            for (path, moments) in paths.iter().zip(&moments).filter(|(_, moments)| moments.rows > 0) {
                let Some(matrix) = self.matrix(path) else { continue };
                let nearest = matrix.nearest().map_err(|source| self.failed(path, source))?;
                let error = matrix.output_error(&nearest, &Energy::<B>::new(moments, self.device));
                errors.insert(path.clone(), error);
            }
        }
        Ok(errors)
    }

    /// Scales the columns of a block's projections, and hands the inverse to what is in front of them.
    fn fold(&mut self, layer: usize, stream: &Stream<B>) -> Result<(), ConvertError> {
        let config = &self.calibration.source.config;
        for folding in config.decoder.foldings(layer) {
            let first = &folding.readers[0];
            self.told(0, first)?;
            let readers: Vec<Unrounded> =
                folding.readers.iter().filter_map(|path| self.matrix(path)).collect();
            let moments = self.done.model.observed(layer, std::slice::from_ref(first), stream, self.device);
            if readers.is_empty() || moments[0].rows == 0 {
                continue;
            }
            let factors = awq::factors::<B>(&readers, &moments[0], self.device);
            if let Some(factors) = factors.map_err(|source| self.failed(first, source))? {
                let mut changed = self.done.model.fold(&config.family.names, &folding, &factors);
                // What comes behind makes good what rounding costs here.
                changed.iter_mut().for_each(|(path, values)| round_to(values, self.dtypes[path]));
                self.done.model.put_parameter_values(&config.family.names, &changed);
                self.done.replacements.dense.extend(changed);
            }
        }
        Ok(())
    }

    /// The matrix of the module at `path`, if it is to be quantized.
    fn matrix(&self, path: &str) -> Option<Unrounded> {
        let format = self.calibration.plan.format_of(path)?;
        let matrix = self.done.model.matrix(path)?;
        let dtype = self.dtypes[&format!("{path}.weight")];
        let mut values = to_host(matrix.values());
        round_to(&mut values, dtype);
        Some(Unrounded { values, dims: matrix.dims(), format, dtype })
    }

    /// The module at `path` in the format of the plan, if it has one; `moments` are those of its inputs, where there were
    /// any.
    fn rounded(
        &mut self,
        path: &str,
        moments: Option<&InputMoments>,
    ) -> Result<Option<Rounded>, ConvertError> {
        let Some(matrix) = self.matrix(path) else { return Ok(None) };
        let mut chosen = matrix.nearest().map_err(|source| self.failed(path, source))?;
        let mut errors = None;
        if let Some(moments) = moments {
            let energy = Energy::<B>::new(moments, self.device);
            let mut chosen_error = matrix.output_error(&chosen, &energy);
            let nearest_error = self.nearest.get(path).copied().unwrap_or(chosen_error);
            if let Some(found) = self.calibrated(path, &matrix, moments)? {
                let error = matrix.output_error(&found, &energy);
                // No method is better everywhere: inputs may have nothing to do with each other.
                if error < chosen_error {
                    (chosen, chosen_error) = (found, error);
                }
            }
            errors = Some((chosen_error, nearest_error));
        }
        let weight_error = matrix.weight_error(&chosen);
        let Unrounded { dims, format, dtype, .. } = matrix;
        let mut report = ModuleReport::new(path, format, dims, dtype.size(), weight_error);
        (report.output_error, report.nearest_output_error) = errors.unzip();
        Ok(Some(Rounded { bytes: chosen.bytes, format, dims, report }))
    }

    /// `matrix` as the recipe rounds it, where that is not to the nearest.
    fn calibrated(
        &mut self,
        path: &str,
        matrix: &Unrounded,
        moments: &InputMoments,
    ) -> Result<Option<Candidate>, ConvertError> {
        let is_clipped = !UNCLIPPED.iter().any(|name| path.ends_with(name));
        let bytes = match self.calibration.recipe {
            Recipe::Gptq => gptq(matrix, self.inverse_of(moments)),
            Recipe::Awq if is_clipped => awq::clipped(matrix, &moments.products),
            _ => return Ok(None),
        };
        bytes.and_then(|bytes| matrix.candidate(bytes)).map(Some).map_err(|source| self.failed(path, source))
    }

    fn inverse_of(&mut self, moments: &InputMoments) -> &[f32] {
        let InputMoments { products, magnitudes, .. } = moments;
        let known = self.inverse.take().filter(|(known, _)| known == products);
        let new = || (products.clone(), inverse_root(products, magnitudes.len()));
        &self.inverse.insert(known.unwrap_or_else(new)).1
    }

    /// Puts a module in place.
    fn put(&mut self, rounded: Option<Rounded>) -> Result<(), ConvertError> {
        let Some(Rounded { bytes, format, dims, report }) = rounded else { return Ok(()) };
        let path = report.module.clone();
        let weight = QuantizedWeight::from_bytes(bytes.clone(), dims, format, self.device);
        let weight = weight.map_err(|source| self.failed(&path, source))?;
        self.done.model.put_matrix(&path, Matrix::Quantized(weight));
        self.done.replacements.dense.remove(&format!("{path}.weight"));
        self.done.replacements.packed.insert(path, bytes);
        self.done.modules.push(report);
        Ok(())
    }

    /// Tells that `path` comes next, `waiting` modules after those that are done.
    fn told(&mut self, waiting: usize, path: &str) -> Result<(), ConvertError> {
        go_on((self.calibration.on_module)(self.done.modules.len() + waiting, self.all, path))
    }

    fn failed(&self, path: &str, source: QuantizationError) -> ConvertError {
        failed(self.calibration.source, path, source)
    }
}

/// Projections that are observed together.
pub(super) fn parts(projections: &[(String, [usize; 2])]) -> Vec<Vec<String>> {
    let (mut parts, mut bytes) = (vec![Vec::new()], 0);
    for (path, [_, columns]) in projections {
        let own = columns * columns * size_of::<f32>();
        if bytes + own > MOMENTS_BYTES && bytes > 0 {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += own;
        parts.last_mut().expect("one part at least").push(path.clone());
    }
    parts
}
