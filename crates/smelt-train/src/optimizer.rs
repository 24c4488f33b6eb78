//! The optimizers: what they keep for each parameter, how they update it, and their state in files.
//!
//! An optimizer is one file under `optimizer/` with a [`Rule`]. What it keeps lies in slots under PyTorch's
//! names (`exp_avg`, `momentum_buffer`), which are also the suffixes in `optimizer.safetensors`.

mod adafactor;
mod adamw;
mod adamw_8bit;
mod dynamic_code;
mod lion;
mod muon;
#[cfg(test)]
mod reference;
mod rule;
mod sgd;
mod slot;

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Param;
use burn::tensor::Tensor;
use burn::tensor::ops::FloatTensor;
use burn_autodiff::Autodiff;
use smelt_backend::Kernels;
use smelt_model::weights::{TensorFile, TensorFileWriter};
use smelt_model::{Decoder, NameMap, ParameterInfo, ParameterMapper, Role};

use self::rule::{Rule, Subject};
use self::slot::{Slot, Slots, State};
use crate::gradients::Gradients;
use crate::master_weights::MasterWeights;
use crate::{OptimizerKind, TrainConfig, TrainError};

pub(crate) use self::rule::Step;

/// Path of the output head, which is no hidden matrix.
const HEAD_PATH: &str = "lm_head.weight";

/// An optimizer and its state, by the parameters' names in checkpoints.
pub(crate) struct Optimizer<B: Kernels> {
    rules: Rules<B>,
    weight_decay: f64,
    decay_all_parameters: bool,
    kept: BTreeMap<String, Kept<B>>,
}

/// What is kept for one parameter.
struct Kept<B: Kernels> {
    slots: Slots,
    state: State<B>,
}

/// Which rule updates what.
struct Rules<B: Kernels> {
    hidden_matrices: Box<dyn Rule<B>>,
    /// Everything else, where it has a rule of its own.
    rest: Option<Box<dyn Rule<B>>>,
}

impl<B: Kernels> Rules<B> {
    fn new(config: &TrainConfig) -> Self {
        let adamw = adamw::AdamW::new(config);
        let rest: Option<Box<dyn Rule<B>>> = match config.optimizer {
            OptimizerKind::Muon => Some(Box::new(adamw.beside_muon(config))),
            _ => None,
        };
        let hidden_matrices: Box<dyn Rule<B>> = match config.optimizer {
            OptimizerKind::Adamw => Box::new(adamw),
            OptimizerKind::Adamw8bit => Box::new(adamw_8bit::AdamW8bit::new(adamw)),
            OptimizerKind::Adafactor => Box::new(adafactor::Adafactor),
            OptimizerKind::Lion => Box::new(lion::Lion::new(config)),
            OptimizerKind::Muon => Box::new(muon::Muon::new(config)),
            OptimizerKind::Sgd => Box::new(sgd::Sgd::new(config)),
        };
        Self { hidden_matrices, rest }
    }

    fn of(&self, info: &ParameterInfo) -> &dyn Rule<B> {
        let hidden_matrix = is_matrix(info) && info.path != HEAD_PATH;
        match &self.rest {
            Some(rest) if !hidden_matrix => rest.as_ref(),
            _ => self.hidden_matrices.as_ref(),
        }
    }
}

impl<B: Kernels> Optimizer<B> {
    /// The optimizer of `config`, before its first update.
    pub fn new(config: &TrainConfig) -> Self {
        Self {
            rules: Rules::new(config),
            weight_decay: config.weight_decay,
            decay_all_parameters: config.decay_all_parameters,
            kept: BTreeMap::new(),
        }
    }

    /// Updates every parameter in training once, those that `masters` holds there.
    pub fn step(
        &mut self,
        model: Decoder<Autodiff<B>>,
        masters: &mut MasterWeights<B>,
        names: &NameMap,
        gradients: Gradients<B>,
        step: Step,
    ) -> Decoder<Autodiff<B>> {
        let gradients = gradients.into_tensors();
        model.map_parameters(names, &mut Update { optimizer: self, masters, gradients, step })
    }

