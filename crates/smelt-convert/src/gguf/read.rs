//! A GGUF file, or several that one model was split into, open for reading.

use std::path::{Path, PathBuf};

use smelt_model::ModelConfig;
use smelt_model::weights::FileMap;

use super::header::{FileTensor, read_header};
use super::read_config::{TensorFacts, read_config};
use super::rope::{self, RopeFactors};
use super::value::Metadata;
use crate::ConvertError;

/// Most files that a model may be split into.
const FILES: usize = 1000;

/// A model in GGUF: what it is; its weights stay on disk.
#[derive(Debug)]
pub struct GgufModel {
    /// The model, as Hugging Face describes it.
    pub config: ModelConfig,
    /// All keys of the first file.
    pub metadata: Metadata,
    pub(super) path: PathBuf,
    pub(super) files: Vec<OpenFile>,
}

/// One file and what is in it.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) map: FileMap,
    pub(super) tensors: std::collections::BTreeMap<String, FileTensor>,
}

impl GgufModel {
    /// Opens the file at `path`, and those beside it that the model continues in.
    ///
    /// # Errors
    /// [`ConvertError::BadGguf`] for what is damaged or lies about itself, [`ConvertError::UnknownArchitecture`],
    /// [`ConvertError::BadMetadata`], and [`ConvertError::Model`] for sizes that no model has.
    pub fn open(path: &Path) -> Result<Self, ConvertError> {
        let (first, metadata) = open_file(path)?;
        let mut files = vec![first];
        for path in continuations(path, &metadata)? {
            files.push(open_file(&path)?.0);
        }
        check_counts(path, &metadata, &files)?;
        let facts = facts(path, &files)?;
        let config = read_config(&metadata, &facts)?;
        Ok(Self { config, metadata, path: path.to_owned(), files })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names and kinds of all tensors as the files have them.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, super::TensorKind)> {
        let tensors = self.files.iter().flat_map(|file| &file.tensors);
        tensors.map(|(name, tensor)| (name.as_str(), tensor.kind))
    }

    /// Tensor `name`, with the number of its file.
    pub(super) fn tensor(&self, name: &str) -> Option<(usize, &FileTensor)> {
        find(&self.files, name)
    }
}

fn open_file(path: &Path) -> Result<(OpenFile, Metadata), ConvertError> {
    let map = FileMap::open(path)?;
    let header = read_header(map.bytes()).map_err(ConvertError::bad_gguf(path))?;
    Ok((OpenFile { map, tensors: header.tensors }, header.metadata))
}

/// Refuses counts of blocks and experts that the tensors contradict, before anything is made for each.
fn check_counts(path: &Path, metadata: &Metadata, files: &[OpenFile]) -> Result<(), ConvertError> {
    let architecture = metadata.text("general.architecture")?.unwrap_or_default();
    let tensors = || files.iter().flat_map(|file| file.tensors.values());
    let count = tensors().count();
    let stacked = tensors().filter(|tensor| tensor.shape.len() > 2).map(|tensor| tensor.shape[0]);
    let most_experts = stacked.max().unwrap_or_default().max(count);
    for (key, most) in [("block_count", count), ("expert_count", most_experts)] {
        let key = format!("{architecture}.{key}");
        if let Some(claimed) = metadata.count(&key)?.filter(|claimed| *claimed > most) {
            let reason = format!("`{key}` is {claimed}, its tensors are enough for {most}");
            return Err(ConvertError::bad_gguf(path)(reason));
        }
    }
    Ok(())
}

/// The files that follow `path` in a model of several.
fn continuations(path: &Path, metadata: &Metadata) -> Result<Vec<PathBuf>, ConvertError> {
    let count = metadata.count("split.count")?.unwrap_or(1);
    if count <= 1 {
        return Ok(Vec::new());
    }
    let bad = |reason: String| ConvertError::bad_gguf(path)(reason);
    let end = format!("-00001-of-{count:05}.gguf");
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(&end).filter(|_| count <= FILES);
    let stem =
        stem.ok_or_else(|| bad(format!("it is one of {count} files, expected the first, `...{end}`")))?;
    Ok((2..=count)
        .map(|number| path.with_file_name(format!("{stem}-{number:05}-of-{count:05}.gguf")))
        .collect())
}

fn find<'a>(files: &'a [OpenFile], name: &str) -> Option<(usize, &'a FileTensor)> {
    files.iter().enumerate().find_map(|(number, file)| Some((number, file.tensors.get(name)?)))
}

/// What the tensors tell of the model.
fn facts(path: &Path, files: &[OpenFile]) -> Result<TensorFacts, ConvertError> {
    let bytes = |name: &str| {
        let (file, tensor) = find(files, name)?;
        Some((tensor, &files[file].map.bytes()[tensor.range.clone()]))
    };
    let embedding = bytes("token_embd.weight");
    let (embedding, embedding_bytes) = embedding
        .ok_or_else(|| ConvertError::bad_gguf(path)("it has no tensor `token_embd.weight`".to_owned()))?;
    let tied = bytes("output.weight").is_none_or(|(head, head_bytes)| {
        head.kind == embedding.kind && head.shape == embedding.shape && head_bytes == embedding_bytes
    });
    let factors = |name: &str| match bytes(name) {
        Some((tensor, bytes)) if tensor.kind == super::TensorKind::F32 => {
            Ok(Some(bytes.as_chunks::<4>().0.iter().map(|raw| f32::from_le_bytes(*raw)).collect()))
        }
        Some((tensor, _)) => {
            let reason = format!("tensor `{name}` is of type {}, expected f32", tensor.kind.name());
            Err(ConvertError::bad_gguf(path)(reason))
        }
        None => Ok(None),
    };
    let has = |name: &str| find(files, name).is_some();
    Ok(TensorFacts {
        vocab_size: embedding.rows(),
        tied,
        attention_bias: has("blk.0.attn_q.bias")
            || has("blk.0.attn_qkv.bias")
            || has("blk.0.attn_output.bias"),
        mlp_bias: has("blk.0.ffn_up.bias"),
        rope: RopeFactors {
            always: factors(rope::FREQUENCIES)?,
            long: factors(rope::LONG)?,
            short: factors(rope::SHORT)?,
        },
    })
}
