//! JSON files of a model folder, which may come from anywhere.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::ModelError;

/// Largest file: the index of 600 000 tensors.
const MOST_BYTES: u64 = 1 << 26;

/// Parses the file at `path`.
///
/// # Errors
/// [`ModelError::Io`], [`ModelError::TooLarge`], [`ModelError::Json`].
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, ModelError> {
    let file = File::open(path).map_err(ModelError::io("read", path))?;
    let mut text = Vec::new();
    // One byte more than allowed: devices and pipes do not say how much they hold.
    file.take(MOST_BYTES + 1).read_to_end(&mut text).map_err(ModelError::io("read", path))?;
    if text.len() as u64 > MOST_BYTES {
        return Err(ModelError::TooLarge { path: path.to_path_buf(), limit: MOST_BYTES });
    }
    serde_json::from_slice(&text).map_err(|source| ModelError::Json { path: path.to_path_buf(), source })
}
