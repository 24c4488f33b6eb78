//! What rounding a module cost.

use serde::Serialize;
use smelt_backend::kernels::QuantizationFormat;

/// One module of a quantized model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModuleReport {
    /// Its path in the model, as rules name it.
    pub module: String,
    /// Bits of a code.
    pub bits: u32,
    /// Values that share a scale.
    pub group_size: usize,
    /// Values.
    pub values: usize,
    /// Codes, scales and biases.
    pub bytes: usize,
    /// Root mean square of the change of a weight, over that of the weights.
    pub weight_error: f64,
    /// The same of what it computes on the text. `None` where nothing entered it: a table, or an expert that no token
    /// chose.
    pub output_error: Option<f64>,
    /// What that would be if each weight were rounded to the nearest value.
    pub nearest_output_error: Option<f64>,
}

impl ModuleReport {
    pub(super) fn new(
        module: &str,
        format: QuantizationFormat,
        [rows, columns]: [usize; 2],
        scale_bytes: usize,
        weight_error: f64,
    ) -> Self {
        let groups = rows * columns / format.group_size();
        Self {
            module: module.to_owned(),
            bits: format.bits(),
            group_size: format.group_size(),
            values: rows * columns,
            bytes: groups * (format.group_bytes() + 2 * scale_bytes),
            weight_error,
            output_error: None,
            nearest_output_error: None,
        }
    }
}
