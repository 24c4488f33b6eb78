//! Values of the parameters to come, several tensors read and converted at once.
//!
//! Reading waits for the disk and converting for memory, so all cores take part; moving to the device stays
//! with the caller and its one thread, as GPU backends want it. What was read and not yet moved is bounded.

use std::collections::VecDeque;

use rayon::prelude::*;

use super::file::TensorFile;
use super::transpose::transposed;
use crate::error::ModelError;
use crate::parameters::ParameterInfo;

/// Host bytes that may be read ahead; a larger tensor comes alone.
const IN_FLIGHT_BYTES: usize = 64 << 20;

/// What to do about weights that are NaN or infinite.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NonFinite {
    /// Refuse the checkpoint: every output of the model would be NaN, or it hides until some token.
    #[default]
    Refuse,
    /// Warn with the name of the tensor and load it.
    Warn,
}

/// One parameter and where its values are.
pub(super) struct Source<'a> {
    pub(super) info: ParameterInfo,
    pub(super) file: &'a TensorFile,
    /// Its name in that file.
    pub(super) name: String,
}

/// Hands out the values of `sources` in their order.
pub(super) struct ReadAhead<'a> {
    sources: VecDeque<Source<'a>>,
    ready: VecDeque<Vec<f32>>,
    non_finite: NonFinite,
}

impl<'a> ReadAhead<'a> {
    pub(super) fn new(sources: Vec<Source<'a>>, non_finite: NonFinite) -> Self {
        Self { sources: sources.into(), ready: VecDeque::new(), non_finite }
    }

    /// The values of the next parameter, in the orientation of the model.
    ///
    /// # Panics
    /// If all were handed out.
    pub(super) fn next(&mut self) -> Result<Vec<f32>, ModelError> {
        if self.ready.is_empty() {
            let group = self.group();
            let values: Result<Vec<_>, _> =
                group.par_iter().map(|source| source.values(self.non_finite)).collect();
            self.ready = values?.into();
        }
        Ok(self.ready.pop_front().expect("as many parameters as sources"))
    }

    /// The next sources that fit into memory together, one at least.
    fn group(&mut self) -> Vec<Source<'a>> {
        let sums = self.sources.iter().scan(0, |bytes, source| {
            *bytes += source.info.elements() * size_of::<f32>();
            Some(*bytes)
        });
        let count = sums.take_while(|bytes| *bytes <= IN_FLIGHT_BYTES).count();
        self.sources.drain(..count.max(1).min(self.sources.len())).collect()
    }
}

impl Source<'_> {
    fn values(&self, non_finite: NonFinite) -> Result<Vec<f32>, ModelError> {
        let values = self.file.f32_of_shape(&self.name, &self.info.checkpoint_shape())?;
        self.file.release(&self.name);
        if let Some(index) = first_non_finite(&values) {
            let error = ModelError::NonFinite { name: self.name.clone(), index, value: values[index] };
            match non_finite {
                NonFinite::Refuse => return Err(error),
                NonFinite::Warn => tracing::warn!("{error}"),
            }
        }
        Ok(match (self.info.transposed, self.info.shape.as_slice()) {
            (true, [rows, columns]) => transposed(&values, *columns, *rows),
            _ => values,
        })
    }
}

/// Index of the first value that is NaN or infinite: those with all bits of the exponent set.
fn first_non_finite(values: &[f32]) -> Option<usize> {
    const EXPONENT: u32 = 0x7f80_0000;
    const PART: usize = 1 << 16;
    // A maximum over parts, not a search over values: it runs at the speed of memory.
    let largest = |part: &[f32]| part.iter().map(|value| value.to_bits() & EXPONENT).fold(0, u32::max);
    let part = values.par_chunks(PART).position_first(|part| largest(part) == EXPONENT)?;
    let start = part * PART;
    values[start..].iter().position(|value| !value.is_finite()).map(|index| start + index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_that_is_not_finite_is_found_in_any_part() {
        let mut values = vec![f32::MAX; 200_000];
        assert_eq!(first_non_finite(&values), None);
        values[199_999] = f32::NEG_INFINITY;
        assert_eq!(first_non_finite(&values), Some(199_999));
        values[70_000] = f32::NAN;
        assert_eq!(first_non_finite(&values), Some(70_000));
    }
}
