//! Curves as SVG, to stand in a page: the page's style sheet sets the colours of axes and text.

use std::error::Error;
use std::fmt::Write as _;
use std::ops::Range;

use minijinja::HtmlEscape;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

/// Small, so that the text stays readable where a phone scales it down.
const PIXELS: (u32, u32) = (480, 290);

/// Points of a curve; more are drawn as means of their neighbours.
const MOST_POINTS: usize = 240;

/// Below this, a value has no place on a logarithmic axis; plotters would look for its labels for ever.
const LEAST: f64 = 1e-30;

/// Parts of a curve over which it is smoothed.
const SMOOTHED_PARTS: usize = 40;

/// Colours that can be told apart by everyone, on white and on black (Okabe and Ito 2008).
pub const COLORS: [(u8, u8, u8); 7] = [
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
    (128, 128, 128),
];

/// How the values are spread over the axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Evenly.
    Linear,
    /// By their logarithms, where they span a power of ten; values up to [`LEAST`] are left out.
    Logarithmic,
}

/// How a curve is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stroke {
    /// As it is.
    Plain,
    /// Faintly, under its running mean.
    Smoothed,
    /// Dashed, with its points.
    Dotted,
}

/// One curve.
#[derive(Debug, Clone)]
pub struct Curve {
    /// What it shows, for whoever points at it.
    pub label: String,
    /// Its place in [`COLORS`].
    pub color: usize,
    /// How it is drawn.
    pub stroke: Stroke,
    /// Steps and values, by step.
    pub points: Vec<(f64, f64)>,
}

/// One chart.
#[derive(Debug, Clone)]
pub struct Chart {
    /// What its values are.
    pub title: &'static str,
    /// How they are spread.
    pub scale: Scale,
    /// Writes a value.
    pub format: fn(f64) -> String,
    /// Its curves.
    pub curves: Vec<Curve>,
}

impl Chart {
    /// The chart as an `<svg>` element; `None` if there is nothing to draw.
    pub fn svg(&self) -> Option<String> {
        let drawn = |point: &(f64, f64)| self.scale == Scale::Linear || point.1 > LEAST;
        let points: Vec<Vec<(f64, f64)>> = self
            .curves
            .iter()
            .map(|curve| thinned(&curve.points.iter().copied().filter(drawn).collect::<Vec<_>>()))
            .collect();
        let steps = 0.0..points.iter().flatten().map(|(step, _)| *step).fold(1.0, f64::max);
        let (low, high) = ends(points.iter().flatten().map(|(_, value)| *value))?;
        let mut picture = String::new();
        let area = SVGBackend::with_string(&mut picture, PIXELS).into_drawing_area();
        let titles = if self.scale == Scale::Logarithmic && high / low >= 10.0 {
            self.draw(&area, steps, (low / 1.2..high * 1.2).log_scale(), &points)
        } else {
            // One value alone, or nearly so, still needs an axis with two ends.
            let margin = ((high - low) * 0.05).max(low.abs().max(high.abs()) * 1e-3).max(1e-9);
            self.draw(&area, steps, low - margin..high + margin, &points)
        };
        let titles = titles.expect("a picture in memory can be drawn");
        drop(area);
        let end = picture.rfind("</svg>").expect("the picture is an svg element");
        picture.insert_str(end, &titles);
        Some(picture)
    }

    /// Draws axes and curves; returns what shows values to whoever points at them.
    fn draw<Y>(
        &self,
        area: &DrawingArea<SVGBackend<'_>, Shift>,
        steps: Range<f64>,
        values: Y,
        points: &[Vec<(f64, f64)>],
    ) -> Result<String, Box<dyn Error>>
    where
        Y: AsRangedCoord<Value = f64>,
        Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let mut chart = ChartBuilder::on(area)
            .margin_top(8)
            .margin_right(14)
            .x_label_area_size(24)
            .y_label_area_size(62)
            .build_cartesian_2d(steps, values)?;
        chart
            .configure_mesh()
            .label_style(("sans-serif", 12))
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.15))
            .x_labels(6)
            .y_labels(6)
            .x_label_formatter(&|step| crate::quantity::count(*step as u64))
            .y_label_formatter(&|value| (self.format)(*value))
            .draw()?;
        let mut titles = String::new();
        for (curve, points) in self.curves.iter().zip(points) {
            let (red, green, blue) = COLORS[curve.color % COLORS.len()];
            let color = RGBColor(red, green, blue);
            match curve.stroke {
                Stroke::Plain => {
                    chart.draw_series(LineSeries::new(points.clone(), color.stroke_width(2)))?;
                }
                Stroke::Smoothed => {
                    chart.draw_series(LineSeries::new(points.clone(), color.mix(0.3).stroke_width(1)))?;
                    chart.draw_series(LineSeries::new(smoothed(points), color.stroke_width(2)))?;
                }
                Stroke::Dotted => {
                    let line = color.stroke_width(1);
                    chart.draw_series(DashedLineSeries::new(points.clone(), 4, 3, line))?;
                    let dot = |point: &(f64, f64)| Circle::new(*point, 2, color.filled());
                    chart.draw_series(points.iter().map(dot))?;
                }
            }
            for point in points {
                let (x, y) = chart.backend_coord(point);
                let (label, step, value) = (HtmlEscape(&curve.label), point.0 as u64, (self.format)(point.1));
                write!(titles, "<circle class=\"point\" cx=\"{x}\" cy=\"{y}\" r=\"5\"><title>")?;
                writeln!(titles, "{label}, step {step}: {value}</title></circle>")?;
            }
        }
        area.present()?;
        Ok(titles)
    }
}

