//! Every parameter by name: module path, checkpoint key, shape and role.
//!
//! Saving, loading, weight decay and optimizer state all walk the model through here, so that they agree
//! on names. The path is that of the fields (`layers.0.self_attn.qkv_proj.weight`). Matrices that are packed are
//! no parameters; `weights` finds them by the paths of their modules.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use smelt_backend::{Job, Kernels, dispatch, float_tensor, in_build, to_host};

use crate::blocks::Matrix;
use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::weights::NameMap;

/// What a parameter does, which decides on weight decay and initialisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A table of vectors for tokens or positions.
    Embedding,
    /// The scale of a norm.
    Norm,
    /// Any bias, that of a norm too.
    Bias,
    /// The weight of a linear projection.
    Matrix,
    /// Part of an adapter: a matrix of LoRA's, or DoRA's magnitudes.
    Adapter,
}

/// One parameter, without its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterInfo {
    /// Where it sits in the model.
    pub path: String,
    /// Its name in the files of its family.
    pub key: String,
    /// Its shape in the model.
    pub shape: Vec<usize>,
    /// What it does.
    pub role: Role,
    /// Files hold it transposed.
    pub transposed: bool,
}

impl ParameterInfo {
    /// Its shape in files.
    pub fn checkpoint_shape(&self) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if self.transposed {
            shape.reverse();
        }
        shape
    }

    /// Number of values.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Looks at every parameter in turn.
pub trait ParameterVisitor<B: Backend> {
    /// Called once per parameter, in the order of the fields.
    fn visit<const D: usize>(&mut self, info: &ParameterInfo, parameter: &Param<Tensor<B, D>>);
}

/// Replaces every parameter in turn.
pub trait ParameterMapper<B: Backend> {
    /// Called once per parameter, in the order of the fields; keep the parameter's id.
    fn map<const D: usize>(
        &mut self,
        info: &ParameterInfo,
        parameter: Param<Tensor<B, D>>,
    ) -> Param<Tensor<B, D>>;
}

impl<B: Backend> Decoder<B> {
    /// Shows every parameter to `visitor`, under the names of `names`.
    ///
    /// Parameters without values yet stay without.
    pub fn visit_parameters<V: ParameterVisitor<B>>(&self, names: &NameMap, visitor: &mut V) {
        self.visit(&mut Walk { trail: Trail::new(names), inner: visitor });
    }

    /// Replaces every parameter by what `mapper` makes of it, under the names of `names`.
    pub fn map_parameters<M: ParameterMapper<B>>(self, names: &NameMap, mapper: &mut M) -> Self {
        self.map(&mut Walk { trail: Trail::new(names), inner: mapper })
    }

    /// All parameters, in the order of the fields.
    pub fn named_parameters(&self, names: &NameMap) -> Vec<ParameterInfo> {
        let mut list = List(Vec::new());
        self.visit_parameters(names, &mut list);
        list.0
    }

    /// Memory that the weights take.
    pub fn size_bytes(&self) -> usize {
        let mut sizes = Sizes(0);
        self.visit(&mut sizes);
        let mut shared = self.clone();
        let packed = shared.matrices_mut().filter_map(|(_, matrix)| match matrix {
            Matrix::Quantized(weight) => Some(weight.size_bytes()),
            Matrix::Dense(_) => None,
        });
        sizes.0 + packed.sum::<usize>()
    }

    /// The model on the autodiff backend, with every parameter asking for a gradient.
    ///
    /// `from_inner` alone would not ask: a plain backend's tensors forget that they wanted one.
    pub fn into_trainable<AB: AutodiffBackend<InnerBackend = B>>(self) -> Decoder<AB> {
        use burn::module::AutodiffModule;
        <Decoder<AB> as AutodiffModule<AB>>::from_inner(self).map(&mut RequireGrad)
    }

    /// As [`Decoder::into_trainable`], with only those parameters asking for a gradient that `trains` chooses.
    pub fn into_partly_trainable<AB: AutodiffBackend<InnerBackend = B>>(
        self,
        names: &NameMap,
        trains: &dyn Fn(&ParameterInfo) -> bool,
    ) -> Decoder<AB> {
        use burn::module::AutodiffModule;
        let model = <Decoder<AB> as AutodiffModule<AB>>::from_inner(self).map(&mut Freeze);
        model.map_parameters(names, &mut Choose(trains))
    }
}

/// Values of parameters by their paths, row-major.
pub type ParameterValues = BTreeMap<String, Vec<f32>>;

impl<B: Kernels> Decoder<B> {
    /// The values of those parameters that are at `paths`; what is packed is none.
    pub fn parameter_values(&self, names: &NameMap, paths: &[String]) -> ParameterValues {
        let mut read = Read { paths, values: ParameterValues::new() };
        self.visit_parameters(names, &mut read);
        read.values
    }

    /// Puts `values`, in f32, in place of those of the parameters at their paths.
    ///
    /// # Panics
    /// If a parameter has another number of values.
    pub fn put_parameter_values(&mut self, names: &NameMap, values: &ParameterValues) {
        *self = self.clone().map_parameters(names, &mut Replace(values));
    }
}

impl ModelConfig {
    /// All parameters of the model, in the order of the fields, none of them packed; nothing is allocated for values.
    ///
    /// # Panics
    /// In a build without any backend.
    pub fn parameters(&self) -> Vec<ParameterInfo> {
        // A structure is the same on every backend.
        let name = *in_build().first().expect("a backend in this build");
        dispatch(name, Parameters(self))
    }
}

struct Parameters<'a>(&'a ModelConfig);

