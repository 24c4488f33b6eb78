//! The forward pass, of a batch or of sequences with keys and values of their own.

use std::cell::RefCell;
use std::ops::Range;

use burn::tensor::Tensor;
use burn_flex::Flex;

use super::{Heads, Held, Mask, Scores, TILE, readable};
use crate::backends::cpu::fill::zeros;
use crate::backends::cpu::matrix::{Columns, Destination, Threads, View, product};
use crate::backends::cpu::{from_vec, team};
use crate::kernels::{AttentionOptions, AttentionSegment};

/// Multiplications of queries and keys from which on threads share the work, and those that are awake.
const FEWEST_MULTIPLICATIONS: usize = 1 << 18;
const FEWEST_AWAKE: usize = 1 << 14;

/// As `Kernels::attention`.
pub(in super::super) fn forward(
    q: Tensor<Flex, 4>,
    k: Tensor<Flex, 4>,
    v: Tensor<Flex, 4>,
    mask: Option<Tensor<Flex, 4>>,
    options: AttentionOptions,
) -> Tensor<Flex, 4> {
    let tensors = [q, k, v].map(readable);
    let [q, k, v] = tensors.each_ref().map(Heads::of);
    let [batch, _, q_len, _] = q.shape;
    let mask = mask.map(Mask::of);
    let sequence = |b| Sequence {
        q,
        k,
        v,
        b,
        kv_b: b,
        first_row: 0,
        rows: q_len,
        first_key: 0,
        scores: Scores::new(mask.as_ref(), options, q_len, k.shape[2]),
    };
    attend(&(0..batch).map(sequence).collect::<Vec<_>>(), [batch, q_len], q)
}

/// As `Kernels::attention_over_segments`.
pub(in super::super) fn over_segments(
    q: Tensor<Flex, 4>,
    segments: Vec<AttentionSegment<Flex>>,
    options: AttentionOptions,
) -> Tensor<Flex, 4> {
    let q = readable(q);
    let q = Heads::of(&q);
    let count = segments.len();
    let (mut held, mut places) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for AttentionSegment { rows, keys, values, visible } in segments {
        held.push([readable(keys), readable(values)]);
        places.push((rows, visible));
    }
    let mut first_row = 0;
    let sequences = held.iter().zip(places).map(|([k, v], (rows, visible))| {
        let (k, v) = (Heads::of(k), Heads::of(v));
        let room = k.shape[2].min(v.shape[2]);
        assert!(
            rows <= visible.len() && visible.end <= room,
            "{rows} rows of {visible:?} of {room} positions"
        );
        let sequence = Sequence {
            q,
            k,
            v,
            b: 0,
            kv_b: 0,
            first_row,
            rows,
            first_key: visible.start,
            scores: Scores::new(None, options, rows, visible.len()),
        };
        first_row += rows;
        sequence
    });
    let sequences: Vec<_> = sequences.collect();
    assert_eq!(first_row, q.shape[2], "the rows of the segments and those of the queries");
    attend(&sequences, [1, first_row], q)
}

/// Queries that share their keys and values.
struct Sequence<'a> {
    q: Heads<'a>,
    k: Heads<'a>,
    v: Heads<'a>,
    /// Place in the batch of the queries, and of the keys and values.
    b: usize,
    kv_b: usize,
    /// Where its rows begin in `q`.
    first_row: usize,
    rows: usize,
    /// Where the keys that count begin.
    first_key: usize,
    scores: Scores<'a>,
}

impl Sequence<'_> {
    /// The keys and values of each head, packed for products.
    fn packed(&self) -> Vec<[Columns; 2]> {
        let mut heads: Vec<[Columns; 2]> = (0..self.k.shape[1]).map(|_| Default::default()).collect();
        let keys = self.first_key..self.first_key + self.scores.kv_len;
        team::for_each(heads.iter_mut().enumerate(), |(head, [k, v])| {
            k.hold(self.k.rows(self.kv_b, head, keys.clone()).transposed());
            v.hold(self.v.rows(self.kv_b, head, keys.clone()));
        });
        heads
    }
}

/// What one thread does at a time: some rows of a sequence, for the key-value heads from one on.
struct Task<'a> {
    sequence: &'a Sequence<'a>,
    /// Of each head, if several tiles share them.
    packed: Option<&'a [[Columns; 2]]>,
    rows: Range<usize>,
    first_kv_head: usize,
    /// `[rows, heads, head_dim]` for the heads that use them.
    output: &'a mut [f32],
}

