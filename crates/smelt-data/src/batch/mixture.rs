//! Several sources of rows as one, by weight.

use std::sync::Arc;

use super::{Passage, RowSource};
use crate::{DataError, derive_seed};

/// Rows of several sources, each as often as its weight says.
///
/// Spread evenly: among any `n` rows in succession a source has its share of `n`, give or take one per
/// source. Each source goes through its own epochs in its own order.
#[derive(Debug, Clone)]
pub struct Mixture {
    parts: Vec<Part>,
    seq_length: usize,
}

/// A source and its claim on the rows that the sources before it have left.
#[derive(Debug, Clone)]
struct Part {
    rows: Arc<dyn RowSource>,
    claim: Claim,
}

impl Mixture {
    /// Mixes `parts`, whose weights need not sum to 1; `seed` shifts who comes first.
    ///
    /// # Errors
    /// [`DataError::BadMixture`] if there is no part, the rows differ in length, or a weight is not a
    /// positive number.
    pub fn new(parts: Vec<(Arc<dyn RowSource>, f64)>, seed: u64) -> Result<Self, DataError> {
        let seq_length = check(&parts).map_err(|reason| DataError::BadMixture { reason })?;
        let mut left: f64 = parts.iter().map(|(_, weight)| weight).sum();
        let mut claimed = Vec::new();
        for (place, (rows, weight)) in (0..).zip(parts) {
            claimed.push(Part { rows, claim: Claim::new(weight / left, derive_seed(seed, place)) });
            left -= weight;
        }
        Ok(Self { parts: claimed, seq_length })
    }

    /// Which part a row is of, and its number there.
    fn place(&self, index: u64) -> (&Part, u64) {
        let mut index = index;
        let (last, others) = self.parts.split_last().expect("a mixture has parts");
        for part in others {
            match part.claim.on(index) {
                Ok(own) => return (part, own),
                Err(left) => index = left,
            }
        }
        (last, index)
    }
}

fn check(parts: &[(Arc<dyn RowSource>, f64)]) -> Result<usize, String> {
    let (first, _) = parts.first().ok_or("expected at least one source, found none")?;
    let seq_length = first.seq_length();
    for (place, (rows, weight)) in (1..).zip(parts) {
        if rows.seq_length() != seq_length {
            let found = rows.seq_length();
            return Err(format!("source {place} has rows of {found} tokens, the first has {seq_length}"));
        }
        if !weight.is_finite() || *weight <= 0.0 {
            return Err(format!("the weight of source {place} is {weight}, expected a number above 0"));
        }
    }
    let total: f64 = parts.iter().map(|(_, weight)| weight).sum();
    if total.is_finite() { Ok(seq_length) } else { Err("the weights are too large to add up".to_owned()) }
}

/// An evenly spread share of the numbers from 0, as fractions of 2^64, so that it is exact.
#[derive(Debug, Clone, Copy)]
struct Claim {
    share: u64,
    phase: u64,
}

impl Claim {
    fn new(share: f64, phase: u64) -> Self {
        // As a cast of a float this saturates; the last part gets what is left whatever its share.
        Self { share: (share * 2.0_f64.powi(64)) as u64, phase }
    }

    /// How many of the numbers below `end` are claimed.
    fn below(self, end: u64) -> u64 {
        ((u128::from(end) * u128::from(self.share) + u128::from(self.phase)) >> 64) as u64
    }

    /// The place of `index` among the numbers that are claimed, or else among those that are not.
    fn on(self, index: u64) -> Result<u64, u64> {
        let before = self.below(index);
        let is_claimed = index < u64::MAX && self.below(index + 1) > before;
        if is_claimed { Ok(before) } else { Err(index - before) }
    }
}

impl RowSource for Mixture {
    fn seq_length(&self) -> usize {
        self.seq_length
    }

