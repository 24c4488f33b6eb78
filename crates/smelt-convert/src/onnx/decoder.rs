//! The graph of a decoder, from its configuration: one for all families, as the model itself.

use smelt_backend::kernels::Activation;
use smelt_model::{
    DecoderConfig, ExpertsConfig, Gate, NormConfig, NormKind, Positions, Projections, Residual,
};

use super::graph::{Attribute, Graph, Value};
use super::positions::{Places, Tables, halves_of_pairs, soft_capped};
use super::weights::Weights;

/// The inputs of a graph.
pub(super) struct Inputs {
    /// `[batch, sequence]`
    pub(super) input_ids: Value,
    /// `[batch, past + sequence]`
    pub(super) attention_mask: Value,
    /// `[batch, sequence]`
    pub(super) position_ids: Value,
    /// Keys and values of each layer, `[batch, heads, past, head_dim]`; none in a graph without a cache.
    pub(super) past: Vec<[Value; 2]>,
}

/// What a graph gives.
pub(super) struct Outputs {
    /// `[batch, sequence, vocab_size]`
    pub(super) logits: Value,
    /// Keys and values of each layer, `[batch, heads, past + sequence, head_dim]`.
    pub(super) present: Vec<[Value; 2]>,
}

/// Builds the graph of `config` on `inputs`.
pub(super) fn build(
    graph: &mut Graph,
    weights: &mut Weights<'_>,
    config: &DecoderConfig,
    inputs: &Inputs,
) -> Outputs {
    let places = Places::new(graph, &inputs.input_ids, &inputs.attention_mask);
    let rotary: Vec<Tables> = config
        .rotary()
        .iter()
        .map(|rotary| Tables::new(graph, rotary, &inputs.position_ids, &places))
        .collect();
    let query_scale = config.attention.log_scaling.map(|base| places.log_scale(graph, base));
    let masks = masks(graph, config, &places, &inputs.attention_mask);
    let mut builder = Builder { graph, weights, config };
    let mut x = builder.embed(inputs);
    let mut present = Vec::new();
    for layer in 0..config.num_hidden_layers {
        let window = config.layers[layer].sliding_window;
        let mask = masks.iter().find(|(known, _)| *known == window).expect("a mask for every window");
        let pass = Pass {
            layer,
            mask: &mask.1,
            rotary: rotary.get(config.layers[layer].rotary),
            query_scale: query_scale.as_ref(),
            past: inputs.past.get(layer),
        };
        let (next, cache) = builder.block(&x, &pass);
        x = next;
        present.push(cache);
    }
    let x = builder.norm("norm", config.norm, &x);
    Outputs { logits: builder.head(&x), present }
}

/// One mask for each window that some layer has.
fn masks(
    graph: &mut Graph,
    config: &DecoderConfig,
    places: &Places,
    attention_mask: &Value,
) -> Vec<(Option<usize>, Value)> {
    let mut masks: Vec<(Option<usize>, Value)> = Vec::new();
    for layer in &config.layers {
        if masks.iter().all(|(known, _)| *known != layer.sliding_window) {
            let mask = places.mask(graph, attention_mask, layer.sliding_window);
            masks.push((layer.sliding_window, mask));
        }
    }
    masks
}

/// What one block needs besides its weights.
struct Pass<'a> {
    layer: usize,
    mask: &'a Value,
    rotary: Option<&'a Tables>,
    query_scale: Option<&'a Value>,
    past: Option<&'a [Value; 2]>,
}

struct Builder<'g, 'w, 'p> {
    graph: &'g mut Graph,
    weights: &'w mut Weights<'p>,
    config: &'g DecoderConfig,
}

