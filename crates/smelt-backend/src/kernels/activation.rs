//! Element-wise activations and their gated forms.

use std::f64::consts::PI;

use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, activation};

use super::Kernels;
use super::autodiff::{Operation, float, tensor};

/// An element-wise activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x * Phi(x)` with the exact error function (Hendrycks and Gimpel 2016, arXiv:1606.08415).
    Gelu,
    /// The tanh approximation of GELU: `gelu_new` and `gelu_pytorch_tanh` in Hugging Face's terms.
    GeluTanh,
    /// `x * sigmoid(x)`.
    Silu,
    /// `max(x, 0)`.
    Relu,
}

/// Factor of the cubic term in the tanh approximation of GELU.
pub(crate) const GELU_CUBIC: f64 = 0.044715;

/// `sqrt(2 / pi)`.
pub(crate) fn gelu_scale() -> f64 {
    (2.0 / PI).sqrt()
}

/// [`Kernels::activation`] in plain burn operations.
pub fn plain<B: Kernels>(x: Tensor<B, 2>, kind: Activation) -> Tensor<B, 2> {
    match kind {
        Activation::Gelu => x.clone() * ((x * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0) * 0.5,
        Activation::GeluTanh => x.clone() * (gelu_inner(x).tanh() + 1.0) * 0.5,
        Activation::Silu => x.clone() * activation::sigmoid(x),
        Activation::Relu => activation::relu(x),
    }
}

/// The derivative of [`plain`] at `x`.
pub fn plain_derivative<B: Kernels>(x: Tensor<B, 2>, kind: Activation) -> Tensor<B, 2> {
    match kind {
        Activation::Gelu => {
            let cumulative = ((x.clone() * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0) * 0.5;
            let density = (x.clone() * x.clone() * -0.5).exp() * (1.0 / (2.0 * PI).sqrt());
            cumulative + x * density
        }
        Activation::GeluTanh => {
            let t = gelu_inner(x.clone()).tanh();
            let slope = (x.clone() * x.clone() * (3.0 * GELU_CUBIC) + 1.0) * gelu_scale();
            (t.clone() + 1.0) * 0.5 + x * (t.clone() * t * -1.0 + 1.0) * slope * 0.5
        }
        Activation::Silu => {
            let s = activation::sigmoid(x.clone());
            s.clone() * (x * (s * -1.0 + 1.0) + 1.0)
        }
        Activation::Relu => x.greater_elem(0.0).float(),
    }
}

/// [`Kernels::gated`] by the backend's own [`Kernels::activation`].
pub fn plain_gated<B: Kernels>(gate: Tensor<B, 2>, up: Tensor<B, 2>, kind: Activation) -> Tensor<B, 2> {
    B::activation(gate, kind) * up
}

/// [`Kernels::gated_backward`] by the backend's own [`Kernels::activation`] and its gradient.
pub fn plain_gated_backward<B: Kernels>(
    gate: Tensor<B, 2>,
    up: Tensor<B, 2>,
    grad: Tensor<B, 2>,
    kind: Activation,
) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let grad_up = B::activation(gate.clone(), kind) * grad.clone();
    (B::activation_backward(gate, grad * up, kind), grad_up)
}

fn gelu_inner<B: Kernels>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    (x.clone() + x.clone() * x.clone() * x * GELU_CUBIC) * gelu_scale()
}

/// `activation` under autodiff: input `[x]`.
#[derive(Debug)]
pub(super) struct Elementwise;

impl<B: Kernels> Operation<B, 1> for Elementwise {
    const NAME: &'static str = "activation";
    type Saved = (Tensor<B, 2>, Activation);

    fn backward(
        (x, kind): Self::Saved,
        grad: FloatTensor<B>,
        _needed: [bool; 1],
    ) -> [Option<FloatTensor<B>>; 1] {
        [Some(float(B::activation_backward(x, tensor(grad), kind)))]
    }
}

/// `gated` under autodiff: inputs `[gate, up]`.
#[derive(Debug)]
pub(super) struct Gated;

impl<B: Kernels> Operation<B, 2> for Gated {
    const NAME: &'static str = "gated";
    type Saved = (Tensor<B, 2>, Tensor<B, 2>, Activation);

    fn backward(
        (gate, up, kind): Self::Saved,
        grad: FloatTensor<B>,
        _needed: [bool; 2],
    ) -> [Option<FloatTensor<B>>; 2] {
        let (grad_gate, grad_up) = B::gated_backward(gate, up, tensor(grad), kind);
        [Some(float(grad_gate)), Some(float(grad_up))]
    }
}
