//! Adapters on a model: put there, started, filled, made part of the weights.

use burn::module::Param;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use serde_json::Value;
use smelt_backend::Kernels;

use super::config::{AdapterConfig, ModuleNames, bad};
use super::folder::{Adapter, HostTensor};
use super::rules::{Module, Rules};
use crate::blocks::{Lora, LoraConfig};
use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::error::{Differences, MisShaped, ModelError};
use crate::init::{Distribution, fnv1a};
use crate::parameters::{ParameterInfo, ParameterMapper};
use crate::weights::transposed;

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
        let held: Vec<ParameterInfo> =
            self.named_parameters(names).into_iter().filter(|info| adapter.replaces(&rules, info)).collect();
        check(&held, adapter)?;
        Ok(self.map_parameters(names, &mut Fill { rules, adapter }))
    }

    /// Makes the adapter part of the weights, which keep their dtypes.
    pub fn merge_adapter(&mut self) {
        self.linears_mut().for_each(|(_, linear)| linear.merge());
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
