//! Kernels under autodiff: the fused forward, and a backward written by hand.
//!
//! burn decomposes most fused operations as soon as gradients are tracked; recording ours as single
//! nodes of the graph keeps the fused versions, and keeps only what each backward needs.

use std::fmt::Debug;
use std::marker::PhantomData;

use burn::module::AutodiffModule;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Int, Tensor, TensorPrimitive};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};

use super::{
    Activation, AttentionOptions, CrossEntropyLoss, CrossEntropyOptions, Head, HeadWeight, Kernels,
    QuantizedWeight, RotaryStyle, activation, attention, cross_entropy, dropout, embedding, layer_norm,
    linear, parts, quantized, rms_norm, rotary,
};
use crate::profile;

/// The backward of one fused operation with `N` differentiable inputs.
pub(super) trait Operation<B: Kernels, const N: usize>: Debug + Send + 'static {
    /// The kernel, for profiles.
    const NAME: &'static str;

    /// What the forward keeps for the backward.
    type Saved: Clone + Debug + Send + 'static;

    /// Gradients for the inputs, in order; `None` for those that are not `needed`, or that come from another node.
    fn backward(saved: Self::Saved, grad: FloatTensor<B>, needed: [bool; N]) -> [Option<FloatTensor<B>>; N];
}

/// Unwraps a tensor into what burn's autodiff stores.
pub(super) fn float<B: Kernels, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

/// Wraps what burn's autodiff stores.
pub(super) fn tensor<B: Kernels, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

/// A node of burn's autodiff graph that runs an [`Operation`].
#[derive(Debug)]
struct Step<O>(PhantomData<O>);

impl<B: Kernels, O: Operation<B, N>, const N: usize> Backward<B, N> for Step<O> {
    type State = O::Saved;

    fn backward(self, ops: Ops<O::Saved, N>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let _span = profile::backward(O::NAME);
        let grad = grads.consume::<B>(&ops.node);
        let needed = ops.parents.each_ref().map(Option::is_some);
        let gradients = O::backward(ops.state, grad, needed);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(node), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

type Tracked<B, C> = FloatTensor<Autodiff<B, C>>;

/// Records `output` in the graph as the result of operation `O` on `inputs`.
///
/// `saved` is called only if some input is tracked.
fn record<O, B, C, const N: usize, const D: usize>(
    inputs: [&Tracked<B, C>; N],
    output: Tensor<B, D>,
    saved: impl FnOnce() -> O::Saved,
) -> Tensor<Autodiff<B, C>, D>
where
    O: Operation<B, N>,
    B: Kernels,
    C: CheckpointStrategy,
{
    let nodes = inputs.map(|input| input.node.clone());
    let output = float(output);
    tensor(match Step::<O>(PhantomData).prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(step) => step.finish(saved(), output),
        OpsKind::UnTracked(step) => step.finish(output),
    })
}

/// The tensor of the inner backend that a tracked tensor holds.
fn inner<B: Kernels, C: CheckpointStrategy, const D: usize>(tracked: &Tracked<B, C>) -> Tensor<B, D> {
    tensor(tracked.primitive.clone())
}

fn untracked<B: Kernels, C: CheckpointStrategy, const D: usize>(
    t: Tensor<Autodiff<B, C>, D>,
) -> Tensor<B, D> {
    tensor(float(t).primitive)
}

impl<B: Kernels, C: CheckpointStrategy> Kernels for Autodiff<B, C> {
    fn linear(x: Tensor<Self, 2>, weight: Tensor<Self, 2>, bias: Option<Tensor<Self, 1>>) -> Tensor<Self, 2> {
        let _span = profile::forward("linear");
        let (x, weight) = (float(x), float(weight));
        let inner_weight = inner::<B, C, 2>(&weight);
        let inner_x = linear::operand(inner::<B, C, 2>(&x), &inner_weight, weight.is_tracked());
        let saved = (inner_x.clone(), inner_weight.clone());
        match bias.map(float) {
            Some(bias) => {
                let y = Kernels::linear(inner_x, inner_weight, Some(inner::<B, C, 1>(&bias)));
                record::<linear::WithBias, B, C, 3, 2>([&x, &weight, &bias], y, || saved)
            }
            None => {
                let y = Kernels::linear(inner_x, inner_weight, None);
                record::<linear::WithoutBias, B, C, 2, 2>([&x, &weight], y, || saved)
            }
        }
    }

