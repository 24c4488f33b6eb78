//! The gradients of one optimizer step, in the order of the model's parameters.

use burn::module::Param;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorPrimitive};
use burn_autodiff::Autodiff;
use smelt_backend::{Kernels, scalar};
use smelt_model::{Decoder, NameMap, ParameterInfo, ParameterVisitor};

use crate::TrainError;

/// Size of the gradient of one parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterNorm {
    /// The parameter's name in the checkpoint.
    pub name: String,
    /// Euclidean norm.
    pub norm: f64,
}

/// Gradients summed over the micro-batches of a step.
pub(crate) struct Gradients<B: Kernels> {
    entries: Vec<Entry<B>>,
}

struct Entry<B: Kernels> {
    name: String,
    gradient: FloatTensor<B>,
}

type Graph<B> = <Autodiff<B> as AutodiffBackend>::Gradients;

impl<B: Kernels> Gradients<B> {
    pub fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Adds what a backward pass found.
    pub fn accumulate(
        &mut self,
        model: &Decoder<Autodiff<B>>,
        names: &NameMap,
        graph: Graph<B>,
    ) -> Result<(), TrainError> {
        let mut collect = Collect { graph, entries: Vec::new(), missing: None };
        model.visit_parameters(names, &mut collect);
        if let Some(name) = collect.missing {
            return Err(TrainError::NoGradient { name });
        }
        if self.entries.is_empty() {
            self.entries = collect.entries;
            return Ok(());
        }
        for (sum, more) in self.entries.iter_mut().zip(collect.entries) {
            sum.gradient = B::float_add(sum.gradient.clone(), more.gradient);
        }
        Ok(())
    }

    /// Norm of all gradients as one vector.
    pub fn global_norm(&self) -> f64 {
        let squares = self.entries.iter().map(|entry| squared_norm::<B>(&entry.gradient));
        squares.reduce(|sum, more| sum + more).map_or(0.0, |sum| scalar(sum).sqrt())
    }

    /// Norm of each gradient.
    pub fn norms(&self) -> Vec<ParameterNorm> {
        let norm = |entry: &Entry<B>| scalar(squared_norm::<B>(&entry.gradient)).sqrt();
        self.entries
            .iter()
            .map(|entry| ParameterNorm { name: entry.name.clone(), norm: norm(entry) })
            .collect()
    }

    /// The gradients, in the order of the parameters.
    pub fn into_tensors(self) -> impl Iterator<Item = FloatTensor<B>> {
        self.entries.into_iter().map(|entry| entry.gradient)
    }
}

fn squared_norm<B: Kernels>(gradient: &FloatTensor<B>) -> Tensor<B, 1> {
    use burn::tensor::TensorMetadata;
    let elements = gradient.shape().num_elements();
    let flat = B::float_reshape(gradient.clone(), [elements].into());
    let flat = Tensor::<B, 1>::from_primitive(TensorPrimitive::Float(flat));
    (flat.clone() * flat).sum_dim(0)
}

/// Takes the gradient of every parameter in training out of the graph.
struct Collect<B: Kernels> {
    graph: Graph<B>,
    entries: Vec<Entry<B>>,
    missing: Option<String>,
}

impl<B: Kernels> ParameterVisitor<Autodiff<B>> for Collect<B> {
    fn visit<const D: usize>(&mut self, info: &ParameterInfo, parameter: &Param<Tensor<Autodiff<B>, D>>) {
        let parameter = parameter.val();
        if !parameter.is_require_grad() {
            return;
        }
        match parameter.grad_remove(&mut self.graph) {
            Some(gradient) => {
                let gradient = gradient.into_primitive().tensor();
                self.entries.push(Entry { name: info.key.clone(), gradient });
            }
            None => self.missing = self.missing.take().or_else(|| Some(info.key.clone())),
        }
    }
}
