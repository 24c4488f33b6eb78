//! The host arrays of one batch.

use std::iter::repeat_n;

use super::Passage;

/// Rows of tokens and what follows each, row-major `[batch_size, seq_length]`.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenBatch {
    /// Rows.
    pub batch_size: usize,
    /// Tokens per row.
    pub seq_length: usize,
    /// What the model reads.
    pub input_ids: Vec<u32>,
    /// The token after each of `input_ids`.
    pub targets: Vec<u32>,
    /// 1 where the prediction of `targets` counts, 0 at padding and at what is only read.
    pub loss_mask: Vec<f32>,
    /// Which text of its row a token belongs to, from 0: tokens attend within their text alone. `None`
    /// where a row is one text.
    pub document_ids: Option<Vec<u32>>,
    /// Place of a token in its text, from 0; there exactly if `document_ids` is.
    pub position_ids: Option<Vec<u32>>,
}

impl TokenBatch {
    /// A batch without rows, with room for `batch_size`.
    pub(crate) fn with_capacity(batch_size: usize, seq_length: usize, separates_passages: bool) -> Self {
        let tokens = batch_size * seq_length;
        let ids = || separates_passages.then(|| Vec::with_capacity(tokens));
        Self {
            batch_size,
            seq_length,
            input_ids: Vec::with_capacity(tokens),
            targets: Vec::with_capacity(tokens),
            loss_mask: Vec::with_capacity(tokens),
            document_ids: ids(),
            position_ids: ids(),
        }
    }

    /// Appends a row of `passages`; what is left of it is padding with id 0, a text of its own.
    ///
    /// # Panics
    /// If the passages hold more than `seq_length` predictions.
    pub(crate) fn push_row(&mut self, passages: &[Passage]) {
        let places: usize = passages.iter().map(Passage::predictions).sum();
        assert!(places <= self.seq_length, "{places} predictions in a row of {}", self.seq_length);
        for (document, passage) in (0..).zip(passages) {
            let predictions = passage.predictions();
            self.input_ids.extend(&passage.tokens[..predictions]);
            self.targets.extend(passage.tokens.iter().skip(1));
            match &passage.counted {
                Some(counted) => self.loss_mask.extend(counted.iter().map(|&counts| f32::from(counts))),
                None => self.loss_mask.extend(repeat_n(1.0, predictions)),
            }
            self.number(document, predictions);
        }
        let padding = self.seq_length - places;
        self.input_ids.extend(repeat_n(0, padding));
        self.targets.extend(repeat_n(0, padding));
        self.loss_mask.extend(repeat_n(0.0, padding));
        self.number(passages.len() as u32, padding);
    }

    fn number(&mut self, document: u32, tokens: usize) {
        if let Some(ids) = &mut self.document_ids {
            ids.extend(repeat_n(document, tokens));
        }
        if let Some(ids) = &mut self.position_ids {
            ids.extend(0..tokens as u32);
        }
    }

    /// Predictions that count.
    pub fn counted_tokens(&self) -> usize {
        self.loss_mask.iter().filter(|&&weight| weight != 0.0).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passages_are_numbered_and_padding_is_a_text_of_its_own() {
        let mut batch = TokenBatch::with_capacity(1, 7, true);
        batch.push_row(&[
            Passage { tokens: vec![10, 11, 12], counted: None },
            Passage { tokens: vec![20, 21, 22, 23], counted: Some(vec![false, true, true]) },
        ]);
        assert_eq!(batch.input_ids, [10, 11, 20, 21, 22, 0, 0]);
        assert_eq!(batch.targets, [11, 12, 21, 22, 23, 0, 0]);
        assert_eq!(batch.loss_mask, [1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
        assert_eq!(batch.document_ids.unwrap(), [0, 0, 1, 1, 1, 2, 2]);
        assert_eq!(batch.position_ids.unwrap(), [0, 1, 0, 1, 2, 0, 1]);
    }
}
