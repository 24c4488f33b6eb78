//! Adapters on a model: put there, started, filled, made part of the weights.

use burn::module::Param;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use serde_json::Value;
use smelt_backend::kernels::QuantizedWeight;
use smelt_backend::kernels::quantized::{dequantize, quantize};
use smelt_backend::{Kernels, to_host};

use super::config::{AdapterConfig, ModuleNames, bad};
use super::folder::{Adapter, HostTensor};
use super::rules::{Module, Rules};
use crate::blocks::{Lora, LoraConfig, Matrix};
use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::error::{Differences, MisShaped, ModelError};
use crate::init::{Distribution, fnv1a};
use crate::parameters::{ParameterInfo, ParameterMapper};
use crate::quantization::Quantization;
use crate::weights::{NameMap, transposed};

const HEAD: &str = "lm_head";
const EMBEDDING: &str = "embed_tokens";

impl<B: Kernels> Decoder<B> {
    /// The model with a new adapter, which changes nothing until it is trained, and the adapter's configuration with
    /// the modules that it found.
    ///
    /// The same `seed` starts it the same on every backend.
    ///
    /// # Errors
    /// [`ModelError::BadAdapterValue`] if the configuration fits no module of `model`.
    pub fn with_new_adapter(
        mut self,
        model: &ModelConfig,
        config: &AdapterConfig,
        seed: u64,
    ) -> Result<(Self, AdapterConfig), ModelError> {
        let start = Start::new(config)?;
        let adapted = self.insert(model, config)?;
        let config =
            AdapterConfig { target_modules: last_names(&adapted, &config.target_modules), ..config.clone() };
        let mut decoder = self.map_parameters(&model.family.names, &mut Draw { start, seed });
        for (_, linear) in decoder.linears_mut() {
            let magnitude = linear.lora.as_mut().and_then(|lora| lora.magnitude.as_mut());
            if let Some(magnitude) = magnitude {
                let lengths = magnitude.base_squares.val().sqrt();
                magnitude.vector = Param::initialized(magnitude.vector.id, lengths);
            }
        }
        Ok((decoder, config))
    }

    /// The model with `adapter` in place of any that it has.
    ///
    /// # Errors
    /// [`ModelError::BadAdapterValue`] if the adapter's configuration fits no module of `model`;
    /// [`ModelError::Mismatch`] with all that is missing, unexpected or mis-shaped in its file.
    pub fn with_adapter(mut self, model: &ModelConfig, adapter: &Adapter) -> Result<Self, ModelError> {
        self.insert(model, &adapter.config)?;
        let (names, rules) = (&model.family.names, Rules::new(&adapter.config)?);
        self.open_for(names, adapter);
        let held: Vec<ParameterInfo> =
            self.named_parameters(names).into_iter().filter(|info| adapter.replaces(&rules, info)).collect();
        check(&held, adapter)?;
        Ok(self.map_parameters(names, &mut Fill { rules, adapter }))
    }

    /// Holds in floats, and the head apart from the token vectors, what the file of `adapter` gives whole.
    fn open_for(&mut self, names: &NameMap, adapter: &Adapter) {
        let is_whole = |path: &str| adapter.tensors.contains_key(&names.key(&format!("{path}.weight")));
        if is_whole(HEAD) {
            self.untie();
        }
        self.matrices_mut().filter(|(path, _)| is_whole(path)).for_each(|(_, matrix)| matrix.unpack());
    }

    /// Makes the adapter part of the weights, which keep their dtypes; those that were packed are in f32 then.
    pub fn merge_adapter(&mut self) {
        self.linears_mut().for_each(|(_, linear)| linear.merge());
    }

    /// Makes the adapter part of the weights, and packs those again that were packed, in the same formats. Returns how
    /// far this rounds each of them, under its name in the files of mlx-lm.
    ///
    /// # Errors
    /// [`ModelError::Quantization`] if a sum is too large for its scales.
    pub fn merge_adapter_packed(&mut self, model: &ModelConfig) -> Result<Vec<RoundingError>, ModelError> {
        let mut errors = Vec::new();
        for (path, linear) in self.linears_mut() {
            let packed = match (&linear.lora, &linear.weight) {
                (Some(_), Matrix::Quantized(weight)) => Some((weight.format(), weight.dtype())),
                _ => None,
            };
            linear.merge();
            let Some((format, dtype)) = packed else { continue };
            let (values, dims) = (to_host(linear.weight.values()), linear.weight.dims());
            let name = model.family.names.mlx_module(&path);
            let rounded = quantize(&values, dims, format, dtype).and_then(|bytes| {
                let again = dequantize(&bytes, dims, format)?;
                let weight = QuantizedWeight::from_bytes(bytes, dims, format, &linear.weight.device())?;
                Ok((weight, relative_error(&again, &values)))
            });
            let (weight, relative) =
                rounded.map_err(|source| ModelError::Quantization { name: name.clone(), source })?;
            linear.weight = Matrix::Quantized(weight);
            errors.push(RoundingError { module: name, relative });
        }
        Ok(errors)
    }

