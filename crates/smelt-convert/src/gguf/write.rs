//! A model into one GGUF file, tensor by tensor.

use std::io::{self, Write};
use std::path::Path;

use safetensors::Dtype;
use serde_json::{Map, Value as Json};
use smelt_model::weights::write_atomic;
use smelt_model::{DecoderConfig, ParameterInfo};
use smelt_text::GgufVocabulary;

use super::architecture::Architecture;
use super::generation;
use super::header::{DEFAULT_ALIGNMENT, MAGIC};
use super::kind::TensorKind;
use super::layout::{Layout, reordered};
use super::names::tensor_name;
use super::quantize::encoded;
use super::rope;
use super::value::{Metadata, Value};
use super::write_config::describe;
use crate::output::{Progress, check_range};
use crate::{ConvertError, Parameter, Source};

/// What a caller may choose about a file.
#[derive(Debug, Clone, Copy, Default)]
pub struct GgufOptions {
    /// How matrices are stored; as in the source without. Norms, biases and routers are always f32.
    pub kind: Option<TensorKind>,
}

/// Kinds that files can be written in, with llama.cpp's number for a file of mostly that.
const FILE_TYPES: [(TensorKind, u32); 8] = [
    (TensorKind::F32, 0),
    (TensorKind::F16, 1),
    (TensorKind::Q4_0, 2),
    (TensorKind::Q4_1, 3),
    (TensorKind::Q8_0, 7),
    (TensorKind::Q5_0, 8),
    (TensorKind::Q5_1, 9),
    (TensorKind::BF16, 32),
];

/// Tensors that llama.cpp wants in f32, by parts of their names.
const ALWAYS_F32: [&str; 5] = ["_norm.", "ffn_gate_inp.", "ffn_gate_inp_shexp.", "position_embd.", "rope_f"];

/// Writes the model of `source` to `path`, which is replaced only once the file is whole; returns what llama.cpp
/// will do otherwise than the model.
///
/// Memory: the largest parameter, twice.
///
/// # Errors
/// [`ConvertError::Inexpressible`] for what llama.cpp does not run, [`ConvertError::Text`] for a tokenizer that it
/// has no name for, [`ConvertError::Model`] for weights that do not fit, [`ConvertError::Io`].
pub fn write_gguf(
    source: &Source,
    options: GgufOptions,
    path: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Vec<String>, ConvertError> {
    let architecture = Architecture::of(&source.config)?;
    let mut described = describe(&source.config, architecture);
    let parameters = source.parameters()?;
    let kind = options.kind.unwrap_or_else(|| commonest_kind(&parameters));
    let plan = Plan { config: &source.config.decoder, architecture, kind };
    let mut tensors = plan.tensors(&parameters, &mut described.notes);
    for (name, factors) in [
        (rope::FREQUENCIES, described.rope.always),
        (rope::LONG, described.rope.long),
        (rope::SHORT, described.rope.short),
    ] {
        let shape = factors.as_ref().map(|factors| vec![factors.len()]);
        let given = factors.zip(shape);
        tensors.extend(given.map(|(values, shape)| Tensor {
            name: name.to_owned(),
            kind: TensorKind::F32,
            shape,
            contents: Contents::Given(values),
        }));
    }
    check_ranges(&tensors)?;
    general(&mut described.metadata, architecture, kind, source);
    let generation = generation::settings(&source.companions);
    generation::write(&generation, &mut described.metadata);
    vocabulary(&mut described.metadata, source, &generation, &mut described.notes)?;
    let header = header(&described.metadata, &tensors);
    let total: u64 = tensors.iter().map(|tensor| tensor.bytes() as u64).sum();
    write_atomic(path, |file| {
        file.write_all(&header)?;
        let mut done = 0;
        for tensor in &tensors {
            progress(Progress { tensor: &tensor.name, done_bytes: done, total_bytes: total });
            tensor.write(&plan, file)?;
            done += tensor.bytes() as u64;
        }
        Ok(())
    })
    .map_err(ConvertError::io("write", path))?;
    Ok(described.notes)
}

/// The kind that most values of a model have.
fn commonest_kind(parameters: &[Parameter<'_>]) -> TensorKind {
    let values = |dtype: Dtype| {
        let held = parameters.iter().filter(|parameter| parameter.dtype() == dtype);
        held.map(|parameter| parameter.info().elements()).sum::<usize>()
    };
    let kinds =
        [(Dtype::F32, TensorKind::F32), (Dtype::BF16, TensorKind::BF16), (Dtype::F16, TensorKind::F16)];
    kinds.into_iter().max_by_key(|(dtype, _)| values(*dtype)).map_or(TensorKind::F32, |(_, kind)| kind)
}

/// What decides about every tensor.
struct Plan<'a> {
    config: &'a DecoderConfig,
    architecture: &'static Architecture,
    kind: TensorKind,
}

/// One tensor of the file.
struct Tensor<'a> {
    name: String,
    kind: TensorKind,
    /// Slowest dimension first.
    shape: Vec<usize>,
    contents: Contents<'a>,
}