    fn update(
        &mut self,
        info: &ParameterInfo,
        value: FloatTensor<B>,
        gradient: FloatTensor<B>,
        step: &Step,
    ) -> FloatTensor<B> {
        let decays = self.decay_all_parameters || is_matrix(info);
        let weight_decay = if decays { self.weight_decay } else { 0.0 };
        let rule = self.rules.of(info);
        let Kept { slots, state } = self.kept.remove(&info.key).unwrap_or_else(|| {
            let slots = rule.slots(&info.shape);
            let device = B::float_device(&value);
            let state = slots.iter().map(|slot| slot.zeros(&device)).collect();
            Kept { slots, state }
        });
        let (value, state) = rule.update(Subject { value, gradient, weight_decay }, state, step);
        self.kept.insert(info.key.clone(), Kept { slots, state });
        value
    }

    /// A file of all that is kept.
    pub fn file(&self) -> TensorFileWriter<'static> {
        let mut file = TensorFileWriter::new();
        for (key, Kept { slots, state }) in &self.kept {
            for (slot, held) in slots.iter().zip(state) {
                held.add_to(&mut file, slot.key(key), slot);
            }
        }
        file
    }

    /// Reads what [`Optimizer::file`] holds for `parameters`: all of it, and nothing else.
    pub fn load(
        config: &TrainConfig,
        path: &Path,
        parameters: &[ParameterInfo],
        device: &B::Device,
    ) -> Result<Self, TrainError> {
        let mismatch = |problem| TrainError::OptimizerMismatch { path: path.to_owned(), problem };
        let file = TensorFile::open(path)?;
        let mut optimizer = Self::new(config);
        if file.names().is_empty() {
            // Every step so far was skipped, or nothing is kept.
            return Ok(optimizer);
        }
        let mut expected = 0;
        for info in parameters {
            let slots = optimizer.rules.of(info).slots(&info.shape);
            expected += slots.len();
            let read = |slot: &Slot| slot.read(&file, &info.key, device);
            let state: Result<State<B>, _> = slots.iter().map(read).collect();
            let state = state.map_err(|error| mismatch(error.to_string()))?;
            optimizer.kept.insert(info.key.clone(), Kept { slots, state });
        }
        match file.names().len() {
            found if found == expected => Ok(optimizer),
            found => Err(mismatch(format!("{found} tensors, expected {expected}"))),
        }
    }
}

/// A matrix of a projection or of an adapter.
fn is_matrix(info: &ParameterInfo) -> bool {
    info.role == Role::Matrix || (info.role == Role::Adapter && info.shape.len() == 2)
}

struct Update<'a, B: Kernels, G> {
    optimizer: &'a mut Optimizer<B>,
    masters: &'a mut MasterWeights<B>,
    gradients: G,
    step: Step,
}

impl<B: Kernels, G: Iterator<Item = FloatTensor<B>>> ParameterMapper<Autodiff<B>> for Update<'_, B, G> {
    fn map<const D: usize>(
        &mut self,
        info: &ParameterInfo,
        parameter: Param<Tensor<Autodiff<B>, D>>,
    ) -> Param<Tensor<Autodiff<B>, D>> {
        if !parameter.val().is_require_grad() {
            return parameter;
        }
        let gradient = self.gradients.next().expect("gradients were collected in the same order");
        let (id, tensor, mapper) = parameter.consume();
        let value = self.masters.remove(info, tensor.inner().into_primitive().tensor());
        let value = self.optimizer.update(info, value, gradient, &self.step);
        let tensor = self.masters.keep::<D>(info, value);
        Param::from_mapped_value(id, Tensor::from_inner(tensor).require_grad(), mapper)
    }
}
