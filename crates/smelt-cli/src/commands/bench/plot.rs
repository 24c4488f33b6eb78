//! Figures over the number of clients, side by side, as SVG on white paper.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::commands::report::COLORS;

const PANEL_PIXELS: (u32, u32) = (340, 280);

/// One chart.
#[derive(Debug)]
pub struct Panel {
    /// What its values are.
    pub title: &'static str,
    /// Its curves.
    pub series: Vec<Series>,
}

/// One curve.
#[derive(Debug)]
pub struct Series {
    /// What it shows.
    pub label: &'static str,
    /// Clients and values, by clients.
    pub points: Vec<(f64, f64)>,
}

/// The panels in one picture.
pub fn draw(panels: &[Panel]) -> String {
    let mut picture = String::new();
    let width = PANEL_PIXELS.0 * panels.len() as u32;
    let area = SVGBackend::with_string(&mut picture, (width, PANEL_PIXELS.1)).into_drawing_area();
    area.fill(&WHITE).expect("a picture in memory can be drawn");
    for (panel, area) in panels.iter().zip(area.split_evenly((1, panels.len()))) {
        draw_panel(panel, &area).expect("a picture in memory can be drawn");
    }
    area.present().expect("a picture in memory can be drawn");
    drop(area);
    picture
}

fn draw_panel(panel: &Panel, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), Box<dyn Error>> {
    let points = || panel.series.iter().flat_map(|series| &series.points);
    let most_clients = points().map(|(clients, _)| *clients).fold(1.0, f64::max);
    let highest = points().map(|(_, value)| *value).fold(0.0, f64::max).max(1e-3);
    let mut chart = ChartBuilder::on(area)
        .caption(panel.title, ("sans-serif", 15))
        .margin(10)
        .x_label_area_size(34)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..most_clients * 1.03, 0.0..highest * 1.08)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .x_desc("clients")
        .x_labels(6)
        .y_labels(6)
        .x_label_formatter(&|clients| format!("{clients:.0}"))
        .y_label_formatter(&|value| {
            if highest < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") }
        })
        .label_style(("sans-serif", 12))
        .draw()?;
    for (series, (red, green, blue)) in panel.series.iter().zip(COLORS) {
        let color = RGBColor(red, green, blue);
        chart
            .draw_series(LineSeries::new(series.points.clone(), color.stroke_width(2)))?
            .label(series.label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
        chart.draw_series(series.points.iter().map(|point| Circle::new(*point, 3, color.filled())))?;
    }
    if panel.series.len() > 1 {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .label_font(("sans-serif", 12))
            .draw()?;
    }
    Ok(())
}
