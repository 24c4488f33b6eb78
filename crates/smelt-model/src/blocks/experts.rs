//! A sparse mixture of experts (Jiang et al. 2024, arXiv:2401.04088), in place of the dense feed-forward part.
//!
//! Which expert sees which token is decided on the host, from the router's probabilities: experts then run
//! on dense rows, each token's only, and nothing is computed for experts that nobody chose.

use burn::module::Module;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, activation};
use smelt_backend::{Kernels, float_tensor, int_tensor, to_host};

use super::{DropoutStream, Linear, Mlp};
use crate::config::{DecoderConfig, ExpertsConfig};

/// Experts and the router that chooses among them.
#[derive(Module, Debug)]
pub struct Experts<B: Backend> {
    router: Linear<B>,
    experts: Vec<Mlp<B>>,
    /// Sees every token.
    shared_expert: Option<Mlp<B>>,
    /// Scales what the shared expert says, by token.
    shared_expert_gate: Option<Linear<B>>,
    #[module(skip)]
    config: ExpertsConfig,
}

/// How the router of one block spread the tokens of a pass, for the load-balancing loss.
#[derive(Debug, Clone)]
pub struct Routing<B: Backend> {
    /// Softmax of the router, `[tokens, experts]`.
    pub probabilities: Tensor<B, 2>,
    /// 1 where a token passes through an expert, `[tokens, experts]`.
    pub chosen: Tensor<B, 2>,
}

impl<B: Backend> Experts<B> {
    /// For `config`, without values.
    pub(crate) fn structure(config: &DecoderConfig, experts: ExpertsConfig, device: &B::Device) -> Self {
        let hidden = config.hidden_size;
        let mlp = |size: usize| Mlp::structure(config.expert_mlp(size), hidden, device);
        let shared = experts.shared_expert_intermediate_size;
        Self {
            router: Linear::structure(hidden, experts.num_experts, false, device),
            experts: (0..experts.num_experts).map(|_| mlp(experts.intermediate_size)).collect(),
            shared_expert: shared.map(mlp),
            shared_expert_gate: shared.map(|_| Linear::structure(hidden, 1, false, device)),
            config: experts,
        }
    }

    /// Its projections by their paths.
    pub(crate) fn linears_mut(&mut self) -> impl Iterator<Item = (String, &mut Linear<B>)> {
        let experts = self.experts.iter_mut().enumerate().flat_map(|(index, expert)| {
            expert.linears_mut().map(move |(name, linear)| (format!("experts.{index}.{name}"), linear))
        });
        let shared = self.shared_expert.iter_mut().flat_map(|expert| {
            expert.linears_mut().map(|(name, linear)| (format!("shared_expert.{name}"), linear))
        });
        let gate = self.shared_expert_gate.iter_mut().map(|gate| ("shared_expert_gate".to_owned(), gate));
        std::iter::once(("router".to_owned(), &mut self.router)).chain(experts).chain(shared).chain(gate)
    }
}

impl<B: Kernels> Experts<B> {
    /// `[rows, hidden]` -> the same, and how the rows were spread; `dropout` is that of adapters.
    pub fn forward(&self, x: Tensor<B, 2>, dropout: Option<DropoutStream>) -> (Tensor<B, 2>, Routing<B>) {
        let device = x.device();
        let probabilities = activation::softmax(self.router.forward(x.clone(), dropout), 1);
        let plan = Plan::new(&to_host(probabilities.clone()), &self.config);
        let shape = probabilities.dims();
        let chosen: Tensor<B, 2> = float_tensor(plan.mask, shape, &device);

        let rows = x.clone().select(0, indices(&plan.rows, &device));
        let outputs = self.outputs(rows, &plan.counts, dropout);
        let weights = self.weights(probabilities.clone() * chosen.clone(), &plan.choices, &device);
        let [tokens, hidden] = x.dims();
        let per_token = self.config.num_experts_per_tok;
        let spread = outputs.select(0, indices(&plan.places, &device));
        let mixed =
            (spread * weights).reshape([tokens, per_token, hidden]).sum_dim(1).reshape([tokens, hidden]);
        let output = match (&self.shared_expert, &self.shared_expert_gate) {
            (Some(expert), Some(gate)) => {
                mixed + expert.forward(x.clone(), dropout) * activation::sigmoid(gate.forward(x, dropout))
            }
            _ => mixed,
        };
        (output, Routing { probabilities, chosen })
    }

    /// What each expert makes of its rows, in the order of the experts.
    ///
    /// In training an expert without rows sees one, which nobody reads: its gradient is zero then, not absent.
    fn outputs(&self, rows: Tensor<B, 2>, counts: &[usize], dropout: Option<DropoutStream>) -> Tensor<B, 2> {
        let trains = B::ad_enabled(&rows.device());
        let mut start = 0;
        let (mut outputs, mut unread) = (Vec::new(), Vec::new());
        for (expert, &count) in self.experts.iter().zip(counts) {
            if count > 0 {
                outputs.push(expert.forward(rows.clone().narrow(0, start, count), dropout));
            } else if trains {
                unread.push(expert.forward(rows.clone().narrow(0, 0, 1), dropout));
            }
            start += count;
        }
        outputs.append(&mut unread);
        Tensor::cat(outputs, 0)
    }

