//! The weights of a GGUF model as a checkpoint under the names of Hugging Face.
//!
//! What lies in the file as the model has it is used where it is mapped. The rest is made each time it is asked
//! for: f32 of blocks, rows in another order, matrices that a family's files hold turned.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use indexmap::IndexMap;
use safetensors::Dtype;
use smelt_backend::kernels::QuantizationFormat;
use smelt_model::quantization::Quantization;
use smelt_model::weights::{
    Checkpoint, Made, NameMap, Place, StoredTensor, TensorFile, float_bytes, transposed,
};
use smelt_model::{Differences, MisShaped, ModelConfig, ModelError, ParameterInfo};

use super::architecture::Architecture;
use super::blocks::dequantized;
use super::header::FileTensor;
use super::kind::TensorKind;
use super::layout::{Layout, reordered};
use super::names::{TensorName, lone_expert, tensor_name};
use super::packed::{self, Part, packed_part};
use super::read::GgufModel;
use super::rope;
use crate::ConvertError;

/// Tensors that no parameter is, and that are no damage.
const READ_OTHERWISE: [&str; 3] = [rope::FREQUENCIES, rope::LONG, rope::SHORT];
/// Ends of tensors of old files that follow from others.
const DERIVED: [&str; 2] = [".attn_rot_embd", ".rope_freqs.weight"];

/// A table that is no matrix of the model.
const POSITIONS: &str = "embed_positions.weight";

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

/// What becomes of blocks of a quantization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocks {
    /// Packed matrices where they have that form, else f32. The values are the same.
    Packed,
    /// f32, all of them.
    Dense,
}

impl GgufModel {
    /// All weights, under the names of Hugging Face, and the configuration of a model that holds them so.
    ///
    /// # Errors
    /// [`ModelError::Mismatch`] with all that is missing, unexpected or mis-shaped, in the names of the file.
    pub fn checkpoint(&self, blocks: Blocks) -> Result<(ModelConfig, Checkpoint), ConvertError> {
        let mut modules = IndexMap::new();
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
                    let packs = blocks == Blocks::Packed;
                    match self.stored(&info, &pieces, architecture) {
                        Err(found) => differences.mis_shaped.push(found),
                        Ok((file, recipe, _)) if packs && recipe.format(&info).is_some() => {
                            let names = &self.config.family.names;
                            let module = info.path.strip_suffix(".weight").unwrap_or(&info.path);
                            modules.insert(names.mlx_module(module), recipe.format(&info));
                            files[file].extend(recipe.packed(names, module, &info));
                        }
                        Ok((file, recipe, dtype)) => {
                            let shape = info.checkpoint_shape();
                            let stored = StoredTensor { dtype, shape, place: recipe.dense(dtype) };
                            files[file].insert(info.key.clone(), stored);
                        }
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
        let mut config = self.config.clone();
        let default = modules.values().flatten().next().copied();
        config.quantization = default.map(|default| Quantization { default, modules });
        Ok((config, Checkpoint::of_files(self.path(), files.collect())?))
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

    /// How `pieces` become the values of `info`, with the number of their file and the dtype they have when dense; the
    /// error tells shapes that do not fit.
    fn stored(
        &self,
        info: &ParameterInfo,
        pieces: &[Piece<'_>],
        architecture: &Architecture,
    ) -> Result<(usize, Recipe, Dtype), MisShaped> {
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
        Ok((pieces[0].file, recipe, plain.unwrap_or(Dtype::F32)))
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
    /// Its values as `dtype`, which is theirs where they are plain, and f32 where they are not.
    fn dense(self, dtype: Dtype) -> Place {
        let kind = self.pieces[0].0;
        let is_plain = self.offset == 0.0 && self.pieces.iter().all(|piece| piece.0.plain() == Some(dtype));
        match &self.pieces[..] {
            [(_, bytes)] if is_plain && self.order.is_none() && self.turned.is_none() => {
                Place::Whole(bytes.clone())
            }
            _ if is_plain && kind != TensorKind::F64 => {
                self.into_place(move |recipe, file| recipe.moved(dtype, file))
            }
            _ => self.into_place(|recipe, file| float_bytes(Dtype::F32, &recipe.values(file))),
        }
    }

    /// The format of the packed matrix that it can become, if its blocks have that form and lie within rows.
    fn format(&self, info: &ParameterInfo) -> Option<QuantizationFormat> {
        let kind = self.pieces[0].0;
        let same = self.pieces.iter().all(|piece| piece.0 == kind);
        let is_matrix = info.shape.len() == 2 && info.path.ends_with(".weight");
        let whole_rows = self.width.is_multiple_of(kind.block_values());
        packed::format_of(kind).filter(|_| same && is_matrix && whole_rows && info.path != POSITIONS)
    }

    /// Codes, scales and biases of the packed matrix of `module`, by the names that readers look for.
    fn packed(self, names: &NameMap, module: &str, info: &ParameterInfo) -> Vec<(String, StoredTensor)> {
        let kind = self.pieces[0].0;
        let format = self.format(info).expect("a recipe that can be packed");
        let [rows, columns] = [info.shape[0], info.shape[1]];
        let groups = columns / format.group_size();
        let words = columns / 32 * format.bits() as usize;
        let span = self.span();
        let recipe = Arc::new(self);
        let parts = [
            (Part::Codes, "weight", Dtype::U32, words),
            (Part::Scales, "scales", Dtype::F32, groups),
            (Part::Biases, "biases", Dtype::F32, groups),
        ];
        let tensor = |(part, end, dtype, width): (Part, &str, Dtype, usize)| {
            let path = format!("{module}.{end}");
            // Turned matrices are turned under these names only.
            let turned = names.is_transposed(&names.key(&path)) || recipe.turned.is_some();
            let name = if turned { names.in_mlx(&path).name } else { names.key(&path) };
            let recipe = recipe.clone();
            let make = move |file: &[u8]| {
                let blocks = recipe.pieces.iter().flat_map(|(_, range)| &file[range.clone()]).copied();
                let bytes = packed_part(kind, &blocks.collect::<Vec<u8>>(), part);
                match &recipe.order {
                    Some(order) => reordered(&bytes, bytes.len() / rows, order),
                    None => bytes,
                }
            };
            let place = Place::Made(Made { span: span.clone(), make: Arc::new(make) });
            (name, StoredTensor { dtype, shape: vec![rows, width], place })
        };
        parts.into_iter().map(tensor).collect()
    }

    /// From its first byte to its last.
    fn span(&self) -> Range<usize> {
        let start = self.pieces.iter().map(|(_, bytes)| bytes.start).min().unwrap_or_default();
        let end = self.pieces.iter().map(|(_, bytes)| bytes.end).max().unwrap_or_default();
        start..end
    }

    fn into_place(self, make: impl Fn(&Self, &[u8]) -> Vec<u8> + Send + Sync + 'static) -> Place {
        Place::Made(Made { span: self.span(), make: Arc::new(move |file| make(&self, file)) })
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
