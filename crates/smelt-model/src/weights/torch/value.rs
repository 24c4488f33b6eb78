//! What a pickle of weights can describe.
//!
//! Objects live in one list and are referred to by index, so that a pickle can neither build a tree that
//! is too deep to drop nor copy a large object by naming it again. Texts are borrowed from the pickle.

use safetensors::Dtype;

/// A value on the stack or inside an object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Text(&'a str),
    Global(Global),
    /// A number or bytes that describe no tensor.
    Opaque,
    /// Index into [`Objects`].
    Object(usize),
}

/// An object that several values may refer to.
#[derive(Debug)]
pub(super) enum Object<'a> {
    /// A tuple or a list.
    Sequence(Vec<Value<'a>>),
    Dict(Vec<(Value<'a>, Value<'a>)>),
    Storage(Storage<'a>),
    Tensor(Box<View<'a>>),
}

/// A record of the archive, seen as numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storage<'a> {
    /// Name of its record, in `data/`.
    pub(super) key: &'a str,
    /// `None` for bytes without a type.
    pub(super) dtype: Option<Dtype>,
    /// Values, or bytes without a type.
    pub(super) elements: usize,
}

/// A tensor: a view of a storage.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) storage: Storage<'a>,
    pub(super) dtype: Dtype,
    pub(super) start: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// What a pickle may name. None of it is called: each is known here by what it would make.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Global {
    OrderedDict,
    /// `torch.Size`
    Size,
    /// From a typed storage.
    RebuildTensor,
    /// From a storage of bytes and a dtype.
    RebuildTensorOfDtype,
    RebuildParameter,
    /// A tensor with attributes of Python's, which are dropped.
    RebuildWithAttributes,
    /// `torch.Tensor` or `torch.nn.Parameter`, as an argument of the last.
    TensorType,
    /// The type of a storage; `None` for bytes without one.
    StorageType(Option<Dtype>),
    Dtype(Dtype),
}

const GLOBALS: &[(&str, &str, Global)] = &[
    ("collections", "OrderedDict", Global::OrderedDict),
    ("torch", "Size", Global::Size),
    ("torch._utils", "_rebuild_tensor_v2", Global::RebuildTensor),
    ("torch._utils", "_rebuild_tensor_v3", Global::RebuildTensorOfDtype),
    ("torch._utils", "_rebuild_parameter", Global::RebuildParameter),
    ("torch._utils", "_rebuild_parameter_with_state", Global::RebuildParameter),
    ("torch._tensor", "_rebuild_from_type_v2", Global::RebuildWithAttributes),
    ("torch", "Tensor", Global::TensorType),
    ("torch.nn.parameter", "Parameter", Global::TensorType),
    ("torch.storage", "UntypedStorage", Global::StorageType(None)),
    ("torch", "UntypedStorage", Global::StorageType(None)),
    ("torch", "FloatStorage", Global::StorageType(Some(Dtype::F32))),
    ("torch", "HalfStorage", Global::StorageType(Some(Dtype::F16))),
    ("torch", "BFloat16Storage", Global::StorageType(Some(Dtype::BF16))),
    ("torch", "DoubleStorage", Global::StorageType(Some(Dtype::F64))),
    ("torch", "LongStorage", Global::StorageType(Some(Dtype::I64))),
    ("torch", "IntStorage", Global::StorageType(Some(Dtype::I32))),
    ("torch", "ShortStorage", Global::StorageType(Some(Dtype::I16))),
    ("torch", "CharStorage", Global::StorageType(Some(Dtype::I8))),
    ("torch", "ByteStorage", Global::StorageType(Some(Dtype::U8))),
    ("torch", "BoolStorage", Global::StorageType(Some(Dtype::BOOL))),
    ("torch", "float32", Global::Dtype(Dtype::F32)),
    ("torch", "float16", Global::Dtype(Dtype::F16)),
    ("torch", "bfloat16", Global::Dtype(Dtype::BF16)),
    ("torch", "float64", Global::Dtype(Dtype::F64)),
    ("torch", "int64", Global::Dtype(Dtype::I64)),
    ("torch", "int32", Global::Dtype(Dtype::I32)),
    ("torch", "int16", Global::Dtype(Dtype::I16)),
    ("torch", "int8", Global::Dtype(Dtype::I8)),
    ("torch", "uint64", Global::Dtype(Dtype::U64)),
    ("torch", "uint32", Global::Dtype(Dtype::U32)),
    ("torch", "uint16", Global::Dtype(Dtype::U16)),
    ("torch", "uint8", Global::Dtype(Dtype::U8)),
    ("torch", "bool", Global::Dtype(Dtype::BOOL)),
    ("torch", "float8_e4m3fn", Global::Dtype(Dtype::F8_E4M3)),
    ("torch", "float8_e5m2", Global::Dtype(Dtype::F8_E5M2)),
];

impl Global {
    /// What `module.name` stands for, if it may be named.
    pub(super) fn find(module: &str, name: &str) -> Option<Self> {
        let named = |entry: &&(&str, &str, Self)| (entry.0, entry.1) == (module, name);
        GLOBALS.iter().find(named).map(|entry| entry.2)
    }
}

/// All objects of a pickle, and the one that it is about.
#[derive(Debug)]
pub(super) struct Objects<'a> {
    pub(super) all: Vec<Object<'a>>,
    pub(super) root: Value<'a>,
}

impl<'a> Objects<'a> {
    /// The object that `value` refers to.
    pub(super) fn get(&self, value: Value<'a>) -> Option<&Object<'a>> {
        match value {
            Value::Object(index) => self.all.get(index),
            _ => None,
        }
    }
}
