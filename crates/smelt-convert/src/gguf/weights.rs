//! The weights of a GGUF model as a checkpoint under the names of Hugging Face.
//!
//! What lies in the file as the model has it is used where it is mapped. The rest is made each time it is asked
//! for: f32 of blocks, rows in another order, matrices that a family's files hold turned.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use safetensors::Dtype;
use smelt_model::weights::{Checkpoint, Made, Place, StoredTensor, TensorFile, float_bytes, transposed};
use smelt_model::{Differences, MisShaped, ModelError, ParameterInfo};

use super::architecture::Architecture;
use super::blocks::dequantized;
use super::header::FileTensor;
use super::kind::TensorKind;
use super::layout::{Layout, reordered};
use super::names::{TensorName, lone_expert, tensor_name};
use super::read::GgufModel;
use super::rope;
use crate::ConvertError;

/// Tensors that no parameter is, and that are no damage.
const READ_OTHERWISE: [&str; 3] = [rope::FREQUENCIES, rope::LONG, rope::SHORT];
/// Ends of tensors of old files that follow from others.
const DERIVED: [&str; 2] = [".attn_rot_embd", ".rope_freqs.weight"];

/// A run of rows of one tensor.
#[derive(Debug, Clone)]
struct Piece<'a> {
    file: usize,
    name: String,
    tensor: &'a FileTensor,
    /// Its part of the values, in units of the tensor's rows and whole blocks.
    bytes: Range<usize>,
    values: usize,
}

impl GgufModel {
    /// All weights, under the names of Hugging Face.
    ///
    /// # Errors
    /// [`ModelError::Mismatch`] with all that is missing, unexpected or mis-shaped, in the names of the file.
    pub fn checkpoint(&self) -> Result<Checkpoint, ConvertError> {
        let name = self.metadata.text("general.architecture")?.unwrap_or_default();
        let architecture = Architecture::named(name)?;
        let mut files: Vec<BTreeMap<String, StoredTensor>> = vec![BTreeMap::new(); self.files.len()];
        let mut differences = Differences::default();
        let mut used = BTreeSet::new();
        for info in self.config.parameters() {
            match self.pieces(&info) {
                Err(missing) => differences.missing.push(missing),
                Ok(pieces) => {
                    used.extend(pieces.iter().map(|piece| piece.name.clone()));
                    match self.stored(&info, &pieces, architecture) {
                        Ok((file, stored)) => drop(files[file].insert(info.key.clone(), stored)),
                        Err(found) => differences.mis_shaped.push(found),
                    }
                }
            }
        }
        differences.unexpected = self.unexpected(&used);
        if !differences.is_empty() {
            let path = self.path().to_owned();
            return Err(ModelError::Mismatch { path, differences: Box::new(differences) }.into());
        }
        let files =
            self.files.iter().zip(files).map(|(file, tensors)| TensorFile::over(file.map.clone(), tensors));
        Ok(Checkpoint::of_files(self.path(), files.collect())?)
    }

    fn unexpected(&self, used: &BTreeSet<String>) -> Vec<String> {
        let tied = self.config.decoder.tie_word_embeddings;
        let known = |name: &str| {
            used.contains(name)
                || READ_OTHERWISE.contains(&name)
                || DERIVED.iter().any(|end| name.ends_with(end))
                || (tied && name == "output.weight")
        };
        let names = self.tensors().map(|(name, _)| name).filter(|name| !known(name));
        names.map(str::to_owned).collect()
    }

    /// The parts of the file that `info` is made of, in order; the error is the name of what is missing.
    fn pieces(&self, info: &ParameterInfo) -> Result<Vec<Piece<'_>>, String> {
        let name = tensor_name(&info.path).ok_or_else(|| info.key.clone())?;
        if let Some(piece) = self.whole(&name.name, name.expert, info) {
            return Ok(vec![piece]);
        }
        if let Some(piece) = lone_expert(&name).and_then(|lone| self.whole(&lone, None, info)) {
            return Ok(vec![piece]);
        }
        self.of_joined(&name, info).or_else(|| self.of_separate(&name)).ok_or(name.name)
    }

    fn whole(&self, name: &str, expert: Option<usize>, info: &ParameterInfo) -> Option<Piece<'_>> {
        let (file, tensor) = self.tensor(name)?;
        let values: usize = tensor.shape.iter().product();
        let (first, values) = match expert {
            Some(expert) => (expert.checked_mul(info.elements())?, info.elements()),
            None => (0, values),
        };
        piece(file, name, tensor, first, values)
    }

    /// Queries, keys or values out of one tensor for all three.
    fn of_joined(&self, name: &TensorName, info: &ParameterInfo) -> Option<Vec<Piece<'_>>> {
        let attention = &self.config.decoder.attention;
        let (query, key_value) = (attention.query_size(), attention.key_value_size());
        let (part, first_row) = [("attn_q.", 0), ("attn_k.", query), ("attn_v.", query + key_value)]
            .into_iter()
            .find(|(part, _)| name.name.contains(part))?;
        let joined = name.name.replace(part, "attn_qkv.");
        let (file, tensor) = self.tensor(&joined)?;
        let width = if info.shape.len() == 1 { 1 } else { tensor.columns() };
        Some(vec![piece(file, &joined, tensor, first_row.checked_mul(width)?, info.elements())?])
    }

    /// All three where the model has one matrix for them.
    fn of_separate(&self, name: &TensorName) -> Option<Vec<Piece<'_>>> {
        let parts = ["attn_q.", "attn_k.", "attn_v."].map(|part| name.name.replace("attn_qkv.", part));
        if parts[0] == name.name {
            return None;
        }
        let pieces = parts.iter().map(|part| {
            let (file, tensor) = self.tensor(part)?;
            piece(file, part, tensor, 0, tensor.shape.iter().product())
        });
        pieces.collect()
    }

    /// Where `pieces` are as the values of `info`, with the number of their file; the error tells shapes that do not
    /// fit.
    fn stored(
        &self,
        info: &ParameterInfo,
        pieces: &[Piece<'_>],
        architecture: &Architecture,
    ) -> Result<(usize, StoredTensor), MisShaped> {
        let width = if info.shape.len() == 1 { 1 } else { info.shape[1] };
        let fits = |piece: &Piece<'_>| width == 1 || piece.tensor.columns() == width || piece.values == width;
        let values: usize = pieces.iter().map(|piece| piece.values).sum();
        let one_file = pieces.iter().all(|piece| piece.file == pieces[0].file);
        if values != info.elements() || !pieces.iter().all(fits) || !one_file {
            let Piece { name, tensor, .. } = &pieces[0];
            let (found, expected) = (tensor.shape.clone(), info.shape.clone());
            return Err(MisShaped { name: name.clone(), found, expected });
        }
        let layout = Layout::of(info, &self.config.decoder, architecture);
        let kind = pieces[0].tensor.kind;
        let plain = kind.plain().filter(|dtype| {
            let same = pieces.iter().all(|piece| piece.tensor.kind == kind);
            same && layout.offset == 0.0 && *dtype != Dtype::F64
        });
        let recipe = Recipe {
            pieces: pieces.iter().map(|piece| (piece.tensor.kind, piece.bytes.clone())).collect(),
            width,
            order: layout.inverse(),
            offset: layout.offset,
            turned: info.transposed.then(|| [info.shape[0], info.shape[1]]),
        };
        let dtype = plain.unwrap_or(Dtype::F32);
        let place = match plain {
            Some(_) if recipe.is_as_it_lies() => Place::Whole(pieces[0].bytes.clone()),
            Some(dtype) => recipe.into_place(move |recipe, file| recipe.moved(dtype, file)),
            None => recipe.into_place(|recipe, file| float_bytes(Dtype::F32, &recipe.values(file))),
        };
        Ok((pieces[0].file, StoredTensor { dtype, shape: info.checkpoint_shape(), place }))
    }
}

