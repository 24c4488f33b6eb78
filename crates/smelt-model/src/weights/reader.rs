//! One safetensors file, mapped into memory and read tensor by tensor.
//!
//! The header is checked against the size of the file before anything is allocated: offsets out of range,
//! overlaps, gaps and truncation are errors.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::SafeTensors;
use safetensors::tensor::{Metadata, TensorInfo};

use super::dtype;
use crate::error::ModelError;

/// A safetensors file open for reading; its values stay on disk until asked for.
///
/// Used for weights, optimizer state, and the inputs of `smelt logits` alike.
#[derive(Debug)]
pub struct TensorFileReader {
    path: PathBuf,
    map: Mmap,
    metadata: Metadata,
    data_start: usize,
}

impl TensorFileReader {
    /// Opens `path` and checks its header.
    ///
    /// # Errors
    /// [`ModelError::Io`] if it cannot be opened or mapped, [`ModelError::Safetensors`] if its header does
    /// not describe exactly what the file holds.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let file = File::open(path).map_err(ModelError::io("read", path))?;
        if !file.metadata().map_err(ModelError::io("read", path))?.is_file() {
            return Err(ModelError::io("read", path)(std::io::ErrorKind::InvalidInput.into()));
        }
        // SAFETY: the map is only read. A process that truncates the file meanwhile would raise SIGBUS, as
        // for every reader of mapped weights; smelt itself replaces files by rename and never in place.
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(&file) }.map_err(ModelError::io("map", path))?;
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(ModelError::safetensors(path))?;
        Ok(Self { path: path.to_path_buf(), map, metadata, data_start: size_of::<u64>() + header })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names = self.metadata.offset_keys();
        names.sort_unstable();
        names
    }

    /// There is a tensor `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }

    /// The file's free-form metadata.
    pub fn metadata(&self) -> HashMap<String, String> {
        self.metadata.metadata().clone().unwrap_or_default()
    }

    /// Shape of tensor `name`.
    ///
    /// # Errors
    /// [`ModelError::NoTensor`].
    pub fn shape(&self, name: &str) -> Result<&[usize], ModelError> {
        Ok(&self.info(name)?.shape)
    }

    /// Dtype of tensor `name`, as safetensors spells it (`F32`).
    ///
    /// # Errors
    /// [`ModelError::NoTensor`].
    pub fn dtype(&self, name: &str) -> Result<String, ModelError> {
        Ok(self.info(name)?.dtype.to_string())
    }

    /// Little-endian bytes of tensor `name`, straight from the map.
    ///
    /// # Errors
    /// [`ModelError::NoTensor`].
    pub fn bytes(&self, name: &str) -> Result<&[u8], ModelError> {
        let (start, end) = self.info(name)?.data_offsets;
        Ok(&self.map[self.data_start + start..self.data_start + end])
    }

    /// Values of tensor `name` as f32, row-major; from f32, f16, bf16 or f64.
    ///
    /// # Errors
    /// [`ModelError::NoTensor`], [`ModelError::BadDtype`].
    pub fn f32(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        dtype::to_f32(name, self.info(name)?.dtype, self.bytes(name)?)
    }

    /// Values of tensor `name` as i64, row-major; from any integer or boolean dtype but u64.
    ///
    /// # Errors
    /// [`ModelError::NoTensor`], [`ModelError::BadDtype`].
    pub fn i64(&self, name: &str) -> Result<Vec<i64>, ModelError> {
        dtype::to_i64(name, self.info(name)?.dtype, self.bytes(name)?)
    }

    /// Values of tensor `name` as f32, if it has the shape `expected`.
    ///
    /// # Errors
    /// [`ModelError::BadShape`], and those of [`TensorFileReader::f32`].
    pub fn f32_of_shape(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>, ModelError> {
        let found = self.shape(name)?;
        if found == expected {
            return self.f32(name);
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
        #[cfg(unix)]
        if let Some(info) = self.metadata.info(name) {
            let (start, end) = info.data_offsets;
            // SAFETY: the map is read-only and backed by a file, so dropped pages come back unchanged.
            #[allow(unsafe_code)]
            let advised = unsafe {
                let advice = memmap2::UncheckedAdvice::DontNeed;
                self.map.unchecked_advise_range(advice, self.data_start + start, end - start)
            };
            if let Err(error) = advised {
                tracing::debug!(%error, name, "the system keeps the pages of a loaded tensor");
            }
        }
    }

    fn info(&self, name: &str) -> Result<&TensorInfo, ModelError> {
        let missing = || ModelError::NoTensor { path: self.path.clone(), name: name.to_owned() };
        self.metadata.info(name).ok_or_else(missing)
    }
}