enum Contents<'a> {
    /// One parameter, or experts one after the other.
    Of(Vec<&'a Parameter<'a>>),
    Given(Vec<f32>),
}

impl Plan<'_> {
    fn tensors<'a>(&self, parameters: &'a [Parameter<'a>], notes: &mut Vec<String>) -> Vec<Tensor<'a>> {
        let mut tensors: Vec<Tensor<'a>> = Vec::new();
        for parameter in parameters {
            let info = parameter.info();
            let name = tensor_name(&info.path).expect("every parameter of a known architecture has a name");
            let known = tensors.iter_mut().rev().take(3).find(|tensor| tensor.name == name.name);
            if let (Some(tensor), Some(_)) = (known, name.expert) {
                tensor.shape[0] += 1;
                if let Contents::Of(experts) = &mut tensor.contents {
                    experts.push(parameter);
                }
                continue;
            }
            tensors.push(self.tensor(name.name, parameter, name.expert.is_some()));
        }
        if self.architecture.needs_head && self.config.tie_word_embeddings {
            let embedding = parameters.iter().find(|it| it.info().path == "embed_tokens.weight");
            tensors.extend(embedding.map(|it| self.tensor("output.weight".to_owned(), it, false)));
        }
        let widths =
            tensors.iter().filter(|tensor| tensor.kind != self.kind && tensor.kind == TensorKind::F16);
        let count = widths.count();
        if count > 0 && self.kind.plain().is_none() {
            let name = self.kind.name();
            notes.push(format!("{count} tensors are f16: their rows are no multiple of a block of {name}"));
        }
        tensors
    }

    fn tensor<'a>(&self, name: String, parameter: &'a Parameter<'a>, stacked: bool) -> Tensor<'a> {
        let mut shape = parameter.info().shape.clone();
        let kind = self.kind_of(&name, &shape);
        if stacked {
            shape.insert(0, 1);
        }
        Tensor { name, kind, shape, contents: Contents::Of(vec![parameter]) }
    }

    fn kind_of(&self, name: &str, shape: &[usize]) -> TensorKind {
        let is_head = name == "output.weight"
            || (name == "token_embd.weight"
                && self.config.tie_word_embeddings
                && !self.architecture.needs_head);
        let width = shape.last().copied().unwrap_or(1);
        // The head decides most about the quality of few bits.
        let wanted = if is_head && self.kind.block_bytes() < 34 && self.kind.plain().is_none() {
            TensorKind::Q8_0
        } else {
            self.kind
        };
        if shape.len() < 2 || ALWAYS_F32.iter().any(|part| name.contains(part)) {
            TensorKind::F32
        } else if width.is_multiple_of(wanted.block_values()) {
            wanted
        } else {
            TensorKind::F16
        }
    }

    /// The values of `parameter` as the file has them.
    fn values(&self, parameter: &Parameter<'_>) -> Vec<f32> {
        let info = parameter.info();
        let layout = Layout::of(info, self.config, self.architecture);
        let width = if info.shape.len() == 1 { 1 } else { info.shape[1] };
        let mut values = parameter.values();
        if let Some(rows) = &layout.rows {
            values = reordered(&values, width, rows);
        }
        if layout.offset != 0.0 {
            values.iter_mut().for_each(|value| *value += layout.offset);
        }
        if let Some((count, factor)) = self.query_factor(info) {
            values[..count * width].iter_mut().for_each(|value| *value *= factor);
        }
        values
    }

    /// Rows that stand for queries, and by what they grow where llama.cpp scales scores otherwise.
    fn query_factor(&self, info: &ParameterInfo) -> Option<(usize, f32)> {
        let attention = &self.config.attention;
        let factor = attention.scale / self.architecture.attention_scale(self.config);
        if (factor - 1.0).abs() < 1e-9 {
            return None;
        }
        let module = info.path.rsplit_once('.').map_or("", |(module, _)| module);
        let normed = attention.query_key_norm.is_some();
        match module.rsplit('.').next() {
            Some("q_norm") => Some((attention.head_dim, factor as f32)),
            Some("q_proj" | "qkv_proj") if !normed => Some((attention.query_size(), factor as f32)),
            _ => None,
        }
    }
}

