//! What depends on positions and lengths: masks, rotations, scales of queries.

use smelt_backend::kernels::RotaryStyle;
use smelt_model::{DecoderConfig, RopeLengths, RopeScaling, RotaryConfig};

use super::graph::{Attribute, BOOL, FLOAT, Graph, Value};

/// Below every score, and finite: a row that sees nothing stays a number.
const MASKED: f64 = -3.0e38;

/// Positions in the buffer of all keys, whatever their ids are.
pub(super) struct Places {
    /// Number of keys, one integer.
    pub(super) keys: Value,
    /// Of each key, `[keys]`.
    key_places: Value,
    /// Of each query, `[queries, 1]`.
    query_places: Value,
}

impl Places {
    /// From `input_ids` `[batch, queries]` and `attention_mask` `[batch, keys]`.
    pub(super) fn new(graph: &mut Graph, input_ids: &Value, attention_mask: &Value) -> Self {
        let keys = graph.size(attention_mask, 1);
        let queries = graph.size(input_ids, 1);
        let past = graph.node("Sub", &[&keys, &queries]);
        let (zero, one) = (graph.int(0), graph.int(1));
        let key_places = graph.node("Range", &[&zero, &keys, &one]);
        let query_places = graph.node("Range", &[&past, &keys, &one]);
        let query_places = graph.unsqueeze(&query_places, &[1]);
        Self { keys, key_places, query_places }
    }

    /// Added to scores, `[batch, 1, queries, keys]`: 0 where a query may see a key.
    pub(super) fn mask(&self, graph: &mut Graph, attention_mask: &Value, window: Option<usize>) -> Value {
        let mut allowed = graph.node("LessOrEqual", &[&self.key_places, &self.query_places]);
        if let Some(window) = window {
            let window = graph.int(window as i64);
            let last_out = graph.node("Sub", &[&self.query_places, &window]);
            let inside = graph.node("Greater", &[&self.key_places, &last_out]);
            allowed = graph.node("And", &[&allowed, &inside]);
        }
        let kept = graph.cast(attention_mask, BOOL);
        let kept = graph.unsqueeze(&kept, &[1, 2]);
        let allowed = graph.node("And", &[&allowed, &kept]);
        let (seen, unseen) = (graph.float(0.0), graph.float(MASKED));
        graph.node("Where", &[&allowed, &seen, &unseen])
    }

    /// `max(1, log_base(place))` of places counted from 1, `[queries, 1]`.
    pub(super) fn log_scale(&self, graph: &mut Graph, base: usize) -> Value {
        let one = graph.int(1);
        let place = graph.add(&self.query_places, &one);
        let place = graph.cast(&place, FLOAT);
        let log = graph.node("Log", &[&place]);
        let scale = graph.scaled(&log, (base as f64).ln().recip());
        let least = graph.float(1.0);
        graph.node("Max", &[&scale, &least])
    }
}

/// Cosines and sines of one rotation, each `[batch, 1, queries, rotary_dim / 2]`.
pub(super) struct Tables {
    cos: Value,
    sin: Value,
    rotary_dim: usize,
}

impl Tables {
    /// Of `position_ids` `[batch, queries]`.
    pub(super) fn new(
        graph: &mut Graph,
        config: &RotaryConfig,
        position_ids: &Value,
        places: &Places,
    ) -> Self {
        let positions = graph.cast(position_ids, FLOAT);
        let positions = graph.unsqueeze(&positions, &[1, 3]);
        let frequencies = frequencies(graph, config, places);
        let angles = graph.mul(&positions, &frequencies);
        let factor = match &config.scaling {
            RopeScaling::Yarn(yarn) => yarn.attention_factor,
            RopeScaling::LongRope { attention_factor, .. } => *attention_factor,
            _ => 1.0,
        };
        let mut table = |op: &str| {
            let values = graph.node(op, &[&angles]);
            if factor == 1.0 { values } else { graph.scaled(&values, factor) }
        };
        Self { cos: table("Cos"), sin: table("Sin"), rotary_dim: config.rotary_dim }
    }

