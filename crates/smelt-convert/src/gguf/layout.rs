//! How the rows of a parameter are ordered in a GGUF file, and what was done to its values.
//!
//! Every change that llama.cpp's conversion makes but one moves whole rows, so that one list of rows serves both
//! directions and every type of tensor: blocks of a quantization lie within rows.

use smelt_model::{AttentionConfig, DecoderConfig, NormKind, ParameterInfo, Projections, Role};

use super::architecture::Architecture;

/// What a parameter is in the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    /// The row of the parameter that each row in the file is; the same order without.
    pub(super) rows: Option<Vec<usize>>,
    /// Added to each value of the parameter.
    pub(super) offset: f32,
}

impl Layout {
    /// Of the parameter `info` in files of `architecture`.
    pub(super) fn of(info: &ParameterInfo, config: &DecoderConfig, architecture: &Architecture) -> Self {
        let module = info.path.rsplit_once('.').map_or("", |(module, _)| module);
        let attention = &config.attention;
        let rows = match module.rsplit('.').next() {
            Some("q_proj") if architecture.rotates_pairs => {
                Some(pairs(attention.num_attention_heads, attention.head_dim))
            }
            Some("k_proj") if architecture.rotates_pairs => {
                Some(pairs(attention.num_key_value_heads, attention.head_dim))
            }
            Some("qkv_proj") if attention.projections == Projections::Interleaved => Some(apart(attention)),
            _ => None,
        };
        let offset = match (info.role, config.norm.kind) {
            (Role::Norm, NormKind::RmsNorm { unit_offset: true }) => 1.0,
            _ => 0.0,
        };
        Self { rows, offset }
    }

    /// The row in the file that each row of the parameter is.
    pub(super) fn inverse(&self) -> Option<Vec<usize>> {
        let rows = self.rows.as_ref()?;
        let mut inverse = vec![0; rows.len()];
        rows.iter().enumerate().for_each(|(file, row)| inverse[*row] = file);
        Some(inverse)
    }
}

/// Halves of each head become neighbours: llama.cpp rotates Llama's features in pairs.
fn pairs(heads: usize, head_dim: usize) -> Vec<usize> {
    let half = head_dim / 2;
    let row = |head: usize, at: usize| head * head_dim + at % 2 * half + at / 2;
    (0..heads).flat_map(|head| (0..head_dim).map(move |at| row(head, at))).collect()
}

/// Queries, keys and values of each head become those of all heads.
fn apart(attention: &AttentionConfig) -> Vec<usize> {
    let AttentionConfig { num_attention_heads: heads, head_dim, .. } = *attention;
    let rows = |part: usize, head: usize| {
        let first = (head * 3 + part) * head_dim;
        first..first + head_dim
    };
    (0..3).flat_map(|part| (0..heads).flat_map(move |head| rows(part, head))).collect()
}

/// `rows` of `width` each, picked from `values` in the order of `order`.
pub(crate) fn reordered<T: Copy>(values: &[T], width: usize, order: &[usize]) -> Vec<T> {
    let row = |row: &usize| values[row * width..(row + 1) * width].iter().copied();
    order.iter().flat_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_become_neighbours_and_come_back() {
        let rows = pairs(2, 4);
        assert_eq!(rows, [0, 2, 1, 3, 4, 6, 5, 7]);
        let layout = Layout { rows: Some(rows.clone()), offset: 0.0 };
        let there = reordered(&[10, 11, 12, 13, 14, 15, 16, 17], 1, &rows);
        assert_eq!(there, [10, 12, 11, 13, 14, 16, 15, 17]);
        assert_eq!(reordered(&there, 1, &layout.inverse().unwrap()), [10, 11, 12, 13, 14, 15, 16, 17]);
    }
}
