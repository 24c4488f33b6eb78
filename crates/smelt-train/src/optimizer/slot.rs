//! What an optimizer keeps between steps: named values per parameter, in memory and in files.

use std::borrow::Cow;
use std::sync::Arc;

use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Tensor, TensorData, TensorPrimitive};
use smelt_backend::{Kernels, to_host};
use smelt_model::ModelError;
use smelt_model::weights::{TensorFile, TensorFileWriter};

use super::rule::{flat, shape_of};

/// One thing that is kept for a parameter.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Slot {
    /// PyTorch's name for it.
    pub name: &'static str,
    pub shape: Vec<usize>,
    pub place: Place,
}

/// All that is kept for a parameter.
pub(super) type Slots = Vec<Slot>;

/// The values of the slots of one parameter, in their order.
pub(super) type State<B> = Vec<Held<B>>;

/// Where the values of a slot lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Place {
    /// On the device of the parameter, in f32.
    Device,
    /// In host memory, in f32.
    HostFloats,
    /// In host memory, in bytes.
    HostBytes,
}

/// The values of a slot; a checkpoint that is being written may share them.
#[derive(Debug, Clone)]
pub(super) enum Held<B: Kernels> {
    Tensor(FloatTensor<B>),
    Floats(Arc<Vec<f32>>),
    Bytes(Arc<Vec<u8>>),
}

impl Slot {
    /// A tensor on the device of the parameter.
    pub fn on_device(name: &'static str, shape: &[usize]) -> Self {
        Self { name, shape: shape.to_vec(), place: Place::Device }
    }

    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Its name in files, for the parameter `key`.
    pub fn key(&self, key: &str) -> String {
        format!("{key}.{}", self.name)
    }

    pub fn zeros<B: Kernels>(&self, device: &B::Device) -> Held<B> {
        match self.place {
            Place::Device => {
                Held::Tensor(B::float_zeros(self.shape.clone().into(), device, DType::F32.into()))
            }
            Place::HostFloats => Held::Floats(Arc::new(vec![0.0; self.elements()])),
            Place::HostBytes => Held::Bytes(Arc::new(vec![0; self.elements()])),
        }
    }

    /// Reads what [`Held::add_to`] wrote for the parameter `key`.
    pub fn read<B: Kernels>(
        &self,
        file: &TensorFile,
        key: &str,
        device: &B::Device,
    ) -> Result<Held<B>, ModelError> {
        let name = self.key(key);
        let held = match self.place {
            Place::Device => {
                let values = TensorData::new(file.f32_of_shape(&name, &self.shape)?, self.shape.clone());
                Held::Tensor(B::float_from_data(values.convert::<B::FloatElem>(), device))
            }
            Place::HostFloats => Held::Floats(Arc::new(file.f32_of_shape(&name, &self.shape)?)),
            Place::HostBytes => Held::Bytes(Arc::new(file.u8_of_shape(&name, &self.shape)?)),
        };
        file.release(&name);
        Ok(held)
    }
}

impl<B: Kernels> Held<B> {
    /// Adds the values to `file` as `name`; they leave the device when their turn comes.
    pub fn add_to(&self, file: &mut TensorFileWriter<'static>, name: String, slot: &Slot) {
        match self.clone() {
            Self::Tensor(tensor) => {
                debug_assert_eq!(shape_of::<B>(&tensor), slot.shape, "{name}");
                file.add_f32(name, &slot.shape, move || Cow::Owned(to_host(flat::<B>(tensor))));
            }
            Self::Floats(values) => {
                file.add_f32(name, &slot.shape, move || Cow::Owned(Arc::unwrap_or_clone(values)));
            }
            Self::Bytes(values) => {
                file.add_u8(name, &slot.shape, move || Cow::Owned(Arc::unwrap_or_clone(values)));
            }
        }
    }

    /// The state of an optimizer that keeps this tensor alone, or beside others.
    pub fn of<const D: usize>(tensor: Tensor<B, D>) -> Self {
        Self::Tensor(tensor.into_primitive().tensor())
    }
}

/// The values of `N` slots that are all on the device.
pub(super) fn tensors<B: Kernels, const N: usize>(state: State<B>) -> [FloatTensor<B>; N] {
    let tensors: Vec<_> = state
        .into_iter()
        .map(|held| match held {
            Held::Tensor(tensor) => tensor,
            Held::Floats(_) | Held::Bytes(_) => unreachable!("the rule keeps its state on the device"),
        })
        .collect();
    tensors.try_into().unwrap_or_else(|held: Vec<_>| panic!("{} values in {N} slots", held.len()))
}

/// As [`tensors`], wrapped for use.
pub(super) fn wrapped<B: Kernels, const N: usize, const D: usize>(state: State<B>) -> [Tensor<B, D>; N] {
    tensors::<B, N>(state).map(|tensor| Tensor::from_primitive(TensorPrimitive::Float(tensor)))
}
