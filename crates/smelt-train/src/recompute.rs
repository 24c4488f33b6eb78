//! Gradient checkpointing by block (Chen et al. 2016, arXiv:1604.06174).
//!
//! The forward keeps only what enters each block. The backward then takes head, blocks and embedding one
//! by one, each in a small graph of its own: a block runs once more to be differentiated, seeded with the
//! gradient of its output. Dropout is seeded by place, so the second run drops the same values. Below the
//! lowest trained parameter nothing is kept and nothing runs twice.

use burn::module::{AutodiffModule, Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use burn_autodiff::Autodiff;
use smelt_backend::profile::phase;
use smelt_backend::{Kernels, scalar};
use smelt_model::Decoder;
use smelt_model::blocks::{Pass, Routing, expert_shares, load_balancing_share};

use crate::gradients::{Gradients, Graph};
use crate::loss::MicroBatch;

/// Adds the gradients of a batch to `gradients`, block by block, and returns its loss.
///
/// Every sum has the terms that it has in one graph over the whole model.
pub(crate) fn backward_by_block<B: Kernels>(
    model: &Decoder<Autodiff<B>>,
    micro_batch: MicroBatch<'_>,
    gradients: &mut Gradients<B>,
    device: &B::Device,
) -> f64 {
    let lowest = lowest_trained(model);
    let (embedded, pass) = model.embed(&micro_batch.input(device));
    let first = || forward(&model.valid(), embedded.clone().inner(), &pass.inner(), lowest);
    let Forward { mut inputs, output, routings } = phase("forward", first);
    let balance = Balance::of(model, micro_batch, &routings);

    let output = entering(output, lowest < head(model));
    let hidden = model.norm.forward(output.clone());
    let loss = phase("loss", || micro_batch.cross_entropy(model, unflat(hidden, &pass)));
    let mut seed = differentiated(loss.objective, &output, model, gradients);
    let loss = phase("loss", || scalar(loss.likelihood.inner()));
    drop(output);
    for layer in (0..model.layers.len()).rev() {
        let Some(gradient) = seed else { break };
        let x = inputs.pop().expect("the input of a block that needs its gradient was kept");
        let x = entering(x, lowest < part(layer));
        let (y, routing) = phase("recompute", || model.layers[layer].forward(x.clone(), &pass, &mut []));
        let objective = match balance.as_ref().zip(routing) {
            Some((balance, routing)) => seeded(y, gradient) + balance.of_block(routing),
            None => seeded(y, gradient),
        };
        seed = differentiated(objective, &x, model, gradients);
    }
    if let Some(gradient) = seed {
        phase("backward", || gradients.add(model, seeded(embedded, gradient).backward()));
    }
    loss
}

/// Parts of a model in the order of the forward: 0 is the embedding, then the blocks, the head is last.
fn part(layer: usize) -> usize {
    1 + layer
}

fn head<B: Kernels>(model: &Decoder<B>) -> usize {
    part(model.layers.len())
}

/// The lowest part with a trained parameter: no gradient is needed of what enters it.
fn lowest_trained<B: Kernels>(model: &Decoder<B>) -> usize {
    if is_trained(&model.embed_tokens) || is_trained(&model.embed_positions) {
        return 0;
    }
    let block = model.layers.iter().position(is_trained);
    block.map_or(head(model), part)
}

fn is_trained<B: Kernels, M: Module<B>>(module: &M) -> bool {
    let mut any = AnyTrained(false);
    module.visit(&mut any);
    any.0
}

struct AnyTrained(bool);

impl<B: Kernels> ModuleVisitor<B> for AnyTrained {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<B, D>>) {
        self.0 |= parameter.val().is_require_grad();
    }
}

/// What the first pass keeps.
struct Forward<B: Kernels> {
    /// What entered the blocks from the lowest trained part on.
    inputs: Vec<Tensor<B, 2>>,
    /// What left the last block.
    output: Tensor<B, 2>,
    routings: Vec<Routing<B>>,
}

fn forward<B: Kernels>(
    model: &Decoder<B>,
    embedded: Tensor<B, 2>,
    pass: &Pass<B>,
    lowest: usize,
) -> Forward<B> {
    let mut kept = Forward { inputs: Vec::new(), output: embedded, routings: Vec::new() };
    for (layer, block) in model.layers.iter().enumerate() {
        if lowest <= part(layer) {
            kept.inputs.push(kept.output.clone());
        }
        let (output, routing) = block.forward(kept.output, pass, &mut []);
        kept.output = output;
        kept.routings.extend(routing);
    }
    kept
}

