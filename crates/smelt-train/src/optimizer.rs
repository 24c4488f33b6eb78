//! AdamW over the parameters of a model, and its moments in files.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Param;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorData, TensorPrimitive};
use burn_autodiff::Autodiff;
use smelt_backend::kernels::{AdamWState, AdamWStep};
use smelt_backend::{Kernels, to_host};
use smelt_model::weights::{TensorFile, TensorFileWriter};
use smelt_model::{Decoder, NameMap, ParameterInfo, ParameterMapper, Role};

use crate::gradients::Gradients;
use crate::{TrainConfig, TrainError};

/// Names of the two moments in files, as suffixes to the parameter's name: those of PyTorch's AdamW.
const MOMENTS: [&str; 2] = ["exp_avg", "exp_avg_sq"];

/// The optimizer's state, by the parameters' names in checkpoints.
pub(crate) struct AdamW<B: Kernels> {
    moments: BTreeMap<String, AdamWState<B>>,
}

impl<B: Kernels> AdamW<B> {
    /// No parameter was updated yet.
    pub fn new() -> Self {
        Self { moments: BTreeMap::new() }
    }

    /// Updates every parameter in training once; `step.weight_decay` goes to those that decay.
    pub fn step(
        &mut self,
        model: Decoder<Autodiff<B>>,
        names: &NameMap,
        gradients: Gradients<B>,
        step: AdamWStep,
        config: &TrainConfig,
    ) -> Decoder<Autodiff<B>> {
        let gradients = gradients.into_tensors();
        let mut update = Update { optimizer: self, gradients, step, config };
        model.map_parameters(names, &mut update)
    }

    /// A file of all moments as f32.
    pub fn file(&self) -> TensorFileWriter<'static> {
        let mut file = TensorFileWriter::new();
        for (name, state) in &self.moments {
            for (suffix, moment) in MOMENTS.iter().zip([&state.first_moment, &state.second_moment]) {
                let (shape, moment) = (shape_of::<B>(moment), moment.clone());
                file.add_f32(format!("{name}.{suffix}"), &shape, move || Cow::Owned(values::<B>(moment)));
            }
        }
        file
    }

    /// Reads the moments of `parameters`, all of them and no others.
    pub fn load(path: &Path, parameters: &[ParameterInfo], device: &B::Device) -> Result<Self, TrainError> {
        let mismatch = |problem| TrainError::OptimizerMismatch { path: path.to_owned(), problem };
        let file = TensorFile::open(path)?;
        let mut moments = BTreeMap::new();
        for info in parameters {
            let read = |suffix: &str| -> Result<FloatTensor<B>, TrainError> {
                let name = format!("{}.{suffix}", info.key);
                let values =
                    file.f32_of_shape(&name, &info.shape).map_err(|error| mismatch(error.to_string()))?;
                file.release(&name);
                Ok(upload::<B>(values, &info.shape, device))
            };
            let state = AdamWState { first_moment: read(MOMENTS[0])?, second_moment: read(MOMENTS[1])? };
            moments.insert(info.key.clone(), state);
        }
        match file.names().len() {
            found if found == moments.len() * MOMENTS.len() => Ok(Self { moments }),
            found => Err(mismatch(format!("{found} tensors, expected {}", moments.len() * MOMENTS.len()))),
        }
    }
}

fn upload<B: Kernels>(values: Vec<f32>, shape: &[usize], device: &B::Device) -> FloatTensor<B> {
    B::float_from_data(TensorData::new(values, shape.to_vec()).convert::<B::FloatElem>(), device)
}

fn shape_of<B: Kernels>(tensor: &FloatTensor<B>) -> Vec<usize> {
    use burn::tensor::TensorMetadata;
    tensor.shape().to_vec()
}

fn values<B: Kernels>(tensor: FloatTensor<B>) -> Vec<f32> {
    let elements = shape_of::<B>(&tensor).iter().product::<usize>();
    let flat = B::float_reshape(tensor, [elements].into());
    to_host(Tensor::<B, 1>::from_primitive(TensorPrimitive::Float(flat)))
}

struct Update<'a, B: Kernels, G> {
    optimizer: &'a mut AdamW<B>,
    gradients: G,
    step: AdamWStep,
    config: &'a TrainConfig,
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
        let decays = self.config.decay_all_parameters || decays(info);
        let step = AdamWStep { weight_decay: if decays { self.step.weight_decay } else { 0.0 }, ..self.step };
        let (id, tensor, mapper) = parameter.consume();
        let parameter = tensor.inner().into_primitive().tensor();
        let state = self.optimizer.moments.remove(&info.key).unwrap_or_else(|| zeros::<B>(&parameter));
        let (parameter, state) = B::adamw_step(parameter, gradient, state, &step);
        self.optimizer.moments.insert(info.key.clone(), state);
        let tensor = Tensor::<B, D>::from_primitive(TensorPrimitive::Float(parameter));
        Param::from_mapped_value(id, Tensor::from_inner(tensor).require_grad(), mapper)
    }
}

/// Matrices of projections and of adapters decay.
fn decays(info: &ParameterInfo) -> bool {
    info.role == Role::Matrix || (info.role == Role::Adapter && info.shape.len() == 2)
}

fn zeros<B: Kernels>(parameter: &FloatTensor<B>) -> AdamWState<B> {
    use burn::tensor::TensorMetadata;
    let zeros = || B::float_zeros(parameter.shape(), &B::float_device(parameter), parameter.dtype().into());
    AdamWState { first_moment: zeros(), second_moment: zeros() }
}