    /// Rows in which the source that takes longest is through.
    fn rows_per_epoch(&self) -> u64 {
        let mut share_left = 1.0;
        let mut longest = 0.0_f64;
        for (place, part) in (1..).zip(&self.parts) {
            let own =
                if place == self.parts.len() { 1.0 } else { part.claim.share as f64 / 2.0_f64.powi(64) };
            longest = longest.max(part.rows.rows_per_epoch() as f64 / (share_left * own));
            share_left *= 1.0 - own;
        }
        longest.ceil() as u64
    }

    fn separates_passages(&self) -> bool {
        self.parts.iter().any(|part| part.rows.separates_passages())
    }

    fn row(&self, index: u64) -> Vec<Passage> {
        let (part, own) = self.place(index);
        part.rows.row(own)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::Sampler;

    /// Row `i` is the token `part` and the token `i`.
    #[derive(Debug)]
    struct Numbered {
        part: u32,
        rows: u64,
        separates: bool,
    }

    impl RowSource for Numbered {
        fn seq_length(&self) -> usize {
            1
        }

        fn rows_per_epoch(&self) -> u64 {
            self.rows
        }

        fn separates_passages(&self) -> bool {
            self.separates
        }

        fn row(&self, index: u64) -> Vec<Passage> {
            vec![Passage { tokens: vec![self.part, index as u32], counted: None }]
        }
    }

    fn mixture(weights: &[f64], seed: u64) -> Result<Mixture, DataError> {
        let part = |part| Arc::new(Numbered { part, rows: 100, separates: part == 1 }) as Arc<dyn RowSource>;
        Mixture::new((0..).zip(weights).map(|(number, weight)| (part(number), *weight)).collect(), seed)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn each_part_gives_its_rows_in_order_and_by_its_weight(
            weights in prop::collection::vec(0.01_f64..5.0, 1..6), seed: u64
        ) {
            let mixture = mixture(&weights, seed).unwrap();
            let total: f64 = weights.iter().sum();
            let mut taken = vec![0_u32; weights.len()];
            for index in 0..500_u32 {
                let tokens = &mixture.row(index.into())[0].tokens;
                let part = tokens[0] as usize;
                prop_assert_eq!(tokens[1], taken[part]);
                taken[part] += 1;
                for (taken, weight) in taken.iter().zip(&weights) {
                    let expected = f64::from(index + 1) * weight / total;
                    prop_assert!((f64::from(*taken) - expected).abs() <= weights.len() as f64);
                }
            }
        }

        #[test]
        fn far_rows_need_no_walk(index: u64, seed: u64) {
            let mixture = mixture(&[1.0, 2.0, 3.0], seed).unwrap();
            let (_, own) = mixture.place(index);
            prop_assert!(own <= index / 2 + 3);
        }
    }

    #[test]
    fn an_epoch_lasts_until_the_slowest_part_is_through() {
        assert_eq!(mixture(&[1.0], 0).unwrap().rows_per_epoch(), 100);
        assert_eq!(mixture(&[3.0, 1.0], 0).unwrap().rows_per_epoch(), 400);
    }

    #[test]
    fn a_batch_marks_documents_if_one_part_does() {
        let batch = |weights| {
            let rows = Arc::new(mixture(weights, 0).unwrap());
            Sampler::of_rows(rows, 4).unwrap().batch(0)
        };
        assert_eq!(batch(&[1.0]).document_ids, None);
        assert_eq!(batch(&[1.0, 1.0]).document_ids, Some(vec![0; 4]));
    }

    #[test]
    fn impossible_mixtures_are_refused() {
        let message = |weights| mixture(weights, 0).unwrap_err().to_string();
        assert_eq!(message(&[]), "cannot mix data: expected at least one source, found none");
        assert_eq!(
            message(&[1.0, 0.0]),
            "cannot mix data: the weight of source 2 is 0, expected a number above 0"
        );
        assert!(message(&[f64::NAN]).contains("is NaN, expected a number above 0"));
        assert!(message(&[f64::MAX, f64::MAX]).ends_with("too large to add up"));
    }
}
