//! The types of tensors in GGUF files, and how many bytes their blocks take.

use safetensors::Dtype;

/// How a tensor's values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are ggml's")]
#[allow(non_camel_case_types, reason = "the names are ggml's")]
pub enum TensorKind {
    F32,
    F16,
    BF16,
    F64,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    IQ4_NL,
}

/// Number in the file, kind, name, values of a block, bytes of a block.
const KINDS: [(u32, TensorKind, &str, usize, usize); 15] = {
    use TensorKind::*;
    [
        (0, F32, "f32", 1, 4),
        (1, F16, "f16", 1, 2),
        (2, Q4_0, "q4_0", 32, 18),
        (3, Q4_1, "q4_1", 32, 20),
        (6, Q5_0, "q5_0", 32, 22),
        (7, Q5_1, "q5_1", 32, 24),
        (8, Q8_0, "q8_0", 32, 34),
        (10, Q2_K, "q2_k", 256, 84),
        (11, Q3_K, "q3_k", 256, 110),
        (12, Q4_K, "q4_k", 256, 144),
        (13, Q5_K, "q5_k", 256, 176),
        (14, Q6_K, "q6_k", 256, 210),
        (20, IQ4_NL, "iq4_nl", 32, 18),
        (28, F64, "f64", 1, 8),
        (30, BF16, "bf16", 1, 2),
    ]
};

impl TensorKind {
    /// The kind of this number in a file; the error says which can be read.
    pub(super) fn from_number(number: u32) -> Result<Self, String> {
        KINDS.iter().find(|row| row.0 == number).map(|row| row.1).ok_or_else(|| {
            let known: Vec<&str> = KINDS.iter().map(|row| row.2).collect();
            format!("is of type {number}, expected one of {}", known.join(", "))
        })
    }

    /// Its number in a file.
    pub(super) fn number(self) -> u32 {
        self.row().0
    }

    /// Its name in lower case.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// Values that are stored together.
    pub fn block_values(self) -> usize {
        self.row().3
    }

    /// Bytes that they take.
    pub fn block_bytes(self) -> usize {
        self.row().4
    }

    /// The dtype of its values as they lie, where each stands for itself.
    pub fn plain(self) -> Option<Dtype> {
        match self {
            Self::F32 => Some(Dtype::F32),
            Self::F16 => Some(Dtype::F16),
            Self::BF16 => Some(Dtype::BF16),
            Self::F64 => Some(Dtype::F64),
            _ => None,
        }
    }

    /// Bytes of `values` values; `None` if they do not fill blocks or no memory could hold them.
    pub fn bytes(self, values: usize) -> Option<usize> {
        let (block_values, block_bytes) = (self.block_values(), self.block_bytes());
        values.is_multiple_of(block_values).then(|| (values / block_values).checked_mul(block_bytes))?
    }

    fn row(self) -> &'static (u32, Self, &'static str, usize, usize) {
        KINDS.iter().find(|row| row.1 == self).expect("every kind has a row")
    }
}
