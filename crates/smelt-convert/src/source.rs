//! A model as files hold it, whatever their format.

use std::path::{Path, PathBuf};

use safetensors::Dtype;
use smelt_model::weights::{self, Checkpoint, float_bytes, locate, transposed};
use smelt_model::{ModelConfig, ModelError, ParameterInfo};

use crate::companions::Companions;
use crate::error::ConvertError;
use crate::gguf::{self, Blocks};

/// What is to be converted: nothing of its weights is read yet.
#[derive(Debug)]
pub struct Source {
    /// The folder or the file.
    pub path: PathBuf,
    /// What the model is.
    pub config: ModelConfig,
    /// Its weights, under the names of Hugging Face.
    pub checkpoint: Checkpoint,
    /// What belongs to it besides.
    pub companions: Companions,
    /// Its format keeps vectors in f32, whatever the dtype of the model.
    pub(crate) widens_vectors: bool,
}

/// One parameter and where its values are.
#[derive(Debug)]
pub struct Parameter<'a> {
    source: weights::Source<'a>,
    dtype: Dtype,
}

impl Source {
    /// The model in `path`: a GGUF file, or a folder of Hugging Face's or of MLX.
    ///
    /// # Errors
    /// [`ConvertError`] if it is damaged, of an unknown kind, or does not fit its configuration.
    pub fn open(path: &Path) -> Result<Self, ConvertError> {
        if gguf::is_gguf(path) {
            let file = gguf::GgufModel::open(path)?;
            let companions = file.companions()?;
            let (config, checkpoint) = file.checkpoint(Blocks::Packed)?;
            return Ok(Self { path: path.to_owned(), config, checkpoint, companions, widens_vectors: true });
        }
        Ok(Self {
            path: path.to_owned(),
            config: ModelConfig::from_folder(path)?,
            checkpoint: Checkpoint::open(path)?,
            companions: Companions::of_folder(path)?,
            widens_vectors: false,
        })
    }

    /// All parameters, in the order of the model.
    ///
    /// # Errors
    /// [`ConvertError::Model`] if the weights do not fit the configuration, or one is no number.
    pub fn parameters(&self) -> Result<Vec<Parameter<'_>>, ConvertError> {
        let sources = locate(&self.config, &self.checkpoint)?;
        sources.into_iter().map(Parameter::new).collect()
    }
}

impl<'a> Parameter<'a> {
    fn new(source: weights::Source<'a>) -> Result<Self, ConvertError> {
        let dtype = source.tensor.dtype;
        if !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64) {
            let (name, found) = (source.name, dtype.to_string());
            let expected = "F32, F16, BF16 or F64";
            return Err(ModelError::BadDtype { name, found, expected }.into());
        }
        Ok(Self { source, dtype })
    }

    /// What it is in the model.
    pub fn info(&self) -> &ParameterInfo {
        &self.source.info
    }

    /// The dtype that its file holds it in, f64 as f32.
    pub fn dtype(&self) -> Dtype {
        if self.dtype == Dtype::F64 { Dtype::F32 } else { self.dtype }
    }

    /// Its values, in the orientation of the model; read anew each time.
    pub fn values(&self) -> Vec<f32> {
        let values = self.source.values().expect("a tensor of a dtype that was checked");
        match self.dims().filter(|_| self.source.turned) {
            Some([rows, columns]) => transposed(&values, columns, rows),
            None => values,
        }
    }

    /// Little-endian bytes as `dtype`, in the orientation of Hugging Face's files: those of the file where they are so.
    ///
    /// # Panics
    /// For a dtype that is not f32, f16 or bf16.
    pub fn stored_bytes(&self, dtype: Dtype) -> Vec<u8> {
        let wanted = self.source.info.transposed;
        if dtype == self.dtype && self.source.turned == wanted {
            return self.source.bytes();
        }
        match self.dims().filter(|_| wanted) {
            Some([rows, columns]) => float_bytes(dtype, &transposed(&self.values(), rows, columns)),
            None => float_bytes(dtype, &self.values()),
        }
    }

    /// Little-endian bytes as `dtype`, in the orientation of the model.
    ///
    /// # Panics
    /// For a dtype that is not f32, f16 or bf16.
    pub fn bytes(&self, dtype: Dtype) -> Vec<u8> {
        match dtype == self.dtype && !self.source.turned {
            true => self.source.bytes(),
            false => float_bytes(dtype, &self.values()),
        }
    }

    /// Rows and columns of a matrix.
    fn dims(&self) -> Option<[usize; 2]> {
        self.source.info.shape.as_slice().try_into().ok()
    }
}
