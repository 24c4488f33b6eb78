//! The exponential moving average of the weights that are trained (Polyak and Juditsky 1992).

use std::collections::BTreeMap;

use burn::module::Param;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorPrimitive};
use burn_autodiff::Autodiff;
use smelt_backend::Kernels;
use smelt_model::{Decoder, NameMap, ParameterInfo, ParameterMapper, ParameterVisitor};

/// Averages by the parameters' names in checkpoints.
pub(crate) struct Average<B: Kernels> {
    values: BTreeMap<String, FloatTensor<B>>,
}

impl<B: Kernels> Average<B> {
    /// Starts from those parameters of `model` that are trained.
    pub fn of(model: &Decoder<Autodiff<B>>, names: &NameMap) -> Self {
        let mut collect = Collect(BTreeMap::new());
        model.visit_parameters(names, &mut collect);
        Self { values: collect.0 }
    }

    /// Goes on from averages that were saved as `model`.
    pub fn restore(&mut self, model: &Decoder<B>, names: &NameMap) {
        model.visit_parameters(names, &mut Restore(&mut self.values));
    }

    /// Moves towards `model` after its update `number`, from 1.
    ///
    /// The average begins short and grows to that of `decay`, so that the first weights are soon forgotten.
    pub fn follow(&mut self, model: &Decoder<B>, names: &NameMap, decay: f64, number: u64) {
        let grown = (1.0 + number as f64) / (10.0 + number as f64);
        model.visit_parameters(names, &mut Follow { average: self, decay: decay.min(grown) });
    }

    /// `model` with the averages as its parameters.
    pub fn put_into(&self, model: Decoder<B>, names: &NameMap) -> Decoder<B> {
        model.map_parameters(names, &mut Replace(&self.values))
    }
}

struct Collect<B: Kernels>(BTreeMap<String, FloatTensor<B>>);

impl<B: Kernels> ParameterVisitor<Autodiff<B>> for Collect<B> {
    fn visit<const D: usize>(&mut self, info: &ParameterInfo, parameter: &Param<Tensor<Autodiff<B>, D>>) {
        if parameter.is_require_grad() {
            self.0.insert(info.key.clone(), parameter.val().inner().into_primitive().tensor());
        }
    }
}

struct Restore<'a, B: Kernels>(&'a mut BTreeMap<String, FloatTensor<B>>);

impl<B: Kernels> ParameterVisitor<B> for Restore<'_, B> {
    fn visit<const D: usize>(&mut self, info: &ParameterInfo, parameter: &Param<Tensor<B, D>>) {
        if let Some(average) = self.0.get_mut(&info.key) {
            *average = parameter.val().into_primitive().tensor();
        }
    }
}

struct Follow<'a, B: Kernels> {
    average: &'a mut Average<B>,
    decay: f64,
}

impl<B: Kernels> ParameterVisitor<B> for Follow<'_, B> {
    fn visit<const D: usize>(&mut self, info: &ParameterInfo, parameter: &Param<Tensor<B, D>>) {
        // What is frozen has no average.
        let Some(average) = self.average.values.remove(&info.key) else { return };
        let average = Tensor::<B, D>::from_primitive(TensorPrimitive::Float(average));
        let average = average * self.decay + parameter.val() * (1.0 - self.decay);
        self.average.values.insert(info.key.clone(), average.into_primitive().tensor());
    }
}

/// Puts tensors in place of the parameters of their names.
pub(crate) struct Replace<'a, B: Kernels>(pub &'a BTreeMap<String, FloatTensor<B>>);

impl<B: Kernels> ParameterMapper<B> for Replace<'_, B> {
    fn map<const D: usize>(
        &mut self,
        info: &ParameterInfo,
        parameter: Param<Tensor<B, D>>,
    ) -> Param<Tensor<B, D>> {
        let Some(value) = self.0.get(&info.key) else { return parameter };
        let (id, _, mapper) = parameter.consume();
        let tensor = Tensor::from_primitive(TensorPrimitive::Float(value.clone()));
        Param::from_mapped_value(id, tensor, mapper)
    }
}
