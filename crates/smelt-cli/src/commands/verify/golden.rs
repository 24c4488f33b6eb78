//! A folder of reference outputs: what the generator of `golden/` wrote.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use smelt_model::weights::TensorFile;

use super::checks::Checks;
use crate::error::CliError;
use crate::token_ids::TokenIds;

/// Reference outputs of one model.
#[derive(Debug)]
pub struct Golden {
    /// The folder, which holds the model too.
    pub folder: PathBuf,
    /// `meta.json`.
    pub meta: Value,
    tensors: TensorFile,
}

/// The `meta.json` of a folder.
///
/// # Errors
/// [`CliError::Io`] or [`CliError::Json`].
pub fn read_meta(folder: &Path) -> Result<Value, CliError> {
    read_json(&folder.join("meta.json"))
}

/// The contents of a JSON file.
///
/// # Errors
/// [`CliError::Io`] or [`CliError::Json`].
pub fn read_json(path: &Path) -> Result<Value, CliError> {
    let text = std::fs::read(path).map_err(|source| CliError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&text).map_err(|source| CliError::Json { path: path.to_owned(), source })
}

/// Reference outputs of what belongs to a model: its adapters, or the same weights in other formats.
pub struct Variants {
    /// The outputs of all.
    pub reference: TensorFile,
    /// What each variant is called.
    pub tags: BTreeSet<String>,
}

impl Golden {
    /// Opens the reference tensors beside `meta`.
    ///
    /// # Errors
    /// [`CliError::Model`] if they cannot be read.
    pub fn open(folder: &Path, meta: Value) -> Result<Self, CliError> {
        let tensors = TensorFile::open(&folder.join("golden.safetensors"))?;
        Ok(Self { folder: folder.to_owned(), meta, tensors })
    }

    /// The outputs in `file`, if the folder has it; `tag` takes the variant from the name of a tensor. A tensor
    /// without one is a failed check, unless it is among `others`.
    ///
    /// # Errors
    /// [`CliError::Model`] if they cannot be read.
    pub fn variants(
        &self,
        file: &str,
        tag: fn(&str) -> Option<&str>,
        others: &[&str],
        checks: &mut Checks,
    ) -> Result<Option<Variants>, CliError> {
        let path = self.folder.join(file);
        if !path.exists() {
            return Ok(None);
        }
        let reference = TensorFile::open(&path)?;
        let (known, unknown): (Vec<&str>, Vec<&str>) =
            reference.names().into_iter().partition(|name| tag(name).is_some());
        checks.unread("tensor", unknown.into_iter().filter(|name| !others.contains(name)).map(str::to_owned));
        let tags = known.into_iter().filter_map(tag).map(str::to_owned).collect();
        Ok(Some(Variants { reference, tags }))
    }

    /// Names of the tensors.
    pub fn names(&self) -> Vec<String> {
        self.tensors.names().into_iter().map(str::to_owned).collect()
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains(name)
    }

    /// Shape of a tensor.
    pub fn shape(&self, name: &str) -> Result<&[usize], CliError> {
        Ok(self.tensors.shape(name)?)
    }

    /// A tensor of numbers.
    pub fn floats(&self, name: &str) -> Result<Vec<f32>, CliError> {
        Ok(self.tensors.f32(name)?)
    }

    /// A tensor of ids, `[batch, seq]`.
    pub fn ids(&self, name: &str) -> Result<TokenIds, CliError> {
        TokenIds::read(&self.tensors, name)
    }

    /// A tensor of numbers of 0 or more, of any shape, row-major.
    pub fn whole_numbers(&self, name: &str) -> Result<Vec<u32>, CliError> {
        let bad = |value| CliError::BadTensor { name: name.to_owned(), found: format!("the value {value}") };
        self.tensors
            .i64(name)?
            .into_iter()
            .map(|value| u32::try_from(value).map_err(|_| bad(value)))
            .collect()
    }

    /// A tolerance of `meta.json`, or the usual one.
    pub fn tolerance(&self, name: &str, usual: f64) -> f64 {
        self.meta["tolerance"][name].as_f64().unwrap_or(usual)
    }
}
