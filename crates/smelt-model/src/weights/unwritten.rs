//! The files of a model or an adapter before they are written.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::Value;

use super::atomic::write_atomic;
use super::writer::TensorFileWriter;
use crate::config::to_text;
use crate::error::ModelError;

/// Files of one folder, complete but for the values, which are fetched while they are written.
///
/// Holds on to the tensors and not to the model: it may be written later, by another thread, while the model is
/// trained on. A backend then gives a tensor that is still held here a copy instead of changing it in place.
pub struct UnwrittenFiles {
    pub(crate) tensors: Vec<(String, TensorFileWriter<'static>)>,
    pub(crate) json: Vec<(String, Value)>,
}

impl UnwrittenFiles {
    /// Names of the files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let tensors = self.tensors.iter().map(|(name, _)| name.as_str());
        tensors.chain(self.json.iter().map(|(name, _)| name.as_str()))
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().map(|(_, file)| file.bytes()).sum()
    }

    /// The same with every value fetched now, into memory of the host.
    pub fn fetched(self) -> Self {
        let tensors = self.tensors.into_iter().map(|(name, file)| (name, file.fetched())).collect();
        Self { tensors, json: self.json }
    }

    /// Writes everything into `folder`, which is made if it is not there; each file is replaced atomically.
    ///
    /// # Errors
    /// [`ModelError::Io`], [`ModelError::TensorTwice`].
    pub fn write(self, folder: &Path) -> Result<(), ModelError> {
        write_files(self.tensors, self.json, folder)
    }
}

/// Writes files into `folder`, which is made if it is not there; each is replaced atomically.
///
/// # Errors
/// Those of [`TensorFileWriter::write`], [`ModelError::Io`].
pub(super) fn write_files(
    tensors: Vec<(String, TensorFileWriter<'_>)>,
    json: Vec<(String, Value)>,
    folder: &Path,
) -> Result<(), ModelError> {
    fs::create_dir_all(folder).map_err(ModelError::io("write", folder))?;
    for (name, file) in tensors {
        file.write(&folder.join(name))?;
    }
    for (name, value) in json {
        let (path, text) = (folder.join(name), to_text(&value));
        write_atomic(&path, |file| file.write_all(text.as_bytes()))
            .map_err(ModelError::io("write", &path))?;
    }
    Ok(())
}
