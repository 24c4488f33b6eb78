//! Errors of modules as bars, as SVG on white paper.

use std::error::Error;

use plotters::prelude::*;
use smelt_convert::recipes::ModuleReport;

use crate::commands::report::COLORS;

const WIDTH_PIXELS: u32 = 900;
const ROW_PIXELS: u32 = 16;
const NAME_PIXELS: i32 = 300;
const MARGIN_PIXELS: i32 = 40;

/// A bar for each module: the error of its outputs, or of its weights where it has none.
pub fn draw(modules: &[ModuleReport]) -> String {
    let mut picture = String::new();
    draw_into(modules, &mut picture).expect("a picture in memory can be drawn");
    picture
}

fn draw_into(modules: &[ModuleReport], picture: &mut String) -> Result<(), Box<dyn Error>> {
    let height = ROW_PIXELS * modules.len() as u32 + 2 * MARGIN_PIXELS as u32;
    let area = SVGBackend::with_string(picture, (WIDTH_PIXELS, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let error = |module: &ModuleReport| module.output_error.unwrap_or(module.weight_error);
    let nearest = |module: &ModuleReport| module.nearest_output_error.unwrap_or(module.weight_error);
    let most = modules.iter().map(|module| nearest(module).max(error(module))).fold(1e-9, f64::max);
    let width = f64::from(WIDTH_PIXELS) - f64::from(NAME_PIXELS) - 100.0;
    let pixels = |value: f64| NAME_PIXELS + (value / most * width) as i32;
    let [color, pale] = [COLORS[0], COLORS[1]].map(|(red, green, blue)| RGBColor(red, green, blue));
    let style = |size: i32| ("sans-serif", size).into_font().color(&BLACK);
    area.draw(&Text::new("error of outputs, as a share of them", (NAME_PIXELS, 8), style(14)))?;
    let legend = [(color, "as it was rounded"), (pale, "each to the nearest value")];
    for (at, (color, text)) in legend.into_iter().enumerate() {
        let x = NAME_PIXELS + 260 + 150 * at as i32;
        area.draw(&Rectangle::new([(x, 10), (x + 12, 20)], color.filled()))?;
        area.draw(&Text::new(text, (x + 16, 9), style(12)))?;
    }
    for (row, module) in modules.iter().enumerate() {
        let top = MARGIN_PIXELS + row as i32 * ROW_PIXELS as i32;
        area.draw(&Text::new(format!("{} ({} bits)", module.module, module.bits), (8, top + 1), style(11)))?;
        let bar = |value: f64, from: i32, to: i32| [(NAME_PIXELS, top + from), (pixels(value), top + to)];
        area.draw(&Rectangle::new(bar(nearest(module), 1, 13), pale.mix(0.45).filled()))?;
        area.draw(&Rectangle::new(bar(error(module), 3, 11), color.filled()))?;
        let end = pixels(nearest(module).max(error(module))) + 6;
        area.draw(&Text::new(format!("{:.2} %", 100.0 * error(module)), (end, top + 1), style(11)))?;
    }
    area.present()?;
    Ok(())
}
