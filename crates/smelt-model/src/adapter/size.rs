//! The size of an adapter, without the model that it is for.

use super::config::AdapterConfig;
use super::rules::{Module, Rules};
use crate::config::{DecoderConfig, Gate, ModelConfig, Projections};
use crate::error::ModelError;
use crate::estimate::AdapterShape;

impl AdapterShape {
    /// Of the adapter that `config` puts on `model`.
    ///
    /// # Errors
    /// [`ModelError::BadAdapterValue`] for a pattern that is none.
    pub fn of(model: &ModelConfig, config: &AdapterConfig) -> Result<Self, ModelError> {
        let (rules, decoder) = (Rules::new(config)?, &model.decoder);
        let (mut parameters, mut saved) = (0.0, 0.0);
        for layer in 0..decoder.layers.len() {
            for projection in projections(decoder, layer) {
                let path = format!("layers.{layer}.{}", projection.name);
                let key = model.family.names.module_key(&path);
                let module = Module { path: &path, key: &key };
                if rules.saves(module) {
                    parameters += projection.count * (projection.inputs * projection.outputs) as f64;
                }
                if let Some((rank, _)) = rules.adapts(module) {
                    parameters += projection.count * projection.parameters(rank, config) as f64;
                    saved += projection.share * projection.saved(rank, config) as f64;
                }
            }
        }
        let [head, table] =
            ["lm_head", "embed_tokens"].map(|path| (path, model.family.names.module_key(path)));
        let [head, table] = [&head, &table].map(|(path, key)| Module { path, key });
        let size = decoder.hidden_size * decoder.vocab_size;
        let whole = [head, table].into_iter().filter(|module| rules.saves(*module)).count();
        let rank = rules.adapts(head).map(|(rank, _)| rank);
        let projection = Projection::new("lm_head", decoder.hidden_size, decoder.vocab_size);
        let beside = rank.map_or(0, |rank| projection.parameters(rank, config));
        parameters += (whole * size + beside) as f64;
        Ok(Self {
            parameters: parameters as u64,
            saved_per_position: saved as u64,
            trains_head: rank.is_some() || rules.saves(head),
        })
    }
}

/// Projections of a block that have the same name but for a number.
struct Projection {
    name: &'static str,
    inputs: usize,
    outputs: usize,
    /// How many there are.
    count: f64,
    /// Positions that pass through them, for each position of a sequence.
    share: f64,
}

impl Projection {
    fn new(name: &'static str, inputs: usize, outputs: usize) -> Self {
        Self { name, inputs, outputs, count: 1.0, share: 1.0 }
    }

    fn parameters(&self, rank: usize, config: &AdapterConfig) -> usize {
        rank * (self.inputs + self.outputs) + if config.use_dora { self.outputs } else { 0 }
    }

    /// What passes between the two matrices; what was dropped, and the mask; with magnitudes, what they scale.
    fn saved(&self, rank: usize, config: &AdapterConfig) -> usize {
        let drops = config.lora_dropout > 0.0;
        let dropped = if drops { 2 * self.inputs } else { 0 };
        let scaled = match (config.use_dora, drops) {
            (false, _) => 0,
            (true, false) => self.outputs,
            (true, true) => 2 * self.outputs,
        };
        rank + dropped + scaled
    }
}

fn projections(config: &DecoderConfig, layer: usize) -> Vec<Projection> {
    let (hidden, attention) = (config.hidden_size, config.attention);
    let (query, key_value) = (attention.query_size(), attention.key_value_size());
    let mut all = match attention.projections {
        Projections::Separate => vec![
            Projection::new("self_attn.q_proj", hidden, query),
            Projection::new("self_attn.k_proj", hidden, key_value),
            Projection::new("self_attn.v_proj", hidden, key_value),
        ],
        _ => vec![Projection::new("self_attn.qkv_proj", hidden, query + 2 * key_value)],
    };
    all.push(Projection::new("self_attn.o_proj", query, hidden));
    match config.experts.filter(|_| config.layers[layer].sparse) {
        None => {
            let inner = config.mlp.intermediate_size;
            if config.mlp.gate == Gate::Separate {
                all.push(Projection::new("mlp.gate_proj", hidden, inner));
            }
            all.push(match config.mlp.gate {
                Gate::Joined => Projection::new("mlp.gate_up_proj", hidden, 2 * inner),
                Gate::None | Gate::Separate => Projection::new("mlp.up_proj", hidden, inner),
            });
            all.push(Projection::new("mlp.down_proj", inner, hidden));
        }
        Some(experts) => {
            let (inner, count) = (experts.intermediate_size, experts.num_experts as f64);
            let share = experts.num_experts_per_tok as f64;
            let of_expert = |name, inputs, outputs| Projection { name, inputs, outputs, count, share };
            all.push(of_expert("moe.experts.0.gate_proj", hidden, inner));
            all.push(of_expert("moe.experts.0.up_proj", hidden, inner));
            all.push(of_expert("moe.experts.0.down_proj", inner, hidden));
            if let Some(inner) = experts.shared_expert_intermediate_size {
                all.push(Projection::new("moe.shared_expert.gate_proj", hidden, inner));
                all.push(Projection::new("moe.shared_expert.up_proj", hidden, inner));
                all.push(Projection::new("moe.shared_expert.down_proj", inner, hidden));
            }
        }
    }
    all
}
