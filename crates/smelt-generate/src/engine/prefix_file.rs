//! Prefixes in a file, so that a long prompt need not be read again tomorrow.
//!
//! A safetensors file with the spans of all nodes; their tokens and how they hang together are metadata. The file
//! belongs to one model with one precision of its cache, and is refused for any other.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use smelt_backend::Kernels;
use smelt_model::weights::{TensorFile, TensorFileWriter};
use smelt_model::{CacheBits, DecoderConfig, KvSpan, ModelError};

use super::prefix::PrefixTree;

/// Key of the description in the file's metadata.
const DESCRIPTION: &str = "smelt_prefixes";

/// Where the prefixes of a model are kept between runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixFile {
    /// The file; it is made if it is not there.
    pub path: PathBuf,
    /// Tells models apart: two with the same have the same weights.
    pub fingerprint: String,
}

/// Why a file of prefixes cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrefixFileError {
    /// It cannot be read or written, or is damaged.
    #[error(transparent)]
    File(#[from] ModelError),
    /// It does not say what it holds.
    #[error("`{}` is no file of prompts kept by smelt", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// It belongs to another model, or to other settings.
    #[error("`{}` was kept with another {what}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
    },
}

#[derive(Serialize, Deserialize)]
struct Description {
    model: String,
    kv_bits: Option<u8>,
    nodes: Vec<NodeDescription>,
}

#[derive(Serialize, Deserialize)]
struct NodeDescription {
    /// An earlier node, or none for the beginning of a text.
    parent: Option<usize>,
    tokens: Vec<u32>,
}

/// Writes `tree` to its file, whole or not at all.
pub(super) fn save<B: Kernels>(
    tree: &PrefixTree<B>,
    file: &PrefixFile,
    kv_bits: Option<CacheBits>,
) -> Result<(), PrefixFileError> {
    let nodes = tree.nodes();
    let description = Description {
        model: file.fingerprint.clone(),
        kv_bits: kv_bits.map(CacheBits::number),
        nodes: nodes
            .iter()
            .map(|(parent, tokens, _)| NodeDescription { parent: *parent, tokens: tokens.to_vec() })
            .collect(),
    };
    let description = serde_json::to_string(&description).unwrap_or_default();
    let mut writer = TensorFileWriter::new().metadata(DESCRIPTION, &description);
    for (index, (_, _, span)) in nodes.iter().enumerate() {
        span.add_to(&format!("nodes.{index}"), &mut writer);
    }
    Ok(writer.write(&file.path)?)
}

/// The prefixes in the file; none if there is no file.
pub(super) fn load<B: Kernels>(
    file: &PrefixFile,
    config: &DecoderConfig,
    kv_bits: Option<CacheBits>,
    device: &B::Device,
) -> Result<PrefixTree<B>, PrefixFileError> {
    let mut tree = PrefixTree::new();
    if !file.path.exists() {
        return Ok(tree);
    }
    let tensors = TensorFile::open(&file.path)?;
    let description = described(&tensors, &file.path)?;
    let other = |what| PrefixFileError::Other { path: file.path.clone(), what };
    if description.model != file.fingerprint {
        return Err(other("model"));
    }
    if description.kv_bits != kv_bits.map(CacheBits::number) {
        return Err(other("number of `kv_bits`"));
    }
    let mut texts: Vec<Vec<u32>> = Vec::with_capacity(description.nodes.len());
    for (index, NodeDescription { parent, tokens }) in description.nodes.into_iter().enumerate() {
        let before = match parent {
            None => Vec::new(),
            Some(parent) => texts.get(parent).cloned().ok_or_else(|| not_ours(&file.path))?,
        };
        let span = KvSpan::read(&tensors, &format!("nodes.{index}"), tokens.len(), config, kv_bits, device)?;
        let text = [before, tokens].concat();
        let start = text.len() - span.len();
        if span.is_empty() || config.check_token_ids(&text).is_err() {
            return Err(not_ours(&file.path));
        }
        tree.insert(&text, |from| (from == start).then_some(span));
        texts.push(text);
    }
    Ok(tree)
}

fn described(tensors: &TensorFile, path: &Path) -> Result<Description, PrefixFileError> {
    let text = tensors.metadata().get(DESCRIPTION).ok_or_else(|| not_ours(path))?;
    serde_json::from_str(text).map_err(|_| not_ours(path))
}

fn not_ours(path: &Path) -> PrefixFileError {
    PrefixFileError::NotOurs { path: path.to_owned() }
}