thread_local! {
    /// Scores, kept for the next tile.
    static SCORES: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// The output of all sequences, which lie one after the other in `[batch, rows]`.
///
/// Its features are written side by side, as the next projection reads them.
fn attend(sequences: &[Sequence<'_>], [batch, rows]: [usize; 2], q: Heads<'_>) -> Tensor<Flex, 4> {
    let [_, heads, _, head_dim] = q.shape;
    let shape = [batch, rows, heads, head_dim];
    let mut output = zeros(shape.iter().product());
    if !output.is_empty() {
        let features = heads * head_dim;
        let products: usize = sequences.iter().map(|sequence| sequence.rows * sequence.scores.kv_len).sum();
        let packed: Vec<_> =
            sequences.iter().map(|sequence| (sequence.rows > TILE).then(|| sequence.packed())).collect();
        let tasks = tasks(sequences, &packed, features, &mut output);
        if products * features < FEWEST_AWAKE {
            tasks.into_iter().for_each(|task| task.run(Threads::One));
        } else if products * features < FEWEST_MULTIPLICATIONS {
            team::for_each_awake(tasks, |task| task.run(Threads::One));
        } else if tasks.len() < team::threads() {
            tasks.into_iter().for_each(|task| task.run(Threads::All));
        } else {
            team::for_each(tasks, |task| task.run(Threads::One));
        }
    }
    from_vec(output, shape).swap_dims(1, 2)
}

fn tasks<'a>(
    sequences: &'a [Sequence<'a>],
    packed: &'a [Option<Vec<[Columns; 2]>>],
    features: usize,
    mut output: &'a mut [f32],
) -> Vec<Task<'a>> {
    /// Tiles of each thread, if there are rows enough, and the fewest rows of a tile then.
    const TILES: usize = 4;
    const FEWEST: usize = 16;
    let total: usize = sequences.iter().map(|sequence| sequence.rows).sum();
    let enough = TILES * team::threads();
    let tile = total.div_ceil(enough).clamp(FEWEST, TILE);
    let mut tasks = Vec::with_capacity(sequences.len());
    for (sequence, packed) in sequences.iter().zip(packed) {
        let packed = packed.as_deref();
        for first in (0..sequence.rows).step_by(tile) {
            let rows = first..sequence.rows.min(first + tile);
            let part;
            (part, output) = output.split_at_mut(rows.len() * features);
            if sequence.rows > 1 || sequences.len() >= enough {
                tasks.push(Task { sequence, packed, rows, first_kv_head: 0, output: part });
                continue;
            }
            // A single row lies head by head, and is divided where there are few.
            for (first_kv_head, output) in part.chunks_mut(features / sequence.k.shape[1]).enumerate() {
                tasks.push(Task { sequence, packed, rows: rows.clone(), first_kv_head, output });
            }
        }
    }
    // Later rows see more keys: who begins with them is not left with them at the end.
    tasks.reverse();
    tasks
}

impl Task<'_> {
    fn run(self, threads: Threads) {
        let Self { sequence, packed, rows, first_kv_head: first, output: all } = self;
        let Sequence { q, k, v, b, kv_b, first_row, first_key, scores, .. } = sequence;
        let head_dim = q.shape[3];
        let group = q.shape[1] / k.shape[1];
        let looked_at = scores.looked_at(rows.clone());
        let at = |row: &usize| first_row + row;
        let features = all.len() / rows.len();
        let kv_heads = features / (group * head_dim);
        for kv_head in first..first + kv_heads {
            let keys = *first_key..first_key + scores.kv_len;
            let held = match packed {
                Some(heads) => heads[kv_head].each_ref().map(Held::Packed),
                None => [k, v].map(|tensor| Held::AsTheyLie(tensor.rows(*kv_b, kv_head, keys.clone()))),
            };
            let heads = kv_head * group..(kv_head + 1) * group;
            let output = &mut all[(kv_head - first) * group * head_dim..];
            if rows.len() == 1 {
                let q = q.position(*b, heads.clone(), at(&rows.start));
                let place = |member| [*b, heads.start + member, rows.start];
                mix(scores, q, held, place, &looked_at, (output, head_dim), threads);
                continue;
            }
            for (member, h) in heads.enumerate() {
                let q = q.rows(*b, h, at(&rows.start)..at(&rows.end));
                let place = |row| [*b, h, rows.start + row];
                let output = &mut output[member * head_dim..];
                mix(scores, q, held, place, &looked_at, (output, features), threads);
            }
        }
    }
}

/// Mixes the values of a head for the queries `q` into `output`, whose rows are a stride apart; `place` says where a row
/// of `q` is in batch, heads and sequence.
fn mix(
    scores: &Scores<'_>,
    q: View<'_>,
    [k, v]: [Held<'_>; 2],
    place: impl Fn(usize) -> [usize; 3],
    looked_at: &Range<usize>,
    (output, stride): (&mut [f32], usize),
    threads: Threads,
) {
    SCORES.with_borrow_mut(|buffer| {
        let width = looked_at.len();
        let needed = q.rows * width;
        if buffer.len() < needed {
            buffer.resize(needed, 0.0);
        }
        let p = &mut buffer[..needed];
        scores.raw(p, q, k, looked_at, threads);
        scores.softmax(p, &place, looked_at);
        scores.drop(p, place, looked_at);
        let p = View::dense(p, q.rows, width);
        match v {
            Held::AsTheyLie(v) => {
                let v = v.rows(looked_at.start, width);
                product(output, stride, Destination::Replace, 1.0, p, v, threads);
            }
            Held::Packed(v) => {
                let part = [looked_at.clone(), 0..q.columns];
                v.product((output, stride), Destination::Replace, 1.0, p, part);
            }
        }
    });
}
