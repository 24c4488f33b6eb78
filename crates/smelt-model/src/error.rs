//! What can go wrong between a folder on disk and a model in memory.

use std::fmt;
use std::path::{Path, PathBuf};

use smelt_backend::kernels::QuantizationError;

/// How many names of each sort an error lists before it only counts the rest.
const LISTED: usize = 20;

/// Errors of configurations, weights and caches.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file or folder could not be read or written.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried: `read`, `write`, `map`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: std::io::Error,
    },
    /// A JSON file does not parse.
    #[error("cannot parse `{path}`")]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A JSON file is larger than any that describes a model.
    #[error("`{path}` is larger than {limit} bytes, expected a description of a model")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes it may have.
        limit: u64,
    },
    /// A configuration lacks a key that its family needs.
    #[error("the model configuration lacks `{key}`, expected {expected}")]
    MissingKey {
        /// The key, in the spelling of the family.
        key: String,
        /// What would fit.
        expected: String,
    },
    /// A configuration value does not fit.
    #[error("`{key}` is {found} in the model configuration, expected {expected}")]
    BadValue {
        /// The key as found.
        key: String,
        /// The value as JSON.
        found: String,
        /// What would fit.
        expected: String,
    },
    /// An adapter's configuration has a value that does not fit or is not supported.
    #[error("`{key}` is {found} in the adapter configuration, expected {expected}")]
    BadAdapterValue {
        /// The key, as PEFT or mlx-lm spells it.
        key: String,
        /// The value as JSON.
        found: String,
        /// What would fit.
        expected: String,
    },
    /// The folder holds no adapter.
    #[error("`{folder}` has no adapter: neither `adapter_model.safetensors` nor `adapters.safetensors`")]
    NoAdapter {
        /// The folder.
        folder: PathBuf,
    },
    /// A run configuration's `model` section has a key that means nothing.
    #[error("unknown key `{key}` in the model section{}", did_you_mean(.nearest.as_deref()))]
    UnknownKey {
        /// The key as found.
        key: String,
        /// The known key that is spelled most like it.
        nearest: Option<String>,
    },
    /// A run configuration gives one quantity under two names.
    #[error("`{first}` and `{second}` in the model section mean the same, give one of them")]
    KeyTwice {
        /// One spelling.
        first: String,
        /// The other.
        second: String,
    },
    /// No family reads this configuration.
    #[error("model type `{found}` is not supported (available: {available}){}", did_you_mean(.nearest.as_deref()))]
    UnknownFamily {
        /// `model_type`, or the architecture where that is absent.
        found: String,
        /// All known model types.
        available: String,
        /// The known one that is spelled most like it.
        nearest: Option<String>,
    },
    /// A tensor file is damaged, lies about itself, or wants more than to describe tensors.
    #[error("`{path}` is not a valid {format} file")]
    BadTensorFile {
        /// The file.
        path: PathBuf,
        /// What it was read as: `safetensors`, `PyTorch`.
        format: &'static str,
        /// What is wrong with it.
        #[source]
        reason: Damage,
    },
    /// The folder has no weights that can be read.
    #[error(
        "`{folder}` has neither `model.safetensors` nor `pytorch_model.bin`, nor the index of shards of either"
    )]
    NoWeights {
        /// The folder.
        folder: PathBuf,
    },
    /// The index of a sharded checkpoint does not describe its shards.
    #[error("the index `{path}` does not fit its shards: {reason}")]
    BadIndex {
        /// The index file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The weights do not fit the configuration; everything wrong at once.
    #[error("the weights in `{path}` do not fit the configuration: {differences}")]
    Mismatch {
        /// The weight file or folder.
        path: PathBuf,
        /// All that is missing, unexpected or mis-shaped.
        differences: Box<Differences>,
    },
    /// A tensor asked for by name is not in the file.
    #[error("`{path}` has no tensor `{name}`")]
    NoTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor's dtype cannot be converted to the one asked for.
    #[error("tensor `{name}` has dtype {found}, expected {expected}")]
    BadDtype {
        /// The tensor.
        name: String,
        /// Its dtype in the file.
        found: String,
        /// What can be read here.
        expected: &'static str,
    },
    /// A weight is no number.
    #[error("tensor `{name}` holds {value} at index {index}, expected finite numbers")]
    NonFinite {
        /// The tensor.
        name: String,
        /// Index of the first such value, row-major.
        index: usize,
        /// The value: NaN or an infinity.
        value: f32,
    },
    /// A tensor of a file has another shape than its reader needs.
    #[error("tensor `{name}` has shape {found:?}, expected {expected:?}")]
    BadShape {
        /// The tensor.
        name: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// The shape needed.
        expected: Vec<usize>,
    },
    /// A tensor file may hold a name only once.
    #[error("tensor `{name}` was given twice for `{path}`")]
    TensorTwice {
        /// The file to be written.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// Tied embeddings, yet the file holds a head of its own that differs from them.
    #[error(
        "tensor `{head}` differs from `{embedding}`, but `tie_word_embeddings` is true; \
         set it to false in `config.json` to use the head"
    )]
    TiedHeadDiffers {
        /// The head in the file.
        head: String,
        /// The embedding it should equal.
        embedding: String,
    },
    /// A matrix does not fit the format that it has, or is to get.
    #[error("`{name}` does not fit its quantization")]
    Quantization {
        /// The module or tensor.
        name: String,
        /// Why not.
        #[source]
        source: QuantizationError,
    },
    /// A rule of quantization means nothing, or nothing of this model.
    #[error("`{rule}` in the quantization rules: {reason}")]
    BadRule {
        /// The pattern.
        rule: String,
        /// What is wrong.
        reason: String,
    },
    /// Rules of quantization leave every matrix as it is.
    #[error("nothing would be quantized: no rule matches a module whose rows divide into groups")]
    NothingQuantized,
    /// What is to be quantized is so already.
    #[error("the weights in `{path}` are quantized already")]
    Quantized {
        /// The file or index.
        path: PathBuf,
    },
    /// Weights that are packed cannot be trained.
    #[error("the weights in `{folder}` are quantized, and quantized weights cannot be trained themselves")]
    Packed {
        /// The model.
        folder: PathBuf,
    },
    /// A token id is outside the vocabulary.
    #[error("token id {id} at position {position} is outside the vocabulary of {vocab_size}")]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// Its index in what was given.
        position: usize,
        /// Ids must be below this.
        vocab_size: usize,
    },
}

