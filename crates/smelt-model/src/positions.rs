//! Positions of the tokens of a pass, on the host: rotations are tables computed there.

/// Positions `[rows, seq]`; one row stands for all sequences where they are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PositionIds {
    pub rows: usize,
    /// Row-major.
    pub ids: Vec<u32>,
}

impl PositionIds {
    /// `given` `[batch, seq]`, or else the first `seq` positions.
    ///
    /// # Panics
    /// If `given` is of another size.
    pub fn new(given: Option<&[u32]>, [batch, seq]: [usize; 2]) -> Self {
        match given {
            Some(ids) => {
                assert_eq!(ids.len(), batch * seq, "position ids of {batch} x {seq} tokens");
                Self { rows: batch, ids: ids.to_vec() }
            }
            None => Self { rows: 1, ids: (0..seq).map(|id| id as u32).collect() },
        }
    }
}
