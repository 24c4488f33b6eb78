//! Graphs, as far as can be told without running them: `xtask/python/check_onnx.py` runs them with onnxruntime.

use std::collections::HashSet;
use std::fs;

use prost::Message;
use safetensors::Dtype;
use smelt_testkit::{Golden, golden_folder};

use super::proto::{ModelProto, ValueInfoProto};
use super::{MODEL_FILE, OnnxOptions, write_onnx};
use crate::{ConvertError, Source};

/// All that a decoder needs; each is in opset 18.
const OPERATORS: [&str; 42] = [
    "Add",
    "And",
    "Cast",
    "Ceil",
    "Concat",
    "ConstantOfShape",
    "Cos",
    "Div",
    "Erf",
    "Gather",
    "Greater",
    "Identity",
    "LayerNormalization",
    "LessOrEqual",
    "Log",
    "MatMul",
    "Max",
    "Mul",
    "NonZero",
    "Pow",
    "Range",
    "ReduceMean",
    "ReduceSum",
    "Relu",
    "Reshape",
    "ScatterElements",
    "ScatterND",
    "Shape",
    "Sigmoid",
    "Sin",
    "Slice",
    "Softmax",
    "Sqrt",
    "Sub",
    "Tanh",
    "TopK",
    "Transpose",
    "Unsqueeze",
    "Where",
    "Expand",
    "Squeeze",
    "Split",
];

fn export(name: &str, cache: bool) -> Result<ModelProto, ConvertError> {
    let scratch = tempfile::tempdir().unwrap();
    let source = Source::open(&golden_folder(name)).unwrap();
    let folder = scratch.path().join("onnx");
    write_onnx(&source, OnnxOptions { dtype: Dtype::F32, cache }, &folder, &mut |_| ())?;
    Ok(ModelProto::decode(fs::read(folder.join(MODEL_FILE)).unwrap().as_slice()).unwrap())
}

#[test]
fn every_family_becomes_a_graph_whose_values_are_all_made_before_they_are_used() {
    let mut seen = 0;
    for golden in Golden::of_kind("causal") {
        for cache in [true, false] {
            let name = golden.name();
            let model = match export(&name, cache) {
                Ok(model) => model,
                Err(error) => {
                    assert!(name == "qwen_v1" && cache, "{name}: {error}");
                    continue;
                }
            };
            let graph = model.graph.unwrap();
            let inputs = graph.input.iter().map(|input| input.name.clone());
            let constants = graph.initializer.iter().map(|constant| constant.name.clone());
            let mut known: HashSet<String> = inputs.chain(constants).collect();
            let declared = graph.input.len() + graph.initializer.len();
            assert_eq!(known.len(), declared, "{name}: a name stands for two values");
            for node in &graph.node {
                assert!(OPERATORS.contains(&node.op_type.as_str()), "{name}: {}", node.op_type);
                let unknown = node.input.iter().find(|input| !known.contains(*input));
                assert_eq!(unknown, None, "{name}: input of {}", node.name);
                assert!(
                    node.output.iter().all(|output| known.insert(output.clone())),
                    "{name}: {}",
                    node.name
                );
            }
            assert!(graph.output.iter().all(|output| known.contains(&output.name)), "{name}");
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen} graphs");
}

#[test]
fn inputs_are_called_as_optimum_calls_them() {
    let names = |model: ModelProto| {
        let graph = model.graph.unwrap();
        let names = |infos: &[ValueInfoProto]| {
            infos.iter().map(|info| info.name.clone()).collect::<Vec<_>>().join(" ")
        };
        (names(&graph.input), names(&graph.output))
    };
    let (inputs, outputs) = names(export("llama_mha", true).unwrap());
    assert!(
        inputs.starts_with(
            "input_ids attention_mask position_ids past_key_values.0.key past_key_values.0.value"
        )
    );
    assert!(outputs.starts_with("logits present.0.key present.0.value present.1.key"), "{outputs}");
    let expected = ("input_ids attention_mask position_ids".to_owned(), "logits".to_owned());
    assert_eq!(names(export("llama_mha", false).unwrap()), expected);
}
