//! The tensors of a model on their way into files: named, turned and joined as files have them, and fetched from the
//! device when their turn comes.

use std::collections::BTreeMap;

use burn::module::Param;
use burn::tensor::Tensor;
use safetensors::Dtype;
use smelt_backend::kernels::{QuantizedBytes, QuantizedWeight};
use smelt_backend::{Kernels, to_host};

use super::dtype::file_dtype;
use super::location::Location;
use super::names::NameMap;
use super::shards::Weight;
use super::transpose::transposed;
use super::writer::{Fetch, Values};
use crate::blocks::Matrix;
use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::parameters::{ParameterInfo, ParameterVisitor, Role};

/// A tensor that is fetched when its turn comes.
pub(super) struct Pending<'a> {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) dtype: Dtype,
    pub(super) values: Fetch<'a>,
}

impl Weight for Pending<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn bytes(&self) -> u64 {
        (self.elements() * self.dtype.bitsize() / 8) as u64
    }
}

impl Pending<'_> {
    pub(super) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Values of the matrix that it is the codes of, or its own.
    pub(super) fn parameters(&self, config: &ModelConfig) -> u64 {
        let module = self.name.strip_suffix(".weight").filter(|_| self.dtype == Dtype::U32);
        let format =
            module.and_then(|module| config.quantization.as_ref().and_then(|all| all.format_of(module)));
        match format {
            Some(format) => self.elements() as u64 * 32 / u64::from(format.bits()),
            None if self.name.ends_with(".scales") || self.name.ends_with(".biases") => 0,
            None => self.elements() as u64,
        }
    }
}

/// All tensors of `model` but an adapter's: in mlx-lm's layout if the configuration says that it is quantized.
pub(super) fn pending<B: Kernels>(config: &ModelConfig, model: &Decoder<B>) -> Vec<Pending<'static>> {
    let names = &config.family.names;
    let mut collect = Collect { mlx: config.quantization.is_some().then_some(names), pending: Vec::new() };
    model.visit_parameters(names, &mut collect);
    for (path, matrix) in model.clone().matrices_mut() {
        if let Matrix::Quantized(weight) = matrix {
            collect.pending.extend(packed(names, &path, weight));
        }
    }
    joined(collect.pending)
}

/// A tensor, and of which expert it is if files join those.
type Part = (Pending<'static>, Option<usize>);

/// Takes every parameter that is no adapter's.
struct Collect<'a> {
    mlx: Option<&'a NameMap>,
    pending: Vec<Part>,
}

impl<B: Kernels> ParameterVisitor<B> for Collect<'_> {
    fn visit<const D: usize>(&mut self, info: &ParameterInfo, parameter: &Param<Tensor<B, D>>) {
        if info.role == Role::Adapter {
            return;
        }
        let Location { name, transposed, expert } = match self.mlx {
            Some(names) => names.in_mlx(&info.path),
            None => Location { name: info.key.clone(), transposed: info.transposed, expert: None },
        };
        let turn = info.shape.as_slice().try_into().ok().filter(|_| transposed);
        let mut shape = info.shape.clone();
        if transposed {
            shape.reverse();
        }
        let (dtype, values) = values(parameter.val(), turn);
        self.pending.push((Pending { name, shape, dtype, values }, expert));
    }
}

/// The values of a tensor, turned if it is a matrix of these sizes.
fn values<B: Kernels, const D: usize>(
    tensor: Tensor<B, D>,
    turn: Option<[usize; 2]>,
) -> (Dtype, Fetch<'static>) {
    let dtype = file_dtype(tensor.dtype());
    let values = move || {
        Ok(match (dtype, turn) {
            (Dtype::F32, Some([rows, columns])) => {
                Values::F32(transposed(&to_host(tensor), rows, columns).into())
            }
            (Dtype::F32, None) => Values::F32(to_host(tensor).into()),
            (_, Some([rows, columns])) => {
                let values = tensor.into_data().bytes;
                Values::Bytes(transposed(values.as_chunks::<2>().0, rows, columns).into_flattened().into())
            }
            (_, None) => Values::Bytes(tensor.into_data().bytes.to_vec().into()),
        })
    };
    (dtype, Box::new(values))
}

/// The three tensors of the packed matrix of module `path`.
fn packed<B: Kernels>(names: &NameMap, path: &str, weight: &QuantizedWeight<B>) -> [Part; 3] {
    type Take = fn(QuantizedBytes) -> bytes::Bytes;
    let [rows, columns] = weight.dims();
    let format = weight.format();
    let groups = columns / format.group_size();
    let scales = file_dtype(weight.dtype());
    let parts: [(&str, Dtype, usize, Take); 3] = [
        ("weight", Dtype::U32, columns / 32 * format.bits() as usize, |bytes| bytes.packed),
        ("scales", scales, groups, |bytes| bytes.scales),
        ("biases", scales, groups, |bytes| bytes.biases),
    ];
    parts.map(|(part, dtype, width, take)| {
        let Location { name, expert, .. } = names.in_mlx(&format!("{path}.{part}"));
        let weight = weight.clone();
        let values = Box::new(move || Ok(Values::Bytes(take(weight.to_bytes()).to_vec().into())));
        (Pending { name, shape: vec![rows, width], dtype, values }, expert)
    })
}

/// One tensor for the experts of a block, in their order; the rest as it is.
fn joined(parts: Vec<Part>) -> Vec<Pending<'static>> {
    let (mut experts, mut all) = (BTreeMap::<String, Vec<Part>>::new(), Vec::new());
    for part in parts {
        match part.1 {
            Some(_) => experts.entry(part.0.name.clone()).or_default().push(part),
            None => all.push(part.0),
        }
    }
    all.extend(experts.into_iter().map(|(name, mut parts)| {
        parts.sort_by_key(|(_, expert)| *expert);
        let (first, _) = &parts[0];
        let (dtype, mut shape) = (first.dtype, first.shape.clone());
        shape.insert(0, parts.len());
        let values = move || {
            let values = parts.into_iter().map(|(part, _)| Ok((part.values)()?.into_bytes()));
            let values: Result<Vec<Vec<u8>>, ModelError> = values.collect();
            Ok(Values::Bytes(values?.concat().into()))
        };
        Pending { name, shape, dtype, values: Box::new(values) }
    }));
    all
}