/// `values` values of `tensor` from number `first`; `None` if it has fewer, or they are no whole blocks.
fn piece<'a>(
    file: usize,
    name: &str,
    tensor: &'a FileTensor,
    first: usize,
    values: usize,
) -> Option<Piece<'a>> {
    let start = tensor.range.start + tensor.kind.bytes(first)?;
    let end = start.checked_add(tensor.kind.bytes(values)?).filter(|end| *end <= tensor.range.end)?;
    Some(Piece { file, name: name.to_owned(), tensor, bytes: start..end, values })
}

/// How the values of a parameter come out of a file.
#[derive(Debug)]
struct Recipe {
    pieces: Vec<(TensorKind, Range<usize>)>,
    /// Values of a row.
    width: usize,
    /// The row in the file of each row of the parameter.
    order: Option<Vec<usize>>,
    /// Taken from each value.
    offset: f32,
    /// Rows and columns of a matrix that checkpoints hold turned.
    turned: Option<[usize; 2]>,
}

impl Recipe {
    fn is_as_it_lies(&self) -> bool {
        self.pieces.len() == 1 && self.order.is_none() && self.turned.is_none()
    }

    fn into_place(self, make: impl Fn(&Self, &[u8]) -> Vec<u8> + Send + Sync + 'static) -> Place {
        let start = self.pieces.iter().map(|(_, bytes)| bytes.start).min().unwrap_or_default();
        let end = self.pieces.iter().map(|(_, bytes)| bytes.end).max().unwrap_or_default();
        Place::Made(Made { span: start..end, make: Arc::new(move |file| make(&self, file)) })
    }

    /// Plain values in another order, not converted.
    fn moved(&self, dtype: Dtype, file: &[u8]) -> Vec<u8> {
        let bytes: Vec<u8> =
            self.pieces.iter().flat_map(|(_, range)| &file[range.clone()]).copied().collect();
        match dtype {
            Dtype::F32 => self.ordered(bytes.as_chunks::<4>().0).into_flattened(),
            _ => self.ordered(bytes.as_chunks::<2>().0).into_flattened(),
        }
    }

    fn values(&self, file: &[u8]) -> Vec<f32> {
        let mut values = Vec::new();
        for (kind, range) in &self.pieces {
            values.append(&mut decoded(*kind, &file[range.clone()]));
        }
        if self.offset != 0.0 {
            values.iter_mut().for_each(|value| *value -= self.offset);
        }
        self.ordered(&values)
    }

    fn ordered<T: Copy + Default>(&self, values: &[T]) -> Vec<T> {
        let values = match &self.order {
            Some(order) => reordered(values, self.width, order),
            None => values.to_vec(),
        };
        match self.turned {
            Some([rows, columns]) => transposed(&values, rows, columns),
            None => values,
        }
    }
}

/// Values of whole blocks, or of plain ones.
fn decoded(kind: TensorKind, bytes: &[u8]) -> Vec<f32> {
    match kind {
        TensorKind::F32 => bytes.as_chunks().0.iter().map(|raw| f32::from_le_bytes(*raw)).collect(),
        TensorKind::F64 => bytes.as_chunks().0.iter().map(|raw| f64::from_le_bytes(*raw) as f32).collect(),
        TensorKind::F16 => {
            bytes.as_chunks().0.iter().map(|raw| half::f16::from_le_bytes(*raw).to_f32()).collect()
        }
        TensorKind::BF16 => {
            bytes.as_chunks().0.iter().map(|raw| half::bf16::from_le_bytes(*raw).to_f32()).collect()
        }
        blocks => dequantized(blocks, bytes),
    }
}