impl Tensor<'_> {
    fn bytes(&self) -> usize {
        self.kind.bytes(self.shape.iter().product()).expect("rows that fill blocks")
    }

    fn write(&self, plan: &Plan<'_>, file: &mut impl Write) -> io::Result<()> {
        match &self.contents {
            Contents::Given(values) => file.write_all(&encoded(self.kind, values))?,
            Contents::Of(parameters) => {
                for parameter in parameters {
                    file.write_all(&encoded(self.kind, &plan.values(parameter)))?;
                }
            }
        }
        let padding = self.bytes().next_multiple_of(DEFAULT_ALIGNMENT) - self.bytes();
        file.write_all(&vec![0; padding])
    }
}

/// Refuses values that the kind of their tensor cannot hold, before anything is written.
fn check_ranges(tensors: &[Tensor<'_>]) -> Result<(), ConvertError> {
    for tensor in tensors {
        if let (Contents::Of(parameters), true) = (&tensor.contents, tensor.kind == TensorKind::F16) {
            for parameter in parameters {
                check_range(parameter, Dtype::F16)?;
            }
        }
    }
    Ok(())
}

fn general(metadata: &mut Metadata, architecture: &Architecture, kind: TensorKind, source: &Source) {
    let name = source.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    metadata.set("general.architecture", architecture.name);
    metadata.set("general.type", "model");
    metadata.set("general.name", name);
    let file_type = FILE_TYPES.iter().find(|(known, _)| *known == kind).map_or(0, |(_, number)| *number);
    metadata.set("general.file_type", file_type);
    metadata.set("general.quantization_version", 2u32);
}

fn vocabulary(
    metadata: &mut Metadata,
    source: &Source,
    generation: &Map<String, Json>,
    notes: &mut Vec<String>,
) -> Result<(), ConvertError> {
    let Some(tokenizer) = source.companions.tokenizer()? else {
        metadata.set("tokenizer.ggml.model", "none");
        notes.push("the model brings no tokenizer, so the file has none".to_owned());
        return Ok(());
    };
    let size = source.config.decoder.vocab_size;
    // Chat models list more ends among the settings for generation.
    let ids = |key: &str| -> Vec<u32> {
        let values = [&source.config.raw, generation].into_iter().filter_map(|json| json.get(key));
        let listed =
            values.flat_map(|value| value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice));
        // Configurations keep ids of larger vocabularies: they name no token.
        let known = listed.filter_map(Json::as_u64).filter(|id| *id < size as u64);
        known.filter_map(|id| u32::try_from(id).ok()).collect()
    };
    let id = |key: &str| ids(key).first().copied();
    let found = GgufVocabulary::of_tokenizer(&tokenizer, size, id("bos_token_id"), id("eos_token_id"))?;
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            metadata.set(format!("tokenizer.ggml.{name}"), value);
        }
    };
    let kinds: Vec<i64> = found.kinds.iter().map(|kind| *kind as i64).collect();
    let scores: Vec<f64> = found.scores.iter().map(|score| f64::from(*score)).collect();
    set("model", Some(found.model.into()));
    set("pre", Some(found.split.into()));
    set("tokens", Some(found.tokens.into()));
    set("token_type", Some(Value::Integers(kinds)));
    set("scores", Some(Value::Floats(scores)).filter(|_| !found.scores.is_empty()));
    set("merges", Some(Value::from(found.merges.clone())).filter(|_| !found.merges.is_empty()));
    set("bos_token_id", found.begin.map(Value::from));
    set("eos_token_id", found.end.map(Value::from));
    let turn = ids("eos_token_id").into_iter().rfind(|id| Some(*id) != found.end);
    set("eot_token_id", turn.map(Value::from));
    set("unknown_token_id", found.unknown.map(Value::from));
    set("padding_token_id", id("pad_token_id").map(Value::from));
    set("add_bos_token", found.adds_begin.map(Value::from));
    set("add_eos_token", found.adds_end.map(Value::from));
    set("add_space_prefix", found.adds_space.map(Value::from));
    if let Some(template) = source.companions.chat_template()? {
        metadata.set("tokenizer.chat_template", template);
    }
    Ok(())
}

