//! The dynamic 8-bit code of Dettmers (2015, arXiv:1511.04561), with the values of bitsandbytes.
//!
//! Seven decades below 1, each with twice as many values as the one below it: small numbers keep their
//! magnitude, large ones their digits.

/// Decades of the code.
const DECADES: u32 = 7;

/// 256 numbers from -1 or 0 to 1, in order.
pub(super) struct DynamicCode {
    values: Vec<f32>,
    /// Between neighbours; what lies above a midpoint belongs to the upper one.
    midpoints: Vec<f32>,
    /// Smallest code of a number above zero.
    least_positive: u8,
}

impl DynamicCode {
    /// For numbers of either sign.
    pub fn signed() -> Self {
        Self::new(true)
    }

    /// For numbers that are not negative. One above zero never becomes zero: a second moment of zero would
    /// leave epsilon alone to divide by.
    pub fn unsigned() -> Self {
        Self::new(false)
    }

    fn new(signed: bool) -> Self {
        let mut values = vec![0.0, 1.0];
        for decade in 0..DECADES {
            let count = if signed { 1 << decade } else { 2 << decade };
            let scale = 10f64.powi(decade as i32 - (DECADES as i32 - 1));
            for index in 0..count {
                let middle = 0.1 + 0.9 * (f64::from(index) + 0.5) / f64::from(count);
                let value = (scale * middle) as f32;
                values.push(value);
                if signed {
                    values.push(-value);
                }
            }
        }
        values.sort_by(f32::total_cmp);
        assert_eq!(values.len(), 256, "a byte has a value for each code");
        let midpoints = values.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect();
        let least_positive = if signed { 0 } else { 1 };
        Self { values, midpoints, least_positive }
    }

    /// What `codes` stand for.
    pub fn unpack(&self, codes: &[u8], absmax: f32, values: &mut [f32]) {
        for (value, code) in values.iter_mut().zip(codes) {
            *value = self.values[usize::from(*code)] * absmax;
        }
    }

    /// The nearest codes to `values`, and the largest magnitude, which they are shares of.
    pub fn pack(&self, values: &[f32], codes: &mut [u8]) -> f32 {
        let absmax = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        let unit = if absmax > 0.0 { absmax } else { 1.0 };
        for (code, value) in codes.iter_mut().zip(values) {
            let nearest = self.nearest(value / unit);
            *code = if *value > 0.0 { nearest.max(self.least_positive) } else { nearest };
        }
        absmax
    }

    fn nearest(&self, share: f32) -> u8 {
        // There are 255 midpoints, so that the number of those below fits a byte.
        self.midpoints.partition_point(|midpoint| *midpoint < share) as u8
    }
}

#[cfg(test)]
mod tests {
    use smelt_testkit::Golden;

    use super::*;

    #[test]
    fn the_values_are_those_of_bitsandbytes() {
        let golden = Golden::open("optimizers");
        for (name, code) in
            [("code.signed", DynamicCode::signed()), ("code.unsigned", DynamicCode::unsigned())]
        {
            for (found, expected) in code.values.iter().zip(golden.tensor(name).floats()) {
                assert!((found - expected).abs() <= 1e-6 * expected.abs(), "{name}: {found}, not {expected}");
            }
        }
    }

    #[test]
    fn packing_takes_the_nearest_value() {
        let code = DynamicCode::signed();
        let values: Vec<f32> = (0..256).map(|index| ((index * 37) % 256) as f32 / 100.0 - 1.2).collect();
        let mut codes = vec![0; values.len()];
        let absmax = code.pack(&values, &mut codes);
        for (value, found) in values.iter().zip(&codes) {
            let distance = |code_value: &f32| (code_value * absmax - value).abs();
            let nearest = code.values.iter().map(distance).fold(f32::INFINITY, f32::min);
            assert!(distance(&code.values[usize::from(*found)]) <= nearest * 1.001);
        }
    }

    #[test]
    fn zeros_stay_zeros_and_small_second_moments_do_not_vanish() {
        let code = DynamicCode::unsigned();
        let (mut codes, mut values) = ([0; 3], [0.0; 3]);
        let absmax = code.pack(&[0.0, 1e-20, 1.0], &mut codes);
        code.unpack(&codes, absmax, &mut values);
        assert_eq!((values[0], values[2]), (0.0, 1.0));
        assert!(values[1] > 0.0);
        let absmax = code.pack(&[0.0; 3], &mut codes);
        code.unpack(&codes, absmax, &mut values);
        assert_eq!(values, [0.0; 3]);
    }
}
