//! The gradients of one optimizer step, in the order of the model's parameters.
//!
//! A gradient leaves the graph of its backward pass, is added to what there is in place, and goes when the
//! optimizer has used it.

use burn::module::{Module, ModuleVisitor, Param};
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

/// Gradients summed over the backward passes of a step.
pub(crate) struct Gradients<B: Kernels> {
    entries: Vec<Entry<B>>,
}

struct Entry<B: Kernels> {
    name: String,
    /// `None` until a backward pass reaches the parameter.
    gradient: Option<FloatTensor<B>>,
}

/// What a backward pass found.
pub(crate) type Graph<B> = <Autodiff<B> as AutodiffBackend>::Gradients;

impl<B: Kernels> Gradients<B> {
    /// A place for every parameter of `model` that asks for a gradient.
    pub fn of(model: &Decoder<Autodiff<B>>, names: &NameMap) -> Self {
        let mut list = List { entries: Vec::new() };
        model.visit_parameters(names, &mut list);
        Self { entries: list.entries }
    }

    /// Adds what a backward pass found, of all parameters or of some.
    pub fn add(&mut self, model: &Decoder<Autodiff<B>>, graph: Graph<B>) {
        model.visit(&mut Collect { graph, entries: self.entries.iter_mut() });
    }

    /// Every parameter that asked for a gradient has one.
    ///
    /// # Errors
    /// [`TrainError::NoGradient`]
    pub fn check_complete(&self) -> Result<(), TrainError> {
        match self.entries.iter().find(|entry| entry.gradient.is_none()) {
            Some(entry) => Err(TrainError::NoGradient { name: entry.name.clone() }),
            None => Ok(()),
        }
    }

    /// Norm of all gradients as one vector.
    pub fn global_norm(&self) -> f64 {
        let squares = self.found().map(|(_, gradient)| squared_norm::<B>(gradient));
        squares.reduce(|sum, more| sum + more).map_or(0.0, |sum| scalar(sum).sqrt())
    }

    /// Norm of each gradient.
    pub fn norms(&self) -> Vec<ParameterNorm> {
        let norm = |gradient| scalar(squared_norm::<B>(gradient)).sqrt();
        self.found()
            .map(|(name, gradient)| ParameterNorm { name: name.to_owned(), norm: norm(gradient) })
            .collect()
    }

    fn found(&self) -> impl Iterator<Item = (&str, &FloatTensor<B>)> {
        self.entries.iter().filter_map(|entry| Some((entry.name.as_str(), entry.gradient.as_ref()?)))
    }

    /// The gradients, in the order of the parameters; each is the caller's to free.
    pub fn into_tensors(self) -> impl Iterator<Item = FloatTensor<B>> {
        self.entries.into_iter().filter_map(|entry| entry.gradient)
    }
}

fn squared_norm<B: Kernels>(gradient: &FloatTensor<B>) -> Tensor<B, 1> {
    use burn::tensor::TensorMetadata;
    let elements = gradient.shape().num_elements();
    let flat = B::float_reshape(gradient.clone(), [elements].into());
    let flat = Tensor::<B, 1>::from_primitive(TensorPrimitive::Float(flat));
    (flat.clone() * flat).sum_dim(0)
}

struct List<B: Kernels> {
    entries: Vec<Entry<B>>,
}

impl<B: Kernels> ParameterVisitor<Autodiff<B>> for List<B> {
    fn visit<const D: usize>(&mut self, info: &ParameterInfo, parameter: &Param<Tensor<Autodiff<B>, D>>) {
        if parameter.val().is_require_grad() {
            self.entries.push(Entry { name: info.key.clone(), gradient: None });
        }
    }
}

/// Takes parameters' gradients out of the graph; the entries follow the order of the parameters.
struct Collect<B: Kernels, E> {
    graph: Graph<B>,
    entries: E,
}

impl<'a, B: Kernels, E: Iterator<Item = &'a mut Entry<B>>> ModuleVisitor<Autodiff<B>> for Collect<B, E> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<Autodiff<B>, D>>) {
        let parameter = parameter.val();
        if !parameter.is_require_grad() {
            return;
        }
        let entry = self.entries.next().expect("there is an entry for every parameter that asks");
        let Some(found) = parameter.grad_remove(&mut self.graph) else { return };
        let found = found.into_primitive().tensor();
        entry.gradient = Some(match entry.gradient.take() {
            Some(sum) => B::float_add(sum, found),
            None => found,
        });
    }
}
