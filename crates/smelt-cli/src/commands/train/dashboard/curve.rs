//! A curve that a run of any length adds to.

/// Points kept; neighbours are joined when there are more.
const MOST_POINTS: usize = 1024;

/// Steps and values, the older ones as means.
#[derive(Debug, Clone)]
pub struct Curve {
    points: Vec<(f64, f64)>,
    /// Values that make one point.
    stride: u32,
    /// Sum and number of values since the last point.
    pending: (f64, u32),
}

impl Curve {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { points: Vec::new(), stride: 1, pending: (0.0, 0) }
    }

    /// Adds the value of a step; what is no number cannot be drawn.
    pub fn push(&mut self, step: u64, value: f64) {
        if !value.is_finite() {
            return;
        }
        let (sum, count) = (self.pending.0 + value, self.pending.1 + 1);
        self.pending = (sum, count);
        if count < self.stride {
            return;
        }
        self.points.push((step as f64, sum / f64::from(count)));
        self.pending = (0.0, 0);
        if self.points.len() == MOST_POINTS {
            let join = |pair: &[(f64, f64)]| (pair[1].0, (pair[0].1 + pair[1].1) / 2.0);
            self.points = self.points.chunks_exact(2).map(join).collect();
            self.stride *= 2;
        }
    }

    /// The points by step.
    pub fn points(&self) -> &[(f64, f64)] {
        &self.points
    }
}

/// Least and greatest value of all curves, with a margin.
pub fn value_range(curves: &[&Curve]) -> [f64; 2] {
    let values = curves.iter().flat_map(|curve| curve.points()).map(|(_, value)| *value);
    let range = values
        .fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], value| [low.min(value), high.max(value)]);
    let [low, high] = if range[0] > range[1] { [0.0, 1.0] } else { range };
    let margin = ((high - low) * 0.05).max(high.abs() * 1e-3).max(1e-9);
    [low - margin, high + margin]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_stays_within_its_points() {
        let mut curve = Curve::new();
        for step in 1..=100_000 {
            curve.push(step, if step % 2 == 0 { 3.0 } else { 5.0 });
            curve.push(step, f64::NAN);
        }
        let points = curve.points();
        assert!((MOST_POINTS / 2..MOST_POINTS).contains(&points.len()), "{}", points.len());
        assert!(points.is_sorted() && points.iter().all(|(_, value)| *value == 4.0));
        assert!(points.last().unwrap().0 > 99_000.0);
    }

    #[test]
    fn a_range_has_two_ends() {
        let of = |values: &[f64]| {
            let mut curve = Curve::new();
            values.iter().for_each(|value| curve.push(1, *value));
            value_range(&[&curve])
        };
        for values in [&[][..], &[0.0], &[7.0, 7.0], &[1.0, 2.0]] {
            let [low, high] = of(values);
            assert!(low < high, "{values:?}");
        }
    }
}
