//! A model into a folder that transformers opens, or one that mlx-lm opens.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use half::{bf16, f16};
use safetensors::Dtype;
use serde_json::Value;
use smelt_model::CONFIG_FILE;
use smelt_model::weights::{INDEX_FILE, TensorFileWriter, Weight, divide, index, write_atomic};

use crate::output::{Progress, check_range, write_whole_folder};
use crate::{ConvertError, Parameter, Source};

/// What a caller may choose about a folder.
#[derive(Debug, Clone, Copy)]
pub struct FolderOptions {
    /// How weights are stored: f32, f16 or bf16; each as in the source without.
    pub dtype: Option<Dtype>,
    /// Weights beyond this go into several files; a larger tensor gets one of its own.
    pub max_shard_bytes: u64,
}

/// Whose folder it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FolderStyle {
    /// Hugging Face's names and orientation.
    Hf,
    /// Those of mlx-lm: matrices as they are multiplied by, experts of a block in one tensor.
    Mlx,
}

/// Writes the model of `source` into `folder`: every key of the configuration, safetensors, and all that belongs to the
/// model besides. What is packed becomes dense.
///
/// Memory: the largest tensor, twice.
///
/// # Errors
/// [`ConvertError::OutputExists`], [`ConvertError::OutOfRange`], [`ConvertError::Model`] for weights that do not fit,
/// [`ConvertError::Io`].
pub fn write_folder(
    source: &Source,
    style: FolderStyle,
    options: FolderOptions,
    folder: &Path,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<(), ConvertError> {
    let parameters = source.parameters()?;
    let usual = commonest(&parameters);
    let mut pending: Vec<Pending<'_>> = Vec::with_capacity(parameters.len());
    let mut joined: HashMap<String, usize> = HashMap::new();
    for parameter in &parameters {
        let narrowed = source.widens_vectors && is_exact_in(parameter, usual);
        let own = if narrowed { usual } else { parameter.dtype() };
        let dtype = options.dtype.unwrap_or(own);
        check_range(parameter, dtype)?;
        let (name, expert) = name_in(style, source, parameter);
        match joined.get(&name).filter(|_| expert) {
            Some(place) => pending[*place].parts.push(parameter),
            None => {
                joined.insert(name.clone(), pending.len());
                pending.push(Pending { name, style, dtype, parts: vec![parameter], is_joined: expert });
            }
        }
    }
    write_whole_folder(folder, source.companions.names(), |folder| {
        source.companions.write(folder)?;
        write_weights(pending, style, options.max_shard_bytes, folder, progress)?;
        let config = source.config.dequantized().noting_dtype(options.dtype.unwrap_or(usual));
        write_json(&folder.join(CONFIG_FILE), &config.to_json())
    })
}

/// The tensor for `parameter`, and whether it holds those of all experts.
fn name_in(style: FolderStyle, source: &Source, parameter: &Parameter<'_>) -> (String, bool) {
    let info = parameter.info();
    match style {
        FolderStyle::Hf => (info.key.clone(), false),
        FolderStyle::Mlx => {
            let location = source.config.family.names.in_mlx(&info.path);
            (location.name, location.expert.is_some())
        }
    }
}

/// The dtype of most values.
fn commonest(parameters: &[Parameter<'_>]) -> Dtype {
    let values = |dtype: Dtype| {
        let held = parameters.iter().filter(|parameter| parameter.dtype() == dtype);
        held.map(|parameter| parameter.info().elements()).sum::<usize>()
    };
    let dtypes = [Dtype::F16, Dtype::BF16, Dtype::F32];
    dtypes.into_iter().max_by_key(|dtype| values(*dtype)).unwrap_or(Dtype::F32)
}

/// A vector of f32 whose values `dtype` holds as they are.
fn is_exact_in(parameter: &Parameter<'_>, dtype: Dtype) -> bool {
    let exact = |value: &f32| match dtype {
        Dtype::F16 => f16::from_f32(*value).to_f32() == *value,
        Dtype::BF16 => bf16::from_f32(*value).to_f32() == *value,
        _ => false,
    };
    let is_vector = parameter.info().shape.len() == 1 && parameter.dtype() == Dtype::F32;
    is_vector && parameter.values().iter().all(exact)
}

/// One tensor of the result.
struct Pending<'a> {
    name: String,
    style: FolderStyle,
    dtype: Dtype,
    /// One parameter, or those of all experts.
    parts: Vec<&'a Parameter<'a>>,
    is_joined: bool,
}

impl Weight for Pending<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn bytes(&self) -> u64 {
        (self.values() * self.dtype.bitsize() / 8) as u64
    }
}

impl Pending<'_> {
    fn values(&self) -> usize {
        self.parts.iter().map(|parameter| parameter.info().elements()).sum()
    }

    fn shape(&self) -> Vec<usize> {
        let info = self.parts[0].info();
        let part = match self.style {
            FolderStyle::Hf => info.checkpoint_shape(),
            FolderStyle::Mlx => info.shape.clone(),
        };
        self.is_joined.then_some(self.parts.len()).into_iter().chain(part).collect()
    }

    fn contents(&self) -> Vec<u8> {
        let of = |parameter: &&Parameter<'_>| match self.style {
            FolderStyle::Hf => parameter.stored_bytes(self.dtype),
            FolderStyle::Mlx => parameter.bytes(self.dtype),
        };
        if let [parameter] = self.parts.as_slice() {
            return of(parameter);
        }
        self.parts.iter().flat_map(of).collect()
    }
}

fn write_weights(
    pending: Vec<Pending<'_>>,
    style: FolderStyle,
    max_shard_bytes: u64,
    folder: &Path,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<(), ConvertError> {
    let total_bytes = pending.iter().map(Weight::bytes).sum();
    let values = pending.iter().map(|pending| pending.values() as u64).sum();
    let shards = divide(pending, max_shard_bytes);
    // mlx-lm writes an index of one file, too.
    if shards.len() > 1 || style == FolderStyle::Mlx {
        write_json(&folder.join(INDEX_FILE), &index(&shards, values))?;
    }
    let told = Arc::new(Mutex::new((progress, 0u64)));
    for (name, shard) in shards {
        let mut file = TensorFileWriter::new();
        if style == FolderStyle::Mlx {
            file = file.metadata("format", "mlx");
        }
        for pending in shard {
            let told = told.clone();
            file.add_bytes(pending.name.clone(), pending.dtype, &pending.shape(), move || {
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                let (progress, done_bytes) = &mut *told;
                progress(Progress { tensor: &pending.name, done_bytes: *done_bytes, total_bytes });
                *done_bytes += pending.bytes();
                pending.contents().into()
            });
        }
        file.write(&folder.join(name))?;
    }
    Ok(())
}

pub(crate) fn write_json(path: &Path, value: &Value) -> Result<(), ConvertError> {
    let text = format!("{value:#}\n");
    write_atomic(path, |file| std::io::Write::write_all(file, text.as_bytes()))
        .map_err(ConvertError::io("write", path))
}
