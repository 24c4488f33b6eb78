//! One file of named tensors, mapped into memory and read tensor by tensor.
//!
//! A format is only a way to find the tensors: safetensors by its header, PyTorch's by its pickle, others by
//! whoever calls [`TensorFile::over`]. All that follows, from dtypes to releasing pages, is the same for all.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use safetensors::Dtype;

use super::dtype;
use super::header::read_header;
use super::map::FileMap;
use super::place::{Place, StoredTensor};
use super::torch::{self, read_state_dict};
use crate::error::{Damage, ModelError};

/// A tensor file open for reading; its values stay on disk until asked for.
///
/// Used for weights, optimizer state, and the inputs of `smelt logits` alike.
#[derive(Debug)]
pub struct TensorFile {
    map: FileMap,
    tensors: BTreeMap<String, StoredTensor>,
    metadata: BTreeMap<String, String>,
}

impl TensorFile {
    /// Opens `path`, finds its tensors and checks that it holds what they claim.
    ///
    /// `.safetensors` is read as that, any other file by how it begins: as a PyTorch archive
    /// (`pytorch_model.bin`) or as safetensors. Nothing in a PyTorch archive is executed: its pickle may
    /// only describe tensors.
    ///
    /// # Errors
    /// [`ModelError::Io`] if it cannot be opened or mapped, [`ModelError::BadTensorFile`] for what is damaged,
    /// lies about itself, wants to run code, or was written by PyTorch before 1.6.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let map = FileMap::open(path)?;
        let bad = |format| {
            move |reason| ModelError::BadTensorFile {
                path: path.to_path_buf(),
                format,
                reason: Damage(reason),
            }
        };
        let named_safetensors = path.extension().is_some_and(|extension| extension == "safetensors");
        let (tensors, metadata) = if !named_safetensors && torch::is_torch(map.bytes()) {
            (read_state_dict(map.bytes()).map_err(bad("PyTorch"))?, BTreeMap::new())
        } else {
            let header = read_header(map.bytes()).map_err(bad("safetensors"))?;
            (header.tensors, header.metadata)
        };
        Ok(Self { map, tensors, metadata })
    }

    /// The `tensors` that a reader of another format found in `map`, each checked to lie within it.
    ///
    /// # Panics
    /// If one does not.
    pub fn over(map: FileMap, tensors: BTreeMap<String, StoredTensor>) -> Self {
        for (name, tensor) in &tensors {
            let (end, bytes) = (tensor.range().end, map.bytes().len());
            assert!(end <= bytes, "tensor `{name}` ends at byte {end} of {bytes}");
        }
        Self { map, tensors, metadata: BTreeMap::new() }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.map.path()
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    /// There is a tensor `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The free-form metadata of a safetensors file.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Shape of tensor `name`.
    ///
    /// # Errors
    /// [`ModelError::NoTensor`].
    pub fn shape(&self, name: &str) -> Result<&[usize], ModelError> {
        Ok(&self.tensor(name)?.shape)
    }

    /// Dtype of tensor `name`, as safetensors spells it (`F32`).
    ///
    /// # Errors
    /// [`ModelError::NoTensor`].
    pub fn dtype(&self, name: &str) -> Result<String, ModelError> {
        Ok(self.tensor(name)?.dtype.to_string())
    }

    /// Bytes of the values of tensor `name`.
    ///
    /// # Errors
    /// [`ModelError::NoTensor`].
    pub fn size_bytes(&self, name: &str) -> Result<u64, ModelError> {
        let tensor = self.tensor(name)?;
        let elements: u64 = tensor.shape.iter().map(|size| *size as u64).product();
        Ok(elements * tensor.dtype.bitsize() as u64 / 8)
    }

    /// Little-endian bytes of tensor `name`, row-major: straight from the map where it has them so.
    ///
    /// # Errors
    /// [`ModelError::NoTensor`].
    pub fn bytes(&self, name: &str) -> Result<Cow<'_, [u8]>, ModelError> {
        Ok(self.bytes_of(self.tensor(name)?))
    }

    /// As [`TensorFile::bytes`], of `tensor`.
    pub(super) fn bytes_of(&self, tensor: &StoredTensor) -> Cow<'_, [u8]> {
        tensor.bytes(self.map.bytes())
    }

    /// Bytes of `tensor` where they lie, if the file holds them row-major and little-endian.
    pub(super) fn in_place(&self, tensor: &StoredTensor) -> Option<Bytes> {
        match &tensor.place {
            Place::Whole(range) => Some(self.map.shared(range)),
            Place::Strided(_) | Place::Made(_) => None,
        }
    }

    /// Values of `tensor`, which is called `name`, as f32, row-major.
    ///
    /// # Errors
    /// [`ModelError::BadDtype`].
    pub(super) fn f32_of(&self, name: &str, tensor: &StoredTensor) -> Result<Vec<f32>, ModelError> {
        dtype::to_f32(name, tensor.dtype, &self.bytes_of(tensor))
    }

    /// As [`TensorFile::release`], of `tensor` alone.
    pub(super) fn release_of(&self, tensor: &StoredTensor) {
        self.map.release(tensor.range());
    }

    /// Values of tensor `name` as f32, row-major; from f32, f16, bf16 or f64.
    ///
    /// # Errors
    /// [`ModelError::NoTensor`], [`ModelError::BadDtype`].
    pub fn f32(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        self.f32_of(name, self.tensor(name)?)
    }

    /// Values of tensor `name` as i64, row-major; from any integer or boolean dtype but u64.
    ///
    /// # Errors
    /// [`ModelError::NoTensor`], [`ModelError::BadDtype`].
    pub fn i64(&self, name: &str) -> Result<Vec<i64>, ModelError> {
        let tensor = self.tensor(name)?;
        dtype::to_i64(name, tensor.dtype, &tensor.bytes(self.map.bytes()))
    }

    /// Values of tensor `name` as f32, if it has the shape `expected`.
    ///
    /// # Errors
    /// [`ModelError::BadShape`], and those of [`TensorFile::f32`].
    pub fn f32_of_shape(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>, ModelError> {
        self.check_shape(name, expected)?;
        self.f32(name)
    }

    /// Values of tensor `name` of dtype u8, if it has the shape `expected`.
    ///
    /// # Errors
    /// [`ModelError::NoTensor`], [`ModelError::BadShape`], [`ModelError::BadDtype`].
    pub fn u8_of_shape(&self, name: &str, expected: &[usize]) -> Result<Vec<u8>, ModelError> {
        self.check_shape(name, expected)?;
        match self.tensor(name)?.dtype {
            Dtype::U8 => Ok(self.bytes(name)?.into_owned()),
            found => {
                Err(ModelError::BadDtype { name: name.to_owned(), found: found.to_string(), expected: "U8" })
            }
        }
    }

    fn check_shape(&self, name: &str, expected: &[usize]) -> Result<(), ModelError> {
        let found = self.shape(name)?;
        if found == expected {
            return Ok(());
        }
        Err(ModelError::BadShape {
            name: name.to_owned(),
            found: found.to_vec(),
            expected: expected.to_vec(),
        })
    }

    /// Lets the system drop the pages of tensor `name` from this process: a loaded tensor should not count
    /// twice. Reading it again works and reads the disk again.
    pub fn release(&self, name: &str) {
        if let Some(tensor) = self.tensors.get(name) {
            self.release_of(tensor);
        }
    }

    pub(super) fn tensor(&self, name: &str) -> Result<&StoredTensor, ModelError> {
        let missing = || ModelError::NoTensor { path: self.path().to_path_buf(), name: name.to_owned() };
        self.tensors.get(name).ok_or_else(missing)
    }
}
