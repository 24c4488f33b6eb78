//! Keys and values in 8 or 4 bits: each group of a row has a scale and a smallest value.
//!
//! On the host, whatever the device: a pass turns the rows that it reads into floats. That costs a copy of one
//! layer at a time and keeps the rest packed. Groups and rounding are those of mlx-lm's quantized caches.

use std::ops::Range;

use half::f16;

/// Values of a row that share a scale.
const GROUP: usize = 64;

/// Names of the two parts of packed rows in a file.
pub(super) const CODES: &str = "codes";
pub(super) const GROUPS: &str = "groups";

/// Bits of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheBits {
    /// 16 levels.
    Four,
    /// 256 levels.
    Eight,
}

impl CacheBits {
    /// Of the number as a user gives it.
    pub fn from_number(bits: u8) -> Option<Self> {
        match bits {
            4 => Some(Self::Four),
            8 => Some(Self::Eight),
            _ => None,
        }
    }

    /// The number as a user gives it.
    pub fn number(self) -> u8 {
        match self {
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    fn levels(self) -> f32 {
        match self {
            Self::Four => 15.0,
            Self::Eight => 255.0,
        }
    }

    fn code_bytes(self, values: usize) -> usize {
        match self {
            Self::Four => values.div_ceil(2),
            Self::Eight => values,
        }
    }

    /// Bytes of one row of `head_dim` values.
    pub(super) fn row_bytes(self, head_dim: usize) -> usize {
        self.code_bytes(head_dim) + head_dim.div_ceil(GROUP) * size_of::<Affine>()
    }
}

/// A value is `code * scale + smallest`.
#[derive(Debug, Clone, Copy)]
struct Affine {
    scale: f16,
    smallest: f16,
}

/// The rows of each head.
#[derive(Debug, Clone)]
pub(super) struct PackedHeads {
    heads: Vec<PackedRows>,
    head_dim: usize,
    bits: CacheBits,
}

#[derive(Debug, Clone, Default)]
struct PackedRows {
    codes: Vec<u8>,
    groups: Vec<Affine>,
}

impl PackedHeads {
    pub fn new(heads: usize, head_dim: usize, bits: CacheBits) -> Self {
        Self { heads: vec![PackedRows::default(); heads], head_dim, bits }
    }

    /// With memory for `rows` rows: none is taken while they come.
    pub fn with_room(mut self, rows: usize) -> Self {
        let (code_bytes, groups) = (self.bits.code_bytes(self.head_dim), self.groups());
        for head in &mut self.heads {
            head.codes.reserve_exact(rows * code_bytes);
            head.groups.reserve_exact(rows * groups);
        }
        self
    }

    /// Keeps the rows `range`, in the memory that there is.
    pub fn keep(&mut self, range: Range<usize>) {
        let (code_bytes, groups) = (self.bits.code_bytes(self.head_dim), self.groups());
        self.truncate(range.end);
        for head in &mut self.heads {
            head.codes.drain(..range.start * code_bytes);
            head.groups.drain(..range.start * groups);
        }
    }

    pub fn count(&self) -> usize {
        self.heads.len()
    }

    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    pub fn bytes(&self) -> usize {
        let of = |rows: &PackedRows| rows.codes.len() + rows.groups.len() * size_of::<Affine>();
        self.heads.iter().map(of).sum()
    }

    fn groups(&self) -> usize {
        self.head_dim.div_ceil(GROUP)
    }

    /// Appends `values` `[heads, rows, head_dim]`.
    pub fn push(&mut self, values: &[f32]) {
        let (bits, head_dim) = (self.bits, self.head_dim);
        let per_head = (values.len() / self.heads.len()).max(1);
        for (rows, values) in self.heads.iter_mut().zip(values.chunks(per_head)) {
            for row in values.chunks(head_dim) {
                rows.push(row, bits);
            }
        }
    }

    pub fn truncate(&mut self, rows: usize) {
        let (codes, groups) = (rows * self.bits.code_bytes(self.head_dim), rows * self.groups());
        for head in &mut self.heads {
            head.codes.truncate(codes);
            head.groups.truncate(groups);
        }
    }

    /// A copy of the rows `range`.
    pub fn slice(&self, range: Range<usize>) -> Self {
        let (code_bytes, groups) = (self.bits.code_bytes(self.head_dim), self.groups());
        let of = |rows: &PackedRows| PackedRows {
            codes: rows.codes[range.start * code_bytes..range.end * code_bytes].to_vec(),
            groups: rows.groups[range.start * groups..range.end * groups].to_vec(),
        };
        Self { heads: self.heads.iter().map(of).collect(), ..*self }
    }

    /// Appends all rows of `other`.
    pub fn append(&mut self, other: &Self) {
        for (head, other) in self.heads.iter_mut().zip(&other.heads) {
            head.codes.extend_from_slice(&other.codes);
            head.groups.extend_from_slice(&other.groups);
        }
    }

    /// The rows `range` as `[heads, rows, head_dim]`.
    pub fn floats(&self, range: Range<usize>) -> Vec<f32> {
        let (code_bytes, groups) = (self.bits.code_bytes(self.head_dim), self.groups());
        let mut floats = Vec::with_capacity(self.heads.len() * range.len() * self.head_dim);
        for head in &self.heads {
            for row in range.clone() {
                let codes = &head.codes[row * code_bytes..(row + 1) * code_bytes];
                let groups = &head.groups[row * groups..(row + 1) * groups];
                unpack(codes, groups, self.head_dim, self.bits, &mut floats);
            }
        }
        floats
    }
}

impl PackedHeads {
    /// Bytes of a row's codes, and of its groups.
    pub fn widths(&self) -> [usize; 2] {
        [self.bits.code_bytes(self.head_dim), self.groups() * size_of::<Affine>()]
    }

    /// Names, shapes and bytes of the codes and the groups, `[heads, rows, width]`.
    pub fn parts(&self) -> [(&'static str, [usize; 3], Vec<u8>); 2] {
        let [code_bytes, group_bytes] = self.widths();
        let codes: Vec<u8> = self.heads.iter().flat_map(|head| &head.codes).copied().collect();
        let groups = self.heads.iter().flat_map(|head| &head.groups);
        let groups: Vec<u8> = groups.flat_map(|group| group.to_bytes()).collect();
        let rows = codes.len() / (self.heads.len() * code_bytes).max(1);
        let shape = |width| [self.heads.len(), rows, width];
        [(CODES, shape(code_bytes), codes), (GROUPS, shape(group_bytes), groups)]
    }

    /// With rows from the bytes of [`PackedHeads::parts`].
    pub fn filled(mut self, codes: &[u8], groups: &[u8]) -> Self {
        let count = self.heads.len().max(1);
        let (code_bytes, group_bytes) = (codes.len() / count, groups.len() / count);
        for (index, head) in self.heads.iter_mut().enumerate() {
            let codes = &codes[index * code_bytes..(index + 1) * code_bytes];
            let groups = &groups[index * group_bytes..(index + 1) * group_bytes];
            head.codes = codes.to_vec();
            head.groups = groups.chunks_exact(size_of::<Affine>()).map(Affine::from_bytes).collect();
        }
        self
    }
}

impl PackedRows {
    fn push(&mut self, row: &[f32], bits: CacheBits) {
        let mut codes = Vec::with_capacity(row.len());
        for group in row.chunks(GROUP) {
            let affine = Affine::of(group, bits);
            let (scale, smallest) = (affine.scale.to_f32(), affine.smallest.to_f32());
            let code = |value: &f32| ((value - smallest) / scale).round().clamp(0.0, bits.levels()) as u8;
            codes.extend(group.iter().map(code));
            self.groups.push(affine);
        }
        match bits {
            CacheBits::Eight => self.codes.append(&mut codes),
            CacheBits::Four => {
                let pair = |pair: &[u8]| pair[0] | pair.get(1).map_or(0, |code| code << 4);
                self.codes.extend(codes.chunks(2).map(pair));
            }
        }
    }
}

impl Affine {
    fn to_bytes(self) -> [u8; 4] {
        let ([a, b], [c, d]) = (self.scale.to_le_bytes(), self.smallest.to_le_bytes());
        [a, b, c, d]
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        Self {
            scale: f16::from_le_bytes([bytes[0], bytes[1]]),
            smallest: f16::from_le_bytes([bytes[2], bytes[3]]),
        }
    }

    fn of(group: &[f32], bits: CacheBits) -> Self {
        let smallest = group.iter().copied().fold(f32::INFINITY, f32::min);
        let largest = group.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let smallest = f16::from_f32(smallest);
        let scale = f16::from_f32((largest - smallest.to_f32()) / bits.levels());
        // Equal values have no scale: any will do that is not 0.
        let scale = if scale.to_f32() > 0.0 { scale } else { f16::ONE };
        Self { scale, smallest }
    }
}

fn unpack(codes: &[u8], groups: &[Affine], head_dim: usize, bits: CacheBits, floats: &mut Vec<f32>) {
    for (index, affine) in groups.iter().enumerate() {
        let (scale, smallest) = (affine.scale.to_f32(), affine.smallest.to_f32());
        let values = index * GROUP..head_dim.min((index + 1) * GROUP);
        match bits {
            CacheBits::Eight => {
                floats.extend(codes[values].iter().map(|code| f32::from(*code) * scale + smallest))
            }
            CacheBits::Four => floats.extend(values.map(|value| {
                let code = codes[value / 2] >> (4 * (value % 2)) & 15;
                f32::from(code) * scale + smallest
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn values_come_back_within_half_a_step(
            head_dim in 1usize..150,
            rows in proptest::collection::vec(proptest::collection::vec(-8f32..8.0, 300), 1..4),
            eight: bool,
        ) {
            let bits = if eight { CacheBits::Eight } else { CacheBits::Four };
            let values: Vec<f32> = rows.iter().flat_map(|row| row[..2 * head_dim].to_vec()).collect();
            let mut heads = PackedHeads::new(2, head_dim, bits);
            heads.push(&values);
            let count = rows.len();
            let found = heads.floats(0..count);
            for (group, found) in values.chunks(head_dim).zip(found.chunks(head_dim)) {
                for (group, found) in group.chunks(GROUP).zip(found.chunks(GROUP)) {
                    let largest = group.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let smallest = group.iter().copied().fold(f32::INFINITY, f32::min);
                    // Scale and smallest value are themselves rounded, by 2^-11 of their size.
                    let allowed = 0.51 * (largest - smallest) / bits.levels() + 16.0 / 1024.0;
                    for (value, found) in group.iter().zip(found) {
                        prop_assert!((value - found).abs() <= allowed, "{value} became {found}, {allowed}");
                    }
                }
            }
            prop_assert_eq!(heads.bytes(), 2 * count * bits.row_bytes(head_dim));
            let tail = heads.slice(1..count);
            let mut again = heads.slice(0..1);
            again.append(&tail);
            prop_assert_eq!(&again.floats(0..count), &found);
            let [(_, shape, codes), (_, _, groups)] = heads.parts();
            prop_assert_eq!(shape, [2, count, heads.widths()[0]]);
            let filled = PackedHeads::new(2, head_dim, bits).filled(&codes, &groups);
            prop_assert_eq!(filled.floats(0..count), found);
        }
    }
}
