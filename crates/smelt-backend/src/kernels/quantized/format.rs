//! Which formats there are, and what a weight in one takes.

use burn::tensor::DType;

/// How many bits a value of a quantized weight takes, and how many values of a row share a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct QuantizationFormat {
    bits: u32,
    group_size: usize,
}

impl QuantizationFormat {
    /// What `bits` may be.
    pub const BITS: [u32; 6] = [2, 3, 4, 5, 6, 8];
    /// What `group_size` may be.
    pub const GROUP_SIZES: [usize; 3] = [32, 64, 128];

    /// # Errors
    /// [`QuantizationError::Bits`] and [`QuantizationError::GroupSize`].
    pub fn new(bits: u64, group_size: u64) -> Result<Self, QuantizationError> {
        let known_bits = Self::BITS.into_iter().find(|known| u64::from(*known) == bits);
        let known_size = Self::GROUP_SIZES.into_iter().find(|known| *known as u64 == group_size);
        Ok(Self {
            bits: known_bits.ok_or(QuantizationError::Bits { found: bits })?,
            group_size: known_size.ok_or(QuantizationError::GroupSize { found: group_size })?,
        })
    }

    /// Bits of a value.
    pub fn bits(self) -> u32 {
        self.bits
    }

    /// Values that share a scale and a bias.
    pub fn group_size(self) -> usize {
        self.group_size
    }

    /// The largest code.
    pub fn largest_code(self) -> u8 {
        ((1u32 << self.bits) - 1) as u8
    }

    /// Bytes that a group's codes take.
    pub fn group_bytes(self) -> usize {
        self.group_size / 8 * self.bits as usize
    }

    /// Groups of a row of `features` values.
    ///
    /// # Errors
    /// [`QuantizationError::Features`] if they do not divide into groups.
    pub fn groups(self, features: usize) -> Result<usize, QuantizationError> {
        if features == 0 || !features.is_multiple_of(self.group_size) {
            return Err(QuantizationError::Features { features, group_size: self.group_size });
        }
        Ok(features / self.group_size)
    }
}

/// Scales and biases may be held in `dtype`.
pub(super) fn holds_scales(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
}

/// What is wrong with a quantized weight, or with one that is to become it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantizationError {
    /// No format has so many bits.
    #[error("`bits` is {found}, expected 2, 3, 4, 5, 6 or 8")]
    Bits {
        /// What was given.
        found: u64,
    },
    /// No format has groups of this size.
    #[error("`group_size` is {found}, expected 32, 64 or 128")]
    GroupSize {
        /// What was given.
        found: u64,
    },
    /// Rows do not divide into groups.
    #[error("rows of {features} values do not divide into groups of {group_size}")]
    Features {
        /// Values of a row.
        features: usize,
        /// Values of a group.
        group_size: usize,
    },
    /// Scales and biases are in a format that they are never in.
    #[error("scales and biases are in {found:?}, expected f32, f16 or bf16")]
    ScaleDtype {
        /// What was given.
        found: DType,
    },
    /// A part of the weight is too short or too long.
    #[error("`{part}` of a [{out}, {features}] weight takes {expected} bytes, found {found}")]
    Bytes {
        /// `weight`, `scales` or `biases`.
        part: &'static str,
        /// Rows of the weight.
        out: usize,
        /// Values of a row.
        features: usize,
        /// Bytes that the part of such a weight takes.
        expected: u128,
        /// Bytes there are.
        found: usize,
    },
    /// The number of values is not that of the shape.
    #[error("a [{out}, {features}] weight does not have {found} values")]
    Values {
        /// Rows of the weight.
        out: usize,
        /// Values of a row.
        features: usize,
        /// Values there are.
        found: usize,
    },
    /// A scale or a bias would not be a number.
    #[error("row {row} holds a number that is not finite, or too large for scales in {dtype:?}")]
    NotFinite {
        /// The row, counted from 0.
        row: usize,
        /// The format of the scales.
        dtype: DType,
    },
}
