//! The rows of one layer's keys, or values: floats on the device, or packed bytes on the host.

use std::ops::Range;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use smelt_backend::{Kernels, float_tensor, to_host, zeros};

use super::packed::{CODES, CacheBits, GROUPS, PackedHeads};
use crate::error::ModelError;
use crate::weights::{TensorFile, TensorFileWriter};

/// Rows of positions, `[1, kv_heads, room, head_dim]`.
#[derive(Debug, Clone)]
pub(super) enum Rows<B: Backend> {
    /// `None` only while being written.
    Plain(Option<Tensor<B, 4>>),
    Packed(PackedHeads, B::Device),
}

/// Copies of some of them.
#[derive(Debug, Clone)]
pub(super) enum SpanRows<B: Backend> {
    /// `[1, kv_heads, positions, head_dim]`
    Plain(Tensor<B, 4>),
    Packed(PackedHeads),
}

impl<B: Kernels> Rows<B> {
    /// Memory for `[kv_heads, room, head_dim]`.
    pub fn new([heads, room, head_dim]: [usize; 3], bits: Option<CacheBits>, device: &B::Device) -> Self {
        match bits {
            Some(bits) => {
                Self::Packed(PackedHeads::new(heads, head_dim, bits).with_room(room), device.clone())
            }
            None => Self::Plain(Some(zeros([1, heads, room, head_dim], device))),
        }
    }

    /// Writes the positions `taken` of `new` `[1, kv_heads, seq, head_dim]` from row `start` on, and returns a tensor
    /// that holds the rows `visible`, and where.
    pub fn extended(
        &mut self,
        new: &Tensor<B, 4>,
        taken: Range<usize>,
        start: usize,
        visible: Range<usize>,
    ) -> (Tensor<B, 4>, Range<usize>) {
        match self {
            Self::Plain(buffer) => (written(buffer, new, taken, start), visible),
            Self::Packed(heads, device) => {
                heads.truncate(start);
                heads.push(&to_host(new.clone().narrow(2, taken.start, taken.len())));
                let count = visible.len();
                let shape = [1, heads.count(), count, heads.head_dim()];
                (float_tensor(heads.floats(visible), shape, device), 0..count)
            }
        }
    }

    /// Writes the rows `range` of `span` from row `start` on.
    pub fn append(&mut self, span: &SpanRows<B>, range: Range<usize>, start: usize) {
        match (self, span) {
            (Self::Plain(buffer), SpanRows::Plain(rows)) => {
                written(buffer, rows, range, start);
            }
            (Self::Packed(heads, _), SpanRows::Packed(rows)) => {
                heads.truncate(start);
                heads.append(&rows.slice(range));
            }
            _ => unreachable!("the caches of a model keep their rows in one form"),
        }
    }

    /// Moves the last `kept` of `held` rows to the front.
    pub fn keep_last(&mut self, kept: usize, held: usize) {
        match self {
            Self::Plain(buffer) => {
                let whole = buffer.take().expect(PRESENT);
                let front = zeros(whole.dims(), &whole.device());
                *buffer = Some(B::write_positions(front, &whole, held - kept..held, 0));
            }
            Self::Packed(heads, _) => heads.keep(held - kept..held),
        }
    }

    /// A copy of the rows `range`.
    pub fn copied(&self, range: Range<usize>) -> SpanRows<B> {
        match self {
            Self::Plain(buffer) => SpanRows::Plain(copied(buffer.as_ref().expect(PRESENT), range)),
            Self::Packed(heads, _) => SpanRows::Packed(heads.slice(range)),
        }
    }
}

impl<B: Kernels> SpanRows<B> {
    /// A copy of the rows `range`.
    pub fn part(&self, range: Range<usize>) -> Self {
        match self {
            Self::Plain(rows) => Self::Plain(copied(rows, range)),
            Self::Packed(heads) => Self::Packed(heads.slice(range)),
        }
    }

    /// Memory that they take.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Plain(rows) => rows.shape().num_elements() * rows.dtype().size(),
            Self::Packed(heads) => heads.bytes(),
        }
    }
}

impl<B: Backend> SpanRows<B> {
    /// Adds them to a file as `name`.
    pub fn add_to<'a>(&'a self, name: &str, file: &mut TensorFileWriter<'a>) {
        match self {
            Self::Plain(rows) => {
                let [_, heads, count, head_dim] = rows.dims();
                file.add_f32(name, &[heads, count, head_dim], || to_host(rows.clone()).into());
            }
            Self::Packed(heads) => {
                for (part, shape, bytes) in heads.parts() {
                    file.add_u8(format!("{name}.{part}"), &shape, move || bytes.into());
                }
            }
        }
    }

    /// What [`SpanRows::add_to`] wrote, `[kv_heads, positions, head_dim]`.
    pub fn read(
        file: &TensorFile,
        name: &str,
        shape @ [heads, count, head_dim]: [usize; 3],
        bits: Option<CacheBits>,
        device: &B::Device,
    ) -> Result<Self, ModelError> {
        let Some(bits) = bits else {
            let values = file.f32_of_shape(name, &shape)?;
            return Ok(Self::Plain(float_tensor(values, [1, heads, count, head_dim], device)));
        };
        let empty = PackedHeads::new(heads, head_dim, bits);
        let part = |part: &str, width| file.u8_of_shape(&format!("{name}.{part}"), &[heads, count, width]);
        let [codes, groups] = empty.widths();
        Ok(Self::Packed(empty.filled(&part(CODES, codes)?, &part(GROUPS, groups)?)))
    }
}

const PRESENT: &str = "a cache buffer is absent only while it is written";

/// Writes the positions `taken` of `new` from row `start` on; the buffer is moved out and back, so that it is written
/// in place.
fn written<B: Kernels>(
    buffer: &mut Option<Tensor<B, 4>>,
    new: &Tensor<B, 4>,
    taken: Range<usize>,
    start: usize,
) -> Tensor<B, 4> {
    let whole = B::write_positions(buffer.take().expect(PRESENT), new, taken, start);
    *buffer = Some(whole.clone());
    whole
}

/// Rows of their own: a view would keep the whole buffer alive.
fn copied<B: Kernels>(rows: &Tensor<B, 4>, range: Range<usize>) -> Tensor<B, 4> {
    let [batch, heads, _, features] = rows.dims();
    let copy = zeros([batch, heads, range.len(), features], &rows.device());
    B::write_positions(copy, rows, range, 0)
}
