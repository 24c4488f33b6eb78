//! Scales and biases as products of one row read them, made once: turning them each time took a tenth of the product.

use super::panel::Packed;
use super::scales::Scale;
use crate::memory::set_aside;

/// Outputs that are computed side by side.
pub(super) const OUTPUTS: usize = 16;

/// `[panel][group]`: the scales of as many outputs as a panel has, then their biases. The last panel is filled up.
pub(super) struct Turned<T> {
    numbers: Vec<T>,
    panel: usize,
}

impl<T: Scale> Turned<T> {
    /// Those of `weight`, which need no memory any more if they lie `in_file`.
    pub fn of(weight: Packed<'_, T>, in_file: bool) -> Self {
        let (outer, groups) = (weight.outer(), weight.groups());
        let panel = groups * 2 * OUTPUTS;
        let mut numbers = Vec::with_capacity(outer.div_ceil(OUTPUTS) * panel);
        for first in (0..outer).step_by(OUTPUTS) {
            let (_, scales, biases) = weight.rows(first, OUTPUTS.min(outer - first));
            for group in 0..groups {
                for numbers_of in [scales, biases] {
                    let column = numbers_of[group..].iter().step_by(groups).copied();
                    numbers.extend(column.chain(std::iter::repeat(T::zeroed())).take(OUTPUTS));
                }
            }
        }
        if in_file {
            let (_, scales, biases) = weight.rows(0, outer);
            set_aside(scales);
            set_aside(biases);
        }
        Self { numbers, panel }
    }

    /// The numbers of the panel that begins with output `first`.
    pub fn panel(&self, first: usize) -> &[T] {
        &self.numbers[first / OUTPUTS * self.panel..][..self.panel]
    }
}
