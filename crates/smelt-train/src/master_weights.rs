//! Mixed precision (Micikevicius et al. 2018, arXiv:1710.03740): the model multiplies by matrices in 16 bits, the
//! optimizer updates their masters in f32.

use std::collections::BTreeMap;

use burn::module::Param;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Tensor, TensorPrimitive};
use burn_autodiff::Autodiff;
use smelt_backend::{Kernels, Precision};
use smelt_model::{Decoder, NameMap, ParameterInfo, ParameterMapper, Role};

use crate::average::Replace;

/// Routers choose by small differences; they stay in f32, as in Switch Transformers.
const ROUTER: &str = "router.weight";

/// The masters of those parameters that a model in training holds in 16 bits, by their names in checkpoints.
/// Below an adapter, frozen matrices are held in 16 bits, too, and have none.
///
/// In f32 there are none.
pub(crate) struct MasterWeights<B: Kernels> {
    precision: Precision,
    values: BTreeMap<String, FloatTensor<B>>,
}

impl<B: Kernels> MasterWeights<B> {
    /// Takes the masters out of `model`, all of f32, and leaves it working copies.
    pub fn take(
        precision: Precision,
        model: Decoder<Autodiff<B>>,
        names: &NameMap,
    ) -> (Self, Decoder<Autodiff<B>>) {
        let mut masters = Self { precision, values: BTreeMap::new() };
        let model = match precision {
            Precision::F32 => model,
            Precision::Bf16 | Precision::F16 => model.map_parameters(names, &mut Take(&mut masters)),
        };
        (masters, model)
    }

    /// What the optimizer updates: the master of the parameter, or the parameter itself.
    pub fn remove(&mut self, info: &ParameterInfo, parameter: FloatTensor<B>) -> FloatTensor<B> {
        self.values.remove(&info.key).unwrap_or(parameter)
    }

    /// What the model holds of `value`, which is kept where that is a copy.
    pub fn keep<const D: usize>(&mut self, info: &ParameterInfo, value: FloatTensor<B>) -> Tensor<B, D> {
        if !self.rounds(info) {
            return Tensor::from_primitive(TensorPrimitive::Float(value));
        }
        self.values.insert(info.key.clone(), value.clone());
        self.copy(value)
    }

    /// The model multiplies by the parameter in 16 bits.
    fn rounds(&self, info: &ParameterInfo) -> bool {
        self.precision != Precision::F32 && info.role == Role::Matrix && !info.path.ends_with(ROUTER)
    }

    /// A matrix in 16 bits.
    fn copy<const D: usize>(&self, matrix: FloatTensor<B>) -> Tensor<B, D> {
        let matrix = Tensor::<B, 2>::from_primitive(TensorPrimitive::Float(matrix));
        Tensor::from_primitive(B::rounded(matrix, self.precision.dtype()).into_primitive())
    }

    /// `model` with the masters in place of its copies.
    pub fn put_into(&self, model: Decoder<B>, names: &NameMap) -> Decoder<B> {
        if self.values.is_empty() { model } else { model.map_parameters(names, &mut Replace(&self.values)) }
    }
}

struct Take<'a, B: Kernels>(&'a mut MasterWeights<B>);

impl<B: Kernels> ParameterMapper<Autodiff<B>> for Take<'_, B> {
    fn map<const D: usize>(
        &mut self,
        info: &ParameterInfo,
        parameter: Param<Tensor<Autodiff<B>, D>>,
    ) -> Param<Tensor<Autodiff<B>, D>> {
        let trained = parameter.is_require_grad();
        // What lies in 16 bits already stays as it was loaded.
        let rounds = self.0.rounds(info) && parameter.val().dtype() == DType::F32;
        if !trained && !rounds {
            return parameter;
        }
        let (id, tensor, mapper) = parameter.consume();
        let value = tensor.inner().into_primitive().tensor();
        // What is frozen needs no master.
        let tensor = if trained { self.0.keep::<D>(info, value) } else { self.0.copy(value) };
        Param::from_mapped_value(id, Tensor::from_inner(tensor).set_require_grad(trained), mapper)
    }
}
