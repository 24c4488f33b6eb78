//! Values of the parameters to come, several tensors read, checked and converted at once.
//!
//! Reading waits for the disk and converting for memory, so all cores take part; moving to the device stays
//! with the caller and its one thread, as GPU backends want it. What was read and not yet moved is bounded.

use std::collections::VecDeque;
use std::ops::BitAnd;

use burn::tensor::DType;
use bytes::Bytes;
use half::{bf16, f16};
use rayon::prelude::*;

use super::dtype::held_dtype;
use super::file::TensorFile;
use super::load::LoadOptions;
use super::place::StoredTensor;
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

impl NonFinite {
    /// What follows from the value `found` in tensor `name`, if there is one.
    ///
    /// # Errors
    /// [`ModelError::NonFinite`].
    pub(super) fn judge(self, name: &str, found: Option<(usize, f32)>) -> Result<(), ModelError> {
        let Some((index, value)) = found else { return Ok(()) };
        let error = ModelError::NonFinite { name: name.to_owned(), index, value };
        match self {
            Self::Refuse => return Err(error),
            Self::Warn => tracing::warn!("{error}"),
        }
        Ok(())
    }
}

/// In which dtype parameters are held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HeldIn {
    /// That of the file where the backend computes with it, else f32. Read where it lies if it can be.
    #[default]
    StoredDtype,
    /// f32, as training needs it.
    F32,
}

/// Values of one parameter, in the orientation of the model.
pub(super) enum Values {
    /// Converted.
    F32(Vec<f32>),
    /// As they are stored.
    Stored(DType, Bytes),
}

/// One parameter and where its values are.
#[derive(Debug, Clone)]
pub struct Source<'a> {
    /// The parameter.
    pub info: ParameterInfo,
    /// The file that holds it.
    pub file: &'a TensorFile,
    /// Its name in that file.
    pub name: String,
    /// What that file has of it.
    pub tensor: StoredTensor,
    /// It is a matrix that lies turned.
    pub turned: bool,
}

/// Hands out the values of `sources` in their order.
pub(super) struct ReadAhead<'a> {
    sources: VecDeque<Source<'a>>,
    ready: VecDeque<Values>,
    options: LoadOptions,
    /// Whether parameters may be held in a dtype.
    holds: fn(DType) -> bool,
}

impl<'a> ReadAhead<'a> {
    pub(super) fn new(sources: Vec<Source<'a>>, options: LoadOptions, holds: fn(DType) -> bool) -> Self {
        let holds = match options.held_in {
            HeldIn::StoredDtype => holds,
            HeldIn::F32 => |_| false,
        };
        Self { sources: sources.into(), ready: VecDeque::new(), options, holds }
    }

    /// The values of the next parameter.
    ///
    /// # Panics
    /// If all were handed out.
    pub(super) fn next(&mut self) -> Result<Values, ModelError> {
        if self.ready.is_empty() {
            let group = self.group();
            let values: Result<Vec<_>, _> =
                group.par_iter().map(|source| source.checked_values(self.options, self.holds)).collect();
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
    /// Its values as f32, as they lie.
    ///
    /// # Errors
    /// [`ModelError::BadDtype`] if they are no numbers.
    pub fn values(&self) -> Result<Vec<f32>, ModelError> {
        let values = self.file.f32_of(&self.name, &self.tensor)?;
        self.file.release_of(&self.tensor);
        Ok(values)
    }

    /// Its little-endian bytes, row-major, as they lie.
    pub fn bytes(&self) -> Vec<u8> {
        let bytes = self.file.bytes_of(&self.tensor).into_owned();
        self.file.release_of(&self.tensor);
        bytes
    }

    fn checked_values(&self, options: LoadOptions, holds: fn(DType) -> bool) -> Result<Values, ModelError> {
        let stored = self.file.in_place(&self.tensor);
        let held = held_dtype(self.tensor.dtype).filter(|dtype| holds(*dtype));
        if let Some((dtype, bytes)) = held.zip(stored) {
            options.non_finite.judge(&self.name, first_non_finite(dtype, &bytes))?;
            return Ok(Values::Stored(dtype, self.turned_bytes(dtype, bytes)));
        }
        let values = self.file.f32_of(&self.name, &self.tensor)?;
        self.file.release_of(&self.tensor);
        options.non_finite.judge(&self.name, first_non_finite_f32(&values))?;
        Ok(Values::F32(match self.rows_and_columns() {
            Some([rows, columns]) => transposed(&values, columns, rows),
            None => values,
        }))
    }

    /// The shape in the model of a matrix that files hold turned.
    fn rows_and_columns(&self) -> Option<[usize; 2]> {
        self.info.shape.as_slice().try_into().ok().filter(|_| self.turned)
    }

    fn turned_bytes(&self, dtype: DType, bytes: Bytes) -> Bytes {
        let Some([rows, columns]) = self.rows_and_columns() else { return bytes };
        match dtype.size() {
            2 => transposed(bytes.as_chunks::<2>().0, columns, rows).into_flattened().into(),
            _ => transposed(bytes.as_chunks::<4>().0, columns, rows).into_flattened().into(),
        }
    }
}

/// The first value that is NaN or infinite, with its index.
pub(super) fn first_non_finite(dtype: DType, bytes: &[u8]) -> Option<(usize, f32)> {
    match dtype {
        DType::F32 => {
            first_with_exponent(bytes.as_chunks().0, 0x7f80_0000, u32::from_le_bytes, f32::from_bits)
        }
        DType::BF16 => first_with_exponent(bytes.as_chunks().0, 0x7f80, u16::from_le_bytes, |bits| {
            bf16::from_bits(bits).to_f32()
        }),
        _ => first_with_exponent(bytes.as_chunks().0, 0x7c00, u16::from_le_bytes, |bits| {
            f16::from_bits(bits).to_f32()
        }),
    }
}

fn first_non_finite_f32(values: &[f32]) -> Option<(usize, f32)> {
    first_with_exponent(values, 0x7f80_0000, f32::to_bits, f32::from_bits)
}

/// The first of `values` whose bits have all of `exponent` set.
fn first_with_exponent<T: Copy + Sync, U: Copy + Ord + Default + BitAnd<Output = U> + Send + Sync>(
    values: &[T],
    exponent: U,
    bits: impl Fn(T) -> U + Sync,
    value: impl Fn(U) -> f32,
) -> Option<(usize, f32)> {
    const PART: usize = 1 << 16;
    // A maximum over parts, not a search over values: it runs at the speed of memory.
    let largest = |part: &[T]| part.iter().map(|value| bits(*value) & exponent).fold(U::default(), U::max);
    let start = PART * values.par_chunks(PART).position_first(|part| largest(part) == exponent)?;
    let index = start + values[start..].iter().position(|value| bits(*value) & exponent == exponent)?;
    Some((index, value(bits(values[index]))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_that_is_not_finite_is_found_in_any_part() {
        let mut values = vec![f32::MAX; 200_000];
        assert_eq!(first_non_finite_f32(&values), None);
        values[199_999] = f32::NEG_INFINITY;
        assert_eq!(first_non_finite_f32(&values), Some((199_999, f32::NEG_INFINITY)));
        values[70_000] = f32::NAN;
        assert_eq!(first_non_finite_f32(&values).map(|found| found.0), Some(70_000));
        let half: Vec<u8> = [bf16::MAX, bf16::NAN].iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(first_non_finite(DType::BF16, &half).map(|found| found.0), Some(1));
        let half: Vec<u8> = [f16::MAX, f16::INFINITY].iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(first_non_finite(DType::F16, &half), Some((1, f32::INFINITY)));
    }
}
