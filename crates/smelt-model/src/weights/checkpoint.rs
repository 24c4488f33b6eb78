//! The weights of one model folder: a single safetensors file, or shards with their index.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::reader::TensorFileReader;
use crate::error::ModelError;

/// File name of unsharded weights.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// File name of the index of sharded weights.
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// All weight files of a folder, open, with the place of every tensor.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    files: Vec<TensorFileReader>,
    places: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens `model.safetensors` in `folder`, or else the shards of `model.safetensors.index.json`.
    ///
    /// # Errors
    /// [`ModelError::NoWeights`] with neither, [`ModelError::BadIndex`] if an index names a file outside
    /// the folder or a tensor that its shard lacks, and those of [`TensorFileReader::open`].
    pub fn open(folder: &Path) -> Result<Self, ModelError> {
        let single = folder.join(WEIGHTS_FILE);
        let index = folder.join(INDEX_FILE);
        if single.exists() {
            let file = TensorFileReader::open(&single)?;
            let places = file.names().into_iter().map(|name| (name, 0)).collect();
            return Ok(Self { path: single, files: vec![file], places });
        }
        if index.exists() {
            return Self::open_shards(folder, &index);
        }
        Err(ModelError::NoWeights { folder: folder.to_path_buf() })
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
    pub fn file_of(&self, name: &str) -> Option<&TensorFileReader> {
        self.places.get(name).map(|place| &self.files[*place])
    }

    fn open_shards(folder: &Path, path: &Path) -> Result<Self, ModelError> {
        let bad = |reason: String| ModelError::BadIndex { path: path.to_path_buf(), reason };
        let index = read_index(path)?;
        let shards: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
        let mut files = Vec::with_capacity(shards.len());
        let mut places = BTreeMap::new();
        for shard in shards {
            if !is_plain_name(shard) {
                return Err(bad(format!("`{shard}` is not a file name")));
            }
            let file = TensorFileReader::open(&folder.join(shard))?;
            for name in file.names() {
                if places.insert(name.clone(), files.len()).is_some() {
                    return Err(bad(format!("tensor `{name}` is in more than one shard")));
                }
            }
            files.push(file);
        }
        let checkpoint = Self { path: path.to_path_buf(), files, places };
        for (name, shard) in &index.weight_map {
            let file = checkpoint.file_of(name).map(TensorFileReader::path);
            if file != Some(&folder.join(shard)) {
                return Err(bad(format!("tensor `{name}` is not in `{shard}`")));
            }
        }
        Ok(checkpoint)
    }
}

fn read_index(path: &Path) -> Result<Index, ModelError> {
    let text = fs::read(path).map_err(ModelError::io("read", path))?;
    serde_json::from_slice(&text).map_err(|source| ModelError::Json { path: path.to_path_buf(), source })
}

/// One normal path component: an index must not reach outside its folder.
fn is_plain_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(_)), None))
}
