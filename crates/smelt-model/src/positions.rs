//! Positions of the tokens of a pass, on the host: rotations are tables computed there.

/// Positions `[rows, seq]`; one row stands for all sequences where they are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PositionIds {
    pub rows: usize,
    pub seq: usize,
    /// Row-major.
    pub ids: Vec<u32>,
}

impl PositionIds {
    /// `given` `[batch, seq]`, or else the `seq` positions that follow `past`.
    ///
    /// # Panics
    /// If `given` is of another size.
    pub fn new(given: Option<&[u32]>, [batch, seq]: [usize; 2], past: usize) -> Self {
        match given {
            Some(ids) => {
                assert_eq!(ids.len(), batch * seq, "position ids of {batch} x {seq} tokens");
                Self { rows: batch, seq, ids: ids.to_vec() }
            }
            None => Self { rows: 1, seq, ids: (past..past + seq).map(|id| id as u32).collect() },
        }
    }
}