    /// `x` `[batch, heads, queries, head_dim]` with its leading features rotated, halves against each other.
    pub(super) fn apply(&self, graph: &mut Graph, x: &Value, head_dim: usize) -> Value {
        let (half, whole) = (self.rotary_dim as i64 / 2, self.rotary_dim as i64);
        let first = graph.slice(x, 3, 0, half);
        let second = graph.slice(x, 3, half, whole);
        let a = graph.mul(&first, &self.cos);
        let b = graph.mul(&second, &self.sin);
        let c = graph.mul(&second, &self.cos);
        let d = graph.mul(&first, &self.sin);
        let left = graph.node("Sub", &[&a, &b]);
        let right = graph.add(&c, &d);
        if self.rotary_dim == head_dim {
            return graph.concat(&[&left, &right], 3);
        }
        let rest = graph.slice(x, 3, whole, head_dim as i64);
        graph.concat(&[&left, &right, &rest], 3)
    }
}

/// Radians per position, `[rotary_dim / 2]`, where need be from the number of keys.
fn frequencies(graph: &mut Graph, config: &RotaryConfig, places: &Places) -> Value {
    let at = |length: usize| config.inverse_frequencies(RopeLengths { sequence: length, prompt: length });
    let pairs = config.rotary_dim / 2;
    let shortest = graph.floats(&at(1), &[pairs]);
    match &config.scaling {
        RopeScaling::LongRope { original_length, .. } => {
            let long = graph.floats(&at(original_length + 1), &[pairs]);
            let original = graph.int(*original_length as i64);
            let is_long = graph.node("Greater", &[&places.keys, &original]);
            graph.node("Where", &[&is_long, &long, &shortest])
        }
        RopeScaling::Dynamic { factor, original_length } => {
            let original = *original_length as f64;
            let length = graph.cast(&places.keys, FLOAT);
            let least = graph.float(original);
            let length = graph.node("Max", &[&length, &least]);
            let grown = graph.scaled(&length, factor / original);
            let less = graph.float(factor - 1.0);
            let growth = graph.node("Sub", &[&grown, &less]);
            grown_frequencies(graph, &shortest, &growth, config.rotary_dim)
        }
        RopeScaling::PromptNtk { original_length } => {
            let length = graph.cast(&places.keys, FLOAT);
            let share = graph.scaled(&length, (*original_length as f64).recip());
            let log = graph.node("Log", &[&share]);
            let log = graph.scaled(&log, std::f64::consts::LN_2.recip());
            let one = graph.float(1.0);
            let doublings = graph.add(&log, &one);
            let doublings = graph.node("Ceil", &[&doublings]);
            let two = graph.float(2.0);
            let power = graph.node("Pow", &[&two, &doublings]);
            let growth = graph.node("Sub", &[&power, &one]);
            let growth = graph.node("Max", &[&growth, &one]);
            grown_frequencies(graph, &shortest, &growth, config.rotary_dim)
        }
        _ => shortest,
    }
}

/// Frequencies after the base grew so that the lowest is divided by `growth`: each by a power of it.
fn grown_frequencies(graph: &mut Graph, plain: &Value, growth: &Value, rotary_dim: usize) -> Value {
    let pairs = rotary_dim / 2;
    if rotary_dim <= 2 {
        return plain.clone();
    }
    let exponent = |pair: usize| -(2.0 * pair as f64) as f32 / (rotary_dim - 2) as f32;
    let exponents: Vec<f32> = (0..pairs).map(exponent).collect();
    let exponents = graph.floats(&exponents, &[pairs]);
    let divisors = graph.node("Pow", &[growth, &exponents]);
    graph.mul(plain, &divisors)
}

/// The rows of queries or keys in an order in which pairs are halves: scores do not change.
pub(super) fn halves_of_pairs(config: &DecoderConfig, heads: usize) -> Option<Vec<usize>> {
    let rotary = config.rotary().first().filter(|rotary| rotary.style == RotaryStyle::Interleaved)?;
    let (head_dim, half) = (config.attention.head_dim, rotary.rotary_dim / 2);
    let feature = |at: usize| match at {
        at if at < half => 2 * at,
        at if at < 2 * half => 2 * (at - half) + 1,
        at => at,
    };
    Some((0..heads).flat_map(|head| (0..head_dim).map(move |at| head * head_dim + feature(at))).collect())
}

/// `[batch, heads, queries, keys]` scores through a soft-cap.
pub(super) fn soft_capped(graph: &mut Graph, scores: &Value, cap: Option<f64>) -> Value {
    let Some(cap) = cap else { return scores.clone() };
    let scaled = graph.scaled(scores, cap.recip());
    let bounded = graph.node_with("Tanh", &[&scaled], &[] as &[(&str, Attribute)]);
    graph.scaled(&bounded, cap)
}
