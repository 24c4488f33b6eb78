//! A model into a folder with `model.onnx`.

use std::io::Write as _;
use std::path::Path;

use prost::Message;
use safetensors::Dtype;
use smelt_model::weights::write_atomic;
use smelt_model::{CONFIG_FILE, DecoderConfig, RopeScaling};

use super::decoder::{Inputs, build};
use super::graph::{FLOAT, Graph, INT64, value_info};
use super::proto::{
    Dimension, GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    ValueInfoProto,
};
use super::weights::{Initializer, Weights};
use crate::folder::write_json;
use crate::output::{Progress, check_range, write_whole_folder};
use crate::{ConvertError, Source};

/// Name of the graph.
pub const MODEL_FILE: &str = "model.onnx";
/// Name of the file with the weights, where the graph does not hold them.
pub const DATA_FILE: &str = "model.onnx_data";

/// The operators' version, which every runtime of the last years has.
const OPSET: i64 = 18;
/// The format's version that came with it.
const IR_VERSION: i64 = 8;
/// Weights up to this lie within the graph; a protobuf message may have 2 GB at most, and is built in memory.
const INLINE_BYTES: u64 = 64 << 20;
/// Weights in a file of their own begin at multiples of this.
const ALIGNMENT: u64 = 4096;

/// What a caller may choose about a graph.
#[derive(Debug, Clone, Copy)]
pub struct OnnxOptions {
    /// How weights are stored; they are computed with in f32.
    pub dtype: Dtype,
    /// Keys and values of earlier positions come in and go out.
    pub cache: bool,
}

/// Writes the model of `source` into `folder`: the graph, its weights, and all that belongs to the model besides.
///
/// Memory: the largest parameter twice, and 64 MiB.
///
/// # Errors
/// [`ConvertError::OutputExists`], [`ConvertError::Inexpressible`], [`ConvertError::OutOfRange`],
/// [`ConvertError::Model`] for weights that do not fit, [`ConvertError::Io`].
pub fn write_onnx(
    source: &Source,
    options: OnnxOptions,
    folder: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), ConvertError> {
    let config = &source.config.decoder;
    check(config, options)?;
    let parameters = source.parameters()?;
    for parameter in &parameters {
        check_range(parameter, options.dtype)?;
    }
    let mut graph = Graph::default();
    let mut weights = Weights::new(&parameters, options.dtype);
    let (inputs, input, past) = inputs(config, options.cache);
    let outputs = build(&mut graph, &mut weights, config, &inputs);
    let output = name_outputs(&mut graph, config, &outputs, options.cache);
    let mut proto = GraphProto {
        node: graph.nodes,
        name: source.config.family.model_type.to_owned(),
        initializer: graph.constants,
        input: input.into_iter().chain(past).collect(),
        output,
    };
    write_whole_folder(folder, source.companions.names(), |folder| {
        source.companions.write(folder)?;
        write_weights(&mut proto, &weights, folder, progress)?;
        let model = ModelProto {
            ir_version: IR_VERSION,
            producer_name: "smelt".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            graph: Some(proto),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        };
        let path = folder.join(MODEL_FILE);
        write_atomic(&path, |file| file.write_all(&model.encode_to_vec()))
            .map_err(ConvertError::io("write", &path))?;
        write_json(&folder.join(CONFIG_FILE), &source.config.dequantized().to_json())
    })
}

/// Refuses what a graph that knows no prompt cannot do.
fn check(config: &DecoderConfig, options: OnnxOptions) -> Result<(), ConvertError> {
    let of_prompt =
        config.rotary().iter().any(|rotary| matches!(rotary.scaling, RopeScaling::PromptNtk { .. }));
    match of_prompt && options.cache {
        false => Ok(()),
        true => Err(ConvertError::Inexpressible {
            format: "ONNX with a cache",
            reason: "its rotation depends on the length of the prompt, which a later step does not know"
                .to_owned(),
        }),
    }
}

