//! The dense feed-forward part of a block.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use smelt_backend::Kernels;
use smelt_backend::kernels::Activation;

use super::{DropoutStream, Linear};
use crate::config::{Gate, MlpConfig};

/// `down_proj(activation(gate_proj(x)) * up_proj(x))`, or `down_proj(activation(up_proj(x)))` without a gate.
#[derive(Module, Debug)]
pub struct Mlp<B: Backend> {
    gate_proj: Option<Linear<B>>,
    up_proj: Option<Linear<B>>,
    /// Both in one matrix: rows of the gate first.
    gate_up_proj: Option<Linear<B>>,
    down_proj: Linear<B>,
    #[module(skip)]
    activation: Activation,
}

impl<B: Backend> Mlp<B> {
    /// Between `hidden` features, without values.
    pub(crate) fn structure(config: MlpConfig, hidden: usize, device: &B::Device) -> Self {
        let MlpConfig { intermediate_size, gate, bias, activation } = config;
        let up = |size: usize| Linear::structure(hidden, size, bias, device);
        Self {
            gate_proj: (gate == Gate::Separate).then(|| up(intermediate_size)),
            up_proj: (gate != Gate::Joined).then(|| up(intermediate_size)),
            gate_up_proj: (gate == Gate::Joined).then(|| up(2 * intermediate_size)),
            down_proj: Linear::structure(intermediate_size, hidden, bias, device),
            activation,
        }
    }

    /// Its projections by the names of their fields.
    pub(crate) fn linears_mut(&mut self) -> impl Iterator<Item = (String, &mut Linear<B>)> {
        let optional = [
            ("gate_proj", self.gate_proj.as_mut()),
            ("up_proj", self.up_proj.as_mut()),
            ("gate_up_proj", self.gate_up_proj.as_mut()),
            ("down_proj", Some(&mut self.down_proj)),
        ];
        optional.into_iter().filter_map(|(name, linear)| Some((name.to_owned(), linear?)))
    }
}

impl<B: Kernels> Mlp<B> {
    /// `[rows, hidden]` -> the same; `dropout` is that of adapters.
    pub fn forward(&self, x: Tensor<B, 2>, dropout: Option<DropoutStream>) -> Tensor<B, 2> {
        self.down_proj.forward(self.inner(x, dropout), dropout)
    }

    /// What enters `down_proj`.
    fn inner(&self, x: Tensor<B, 2>, dropout: Option<DropoutStream>) -> Tensor<B, 2> {
        if let Some(gate_up_proj) = &self.gate_up_proj {
            let both = gate_up_proj.forward(x, dropout);
            let size = both.dims()[1] / 2;
            let [gate, up] = Kernels::parts(both, 1, [size; 2]);
            return Kernels::gated(gate, up, self.activation);
        }
        let up_proj = self.up_proj.as_ref().expect("an up projection where it is not joined with the gate");
        match &self.gate_proj {
            Some(gate_proj) => {
                let [gate, up] = Linear::forward_all([gate_proj, up_proj], x, dropout);
                Kernels::gated(gate, up, self.activation)
            }
            None => Kernels::activation(up_proj.forward(x, dropout), self.activation),
        }
    }
}