impl Job for Parameters<'_> {
    type Output = Vec<ParameterInfo>;

    fn run<B: Kernels>(self, device: B::Device) -> Vec<ParameterInfo> {
        Decoder::<B>::structure(&self.0.decoder, &device).named_parameters(&self.0.family.names)
    }
}

struct List(Vec<ParameterInfo>);

impl<B: Backend> ParameterVisitor<B> for List {
    fn visit<const D: usize>(&mut self, info: &ParameterInfo, _: &Param<Tensor<B, D>>) {
        self.0.push(info.clone());
    }
}

struct Sizes(usize);

impl<B: Backend> ModuleVisitor<B> for Sizes {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<B, D>>) {
        self.0 += parameter.lazy_shape().num_elements() * parameter.val().dtype().size();
    }
}

struct Read<'a> {
    paths: &'a [String],
    values: ParameterValues,
}

impl<B: Kernels> ParameterVisitor<B> for Read<'_> {
    fn visit<const D: usize>(&mut self, info: &ParameterInfo, parameter: &Param<Tensor<B, D>>) {
        if self.paths.contains(&info.path) {
            self.values.insert(info.path.clone(), to_host(parameter.val()));
        }
    }
}

struct Replace<'a>(&'a ParameterValues);

impl<B: Kernels> ParameterMapper<B> for Replace<'_> {
    fn map<const D: usize>(
        &mut self,
        info: &ParameterInfo,
        parameter: Param<Tensor<B, D>>,
    ) -> Param<Tensor<B, D>> {
        let Some(values) = self.0.get(&info.path) else { return parameter };
        let (shape, device) = (parameter.lazy_shape().dims(), parameter.lazy_device());
        Param::initialized(parameter.id, float_tensor(values.clone(), shape, &device))
    }
}

struct Freeze;

impl<B: Backend> ModuleMapper<B> for Freeze {
    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        parameter.set_require_grad(false)
    }
}

struct Choose<'a>(&'a dyn Fn(&ParameterInfo) -> bool);

impl<B: Backend> ParameterMapper<B> for Choose<'_> {
    fn map<const D: usize>(
        &mut self,
        info: &ParameterInfo,
        parameter: Param<Tensor<B, D>>,
    ) -> Param<Tensor<B, D>> {
        parameter.set_require_grad((self.0)(info))
    }
}

struct RequireGrad;

impl<B: Backend> ModuleMapper<B> for RequireGrad {
    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        parameter.set_require_grad(true)
    }
}

/// Joins burn's traversal, which only announces names, to one that knows where it is.
struct Walk<'a, T> {
    trail: Trail<'a>,
    inner: &'a mut T,
}

impl<B: Backend, V: ParameterVisitor<B>> ModuleVisitor<B> for Walk<'_, V> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.trail.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.trail.exit();
    }

    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<B, D>>) {
        if !self.trail.is_derived() {
            self.inner.visit(&self.trail.info(parameter), parameter);
        }
    }
}

impl<B: Backend, M: ParameterMapper<B>> ModuleMapper<B> for Walk<'_, M> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.trail.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.trail.exit();
    }

    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        match self.trail.is_derived() {
            true => parameter,
            false => self.inner.map(&self.trail.info(&parameter), parameter),
        }
    }
}

/// The names entered and not yet left, each with the type that holds it.
struct Trail<'a> {
    names: &'a NameMap,
    entered: Vec<(String, String)>,
}

impl<'a> Trail<'a> {
    fn new(names: &'a NameMap) -> Self {
        Self { names, entered: Vec::new() }
    }

    fn enter(&mut self, name: &str, container_type: &str) {
        self.entered.push((name.to_owned(), container_type.to_owned()));
    }

    fn exit(&mut self) {
        self.entered.pop();
    }

    fn info<B: Backend, const D: usize>(&self, parameter: &Param<Tensor<B, D>>) -> ParameterInfo {
        let path = self.fields().map(|(name, _)| name).collect::<Vec<_>>().join(".");
        let key = adapter_key(&path, self.names).unwrap_or_else(|| self.names.key(&path));
        ParameterInfo {
            shape: parameter.lazy_shape().to_vec(),
            role: self.role(),
            transposed: self.names.is_transposed(&key),
            path,
            key,
        }
    }

    /// The fields entered, each with its struct; that a matrix is dense does not show in a path.
    fn fields(&self) -> impl DoubleEndedIterator<Item = (&str, &str)> {
        let entered = self.entered.iter().map(|(name, owner)| (name.as_str(), owner.as_str()));
        entered.filter(|(_, owner)| *owner != "Enum:Matrix")
    }

    /// What stands here follows from other parameters: nobody names, trains or saves it.
    fn is_derived(&self) -> bool {
        self.entered.last().is_some_and(|(name, owner)| name == "base_squares" && owner == "Struct:Magnitude")
    }

    fn role(&self) -> Role {
        match self.fields().next_back() {
            Some(("bias", _)) => Role::Bias,
            Some((_, "Struct:Embedding")) => Role::Embedding,
            Some((_, "Struct:Norm")) => Role::Norm,
            Some((_, "Struct:Lora" | "Struct:Magnitude")) => Role::Adapter,
            _ => Role::Matrix,
        }
    }
}

/// The name that PEFT gives to an adapter's parameter, behind that of the module it adapts.
fn adapter_key(path: &str, names: &NameMap) -> Option<String> {
    let parts = [
        (".lora.lora_a", "lora_A.weight"),
        (".lora.lora_b", "lora_B.weight"),
        (".lora.magnitude.vector", "lora_magnitude_vector"),
    ];
    let (module, name) = parts.iter().find_map(|(end, name)| Some((path.strip_suffix(end)?, name)))?;
    Some(format!("{}.{name}", names.module_key(module)))
}