/// The least and the greatest of `values`.
fn ends(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |ends, value| match ends {
        None => Some((value, value)),
        Some((low, high)) => Some((value.min(low), value.max(high))),
    })
}

/// At most [`MOST_POINTS`] points, each the mean of its neighbourhood; the last one stays.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let Some((last, rest)) = points.split_last() else { return Vec::new() };
    let size = rest.len().div_ceil(MOST_POINTS).max(1);
    let mean = |part: &[(f64, f64)]| {
        let (steps, values) = part.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (steps / part.len() as f64, values / part.len() as f64)
    };
    rest.chunks(size).map(mean).chain([*last]).collect()
}

/// The running mean over a part of the points, weighted towards the last.
pub fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let keep = 1.0 - 1.0 / points.len().div_ceil(SMOOTHED_PARTS).max(1) as f64;
    let (mut sum, mut weight) = (0.0, 0.0);
    let mean = |(step, value): &(f64, f64)| {
        // Dividing by the weights so far keeps the beginning from being drawn to zero.
        sum = sum * keep + value;
        weight = weight * keep + 1.0;
        (*step, sum / weight)
    };
    points.iter().map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(scale: Scale, points: &[(f64, f64)]) -> Chart {
        let points = points.to_vec();
        let curve = Curve { label: "a<b".to_owned(), color: 9, stroke: Stroke::Smoothed, points };
        Chart { title: "loss", scale, format: |value| format!("{value:.2}"), curves: vec![curve] }
    }

    #[test]
    fn a_curve_shows_its_values_to_whoever_points_at_them() {
        for scale in [Scale::Linear, Scale::Logarithmic] {
            let svg = chart(scale, &[(0.0, 5.0), (10.0, 2.5), (20.0, 1.25)]).svg().unwrap();
            assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{svg}");
            assert!(svg.contains("<title>a&lt;b, step 10: 2.50</title>"), "{svg}");
        }
    }

    #[test]
    fn nothing_is_no_picture_and_odd_values_are_one() {
        assert!(chart(Scale::Linear, &[]).svg().is_none());
        assert!(chart(Scale::Logarithmic, &[(1.0, 0.0), (2.0, -1.0)]).svg().is_none());
        for value in [0.0, 7.0, -1e29, 1e-300, 1e29] {
            let alone = [(u64::MAX as f64, value)];
            assert!(chart(Scale::Linear, &alone).svg().is_some(), "{value}");
            assert!(chart(Scale::Linear, &[(1.0, value), (2.0, 1.0)]).svg().is_some(), "{value}");
        }
        assert!(chart(Scale::Logarithmic, &[(1.0, 1e-29), (2.0, 1e29)]).svg().is_some());
        assert!(chart(Scale::Logarithmic, &[(1.0, f64::MIN_POSITIVE), (2.0, 1.0)]).svg().is_some());
    }

    #[test]
    fn long_curves_are_thinned_and_keep_their_mean_and_end() {
        let points: Vec<(f64, f64)> = (0..100_000).map(|step| (f64::from(step), 3.0)).collect();
        let thinned = thinned(&points);
        assert!(thinned.len() <= MOST_POINTS + 1);
        assert_eq!(thinned.last(), points.last());
        assert!(smoothed(&thinned).iter().all(|(_, value)| (value - 3.0).abs() < 1e-9));
    }
}