impl Builder<'_, '_, '_> {
    fn embed(&mut self, inputs: &Inputs) -> Value {
        let table = self.weights.plain(self.graph, "embed_tokens.weight", None, "", 0.0);
        let mut x = self.graph.node("Gather", &[&table, &inputs.input_ids]);
        if let Some(scale) = self.config.embedding_scale {
            x = self.graph.scaled(&x, scale);
        }
        if self.config.positions == Positions::Learned {
            let table = self.weights.plain(self.graph, "embed_positions.weight", None, "", 0.0);
            let positions = self.graph.node("Gather", &[&table, &inputs.position_ids]);
            x = self.graph.add(&x, &positions);
        }
        x
    }

    fn head(&mut self, x: &Value) -> Value {
        let mut logits = if self.config.tie_word_embeddings {
            let table = self.weights.plain(self.graph, "embed_tokens.weight", None, "", 0.0);
            let turned = self.graph.transpose(&table, &[1, 0]);
            self.graph.matmul(x, &turned)
        } else {
            self.linear("lm_head", x)
        };
        if self.config.tie_word_embeddings && self.weights.has("lm_head.bias") {
            let bias = self.weights.plain(self.graph, "lm_head.bias", None, "", 0.0);
            logits = self.graph.add(&logits, &bias);
        }
        soft_capped(self.graph, &logits, self.config.head.softcap)
    }

    fn linear(&mut self, path: &str, x: &Value) -> Value {
        self.linear_rows(path, x, None, "")
    }

    /// The projection at `path`, or `rows` of its outputs, which are called `part`.
    fn linear_rows(&mut self, path: &str, x: &Value, rows: Option<Vec<usize>>, part: &str) -> Value {
        let weight = self.weights.matrix(self.graph, &format!("{path}.weight"), rows.clone(), part);
        let y = self.graph.matmul(x, &weight);
        let bias = format!("{path}.bias");
        if !self.weights.has(&bias) {
            return y;
        }
        let bias = self.weights.plain(self.graph, &bias, rows, part, 0.0);
        self.graph.add(&y, &bias)
    }

    fn norm(&mut self, path: &str, norm: NormConfig, x: &Value) -> Value {
        let weight = format!("{path}.weight");
        match norm.kind {
            NormKind::LayerNorm { bias } => {
                let weight = self.weights.plain(self.graph, &weight, None, "", 0.0);
                let bias =
                    bias.then(|| self.weights.plain(self.graph, &format!("{path}.bias"), None, "", 0.0));
                let inputs: Vec<&Value> = [x, &weight].into_iter().chain(bias.as_ref()).collect();
                let epsilon = ("epsilon", Attribute::Float(norm.epsilon as f32));
                self.graph.node_with("LayerNormalization", &inputs, &[epsilon, ("axis", Attribute::Int(-1))])
            }
            NormKind::RmsNorm { unit_offset } => {
                let offset = if unit_offset { 1.0 } else { 0.0 };
                let weight = self.weights.plain(self.graph, &weight, None, "", offset);
                let squares = self.graph.mul(x, x);
                let axes = self.graph.ints(&[-1]);
                let mean = self.graph.node("ReduceMean", &[&squares, &axes]);
                let epsilon = self.graph.float(norm.epsilon);
                let mean = self.graph.add(&mean, &epsilon);
                let root = self.graph.node("Sqrt", &[&mean]);
                let normed = self.graph.node("Div", &[x, &root]);
                self.graph.mul(&normed, &weight)
            }
        }
    }

    /// A norm that only some families have.
    fn optional_norm(&mut self, path: &str, x: Value) -> Value {
        match self.weights.has(&format!("{path}.weight")) {
            true => self.norm(path, self.config.norm, &x),
            false => x,
        }
    }

    fn block(&mut self, x: &Value, pass: &Pass<'_>) -> (Value, [Value; 2]) {
        let path = |name: &str| format!("layers.{}.{name}", pass.layer);
        let normed = self.norm(&path("input_layernorm"), self.config.norm, x);
        let (attended, cache) = self.attention(&path("self_attn"), &normed, pass);
        let attended = self.optional_norm(&path("attention_output_layernorm"), attended);
        let joined = self.graph.add(x, &attended);
        let fed = match self.config.residual {
            Residual::Sequential | Residual::Sandwich => joined.clone(),
            Residual::Parallel { shared_norm: true } => normed,
            Residual::Parallel { shared_norm: false } => x.clone(),
        };
        let fed = self.optional_norm(&path("post_attention_layernorm"), fed);
        let fed = match self.config.experts.filter(|_| self.config.layers[pass.layer].sparse) {
            Some(experts) => self.experts(&path("moe"), &experts, &fed),
            None => self.mlp(&path("mlp"), &fed),
        };
        let fed = self.optional_norm(&path("mlp_output_layernorm"), fed);
        (self.graph.add(&joined, &fed), cache)
    }

    fn attention(&mut self, path: &str, x: &Value, pass: &Pass<'_>) -> (Value, [Value; 2]) {
        let attention = self.config.attention;
        let (heads, groups) = (attention.num_attention_heads, attention.num_key_value_heads);
        let head_dim = attention.head_dim;
        let [q, k, v] = self.projected(path, x);
        let mut q = self.split_heads(&q, heads);
        let mut k = self.split_heads(&k, groups);
        let mut v = self.split_heads(&v, groups);
        if let Some(norm) = attention.query_key_norm {
            q = self.norm(&format!("{path}.q_norm"), norm, &q);
            k = self.norm(&format!("{path}.k_norm"), norm, &k);
        }
        if let Some(rotary) = pass.rotary {
            q = rotary.apply(self.graph, &q, head_dim);
            k = rotary.apply(self.graph, &k, head_dim);
        }
        if let Some(scale) = pass.query_scale {
            q = self.graph.mul(&q, scale);
        }
        if let Some([past_keys, past_values]) = pass.past {
            k = self.graph.concat(&[past_keys, &k], 2);
            v = self.graph.concat(&[past_values, &v], 2);
        }
        let cache = [k.clone(), v.clone()];
        let q = self.graph.scaled(&q, attention.layer_scale(pass.layer));
        let mixed = self.mixed(&q, &k, &v, pass.mask);
        let mixed = self.graph.transpose(&mixed, &[0, 2, 1, 3]);
        let mixed = self.graph.reshape(&mixed, &[0, 0, attention.query_size() as i64]);
        (self.linear(&format!("{path}.o_proj"), &mixed), cache)
    }

    /// Queries, keys and values, of one matrix or of three.
    fn projected(&mut self, path: &str, x: &Value) -> [Value; 3] {
        let attention = self.config.attention;
        let (heads, groups, head_dim) =
            (attention.num_attention_heads, attention.num_key_value_heads, attention.head_dim);
        let (query, key_value) = (attention.query_size(), attention.key_value_size());
        let parts: [Vec<usize>; 3] = match attention.projections {
            Projections::Separate => [query, key_value, key_value].map(|rows| (0..rows).collect()),
            Projections::Joined => {
                let starts = [0, query, query + key_value, query + 2 * key_value];
                [0, 1, 2].map(|part| (starts[part]..starts[part + 1]).collect())
            }
            Projections::Interleaved => [0, 1, 2].map(|part| {
                let rows = |head: usize| (0..head_dim).map(move |at| (head * 3 + part) * head_dim + at);
                (0..heads).flat_map(rows).collect()
            }),
        };
        let names = ["q_proj", "k_proj", "v_proj"];
        let counts = [heads, groups, 0];
        let mut index = 0;
        parts.map(|rows| {
            let order = halves_of_pairs(self.config, counts[index]).filter(|order| !order.is_empty());
            let turned = order.map(|order| order.iter().map(|at| rows[*at]).collect::<Vec<usize>>());
            let name = names[index];
            index += 1;
            match (attention.projections, turned) {
                (Projections::Separate, turned) => self.linear_rows(&format!("{path}.{name}"), x, turned, ""),
                (_, turned) => {
                    let rows = Some(turned.unwrap_or(rows));
                    self.linear_rows(&format!("{path}.qkv_proj"), x, rows, &format!(".{name}"))
                }
            }
        })
    }

    /// `[batch, sequence, heads * head_dim]` -> `[batch, heads, sequence, head_dim]`.
    fn split_heads(&mut self, x: &Value, heads: usize) -> Value {
        let x = self.graph.reshape(x, &[0, 0, heads as i64, self.config.attention.head_dim as i64]);
        self.graph.transpose(&x, &[0, 2, 1, 3])
    }

    /// Values mixed by how queries and keys agree; groups of queries share keys without a copy of them.
    fn mixed(&mut self, q: &Value, k: &Value, v: &Value, mask: &Value) -> Value {
        let attention = self.config.attention;
        let (heads, groups) = (attention.num_attention_heads as i64, attention.num_key_value_heads as i64);
        let head_dim = attention.head_dim as i64;
        let grouped = heads != groups;
        let keys = self.graph.transpose(k, &[0, 1, 3, 2]);
        let (q, keys, values, mask) = if grouped {
            let q = self.graph.reshape(q, &[0, groups, heads / groups, -1, head_dim]);
            let keys = self.graph.unsqueeze(&keys, &[2]);
            let values = self.graph.unsqueeze(v, &[2]);
            (q, keys, values, self.graph.unsqueeze(mask, &[1]))
        } else {
            (q.clone(), keys, v.clone(), mask.clone())
        };
        let scores = self.graph.matmul(&q, &keys);
        let scores = soft_capped(self.graph, &scores, attention.softcap);
        let scores = self.graph.add(&scores, &mask);
        let shares = self.graph.softmax(&scores);
        let mixed = self.graph.matmul(&shares, &values);
        if grouped { self.graph.reshape(&mixed, &[0, heads, -1, head_dim]) } else { mixed }
    }

    fn mlp(&mut self, path: &str, x: &Value) -> Value {
        let mlp = self.config.mlp;
        let joined = self.weights.has(&format!("{path}.gate_up_proj.weight"));
        let inner = match mlp.gate {
            Gate::None => {
                let up = self.linear(&format!("{path}.up_proj"), x);
                self.activation(&up, mlp.activation)
            }
            Gate::Separate | Gate::Joined => {
                let (gate, up) = if joined {
                    let (path, size) = (format!("{path}.gate_up_proj"), mlp.intermediate_size);
                    let gate = self.linear_rows(&path, x, Some((0..size).collect()), ".gate_proj");
                    (gate, self.linear_rows(&path, x, Some((size..2 * size).collect()), ".up_proj"))
                } else {
                    let gate = self.linear(&format!("{path}.gate_proj"), x);
                    (gate, self.linear(&format!("{path}.up_proj"), x))
                };
                let gate = self.activation(&gate, mlp.activation);
                self.graph.mul(&gate, &up)
            }
        };
        self.linear(&format!("{path}.down_proj"), &inner)
    }

    fn activation(&mut self, x: &Value, activation: Activation) -> Value {
        match activation {
            Activation::Relu => self.graph.node("Relu", &[x]),
            Activation::Silu => {
                let share = self.graph.node("Sigmoid", &[x]);
                self.graph.mul(x, &share)
            }
            Activation::Gelu => {
                let scaled = self.graph.scaled(x, std::f64::consts::FRAC_1_SQRT_2);
                let error = self.graph.node("Erf", &[&scaled]);
                self.half_of(x, &error)
            }
            Activation::GeluTanh => {
                let square = self.graph.mul(x, x);
                let cube = self.graph.mul(&square, x);
                let cube = self.graph.scaled(&cube, 0.044715);
                let sum = self.graph.add(x, &cube);
                let scaled = self.graph.scaled(&sum, (2.0 / std::f64::consts::PI).sqrt());
                let bounded = self.graph.node("Tanh", &[&scaled]);
                self.half_of(x, &bounded)
            }
        }
    }

    /// `x * (1 + share) / 2`
    fn half_of(&mut self, x: &Value, share: &Value) -> Value {
        let one = self.graph.float(1.0);
        let sum = self.graph.add(share, &one);
        let product = self.graph.mul(x, &sum);
        self.graph.scaled(&product, 0.5)
    }

    /// Each expert sees the rows that chose it, and adds what it makes of them by their weights.
    fn experts(&mut self, path: &str, experts: &ExpertsConfig, x: &Value) -> Value {
        let shape = self.graph.node("Shape", &[x]);
        let rows = self.graph.reshape(x, &[-1, self.config.hidden_size as i64]);
        let weights = self.routed(path, experts, &rows);
        let row_shape = self.graph.node("Shape", &[&rows]);
        let mut mixed = self.graph.node("ConstantOfShape", &[&row_shape]);
        let zero = self.graph.float(0.0);
        for expert in 0..experts.num_experts {
            let at = self.graph.int(expert as i64);
            let of_expert = self.graph.node_with("Gather", &[&weights, &at], &[("axis", Attribute::Int(1))]);
            let chosen = self.graph.node("Greater", &[&of_expert, &zero]);
            let chosen = self.graph.node("NonZero", &[&chosen]);
            let chosen = self.graph.reshape(&chosen, &[-1]);
            let seen = self.graph.node("Gather", &[&rows, &chosen]);
            let made = self.mlp(&format!("{path}.experts.{expert}"), &seen);
            let share = self.graph.node("Gather", &[&of_expert, &chosen]);
            let share = self.graph.unsqueeze(&share, &[1]);
            let made = self.graph.mul(&made, &share);
            let places = self.graph.unsqueeze(&chosen, &[1]);
            let add = [("reduction", Attribute::Text("add"))];
            mixed = self.graph.node_with("ScatterND", &[&mixed, &places, &made], &add);
        }
        if experts.shared_expert_intermediate_size.is_some() {
            let made = self.mlp(&format!("{path}.shared_expert"), &rows);
            let gate = self.linear(&format!("{path}.shared_expert_gate"), &rows);
            let gate = self.graph.node("Sigmoid", &[&gate]);
            let made = self.graph.mul(&made, &gate);
            mixed = self.graph.add(&mixed, &made);
        }
        self.graph.node("Reshape", &[&mixed, &shape])
    }

    /// The weight of each expert for each row, 0 where it was not chosen: `[rows, experts]`.
    fn routed(&mut self, path: &str, experts: &ExpertsConfig, rows: &Value) -> Value {
        let scores = self.linear(&format!("{path}.router"), rows);
        let shares = self.graph.softmax(&scores);
        let count = self.graph.ints(&[experts.num_experts_per_tok as i64]);
        let [mut best, chosen] =
            self.graph.nodes_with("TopK", &[&shares, &count], &[("axis", Attribute::Int(-1))]);
        if experts.norm_topk_prob {
            let axes = self.graph.ints(&[-1]);
            let sum = self.graph.node("ReduceSum", &[&best, &axes]);
            best = self.graph.node("Div", &[&best, &sum]);
        }
        let shape = self.graph.node("Shape", &[&shares]);
        let none = self.graph.node("ConstantOfShape", &[&shape]);
        self.graph.node_with("ScatterElements", &[&none, &chosen, &best], &[("axis", Attribute::Int(1))])
    }
}
