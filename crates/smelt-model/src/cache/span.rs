//! A stretch of a sequence's keys and values, kept apart from any cache.

use std::ops::Range;

use burn::tensor::backend::Backend;
use smelt_backend::Kernels;

use super::CacheBits;
use super::rows::SpanRows;
use crate::config::DecoderConfig;
use crate::error::ModelError;
use crate::weights::{TensorFile, TensorFileWriter};

/// Keys and values of consecutive positions in all layers.
#[derive(Debug, Clone)]
pub struct KvSpan<B: Backend> {
    /// Keys and values of each layer.
    layers: Vec<[SpanRows<B>; 2]>,
    len: usize,
}

impl<B: Kernels> KvSpan<B> {
    pub(super) fn new(layers: Vec<[SpanRows<B>; 2]>, len: usize) -> Self {
        Self { layers, len }
    }

    pub(super) fn layers(&self) -> &[[SpanRows<B>; 2]] {
        &self.layers
    }

    /// Positions.
    pub fn len(&self) -> usize {
        self.len
    }

    /// It holds no position.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Memory that it takes.
    pub fn bytes(&self) -> u64 {
        self.layers.iter().flatten().map(|rows| rows.bytes() as u64).sum()
    }

    /// A copy of the positions `range`.
    pub fn part(&self, range: Range<usize>) -> Self {
        let part = |layer: &[SpanRows<B>; 2]| layer.each_ref().map(|rows| rows.part(range.clone()));
        Self { layers: self.layers.iter().map(part).collect(), len: range.len() }
    }

    /// Adds its tensors to a file, under names that begin with `name`.
    pub fn add_to<'a>(&'a self, name: &str, file: &mut TensorFileWriter<'a>) {
        for (layer, rows) in self.layers.iter().enumerate() {
            for (kind, rows) in KINDS.iter().zip(rows) {
                rows.add_to(&format!("{name}.layers.{layer}.{kind}"), file);
            }
        }
    }

    /// The span of `len` positions that [`KvSpan::add_to`] wrote, of a model of `config` whose cache is rounded to
    /// `bits`.
    ///
    /// # Errors
    /// Those of [`TensorFile`] for tensors that are missing or of another shape.
    pub fn read(
        file: &TensorFile,
        name: &str,
        len: usize,
        config: &DecoderConfig,
        bits: Option<CacheBits>,
        device: &B::Device,
    ) -> Result<Self, ModelError> {
        let shape = [config.attention.num_key_value_heads, len, config.attention.head_dim];
        let rows = |layer: usize, kind: &str| {
            SpanRows::read(file, &format!("{name}.layers.{layer}.{kind}"), shape, bits, device)
        };
        let layer = |layer| Ok([rows(layer, KINDS[0])?, rows(layer, KINDS[1])?]);
        let layers = (0..config.num_hidden_layers).map(layer).collect::<Result<_, ModelError>>()?;
        Ok(Self { layers, len })
    }
}

/// What a layer has rows of.
const KINDS: [&str; 2] = ["keys", "values"];