/// `x` as the beginning of a graph.
fn entering<B: Kernels>(x: Tensor<B, 2>, needs_gradient: bool) -> Tensor<Autodiff<B>, 2> {
    Tensor::from_inner(x).set_require_grad(needs_gradient)
}

fn unflat<B: Kernels>(x: Tensor<B, 2>, pass: &Pass<B>) -> Tensor<B, 3> {
    let features = x.dims()[1];
    x.reshape([pass.batch, pass.seq, features])
}

/// A number, of shape `[1]`, whose gradient for `y` is `gradient`.
///
/// burn can begin a backward pass with ones only.
fn seeded<B: Kernels>(y: Tensor<Autodiff<B>, 2>, gradient: Tensor<B, 2>) -> Tensor<Autodiff<B>, 1> {
    let elements = gradient.shape().num_elements();
    (y * Tensor::from_inner(gradient)).reshape([elements]).sum_dim(0)
}

/// Takes the parameters' gradients of `objective` into `gradients`, and returns that of `x`, if asked for.
fn differentiated<B: Kernels>(
    objective: Tensor<Autodiff<B>, 1>,
    x: &Tensor<Autodiff<B>, 2>,
    model: &Decoder<Autodiff<B>>,
    gradients: &mut Gradients<B>,
) -> Option<Tensor<B, 2>> {
    phase("backward", || {
        let mut graph: Graph<B> = objective.backward();
        let gradient = x.grad_remove(&mut graph);
        gradients.add(model, graph);
        gradient
    })
}

/// The load-balancing loss, which weighs a block's probabilities by the choices of all blocks.
struct Balance<B: Kernels> {
    shares: Tensor<B, 2>,
    blocks: usize,
    factor: f64,
}

impl<B: Kernels> Balance<B> {
    fn of(
        model: &Decoder<Autodiff<B>>,
        micro_batch: MicroBatch<'_>,
        routings: &[Routing<B>],
    ) -> Option<Self> {
        let factor = micro_batch.balance(model).filter(|_| !routings.is_empty())?;
        Some(Self { shares: expert_shares(routings), blocks: routings.len(), factor })
    }