    /// `model` with the formats that matrices have now: an adapter may have left some of them in floats, and given the
    /// head one of its own.
    pub fn described(&self, model: &ModelConfig) -> ModelConfig {
        let Some(default) = model.quantization.as_ref().map(|quantization| quantization.default) else {
            return model.clone();
        };
        let mut copy = self.clone();
        let modules = copy.matrices_mut().map(|(path, matrix)| {
            let format = match &*matrix {
                Matrix::Quantized(weight) => Some(weight.format()),
                Matrix::Dense(_) => None,
            };
            (model.family.names.mlx_module(&path), matrix.dims()[1], format)
        });
        model.quantized(Quantization::of_modules(default, modules))
    }

    /// Holds all weights in floats: packed ones in f32.
    pub fn unpack(&mut self) {
        self.matrices_mut().for_each(|(_, matrix)| matrix.unpack());
    }

    /// The model on the autodiff backend, with those parameters asking for a gradient that an adapter of `config`
    /// trains.
    ///
    /// # Errors
    /// [`ModelError::BadAdapterValue`].
    pub fn into_trainable_adapter<AB: AutodiffBackend<InnerBackend = B>>(
        self,
        model: &ModelConfig,
        config: &AdapterConfig,
    ) -> Result<Decoder<AB>, ModelError> {
        let rules = Rules::new(config)?;
        Ok(self.into_partly_trainable(&model.family.names, &|info| rules.holds(info)))
    }

    /// Gives every projection that `config` chooses a place for its adapter; returns the names of these.
    fn insert(&mut self, model: &ModelConfig, config: &AdapterConfig) -> Result<Vec<String>, ModelError> {
        let (names, rules) = (&model.family.names, Rules::new(config)?);
        let [head_key, embedding_key] = [HEAD, EMBEDDING].map(|path| names.module_key(path));
        let head = Module { path: HEAD, key: &head_key };
        let embedding = Module { path: EMBEDDING, key: &embedding_key };
        if rules.adapts(embedding).is_some() && !is_pattern(config) {
            let expected = "projections; an embedding can be trained whole, by `modules_to_save`";
            return Err(bad("target_modules", &embedding_key.into(), expected));
        }
        if rules.adapts(head).is_some() || rules.saves(head) || rules.saves(embedding) {
            self.untie();
        }
        for (path, matrix) in self.matrices_mut() {
            // What is trained itself cannot stay packed.
            if rules.saves(Module { path: &path, key: &names.module_key(&path) }) {
                matrix.unpack();
            }
        }
        let mut adapted = Vec::new();
        let mut found = Vec::new();
        for (path, linear) in self.linears_mut() {
            let key = names.module_key(&path);
            linear.lora = rules.adapts(Module { path: &path, key: &key }).map(|(r, alpha)| {
                let numbers = LoraConfig {
                    r,
                    scaling: config.scaling(r, alpha),
                    dropout: config.lora_dropout,
                    site: fnv1a(&path),
                };
                Lora::structure(linear, numbers, config.use_dora)
            });
            if linear.lora.is_some() { adapted.push(key) } else { found.push(key) }
        }
        match adapted.is_empty() {
            false => Ok(adapted),
            true => {
                let last: std::collections::BTreeSet<&str> = found.iter().map(|key| last_name(key)).collect();
                let expected =
                    format!("modules of the model: {}", last.into_iter().collect::<Vec<_>>().join(", "));
                let found = serde_json::to_value(&config.target_modules).unwrap_or_default();
                Err(bad("target_modules", &found, &expected))
            }
        }
    }
}

/// How far rounding moved the weights of a module.
#[derive(Debug, Clone, PartialEq)]
pub struct RoundingError {
    /// Its name in the files of mlx-lm.
    pub module: String,
    /// Root mean square of the error, over that of the weights.
    pub relative: f64,
}

fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
    let differences = &mut found.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b));
    let own = squares(&mut expected.iter().map(|value| f64::from(*value)));
    (squares(differences) / own.max(f64::MIN_POSITIVE)).sqrt()
}