/// What is wrong with a file, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Damage(pub(crate) String);

impl ModelError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}

/// All differences between a checkpoint and the configuration beside it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Differences {
    /// Tensors the model needs and the checkpoint lacks.
    pub missing: Vec<String>,
    /// Tensors of the checkpoint that the model has no place for.
    pub unexpected: Vec<String>,
    /// Tensors of another shape than the configuration says.
    pub mis_shaped: Vec<MisShaped>,
}

/// One tensor whose shape does not fit the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MisShaped {
    /// Name in the checkpoint.
    pub name: String,
    /// Shape in the checkpoint.
    pub found: Vec<usize>,
    /// Shape the configuration expects.
    pub expected: Vec<usize>,
}

impl Differences {
    /// Nothing differs.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.mis_shaped.is_empty()
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shapes: Vec<String> = self.mis_shaped.iter().map(MisShaped::to_string).collect();
        let quoted = |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>();
        let parts = [
            listed("missing", &quoted(&self.missing)),
            listed("unexpected", &quoted(&self.unexpected)),
            listed("mis-shaped", &shapes),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
    }
}

impl fmt::Display for MisShaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` has shape {:?}, the config expects {:?}", self.name, self.found, self.expected)
    }
}

fn listed(what: &str, entries: &[String]) -> Option<String> {
    if entries.is_empty() {
        return None;
    }
    let shown = &entries[..entries.len().min(LISTED)];
    let rest = entries.len() - shown.len();
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    Some(format!("{what}: {}{more}", shown.join(", ")))
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// The candidate spelled most like `name`, if any comes close.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 2.max(candidate.len().max(name.len()) / 3))
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}