    /// The part of the loss that depends on one block.
    fn of_block(&self, routing: Routing<Autodiff<B>>) -> Tensor<Autodiff<B>, 1> {
        let shares = Tensor::from_inner(self.shares.clone());
        load_balancing_share(shares, routing.probabilities, self.blocks) * self.factor
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::backend::BackendTypes;
    use burn::tensor::{TensorMetadata, TensorPrimitive};
    use serde_json::json;
    use smelt_backend::{Precision, to_host};
    use smelt_data::TokenBatch;
    use smelt_model::{AdapterConfig, DropoutConfig, DropoutStream, ModelConfig, NameMap, ParameterInfo};
    use smelt_testkit::{Golden, backend_test, max_abs_difference};

    use super::*;
    use crate::loss::backward;

    backend_test!(gradients_by_block_are_those_of_the_whole, every_family);
    backend_test!(frozen_parameters_may_lie_anywhere, frozen);
    backend_test!(adapters_have_the_gradients_of_the_whole, adapters);

    /// Two documents in the first sequence, padding without weight at the end of the second.
    fn batch(vocabulary: usize) -> TokenBatch {
        let (batch_size, seq_length) = (2, 12);
        let id = |at: usize| ((at * at * 7 + at * 13 + 5) % vocabulary) as u32;
        let rows = batch_size * seq_length;
        TokenBatch {
            batch_size,
            seq_length,
            input_ids: (0..rows).map(id).collect(),
            targets: (1..=rows).map(id).collect(),
            loss_mask: (0..rows).map(|at| if at < 20 { 1.0 } else { 0.0 }).collect(),
            document_ids: Some((0..rows as u32).map(|at| at / 7).collect()),
            position_ids: Some((0..rows as u32).map(|at| at % 12 % 7).collect()),
        }
    }

    type Backward<B> =
        fn(&Decoder<Autodiff<B>>, MicroBatch<'_>, &mut Gradients<B>, &<B as BackendTypes>::Device) -> f64;

    /// The loss and the values of all gradients of some micro-batches.
    fn run<B: Kernels>(
        backward: Backward<B>,
        model: &Decoder<Autodiff<B>>,
        names: &NameMap,
        micro_batches: u64,
        device: &B::Device,
    ) -> (f64, Vec<f32>) {
        let batch = batch(model.config().vocab_size);
        let mut gradients = Gradients::of(model, names);
        let loss = (0..micro_batches).map(|seed| {
            let dropout = Some(DropoutStream::new(seed));
            backward(
                model,
                MicroBatch { batch: &batch, scale: 0.025, z_loss: 1e-3, precision: Precision::F32, dropout },
                &mut gradients,
                device,
            )
        });
        let loss = loss.sum();
        gradients.check_complete().expect("every parameter has its gradient");
        let values = gradients.into_tensors().flat_map(|gradient| {
            let elements = gradient.shape().num_elements();
            let flat = B::float_reshape(gradient, [elements].into());
            to_host(Tensor::<B, 1>::from_primitive(TensorPrimitive::Float(flat)))
        });
        (loss, values.collect())
    }

    fn compare<B: Kernels>(config: &ModelConfig, model: &Decoder<Autodiff<B>>, device: &B::Device) {
        let (names, family) = (&config.family.names, config.family.model_type);
        for micro_batches in [1, 2] {
            let (loss, whole) = run::<B>(backward, model, names, micro_batches, device);
            let (same_loss, by_block) = run::<B>(backward_by_block, model, names, micro_batches, device);
            assert_eq!(loss, same_loss, "{family}");
            // Head and embedding of a tied model reach the sum over micro-batches one after the other, and
            // burn orders what a router and its experts add to one gradient by the size of the graph.
            let reordered = micro_batches > 1 && config.decoder.tie_word_embeddings;
            let tolerance = if reordered || config.decoder.experts.is_some() { 1e-6 } else { 0.0 };
            let difference = max_abs_difference(&by_block, &whole);
            assert!(difference <= tolerance, "{family}, {micro_batches} micro-batches: {difference:e}");
        }
    }

    fn with_dropout(golden: &Golden) -> ModelConfig {
        let mut config = ModelConfig::from_folder(&golden.folder).expect("the fixture has a configuration");
        config.decoder.dropout = DropoutConfig { embedding: 0.1, residual: 0.2, attention: 0.0 };
        if let Some(experts) = &mut config.decoder.experts {
            experts.router_aux_loss_coef = 0.5;
        }
        config
    }

    fn every_family<B: Kernels>(device: &B::Device) {
        for golden in Golden::of_kind("causal") {
            let config = with_dropout(&golden);
            compare(&config, &Decoder::<B>::init(&config, 3, device).into_trainable(), device);
        }
    }

    fn frozen<B: Kernels>(device: &B::Device) {
        let trained: [fn(&ParameterInfo) -> bool; 5] = [
            |info| info.path.starts_with("layers."),
            |info| info.path.starts_with("layers.1."),
            |info| info.path.ends_with("q_proj.weight") || info.path.ends_with("qkv_proj.weight"),
            |info| info.path.starts_with("embed"),
            |info| info.path.starts_with("norm."),
        ];
        for name in ["gpt2", "llama_gqa_tied", "qwen3_moe"] {
            let config = with_dropout(&Golden::open(name));
            assert_eq!(config.decoder.num_hidden_layers, 2, "the second block of {name} is its last");
            for trained in trained {
                let model = Decoder::<B>::init(&config, 3, device);
                compare(&config, &model.into_partly_trainable(&config.family.names, &trained), device);
            }
        }
    }

    fn adapters<B: Kernels>(device: &B::Device) {
        let config = with_dropout(&Golden::open("llama_gqa_tied"));
        for (use_dora, target_modules) in [(false, "all-linear"), (true, ".*(v_proj|lm_head)")] {
            let adapter = json!({
                "peft_type": "LORA", "r": 4, "lora_dropout": 0.1, "target_modules": target_modules, "use_dora": use_dora,
            });
            let adapter = AdapterConfig::from_json(adapter).expect("the settings are PEFT's");
            let model = Decoder::<B>::init(&config, 3, device);
            let (model, adapter) = model.with_new_adapter(&config, &adapter, 3).expect("the modules exist");
            let model = model.into_trainable_adapter(&config, &adapter).expect("the modules exist");
            compare(&config, &model, device);
        }
    }
}
