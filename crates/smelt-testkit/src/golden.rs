//! Folders of `tests/golden`, read whole into host memory.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// Where the fixtures lie, seen from this crate.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden");

/// The folder of fixture `name`.
pub fn golden_folder(name: &str) -> PathBuf {
    Path::new(GOLDEN).join(name)
}

/// One fixture: its folder, its reference outputs and its `meta.json`.
#[derive(Debug)]
pub struct Golden {
    /// The folder, which models load from.
    pub folder: PathBuf,
    /// `meta.json`.
    pub meta: Value,
    tensors: BTreeMap<String, HostTensor>,
}

/// A tensor in host memory, row-major.
#[derive(Debug, Clone)]
pub struct HostTensor {
    /// Its shape; `[]` for a scalar.
    pub shape: Vec<usize>,
    values: Values,
}

#[derive(Debug, Clone)]
enum Values {
    Float(Vec<f32>),
    Int(Vec<i64>),
}

impl Golden {
    /// Reads fixture `name`.
    ///
    /// # Panics
    /// If the fixture is absent or damaged.
    pub fn open(name: &str) -> Self {
        let folder = golden_folder(name);
        let read = |file: &str| {
            let path = folder.join(file);
            fs::read(&path).unwrap_or_else(|error| panic!("fixture {}: {error}", path.display()))
        };
        let meta = serde_json::from_slice(&read("meta.json")).expect("meta.json parses");
        Self { meta, tensors: read_tensors(&read("golden.safetensors")), folder }
    }

    /// All fixtures of a kind, by name.
    ///
    /// # Panics
    /// If a fixture is damaged.
    pub fn of_kind(kind: &str) -> Vec<Self> {
        let entries = fs::read_dir(GOLDEN).expect("the folder of fixtures is there");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("a readable entry"))
            .filter(|entry| entry.path().join("golden.safetensors").exists())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort_unstable();
        let all = names.iter().map(|name| Self::open(name));
        all.filter(|golden| golden.meta["kind"] == kind).collect()
    }

    /// The name of its folder.
    pub fn name(&self) -> Cow<'_, str> {
        self.folder.file_name().map(|name| name.to_string_lossy()).unwrap_or_default()
    }

    /// Names of the reference tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The reference tensor `key`.
    ///
    /// # Panics
    /// If the fixture has none of that name.
    pub fn tensor(&self, key: &str) -> &HostTensor {
        self.tensors.get(key).unwrap_or_else(|| panic!("{} has no `{key}`", self.folder.display()))
    }

    /// The fixture has a tensor `key`.
    pub fn contains(&self, key: &str) -> bool {
        self.tensors.contains_key(key)
    }
}

impl HostTensor {
    /// Values of a float tensor.
    ///
    /// # Panics
    /// If it holds integers.
    pub fn floats(&self) -> &[f32] {
        match &self.values {
            Values::Float(values) => values,
            Values::Int(_) => panic!("an integer tensor read as floats"),
        }
    }

    /// Values of an integer tensor.
    ///
    /// # Panics
    /// If it holds floats.
    pub fn ints(&self) -> &[i64] {
        match &self.values {
            Values::Int(values) => values,
            Values::Float(_) => panic!("a float tensor read as integers"),
        }
    }

    /// Values of a tensor of token ids, positions or mask bits.
    ///
    /// # Panics
    /// If it holds floats or numbers that are no ids.
    pub fn ids(&self) -> Vec<u32> {
        self.ints().iter().map(|id| u32::try_from(*id).expect("an id is not negative")).collect()
    }

    /// The only value of a float tensor.
    ///
    /// # Panics
    /// If it has several.
    pub fn scalar(&self) -> f32 {
        let [value] = self.floats() else { panic!("shape {:?} is no scalar", self.shape) };
        *value
    }

    /// The shape as an array.
    ///
    /// # Panics
    /// If the tensor has another number of dimensions.
    pub fn dims<const D: usize>(&self) -> [usize; D] {
        let shape = self.shape.as_slice();
        shape.try_into().unwrap_or_else(|_| panic!("shape {shape:?} has not {D} dimensions"))
    }
}

fn read_tensors(bytes: &[u8]) -> BTreeMap<String, HostTensor> {
    let file = SafeTensors::deserialize(bytes).expect("golden.safetensors is valid");
    let read = |(name, view): (&str, safetensors::tensor::TensorView<'_>)| {
        let values = match view.dtype() {
            Dtype::F32 => Values::Float(elements(view.data(), f32::from_le_bytes)),
            Dtype::I64 => Values::Int(elements(view.data(), i64::from_le_bytes)),
            other => panic!("`{name}` has dtype {other}, which no fixture should have"),
        };
        (name.to_owned(), HostTensor { shape: view.shape().to_vec(), values })
    };
    file.iter().map(read).collect()
}

fn elements<const N: usize, T>(bytes: &[u8], convert: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|raw| convert(*raw)).collect()
}
