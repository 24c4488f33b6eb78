//! Factors that one part of a block can hand to the next without changing what the model computes.
//!
//! Where a projection reads what a norm or another projection wrote, feature by feature, a factor on the columns of the
//! reader is made good by its inverse in the writer. Which parts these are follows from the configuration, the same for
//! all families. Which factors are of use is for the caller (`awq`).

use crate::config::{DecoderConfig, Gate, NormKind, Projections, Residual};
use crate::decoder::Decoder;
use crate::parameters::ParameterValues;
use crate::weights::NameMap;
use smelt_backend::Kernels;

/// A place for factors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folding {
    writer: Writer,
    /// The paths of all projections that read what the writer wrote, and nothing else. What enters the first is what the
    /// writer writes for every token.
    pub readers: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Writer {
    /// The path of a norm.
    Norm(String),
    /// The path of a projection, and which of its rows each feature is.
    Projection(String, Vec<usize>),
}

impl DecoderConfig {
    /// The places for factors in block `layer`, in the order of the computation.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn foldings(&self, layer: usize) -> Vec<Folding> {
        let place = |name: &str| format!("layers.{layer}.{name}");
        let (attention, feed_forward) = (self.attention_readers(), self.feed_forward_readers(layer));
        let norm = |name: &str, readers: Vec<String>| Folding {
            writer: Writer::Norm(place(name)),
            readers: readers.iter().map(|reader| place(reader)).collect(),
        };
        let mut foldings = match self.residual {
            Residual::Parallel { shared_norm: true } => {
                vec![norm("input_layernorm", [attention, feed_forward].concat())]
            }
            _ => {
                vec![norm("input_layernorm", attention), norm("post_attention_layernorm", feed_forward)]
            }
        };
        let mut projection = |writer: &str, rows: Vec<usize>, reader: &str| {
            let writer = Writer::Projection(place(writer), rows);
            foldings.push(Folding { writer, readers: vec![place(reader)] });
        };
        if let Some((writer, rows)) = self.value_rows() {
            projection(writer, rows, "self_attn.o_proj");
        }
        for (part, size) in self.feed_forward_parts(layer) {
            let reader = format!("{part}.down_proj");
            match self.mlp.gate {
                Gate::None => {}
                Gate::Separate => projection(&format!("{part}.up_proj"), (0..size).collect(), &reader),
                Gate::Joined => {
                    projection(&format!("{part}.gate_up_proj"), (size..2 * size).collect(), &reader)
                }
            }
        }
        foldings
    }

    /// What reads the norm in front of the attention.
    fn attention_readers(&self) -> Vec<String> {
        let names: &[&str] = match self.attention.projections {
            Projections::Separate => &["q_proj", "k_proj", "v_proj"],
            _ => &["qkv_proj"],
        };
        names.iter().map(|name| format!("self_attn.{name}")).collect()
    }

    /// What reads the norm in front of the feed-forward part.
    fn feed_forward_readers(&self, layer: usize) -> Vec<String> {
        let names: &[&str] = match self.mlp.gate {
            Gate::None => &["up_proj"],
            Gate::Separate => &["gate_proj", "up_proj"],
            Gate::Joined => &["gate_up_proj"],
        };
        let parts = self.feed_forward_parts(layer);
        let projections =
            parts.iter().flat_map(|(part, _)| names.iter().map(move |name| format!("{part}.{name}")));
        match self.experts.filter(|_| self.layers[layer].sparse) {
            None => projections.collect(),
            Some(experts) => {
                let gate =
                    experts.shared_expert_intermediate_size.map(|_| "moe.shared_expert_gate".to_owned());
                std::iter::once("moe.router".to_owned()).chain(projections).chain(gate).collect()
            }
        }
    }

    /// The dense feed-forward parts of a block, with their widths.
    fn feed_forward_parts(&self, layer: usize) -> Vec<(String, usize)> {
        match self.experts.filter(|_| self.layers[layer].sparse) {
            None => vec![("mlp".to_owned(), self.mlp.intermediate_size)],
            Some(experts) => {
                let own = (0..experts.num_experts)
                    .map(|index| (format!("moe.experts.{index}"), experts.intermediate_size));
                let shared = experts
                    .shared_expert_intermediate_size
                    .map(|size| ("moe.shared_expert".to_owned(), size));
                own.chain(shared).collect()
            }
        }
    }

    /// The rows that each feature of the output projection is a mixture of, where every query head has a value head of
    /// its own.
    fn value_rows(&self) -> Option<(&'static str, Vec<usize>)> {
        let attention = self.attention;
        let (heads, width) = (attention.num_attention_heads, attention.head_dim);
        (attention.num_key_value_heads == heads).then(|| match attention.projections {
            Projections::Separate => ("self_attn.v_proj", (0..heads * width).collect()),
            Projections::Joined => ("self_attn.qkv_proj", (2 * heads * width..3 * heads * width).collect()),
            Projections::Interleaved => {
                let rows = |head: usize| (3 * head + 2) * width..(3 * head + 3) * width;
                ("self_attn.qkv_proj", (0..heads).flat_map(rows).collect())
            }
        })
    }
}

