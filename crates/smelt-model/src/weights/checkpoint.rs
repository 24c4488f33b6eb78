//! The weights of one model folder: a single file, or shards with their index; safetensors or PyTorch's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::file::TensorFile;
use crate::error::ModelError;
use crate::json;

/// File name of unsharded weights.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// File name of the index of sharded weights.
pub const INDEX_FILE: &str = "model.safetensors.index.json";
/// File name of unsharded weights of `torch.save`.
pub const TORCH_WEIGHTS_FILE: &str = "pytorch_model.bin";
/// File name of the index of sharded weights of `torch.save`.
pub const TORCH_INDEX_FILE: &str = "pytorch_model.bin.index.json";

/// A single file and the index of shards that may stand for it, in the order that transformers looks.
const NAMES: [(&str, &str); 2] = [(WEIGHTS_FILE, INDEX_FILE), (TORCH_WEIGHTS_FILE, TORCH_INDEX_FILE)];

/// Of each tensor, this much tells it from another: reading all would take as long as loading.
const SAMPLED_BYTES: usize = 4096;

/// All weight files of a folder, open, with the place of every tensor.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    files: Vec<TensorFile>,
    places: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens `model.safetensors` in `folder`, or else the shards of `model.safetensors.index.json`, or else
    /// `pytorch_model.bin` or its shards.
    ///
    /// # Errors
    /// [`ModelError::NoWeights`] with none of them, [`ModelError::BadIndex`] if an index names a file outside
    /// the folder or a tensor that its shard lacks, and those of [`TensorFile::open`].
    pub fn open(folder: &Path) -> Result<Self, ModelError> {
        for (single, index) in NAMES.map(|(single, index)| (folder.join(single), folder.join(index))) {
            if single.exists() {
                let file = TensorFile::open(&single)?;
                return Self::of_files(&single, vec![file]);
            }
            if index.exists() {
                return Self::open_shards(folder, &index);
            }
        }
        Err(ModelError::NoWeights { folder: folder.to_path_buf() })
    }

    /// The weights in `files`, found at `path`.
    ///
    /// # Errors
    /// [`ModelError::TensorTwice`] for a name that several hold.
    pub fn of_files(path: &Path, files: Vec<TensorFile>) -> Result<Self, ModelError> {
        let mut places = BTreeMap::new();
        for (place, file) in files.iter().enumerate() {
            for name in file.names() {
                if places.insert(name.to_owned(), place).is_some() {
                    return Err(ModelError::TensorTwice { path: path.to_path_buf(), name: name.to_owned() });
                }
            }
        }
        Ok(Self { path: path.to_path_buf(), files, places })
    }

    /// The single file, or the index.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// The file that holds tensor `name`.
    pub fn file_of(&self, name: &str) -> Option<&TensorFile> {
        self.places.get(name).map(|place| &self.files[*place])
    }

    /// Bytes of all tensors as they are handed out.
    ///
    /// # Errors
    /// None but for a file that changes meanwhile.
    pub fn held_bytes(&self) -> Result<u64, ModelError> {
        let bytes = self.places.iter().map(|(name, place)| self.files[*place].size_bytes(name));
        bytes.sum()
    }

    /// Tells these weights from others: a hash of every tensor's name, dtype, shape and first values.
    ///
    /// # Errors
    /// None but for a file that changes meanwhile.
    pub fn fingerprint(&self) -> Result<String, ModelError> {
        let mut hash = Sha256::new();
        for (name, place) in &self.places {
            let file = &self.files[*place];
            hash.update(format!("{name} {} {:?}", file.dtype(name)?, file.shape(name)?));
            let bytes = file.bytes(name)?;
            hash.update(&bytes[..bytes.len().min(SAMPLED_BYTES)]);
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn open_shards(folder: &Path, path: &Path) -> Result<Self, ModelError> {
        let bad = |reason: String| ModelError::BadIndex { path: path.to_path_buf(), reason };
        let index: Index = json::read(path)?;
        let shards: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
        let mut files = Vec::with_capacity(shards.len());
        let mut places = BTreeMap::new();
        for shard in shards {
            if !is_plain_name(shard) {
                return Err(bad(format!("`{shard}` is not a file name")));
            }
            let file = TensorFile::open(&folder.join(shard))?;
            for name in file.names() {
                if places.insert(name.to_owned(), files.len()).is_some() {
                    return Err(bad(format!("tensor `{name}` is in more than one shard")));
                }
            }
            files.push(file);
        }
        let checkpoint = Self { path: path.to_path_buf(), files, places };
        for (name, shard) in &index.weight_map {
            let file = checkpoint.file_of(name).map(TensorFile::path);
            if file != Some(&folder.join(shard)) {
                return Err(bad(format!("tensor `{name}` is not in `{shard}`")));
            }
        }
        Ok(checkpoint)
    }
}

/// One normal path component: an index must not reach outside its folder.
fn is_plain_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(_)), None))
}
