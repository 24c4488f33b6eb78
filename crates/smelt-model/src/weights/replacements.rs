//! Values that take the place of those in files while a model is quantized.

use std::collections::BTreeMap;

use smelt_backend::kernels::QuantizedBytes;

/// What somebody made of parameters of a model; the others are as files have them.
#[derive(Debug, Clone, Default)]
pub struct Replacements {
    /// Matrices by the paths of their modules, in the formats of the plan.
    pub packed: BTreeMap<String, QuantizedBytes>,
    /// Values of parameters that are not packed, by their paths, in the orientation of the model.
    pub dense: BTreeMap<String, Vec<f32>>,
}