impl<B: Kernels> Decoder<B> {
    /// Multiplies the columns of the readers by `factors` and divides the writer by them; returns the new values of all
    /// parameters that changed. The model computes the same as before, but for the rounding of f32, in which the changed
    /// parameters are held.
    ///
    /// # Panics
    /// If a matrix is packed, or there is another number of factors than features.
    pub fn fold(&mut self, names: &NameMap, folding: &Folding, factors: &[f32]) -> ParameterValues {
        let mut paths: Vec<String> = folding.readers.iter().map(|path| format!("{path}.weight")).collect();
        let (Writer::Norm(writer) | Writer::Projection(writer, _)) = &folding.writer;
        let [weight, bias] = ["weight", "bias"].map(|part| format!("{writer}.{part}"));
        paths.extend([weight.clone(), bias.clone()]);
        let mut values = self.parameter_values(names, &paths);
        for reader in &folding.readers {
            let values = values.get_mut(&format!("{reader}.weight")).expect("a matrix in floats");
            for row in values.chunks_exact_mut(factors.len()) {
                row.iter_mut().zip(factors).for_each(|(value, factor)| *value *= factor);
            }
        }
        if let Some(bias) = values.get_mut(&bias) {
            let rows = folding.rows(factors.len());
            rows.zip(factors).for_each(|(row, factor)| bias[row] /= factor);
        }
        let weight = values.get_mut(&weight).expect("a weight in floats");
        match &folding.writer {
            Writer::Norm(_) => {
                let offset = match self.config().norm.kind {
                    NormKind::RmsNorm { unit_offset: true } => 1.0,
                    _ => 0.0,
                };
                let scaled = |value: f32, factor: f32| (value + offset) / factor - offset;
                weight.iter_mut().zip(factors).for_each(|(value, factor)| *value = scaled(*value, *factor));
            }
            Writer::Projection(path, _) => {
                let [_, columns] = self.matrix(path).expect("a projection").dims();
                for (row, factor) in folding.rows(factors.len()).zip(factors) {
                    weight[row * columns..][..columns].iter_mut().for_each(|value| *value /= factor);
                }
            }
        }
        self.put_parameter_values(names, &values);
        values
    }
}

impl Folding {
    /// Which row of the writer each feature is.
    fn rows(&self, features: usize) -> Box<dyn Iterator<Item = usize> + '_> {
        match &self.writer {
            Writer::Norm(_) => Box::new(0..features),
            Writer::Projection(_, rows) => {
                assert_eq!(rows.len(), features, "features of `{}`", self.readers[0]);
                Box::new(rows.iter().copied())
            }
        }
    }
}
