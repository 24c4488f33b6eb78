//! Token ids and masks out of safetensors files.

use smelt_model::weights::TensorFile;

use crate::error::CliError;

/// Whole numbers of shape `[batch, seq]`, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenIds {
    /// The numbers.
    pub values: Vec<u32>,
    /// `[batch, seq]`.
    pub shape: [usize; 2],
}

impl TokenIds {
    /// Reads the tensor `name`.
    ///
    /// # Errors
    /// [`CliError::Model`] if it is missing or no integer tensor, [`CliError::BadTensor`] for another
    /// rank or a number that is no id.
    pub fn read(file: &TensorFile, name: &str) -> Result<Self, CliError> {
        let bad = |found: String| CliError::BadTensor { name: name.to_owned(), found };
        let &[batch, seq] = file.shape(name)? else {
            return Err(bad(format!("shape {:?}", file.shape(name)?)));
        };
        let values = file.i64(name)?;
        let values = values.iter().map(|&id| u32::try_from(id).map_err(|_| bad(format!("the value {id}"))));
        Ok(Self { values: values.collect::<Result<_, _>>()?, shape: [batch, seq] })
    }

    /// One row.
    pub fn row(&self, index: usize) -> &[u32] {
        &self.values[index * self.shape[1]..][..self.shape[1]]
    }

    /// Refuses sequences longer than the model's context.
    ///
    /// # Errors
    /// [`CliError::TooLong`].
    pub fn fits(&self, context: usize) -> Result<(), CliError> {
        if self.shape[1] <= context {
            Ok(())
        } else {
            Err(CliError::TooLong { tokens: self.shape[1], context })
        }
    }
}

/// Positions under a mask as transformers counts them: `cumsum(mask) - 1`, and 1 where nothing is kept.
pub fn positions(mask: &TokenIds) -> Vec<u32> {
    let mut positions = Vec::with_capacity(mask.values.len());
    for row in mask.values.chunks(mask.shape[1].max(1)) {
        let mut next = 0;
        for &keep in row {
            positions.push(if keep == 0 { 1 } else { next });
            next += u32::from(keep != 0);
        }
    }
    positions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_takes_no_position() {
        let mask = TokenIds { values: vec![0, 0, 1, 1, 1, 1, 1, 0], shape: [2, 4] };
        assert_eq!(positions(&mask), [1, 1, 0, 1, 0, 1, 2, 1]);
    }
}