/// A pattern may match more than it is meant for.
fn is_pattern(config: &AdapterConfig) -> bool {
    matches!(config.target_modules, ModuleNames::Pattern(_))
}

fn last_name(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// What PEFT writes for `all-linear`: the last parts of the names that were adapted.
fn last_names(adapted: &[String], asked: &ModuleNames) -> ModuleNames {
    match asked {
        ModuleNames::Pattern(text) if text == super::config::ALL_LINEAR => {
            let names: std::collections::BTreeSet<&str> = adapted.iter().map(|key| last_name(key)).collect();
            ModuleNames::Names(names.into_iter().map(str::to_owned).collect())
        }
        asked => asked.clone(),
    }
}

/// How `lora_A` starts; `lora_B` starts at zero.
#[derive(Debug, Clone, Copy)]
enum Start {
    /// Kaiming's rule for a linear layer, as PEFT has it by default.
    Uniform,
    /// `N(0, 1 / r)`
    Gaussian,
}

impl Start {
    fn new(config: &AdapterConfig) -> Result<Self, ModelError> {
        config.check()?;
        match &config.init_lora_weights {
            Value::Null | Value::Bool(true) => Ok(Self::Uniform),
            Value::String(name) if name == "gaussian" => Ok(Self::Gaussian),
            other => Err(bad("init_lora_weights", other, "`true` or `gaussian`")),
        }
    }

    fn distribution(self, info: &ParameterInfo) -> Distribution {
        let [r, inner] = [info.shape[0] as f64, info.shape[1] as f64];
        match self {
            Self::Uniform => Distribution::Uniform { bound: 1.0 / inner.sqrt() },
            Self::Gaussian => Distribution::Normal { std: 1.0 / r },
        }
    }
}

struct Draw {
    start: Start,
    seed: u64,
}

impl<B: Backend> ParameterMapper<B> for Draw {
    fn map<const D: usize>(
        &mut self,
        info: &ParameterInfo,
        parameter: Param<Tensor<B, D>>,
    ) -> Param<Tensor<B, D>> {
        if !info.key.ends_with(".lora_A.weight") {
            return parameter;
        }
        let data = TensorData::new(self.start.distribution(info).draw(info, self.seed), info.shape.clone());
        let tensor = Tensor::from_data(data, &parameter.lazy_device());
        let id = parameter.id;
        parameter.transform_for_load(tensor, id)
    }
}

fn check(held: &[ParameterInfo], adapter: &Adapter) -> Result<(), ModelError> {
    let mut differences = Differences::default();
    for info in held {
        match adapter.tensors.get(&info.key) {
            None => differences.missing.push(info.key.clone()),
            Some(tensor) if tensor.shape != info.checkpoint_shape() => {
                differences.mis_shaped.push(MisShaped {
                    name: info.key.clone(),
                    found: tensor.shape.clone(),
                    expected: info.checkpoint_shape(),
                })
            }
            Some(_) => {}
        }
    }
    let known = |name: &String| held.iter().any(|info| info.key == *name);
    differences.unexpected = adapter.tensors.keys().filter(|name| !known(name)).cloned().collect();
    match differences.is_empty() {
        true => Ok(()),
        false => {
            let differences = Box::new(differences);
            Err(ModelError::Mismatch { path: adapter.path.clone(), differences })
        }
    }
}

impl Adapter {
    /// The model takes its values of `parameter` from the adapter: what it was trained to change, and what its file
    /// holds besides.
    fn replaces(&self, rules: &Rules<'_>, parameter: &ParameterInfo) -> bool {
        rules.holds(parameter) || self.tensors.contains_key(&parameter.key)
    }
}

/// Gives an adapter's parameters the values of its file, which was checked against the model.
struct Fill<'a> {
    rules: Rules<'a>,
    adapter: &'a Adapter,
}

impl<B: Backend> ParameterMapper<B> for Fill<'_> {
    fn map<const D: usize>(
        &mut self,
        info: &ParameterInfo,
        parameter: Param<Tensor<B, D>>,
    ) -> Param<Tensor<B, D>> {
        if !self.adapter.replaces(&self.rules, info) {
            return parameter;
        }
        let HostTensor { shape, values } = &self.adapter.tensors[&info.key];
        let values = match (info.transposed, shape.as_slice()) {
            (true, [rows, columns]) => transposed(values, *rows, *columns),
            _ => values.clone(),
        };
        let tensor = Tensor::from_data(TensorData::new(values, info.shape.clone()), &parameter.lazy_device());
        let id = parameter.id;
        parameter.transform_for_load(tensor, id)
    }
}
