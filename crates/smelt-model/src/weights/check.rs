//! A checkpoint against the model that is to be made of it: all differences at once, before anything is loaded.

use std::collections::HashSet;

use super::checkpoint::Checkpoint;
use super::file::TensorFile;
use super::location::Location;
use super::packed::PackedMatrix;
use super::place::StoredTensor;
use crate::config::ModelConfig;
use crate::error::{Differences, MisShaped, ModelError};
use crate::parameters::ParameterInfo;

const HEAD: &str = "lm_head";
const EMBEDDING: &str = "embed_tokens";
/// What a packed matrix consists of, and a dense one of the first.
const PARTS: [&str; 3] = ["weight", "scales", "biases"];

/// A tensor of the model in a file.
pub(super) struct Found<'a> {
    pub(super) file: &'a TensorFile,
    /// Its name there.
    pub(super) name: String,
    /// What the model needs of it: one expert's part, where it holds those of all.
    pub(super) tensor: StoredTensor,
    /// It is a matrix that lies turned.
    pub(super) transposed: bool,
}

/// The tensor at `path`, which was checked to be there.
///
/// # Errors
/// [`ModelError::NoTensor`] if it is not.
pub(super) fn located<'a>(
    config: &ModelConfig,
    checkpoint: &'a Checkpoint,
    path: &str,
) -> Result<Found<'a>, ModelError> {
    let Some((location, file)) = config.family.names.locate(checkpoint, path) else {
        let name = name_of(config, path);
        return Err(ModelError::NoTensor { path: checkpoint.path().to_path_buf(), name });
    };
    let Location { name, transposed, expert } = location;
    let whole = file.tensor(&name)?;
    let tensor = expert.map_or_else(|| whole.clone(), |index| whole.part(index));
    Ok(Found { file, name, tensor, transposed })
}

/// What the tensor at `path` is called in folders like this one.
fn name_of(config: &ModelConfig, path: &str) -> String {
    match config.quantization {
        Some(_) => config.family.names.in_mlx(path).name,
        None => config.family.names.key(path),
    }
}

/// # Errors
/// [`ModelError::Mismatch`], [`ModelError::TiedHeadDiffers`].
pub(super) fn check(
    config: &ModelConfig,
    checkpoint: &Checkpoint,
    parameters: &[ParameterInfo],
    packed: &[PackedMatrix],
) -> Result<(), ModelError> {
    let dense = parameters.iter().map(|info| (info.path.clone(), info.shape.clone()));
    let wanted = dense.chain(packed.iter().flat_map(PackedMatrix::tensors));
    let mut differences = Differences::default();
    let mut used = HashSet::new();
    for (path, shape) in wanted {
        let Some((location, file)) = config.family.names.locate(checkpoint, &path) else {
            add_once(&mut differences.missing, name_of(config, &path));
            continue;
        };
        let expected = shape_in_file(config, shape, &location);
        let found = file.shape(&location.name)?;
        if found != expected {
            let name = location.name.clone();
            add_once(&mut differences.mis_shaped, MisShaped { name, found: found.to_vec(), expected });
        }
        used.insert(location.name);
    }
    let is_tied_head = |name: &str| {
        config.decoder.tie_word_embeddings
            && PARTS.iter().any(|part| head_names(config, part).iter().any(|head| head == name))
    };
    let unexpected = checkpoint
        .names()
        .filter(|name| !used.contains(*name) && !config.family.names.is_ignored(name) && !is_tied_head(name));
    differences.unexpected = unexpected.map(str::to_owned).collect();
    if !differences.is_empty() {
        let path = checkpoint.path().to_path_buf();
        return Err(ModelError::Mismatch { path, differences: Box::new(differences) });
    }
    check_tied_head(config, checkpoint)
}

/// Experts that a file joins are missing together.
fn add_once<T: PartialEq>(list: &mut Vec<T>, entry: T) {
    if list.last() != Some(&entry) {
        list.push(entry);
    }
}

/// The shape that the tensor of `location` has, where the model needs `shape`.
fn shape_in_file(config: &ModelConfig, mut shape: Vec<usize>, location: &Location) -> Vec<usize> {
    if location.transposed {
        shape.reverse();
    }
    if let (Some(_), Some(experts)) = (location.expert, config.decoder.experts) {
        shape.insert(0, experts.num_experts);
    }
    shape
}

fn head_names(config: &ModelConfig, part: &str) -> [String; 2] {
    let path = format!("{HEAD}.{part}");
    [config.family.names.key(&path), config.family.names.in_mlx(&path).name]
}

/// A file may repeat the tied embedding as its head, but not hold another one that would be dropped.
fn check_tied_head(config: &ModelConfig, checkpoint: &Checkpoint) -> Result<(), ModelError> {
    if !config.decoder.tie_word_embeddings {
        return Ok(());
    }
    for part in PARTS {
        let heads = head_names(config, part).into_iter();
        let head = heads.into_iter().find_map(|name| Some((checkpoint.file_of(&name)?, name)));
        let Some((head_file, head)) = head else { continue };
        let embedding = config.family.names.locate(checkpoint, &format!("{EMBEDDING}.{part}"));
        let same = match &embedding {
            Some((location, file)) => same_values(head_file, &head, file, &location.name)?,
            None => false,
        };
        if !same {
            let embedding = embedding.map_or_else(
                || name_of(config, &format!("{EMBEDDING}.{part}")),
                |(location, _)| location.name,
            );
            return Err(ModelError::TiedHeadDiffers { head, embedding });
        }
    }
    Ok(())
}

fn same_values(a: &TensorFile, a_name: &str, b: &TensorFile, b_name: &str) -> Result<bool, ModelError> {
    let same = a.dtype(a_name)? == b.dtype(b_name)?
        && a.shape(a_name)? == b.shape(b_name)?
        && a.bytes(a_name)? == b.bytes(b_name)?;
    a.release(a_name);
    b.release(b_name);
    Ok(same)
}
