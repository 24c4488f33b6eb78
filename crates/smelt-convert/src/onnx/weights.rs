//! The parameters of a graph: which it uses, in which orientation, and their bytes when they are written.

use std::collections::HashMap;

use safetensors::Dtype;
use smelt_model::weights::{float_bytes, transposed};

use super::graph::{BFLOAT16, FLOAT, FLOAT16, Graph, Value};
use crate::Parameter;
use crate::gguf::reordered;

/// All parameters by their paths in the model, and the initializers that a graph made of them.
pub(super) struct Weights<'a> {
    by_path: HashMap<&'a str, &'a Parameter<'a>>,
    dtype: Dtype,
    pub(super) initializers: Vec<Initializer<'a>>,
    /// The value that each name stands for in f32.
    known: HashMap<String, Value>,
}

/// One tensor of the file.
pub(super) struct Initializer<'a> {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    parameter: &'a Parameter<'a>,
    /// Rows of the parameter in the order of the graph; all as they are without.
    rows: Option<Vec<usize>>,
    /// `[in, out]` instead of `[out, in]`.
    turned: bool,
    /// Added to each value.
    offset: f32,
}

impl<'a> Weights<'a> {
    pub(super) fn new(parameters: &'a [Parameter<'a>], dtype: Dtype) -> Self {
        let by_path =
            parameters.iter().map(|parameter| (parameter.info().path.as_str(), parameter)).collect();
        Self { by_path, dtype, initializers: Vec::new(), known: HashMap::new() }
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.by_path.contains_key(path)
    }

    /// The matrix at `path` as `[in, out]`, or `rows` of it.
    pub(super) fn matrix(
        &mut self,
        graph: &mut Graph,
        path: &str,
        rows: Option<Vec<usize>>,
        part: &str,
    ) -> Value {
        self.add(graph, path, part, rows, true, 0.0)
    }

    /// The vector or table at `path` as it is, or `rows` of it, with `offset` added.
    pub(super) fn plain(
        &mut self,
        graph: &mut Graph,
        path: &str,
        rows: Option<Vec<usize>>,
        part: &str,
        offset: f32,
    ) -> Value {
        self.add(graph, path, part, rows, false, offset)
    }

    fn add(
        &mut self,
        graph: &mut Graph,
        path: &str,
        part: &str,
        rows: Option<Vec<usize>>,
        turned: bool,
        offset: f32,
    ) -> Value {
        let name = format!("{path}{part}");
        if let Some(value) = self.known.get(&name) {
            return value.clone();
        }
        let parameter = self.by_path[path];
        let mut shape = parameter.info().shape.clone();
        if let Some(rows) = &rows {
            shape[0] = rows.len();
        }
        if turned {
            shape.reverse();
        }
        let initializer = Initializer { name: name.clone(), shape, parameter, rows, turned, offset };
        self.initializers.push(initializer);
        let value = match self.dtype {
            Dtype::F32 => name.clone(),
            _ => graph.cast(&name, FLOAT),
        };
        self.known.insert(name, value.clone());
        value
    }

    /// The element type of all initializers.
    pub(super) fn data_type(&self) -> i32 {
        match self.dtype {
            Dtype::F16 => FLOAT16,
            Dtype::BF16 => BFLOAT16,
            _ => FLOAT,
        }
    }

    pub(super) fn bytes(&self, initializer: &Initializer<'_>) -> Vec<u8> {
        float_bytes(self.dtype, &initializer.values())
    }

    /// Bytes of an initializer.
    pub(super) fn size(&self, initializer: &Initializer<'_>) -> u64 {
        (initializer.shape.iter().product::<usize>() * self.dtype.bitsize() / 8) as u64
    }
}

impl Initializer<'_> {
    fn values(&self) -> Vec<f32> {
        let shape = &self.parameter.info().shape;
        let width = if shape.len() == 1 { 1 } else { shape[1] };
        let mut values = self.parameter.values();
        if let Some(rows) = &self.rows {
            values = reordered(&values, width, rows);
        }
        if self.offset != 0.0 {
            values.iter_mut().for_each(|value| *value += self.offset);
        }
        if self.turned { transposed(&values, values.len() / width, width) } else { values }
    }
}