    fn quantized_linear(
        x: Tensor<Self, 2>,
        weight: QuantizedWeight<Self>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 2> {
        let _span = profile::forward("quantized_linear");
        let (x, weight) = (float(x), weight.valid());
        let y = B::quantized_linear(inner::<B, C, 2>(&x), weight.clone(), None);
        let y = record::<quantized::QuantizedLinear, B, C, 1, 2>([&x], y, || weight);
        match bias {
            Some(bias) => y + bias.unsqueeze(),
            None => y,
        }
    }

    fn quantized_embedding(weight: QuantizedWeight<Self>, ids: Tensor<Self, 2, Int>) -> Tensor<Self, 3> {
        let _span = profile::forward("quantized_embedding");
        Tensor::from_inner(B::quantized_embedding(weight.valid(), ids.inner()))
    }

    fn dequantized(weight: QuantizedWeight<Self>) -> Tensor<Self, 2> {
        Tensor::from_inner(B::dequantized(weight.valid()))
    }

    fn embedding(weight: Tensor<Self, 2>, ids: Tensor<Self, 2, Int>) -> Tensor<Self, 3> {
        let _span = profile::forward("embedding");
        let weight = float(weight);
        let (inner_weight, ids) = (inner::<B, C, 2>(&weight), Tensor::from_primitive(ids.into_primitive()));
        let y = Kernels::embedding(inner_weight.clone(), ids.clone());
        record::<embedding::Embedding, B, C, 1, 3>([&weight], y, || (inner_weight, ids))
    }

    fn layer_norm(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 1>,
        bias: Option<Tensor<Self, 1>>,
        epsilon: f64,
    ) -> Tensor<Self, 2> {
        let _span = profile::forward("layer_norm");
        let (x, weight) = (float(x), float(weight));
        let (inner_x, inner_weight) = (inner::<B, C, 2>(&x), inner::<B, C, 1>(&weight));
        let saved = (inner_x.clone(), inner_weight.clone(), epsilon);
        match bias.map(float) {
            Some(bias) => {
                let y = Kernels::layer_norm(inner_x, inner_weight, Some(inner::<B, C, 1>(&bias)), epsilon);
                record::<layer_norm::WithBias, B, C, 3, 2>([&x, &weight, &bias], y, || saved)
            }
            None => {
                let y = Kernels::layer_norm(inner_x, inner_weight, None, epsilon);
                record::<layer_norm::WithoutBias, B, C, 2, 2>([&x, &weight], y, || saved)
            }
        }
    }

    fn rms_norm(x: Tensor<Self, 2>, weight: Tensor<Self, 1>, epsilon: f64) -> Tensor<Self, 2> {
        let _span = profile::forward("rms_norm");
        let (x, weight) = (float(x), float(weight));
        let (inner_x, inner_weight) = (inner::<B, C, 2>(&x), inner::<B, C, 1>(&weight));
        let saved = (inner_x.clone(), inner_weight.clone(), epsilon);
        let y = B::rms_norm(inner_x, inner_weight, epsilon);
        record::<rms_norm::RmsNorm, B, C, 2, 2>([&x, &weight], y, || saved)
    }

    fn activation(x: Tensor<Self, 2>, kind: Activation) -> Tensor<Self, 2> {
        let _span = profile::forward("activation");
        let x = float(x);
        let inner_x = inner::<B, C, 2>(&x);
        let y = B::activation(inner_x.clone(), kind);
        record::<activation::Elementwise, B, C, 1, 2>([&x], y, || (inner_x, kind))
    }

    fn gated(gate: Tensor<Self, 2>, up: Tensor<Self, 2>, kind: Activation) -> Tensor<Self, 2> {
        let _span = profile::forward("gated");
        let (gate, up) = (float(gate), float(up));
        let (inner_gate, inner_up) = (inner::<B, C, 2>(&gate), inner::<B, C, 2>(&up));
        let y = B::gated(inner_gate.clone(), inner_up.clone(), kind);
        record::<activation::Gated, B, C, 2, 2>([&gate, &up], y, || (inner_gate, inner_up, kind))
    }

    fn parts<const D: usize, const N: usize>(
        x: Tensor<Self, D>,
        dim: usize,
        sizes: [usize; N],
    ) -> [Tensor<Self, D>; N] {
        let _span = profile::forward("parts");
        let x = float(x);
        let mut saved = parts::Saved::of_parts(N, dim);
        B::parts(inner::<B, C, D>(&x), dim, sizes).map(|part| {
            let saved = saved.next().expect("one for each part");
            record::<parts::Part<D>, B, C, 1, D>([&x], part, || saved)
        })
    }

    fn rotary(
        x: Tensor<Self, 4>,
        cos: Tensor<Self, 3>,
        sin: Tensor<Self, 3>,
        style: RotaryStyle,
    ) -> Tensor<Self, 4> {
        let _span = profile::forward("rotary");
        let x = float(x);
        let (cos, sin) = (untracked(cos), untracked(sin));
        let y = B::rotary(inner::<B, C, 4>(&x), cos.clone(), sin.clone(), style);
        record::<rotary::Rotary, B, C, 1, 4>([&x], y, || (cos, sin, style))
    }

    fn attention(
        q: Tensor<Self, 4>,
        k: Tensor<Self, 4>,
        v: Tensor<Self, 4>,
        mask: Option<Tensor<Self, 4>>,
        options: AttentionOptions,
    ) -> Tensor<Self, 4> {
        let _span = profile::forward("attention");
        let (q, k, v) = (float(q), float(k), float(v));
        let [inner_q, inner_k, inner_v] = [&q, &k, &v].map(inner::<B, C, 4>);
        let mask = mask.map(untracked);
        let y = Kernels::attention(inner_q.clone(), inner_k.clone(), inner_v.clone(), mask.clone(), options);
        let saved = attention::Saved { q: inner_q, k: inner_k, v: inner_v, mask, output: y.clone(), options };
        record::<attention::Attention, B, C, 3, 4>([&q, &k, &v], y, || saved)
    }

    fn linear_cross_entropy(
        hidden: Tensor<Self, 2>,
        head: Head<Self>,
        targets: Tensor<Self, 1, Int>,
        token_weights: Tensor<Self, 1>,
        options: CrossEntropyOptions,
    ) -> CrossEntropyLoss<Self> {
        let _span = profile::forward("linear_cross_entropy");
        let (hidden, bias) = (float(hidden), head.bias.map(float));
        let (weight, inner_weight) = match head.weight {
            HeadWeight::Float(weight) => {
                let weight = float(weight);
                let inner_weight = HeadWeight::Float(inner::<B, C, 2>(&weight));
                (Some(weight), inner_weight)
            }
            HeadWeight::Quantized(weight) => (None, HeadWeight::Quantized(weight.valid())),
        };
        let is_tracked =
            |input: &Option<Tracked<B, C>>| input.as_ref().is_some_and(|input| input.is_tracked());
        let (loss, gradients) = cross_entropy::chunked_with_gradients::<B>(
            inner::<B, C, 2>(&hidden),
            Head { weight: inner_weight, bias: bias.as_ref().map(inner::<B, C, 1>) },
            Tensor::from_primitive(targets.into_primitive()),
            untracked(token_weights),
            options,
            [hidden.is_tracked(), is_tracked(&weight), is_tracked(&bias)],
        );
        let CrossEntropyLoss { likelihood, objective } = loss;
        // Which of the gradients inputs take: those of a weight and a bias, if they are there as tensors.
        let objective = match (&weight, &bias) {
            (Some(weight), Some(bias)) => record::<cross_entropy::LinearCrossEntropy, B, C, 3, 1>(
                [&hidden, weight, bias],
                objective,
                || (gradients, [0, 1, 2]),
            ),
            (Some(input), None) | (None, Some(input)) => {
                let taken = if weight.is_some() { 1 } else { 2 };
                let inputs = [&hidden, input];
                record::<cross_entropy::LinearCrossEntropy, B, C, 2, 1>(inputs, objective, || {
                    (gradients, [0, taken])
                })
            }
            (None, None) => {
                record::<cross_entropy::LinearCrossEntropy, B, C, 1, 1>([&hidden], objective, || {
                    (gradients, [0])
                })
            }
        };
        CrossEntropyLoss { likelihood: Tensor::from_inner(likelihood), objective }
    }

    fn dropout(x: Tensor<Self, 2>, probability: f64, seed: u64) -> Tensor<Self, 2> {
        let _span = profile::forward("dropout");
        let mask = dropout::scaled_mask::<B>(x.dims(), probability, seed, &x.device());
        x * Tensor::from_inner(mask)
    }
}