    /// Weights of each token's choices in turn, `[tokens * choices, 1]`, from the probabilities of the chosen.
    fn weights(&self, chosen: Tensor<B, 2>, choices: &[u32], device: &B::Device) -> Tensor<B, 2> {
        let [tokens, _] = chosen.dims();
        let per_token = self.config.num_experts_per_tok;
        let weights = match self.config.norm_topk_prob {
            true => chosen.clone() / chosen.sum_dim(1),
            false => chosen,
        };
        weights.gather(1, int_tensor(choices, [tokens, per_token], device)).reshape([tokens * per_token, 1])
    }
}

fn indices<B: Kernels>(values: &[u32], device: &B::Device) -> Tensor<B, 1, Int> {
    int_tensor(values, [values.len()], device)
}

/// Who goes where, on the host.
struct Plan {
    /// Experts of each token, the most probable first: `[tokens, choices]`.
    choices: Vec<u32>,
    /// 1 at a token's choices: `[tokens, experts]`.
    mask: Vec<f32>,
    /// Tokens in the order of the experts that see them.
    rows: Vec<u32>,
    /// How many tokens each expert sees.
    counts: Vec<usize>,
    /// Where in that order each choice of each token ended up: `[tokens, choices]`.
    places: Vec<u32>,
}

impl Plan {
    fn new(probabilities: &[f32], config: &ExpertsConfig) -> Self {
        let (experts, per_token) = (config.num_experts, config.num_experts_per_tok);
        let mut choices = Vec::with_capacity(probabilities.len() / experts * per_token);
        let mut mask = vec![0.0; probabilities.len()];
        for (row, mask) in probabilities.chunks_exact(experts).zip(mask.chunks_exact_mut(experts)) {
            let mut order: Vec<usize> = (0..experts).collect();
            order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
            for &expert in &order[..per_token] {
                choices.push(expert as u32);
                mask[expert] = 1.0;
            }
        }
        let mut by_expert: Vec<u32> = (0..choices.len() as u32).collect();
        by_expert.sort_by_key(|choice| choices[*choice as usize]);
        let mut counts = vec![0; experts];
        let mut places = vec![0; choices.len()];
        for (place, &choice) in by_expert.iter().enumerate() {
            counts[choices[choice as usize] as usize] += 1;
            places[choice as usize] = place as u32;
        }
        let rows = by_expert.iter().map(|choice| choice / per_token as u32).collect();
        Self { choices, mask, rows, counts, places }
    }
}

/// The load-balancing loss of one pass (Fedus et al. 2021, arXiv:2101.03961, equations 4 to 6), of shape `[1]`.
///
/// The number of choices of a token if all experts see as many, more otherwise. All blocks together are one, as in
/// transformers.
///
/// # Panics
/// Without a block that has experts.
pub fn load_balancing_loss<B: Kernels>(routings: &[Routing<B>]) -> Tensor<B, 1> {
    let wanted = mean(routings, |routing| &routing.probabilities);
    balanced(expert_shares(routings), wanted)
}

/// How often each expert was chosen per token, on average over the blocks: `[1, experts]`.
///
/// # Panics
/// Without a block that has experts.
pub fn expert_shares<B: Kernels>(routings: &[Routing<B>]) -> Tensor<B, 2> {
    mean(routings, |routing| &routing.chosen)
}

/// What the block of `probabilities` `[tokens, experts]` adds to the [`load_balancing_loss`] of `blocks` blocks,
/// given the [`expert_shares`] of all.
pub fn load_balancing_share<B: Kernels>(
    shares: Tensor<B, 2>,
    probabilities: Tensor<B, 2>,
    blocks: usize,
) -> Tensor<B, 1> {
    balanced(shares, probabilities.mean_dim(0) / blocks as f64)
}

fn mean<B: Kernels>(routings: &[Routing<B>], pick: fn(&Routing<B>) -> &Tensor<B, 2>) -> Tensor<B, 2> {
    let means = routings.iter().map(|routing| pick(routing).clone().mean_dim(0));
    means.reduce(|a, b| a + b).expect("at least one block has experts") / routings.len() as f64
}

fn balanced<B: Kernels>(used: Tensor<B, 2>, wanted: Tensor<B, 2>) -> Tensor<B, 1> {
    let [_, experts] = used.dims();
    ((used * wanted).sum_dim(1) * experts as f64).reshape([1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_of_every_token_has_one_place() {
        let config = ExpertsConfig {
            num_experts: 3,
            num_experts_per_tok: 2,
            intermediate_size: 1,
            norm_topk_prob: true,
            shared_expert_intermediate_size: None,
            router_aux_loss_coef: 0.0,
        };
        let plan = Plan::new(&[0.2, 0.5, 0.3, 0.6, 0.1, 0.3, 0.1, 0.2, 0.7], &config);
        assert_eq!(plan.choices, [1, 2, 0, 2, 2, 1]);
        assert_eq!(plan.mask, [0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0]);
        assert_eq!(plan.counts, [1, 2, 3]);
        assert_eq!(plan.rows, [1, 0, 2, 0, 1, 2]);
        for (choice, place) in plan.places.iter().enumerate() {
            assert_eq!(plan.rows[*place as usize], choice as u32 / 2);
        }
    }
}