/// The inputs as values, as declarations, and the declarations of the cache.
fn inputs(config: &DecoderConfig, cache: bool) -> (Inputs, Vec<ValueInfoProto>, Vec<ValueInfoProto>) {
    let whole = if cache { "past_sequence_length + sequence_length" } else { "sequence_length" };
    let ids = |name: &str, length: &str| value_info(name, INT64, &[named("batch_size"), named(length)]);
    let declared = vec![
        ids("input_ids", "sequence_length"),
        ids("attention_mask", whole),
        ids("position_ids", "sequence_length"),
    ];
    let layers = if cache { config.num_hidden_layers } else { 0 };
    let names = |layer: usize| ["key", "value"].map(|kind| format!("past_key_values.{layer}.{kind}"));
    let past: Vec<[String; 2]> = (0..layers).map(names).collect();
    let infos = past.iter().flatten().map(|name| cache_info(name, config, "past_sequence_length")).collect();
    let inputs = Inputs {
        input_ids: "input_ids".to_owned(),
        attention_mask: "attention_mask".to_owned(),
        position_ids: "position_ids".to_owned(),
        past,
    };
    (inputs, declared, infos)
}

fn name_outputs(
    graph: &mut Graph,
    config: &DecoderConfig,
    outputs: &super::decoder::Outputs,
    cache: bool,
) -> Vec<ValueInfoProto> {
    graph.output(&outputs.logits, "logits");
    let sizes = [named("batch_size"), named("sequence_length"), Dimension::Size(config.vocab_size as i64)];
    let mut infos = vec![value_info("logits", FLOAT, &sizes)];
    for (layer, values) in outputs.present.iter().enumerate().filter(|_| cache) {
        for (kind, value) in ["key", "value"].iter().zip(values) {
            let name = format!("present.{layer}.{kind}");
            graph.output(value, &name);
            infos.push(cache_info(&name, config, "past_sequence_length + sequence_length"));
        }
    }
    infos
}

fn cache_info(name: &str, config: &DecoderConfig, length: &str) -> ValueInfoProto {
    let heads = Dimension::Size(config.attention.num_key_value_heads as i64);
    let head_dim = Dimension::Size(config.attention.head_dim as i64);
    value_info(name, FLOAT, &[named("batch_size"), heads, named(length), head_dim])
}

fn named(name: &str) -> Dimension {
    Dimension::Named(name.to_owned())
}

/// Puts the weights into the graph, or beside it where they are many.
fn write_weights(
    graph: &mut GraphProto,
    weights: &Weights<'_>,
    folder: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), ConvertError> {
    let total_bytes: u64 = weights.initializers.iter().map(|initializer| weights.size(initializer)).sum();
    let mut done_bytes = 0;
    let mut told = |initializer: &Initializer<'_>| {
        progress(Progress { tensor: &initializer.name, done_bytes, total_bytes });
        done_bytes += weights.size(initializer);
    };
    if total_bytes <= INLINE_BYTES {
        for initializer in &weights.initializers {
            told(initializer);
            let raw_data = weights.bytes(initializer);
            graph.initializer.push(TensorProto { raw_data, ..declared(weights, initializer) });
        }
        return Ok(());
    }
    let path = folder.join(DATA_FILE);
    write_atomic(&path, |file| {
        let mut offset = 0u64;
        for initializer in &weights.initializers {
            told(initializer);
            let length = weights.size(initializer);
            file.write_all(&weights.bytes(initializer))?;
            let entry = |key: &str, value: String| StringStringEntryProto { key: key.to_owned(), value };
            let external_data = vec![
                entry("location", DATA_FILE.to_owned()),
                entry("offset", offset.to_string()),
                entry("length", length.to_string()),
            ];
            let tensor = declared(weights, initializer);
            graph.initializer.push(TensorProto { external_data, data_location: 1, ..tensor });
            let end = (offset + length).next_multiple_of(ALIGNMENT);
            file.write_all(&vec![0; (end - offset - length) as usize])?;
            offset = end;
        }
        Ok(())
    })
    .map_err(ConvertError::io("write", &path))
}

fn declared(weights: &Weights<'_>, initializer: &Initializer<'_>) -> TensorProto {
    TensorProto {
        dims: initializer.shape.iter().map(|size| *size as i64).collect(),
        data_type: weights.data_type(),
        name: initializer.name.clone(),
        ..TensorProto::default()
    }
}
