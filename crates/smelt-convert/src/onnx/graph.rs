//! A graph in the making: nodes by what they compute, constants shared by their value.

use std::collections::HashMap;

use super::proto::{
    AttributeProto, AttributeType, Dimension, DimensionProto, NodeProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto,
};

/// Element types.
pub(super) const FLOAT: i32 = 1;
/// Of ids and shapes.
pub(super) const INT64: i32 = 7;
/// Of masks.
pub(super) const BOOL: i32 = 9;
/// Of weights in half precision.
pub(super) const FLOAT16: i32 = 10;
/// Of weights in half precision.
pub(super) const BFLOAT16: i32 = 16;

/// The name of a tensor in the graph.
pub(super) type Value = String;

/// Nodes and constants so far.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<NodeProto>,
    pub(super) constants: Vec<TensorProto>,
    shared: HashMap<(i32, Vec<i64>, Vec<u8>), Value>,
}

/// A constant of an operation.
pub(super) enum Attribute {
    Int(i64),
    Float(f32),
    Ints(Vec<i64>),
    Text(&'static str),
}

impl Graph {
    /// One operation with one result.
    pub(super) fn node(&mut self, op: &str, inputs: &[&Value]) -> Value {
        self.node_with(op, inputs, &[])
    }

    /// One operation with attributes and one result.
    pub(super) fn node_with(
        &mut self,
        op: &str,
        inputs: &[&Value],
        attributes: &[(&str, Attribute)],
    ) -> Value {
        let [value] = self.nodes_with(op, inputs, attributes);
        value
    }

    /// One operation with several results.
    pub(super) fn nodes_with<const N: usize>(
        &mut self,
        op: &str,
        inputs: &[&Value],
        attributes: &[(&str, Attribute)],
    ) -> [Value; N] {
        let number = self.nodes.len();
        let name = format!("{op}_{number}");
        let outputs: [Value; N] = std::array::from_fn(|index| match N {
            1 => format!("{name}_out"),
            _ => format!("{name}_out{index}"),
        });
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|input| (*input).clone()).collect(),
            output: outputs.to_vec(),
            name,
            op_type: op.to_owned(),
            attribute: attributes.iter().map(|(name, value)| attribute(name, value)).collect(),
        });
        outputs
    }

    /// Gives `value` the name that the world knows it by.
    pub(super) fn output(&mut self, value: &Value, name: &str) {
        let node = NodeProto {
            input: vec![value.clone()],
            output: vec![name.to_owned()],
            name: format!("Output_{name}"),
            op_type: "Identity".to_owned(),
            attribute: Vec::new(),
        };
        self.nodes.push(node);
    }

    /// One float.
    pub(super) fn float(&mut self, value: f64) -> Value {
        self.constant(FLOAT, vec![], (value as f32).to_le_bytes().to_vec())
    }

    /// Floats of a shape.
    pub(super) fn floats(&mut self, values: &[f32], shape: &[usize]) -> Value {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(FLOAT, shape.iter().map(|size| *size as i64).collect(), raw)
    }

    /// A list of integers: axes, sizes.
    pub(super) fn ints(&mut self, values: &[i64]) -> Value {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(INT64, vec![values.len() as i64], raw)
    }

    /// One integer.
    pub(super) fn int(&mut self, value: i64) -> Value {
        self.constant(INT64, vec![], value.to_le_bytes().to_vec())
    }

    fn constant(&mut self, data_type: i32, dims: Vec<i64>, raw_data: Vec<u8>) -> Value {
        let key = (data_type, dims.clone(), raw_data.clone());
        if let Some(name) = self.shared.get(&key) {
            return name.clone();
        }
        let name = format!("constant_{}", self.constants.len());
        let constant =
            TensorProto { dims, data_type, name: name.clone(), raw_data, ..TensorProto::default() };
        self.constants.push(constant);
        self.shared.insert(key, name.clone());
        name
    }

    pub(super) fn add(&mut self, a: &Value, b: &Value) -> Value {
        self.node("Add", &[a, b])
    }

    pub(super) fn mul(&mut self, a: &Value, b: &Value) -> Value {
        self.node("Mul", &[a, b])
    }

    /// `value` times a number.
    pub(super) fn scaled(&mut self, value: &Value, factor: f64) -> Value {
        let factor = self.float(factor);
        self.mul(value, &factor)
    }

    pub(super) fn matmul(&mut self, a: &Value, b: &Value) -> Value {
        self.node("MatMul", &[a, b])
    }

    /// `sizes` as ONNX reads them: 0 keeps a dimension, -1 is what is left.
    pub(super) fn reshape(&mut self, value: &Value, sizes: &[i64]) -> Value {
        let sizes = self.ints(sizes);
        self.node("Reshape", &[value, &sizes])
    }

    pub(super) fn transpose(&mut self, value: &Value, order: &[i64]) -> Value {
        self.node_with("Transpose", &[value], &[("perm", Attribute::Ints(order.to_vec()))])
    }

    pub(super) fn unsqueeze(&mut self, value: &Value, axes: &[i64]) -> Value {
        let axes = self.ints(axes);
        self.node("Unsqueeze", &[value, &axes])
    }

    pub(super) fn concat(&mut self, values: &[&Value], axis: i64) -> Value {
        self.node_with("Concat", values, &[("axis", Attribute::Int(axis))])
    }

    /// Positions `start..end` of `axis`.
    pub(super) fn slice(&mut self, value: &Value, axis: i64, start: i64, end: i64) -> Value {
        let [start, end, axis] = [start, end, axis].map(|number| self.ints(&[number]));
        self.node("Slice", &[value, &start, &end, &axis])
    }

    pub(super) fn cast(&mut self, value: &Value, data_type: i32) -> Value {
        self.node_with("Cast", &[value], &[("to", Attribute::Int(data_type.into()))])
    }

    pub(super) fn softmax(&mut self, value: &Value) -> Value {
        self.node_with("Softmax", &[value], &[("axis", Attribute::Int(-1))])
    }

    /// The size of dimension `axis` of `value`, one integer.
    pub(super) fn size(&mut self, value: &Value, axis: i64) -> Value {
        let shape = self.node("Shape", &[value]);
        let axis = self.int(axis);
        self.node_with("Gather", &[&shape, &axis], &[("axis", Attribute::Int(0))])
    }
}

fn attribute(name: &str, value: &Attribute) -> AttributeProto {
    let empty = AttributeProto { name: name.to_owned(), ..AttributeProto::default() };
    let kind = |kind: AttributeType| kind as i32;
    match value {
        Attribute::Int(i) => AttributeProto { i: *i, kind: kind(AttributeType::Int), ..empty },
        Attribute::Float(f) => AttributeProto { f: *f, kind: kind(AttributeType::Float), ..empty },
        Attribute::Ints(ints) => {
            AttributeProto { ints: ints.clone(), kind: kind(AttributeType::Ints), ..empty }
        }
        Attribute::Text(text) => {
            AttributeProto { s: text.as_bytes().to_vec(), kind: kind(AttributeType::Text), ..empty }
        }
    }
}

/// An input or output of the graph; dimensions are sizes or names.
pub(super) fn value_info(name: &str, elem_type: i32, dimensions: &[Dimension]) -> ValueInfoProto {
    let dim = dimensions.iter().map(|value| DimensionProto { value: Some(value.clone()) }).collect();
    let tensor_type = TensorTypeProto { elem_type, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.to_owned(), kind: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}
