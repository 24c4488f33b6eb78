//! What every optimizer is: a rule that updates one parameter at a time.

use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorMetadata, TensorPrimitive};
use smelt_backend::Kernels;

use super::slot::{Slots, State};

/// Numbers of one step, the same for all parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step {
    /// Learning rate of the schedule.
    pub learning_rate: f64,
    /// Number of this update, from 1: bias corrections depend on it.
    pub number: u64,
    /// The gradient is multiplied by this first: it clips, and takes a loss scale away.
    pub gradient_scale: f64,
}

/// A parameter to be updated.
pub(super) struct Subject<B: Kernels> {
    pub value: FloatTensor<B>,
    /// Of the parameter's shape, before [`Step::gradient_scale`].
    pub gradient: FloatTensor<B>,
    /// 0 for parameters that do not decay.
    pub weight_decay: f64,
}

/// One optimizer.
pub(super) trait Rule<B: Kernels> {
    /// What is kept for a parameter of `shape`; it starts as zeros.
    fn slots(&self, shape: &[usize]) -> Slots;

    /// The parameter after one update, and what is kept then, in the order of the slots.
    fn update(&self, subject: Subject<B>, state: State<B>, step: &Step) -> (FloatTensor<B>, State<B>);
}

/// All values in one row.
pub(super) fn flat<B: Kernels>(tensor: FloatTensor<B>) -> Tensor<B, 1> {
    let elements = tensor.shape().num_elements();
    wrap(B::float_reshape(tensor, [elements].into()))
}

/// The values of `flat` in the shape of the parameter they belong to.
pub(super) fn shaped<B: Kernels>(flat: Tensor<B, 1>, shape: &[usize]) -> FloatTensor<B> {
    B::float_reshape(unwrap(flat), shape.to_vec().into())
}

/// The shape of a tensor of any rank.
pub(super) fn shape_of<B: Kernels>(tensor: &FloatTensor<B>) -> Vec<usize> {
    tensor.shape().to_vec()
}

pub(super) fn wrap<B: Kernels, const D: usize>(tensor: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(tensor))
}

pub(super) fn unwrap<B: Kernels, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

/// Root of the mean square, `[1]`.
pub(super) fn root_mean_square<B: Kernels>(values: Tensor<B, 1>) -> Tensor<B, 1> {
    let elements = values.dims()[0] as f64;
    ((values.clone() * values).sum_dim(0) / elements).sqrt()
}
