//! One safetensors file, written atomically and tensor by tensor.
//!
//! Byte for byte what the Python package writes: header keys in the order of the data, tensors sorted by
//! descending dtype and then by name, the header padded with spaces to a multiple of eight.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorInfo;

use super::atomic::write_atomic;
use super::dtype;
use crate::error::ModelError;

/// Collects named tensors, then writes them all; values are fetched one tensor at a time, while writing.
#[derive(Default)]
pub struct TensorFileWriter<'a> {
    tensors: Vec<Pending<'a>>,
    metadata: BTreeMap<String, String>,
}

struct Pending<'a> {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    fetch: Fetch<'a>,
}

/// Makes the values of a tensor when its turn comes.
pub(super) type Fetch<'a> = Box<dyn FnOnce() -> Result<Values<'a>, ModelError> + Send + 'a>;

/// Values of one tensor.
pub(super) enum Values<'a> {
    F32(Cow<'a, [f32]>),
    I64(&'a [i64]),
    /// Little-endian, of any dtype.
    Bytes(Cow<'a, [u8]>),
}

/// Values turned into bytes at a time, so that no tensor exists twice on the host.
const CHUNK: usize = 1 << 16;

impl<'a> TensorFileWriter<'a> {
    /// A file without tensors, marked as `format: pt` like every file that transformers reads.
    pub fn new() -> Self {
        Self::default().metadata("format", "pt")
    }

    /// Adds a line of free-form metadata.
    pub fn metadata(mut self, key: &str, value: &str) -> Self {
        self.metadata.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Adds f32 tensor `name`, row-major; `values` runs when its turn comes.
    pub fn add_f32(
        &mut self,
        name: impl Into<String>,
        shape: &[usize],
        values: impl FnOnce() -> Cow<'a, [f32]> + Send + 'a,
    ) {
        self.add(name.into(), Dtype::F32, shape, move || Values::F32(values()));
    }

    /// Adds i64 tensor `name`, row-major.
    pub fn add_i64(&mut self, name: impl Into<String>, shape: &[usize], values: &'a [i64]) {
        self.add(name.into(), Dtype::I64, shape, move || Values::I64(values));
    }

    /// Adds u8 tensor `name`, row-major; `values` runs when its turn comes.
    pub fn add_u8(
        &mut self,
        name: impl Into<String>,
        shape: &[usize],
        values: impl FnOnce() -> Cow<'a, [u8]> + Send + 'a,
    ) {
        self.add(name.into(), Dtype::U8, shape, move || Values::Bytes(values()));
    }

    /// Adds tensor `name` of `dtype` by its little-endian bytes, row-major; `values` runs when its turn comes.
    pub fn add_bytes(
        &mut self,
        name: impl Into<String>,
        dtype: Dtype,
        shape: &[usize],
        values: impl FnOnce() -> Cow<'a, [u8]> + Send + 'a,
    ) {
        self.add(name.into(), dtype, shape, move || Values::Bytes(values()));
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.bytes() as u64).sum()
    }

    /// The same with every value fetched now.
    pub fn fetched(mut self) -> Self {
        for tensor in &mut self.tensors {
            let values = std::mem::replace(&mut tensor.fetch, Box::new(|| Ok(Values::I64(&[]))))();
            tensor.fetch = Box::new(move || values);
        }
        self
    }

    /// Writes everything to `path`, which is replaced only once the new file is whole and on disk.
    ///
    /// # Errors
    /// [`ModelError::TensorTwice`] for a repeated name, [`ModelError::Io`], and what making the values returns.
    ///
    /// # Panics
    /// If a tensor's values do not fill its shape.
    pub fn write(mut self, path: &Path) -> Result<(), ModelError> {
        let mut seen = HashSet::new();
        if let Some(twice) = self.tensors.iter().find(|tensor| !seen.insert(&tensor.name)) {
            return Err(ModelError::TensorTwice { path: path.to_path_buf(), name: twice.name.clone() });
        }
        self.tensors.sort_by(|a, b| b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(&b.name)));
        let header = self.header(path)?;
        write_atomic(path, |file| {
            file.write_all(&(header.len() as u64).to_le_bytes())?;
            file.write_all(&header)?;
            for tensor in self.tensors {
                let expected = tensor.bytes();
                let values = (tensor.fetch)().map_err(io::Error::other)?;
                assert_eq!(values.bytes(), expected, "bytes of tensor `{}`", tensor.name);
                values.write(file)?;
            }
            Ok(())
        })
        .map_err(|error| error.downcast::<ModelError>().unwrap_or_else(ModelError::io("write", path)))
    }

    /// Adds tensor `name` of `dtype`, row-major; `fetch` runs when its turn comes.
    pub(super) fn add_fallible(&mut self, name: String, dtype: Dtype, shape: &[usize], fetch: Fetch<'a>) {
        self.tensors.push(Pending { name, dtype, shape: shape.to_vec(), fetch });
    }

    fn add(
        &mut self,
        name: String,
        dtype: Dtype,
        shape: &[usize],
        values: impl FnOnce() -> Values<'a> + Send + 'a,
    ) {
        self.add_fallible(name, dtype, shape, Box::new(move || Ok(values())));
    }

    fn header(&self, path: &Path) -> Result<Vec<u8>, ModelError> {
        let json = |source| ModelError::Json { path: path.to_path_buf(), source };
        let mut header = serde_json::Map::new();
        header.insert("__metadata__".to_owned(), serde_json::to_value(&self.metadata).map_err(json)?);
        let mut start = 0;
        for tensor in &self.tensors {
            let end = start + tensor.bytes();
            let info =
                TensorInfo { dtype: tensor.dtype, shape: tensor.shape.clone(), data_offsets: (start, end) };
            header.insert(tensor.name.clone(), serde_json::to_value(info).map_err(json)?);
            start = end;
        }
        let mut bytes = serde_json::to_vec(&header).map_err(json)?;
        bytes.resize(bytes.len().next_multiple_of(size_of::<u64>()), b' ');
        Ok(bytes)
    }
}

impl Pending<'_> {
    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    fn bytes(&self) -> usize {
        self.elements() * self.dtype.bitsize() / 8
    }
}

impl Values<'_> {
    fn bytes(&self) -> usize {
        match self {
            Self::F32(values) => size_of_val(&**values),
            Self::I64(values) => size_of_val(*values),
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    /// Little-endian.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::F32(values) => dtype::f32_bytes(&values),
            Self::I64(values) => dtype::i64_bytes(values),
            Self::Bytes(bytes) => bytes.into_owned(),
        }
    }

    fn write(&self, file: &mut impl Write) -> io::Result<()> {
        match self {
            Self::F32(values) => {
                values.chunks(CHUNK).try_for_each(|part| file.write_all(&dtype::f32_bytes(part)))
            }
            Self::I64(values) => {
                values.chunks(CHUNK).try_for_each(|part| file.write_all(&dtype::i64_bytes(part)))
            }
            Self::Bytes(bytes) => file.write_all(bytes),
        }
    }
}