/// All that is in front of the data, padded.
fn header(metadata: &Metadata, tensors: &[Tensor<'_>]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((metadata.0.len() as u64).to_le_bytes());
    for (key, value) in &metadata.0 {
        put_text(&mut bytes, key);
        put_value(&mut bytes, value);
    }
    let mut offset = 0u64;
    for tensor in tensors {
        put_text(&mut bytes, &tensor.name);
        bytes.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|size| bytes.extend((*size as u64).to_le_bytes()));
        bytes.extend(tensor.kind.number().to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        offset += tensor.bytes().next_multiple_of(DEFAULT_ALIGNMENT) as u64;
    }
    bytes.resize(bytes.len().next_multiple_of(DEFAULT_ALIGNMENT), 0);
    bytes
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// A value behind the number of its type; integers have 32 bits where they fit.
fn put_value(bytes: &mut Vec<u8>, value: &Value) {
    let mut number = |kind: u32, raw: &[u8]| {
        bytes.extend(kind.to_le_bytes());
        bytes.extend(raw);
    };
    match value {
        Value::Unsigned(value) => match u32::try_from(*value) {
            Ok(value) => number(4, &value.to_le_bytes()),
            Err(_) => number(10, &value.to_le_bytes()),
        },
        Value::Signed(value) => number(11, &value.to_le_bytes()),
        Value::Float(value) => number(6, &(*value as f32).to_le_bytes()),
        Value::Bool(value) => number(7, &[u8::from(*value)]),
        Value::Text(text) => {
            number(8, &[]);
            put_text(bytes, text);
        }
        Value::Texts(texts) => {
            put_list(bytes, 8, texts.len());
            texts.iter().for_each(|text| put_text(bytes, text));
        }
        Value::Integers(numbers) => {
            put_list(bytes, 5, numbers.len());
            numbers.iter().for_each(|number| bytes.extend((*number as i32).to_le_bytes()));
        }
        Value::Floats(numbers) => {
            put_list(bytes, 6, numbers.len());
            numbers.iter().for_each(|number| bytes.extend((*number as f32).to_le_bytes()));
        }
        Value::Flags(flags) => {
            put_list(bytes, 7, flags.len());
            bytes.extend(flags.iter().map(|flag| u8::from(*flag)));
        }
    }
}

fn put_list(bytes: &mut Vec<u8>, kind: u32, count: usize) {
    bytes.extend(9u32.to_le_bytes());
    bytes.extend(kind.to_le_bytes());
    bytes.extend((count as u64).to_le_bytes());
}
