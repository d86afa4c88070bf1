//! Plots of docs/performance.md: lines over logarithmic axes.

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use std::path::Path;

/// A line: its name, and its points.
pub type Line = (String, Vec<(f64, f64)>);

/// In their order, the lines' colours; all of them can be told apart.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x00, 0x00, 0x00),
    RGBColor(0x8a, 0x8a, 0x8a),
    RGBColor(0xe6, 0x7e, 0x00),
    RGBColor(0xb0, 0x40, 0xc0),
    RGBColor(0x15, 0x65, 0xc0),
    RGBColor(0x2e, 0x9e, 0x40),
];

/// Writes a plot.
///
/// # Errors
/// When it cannot be drawn or written.
pub fn plot(path: &Path, title: &str, across: (&str, &[f64]), up: &str, lines: &[Line]) -> Result<()> {
    draw(path, title, across, up, lines).map_err(|error| anyhow!("cannot draw {}: {error}", path.display()))
}

fn draw(
    path: &Path,
    title: &str,
    (across, ticks): (&str, &[f64]),
    up: &str,
    lines: &[Line],
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || lines.iter().flat_map(|(_, points)| points.iter().copied());
    let ends = |of: fn((f64, f64)) -> f64| {
        points().map(of).fold((f64::INFINITY, 0.0_f64), |(low, high), at| (low.min(at), high.max(at)))
    };
    let (left, right) = ends(|point| point.0);
    let (low, high) = ends(|point| point.1);
    // Whole decades, so that the axis has labels at both ends.
    let decades = 10_f64.powf(low.log10().floor())..10_f64.powf(high.log10().ceil());
    let root = SVGBackend::new(path, (800, 480)).into_drawing_area();
    root.fill(&WHITE)?;
    let (area, legend) = root.split_horizontally(600);
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(48)
        .y_label_area_size(72)
        .build_cartesian_2d((left..right).log_scale().with_key_points(ticks.to_vec()), decades.log_scale())?;
    chart
        .configure_mesh()
        .x_desc(across)
        .y_desc(up)
        .label_style(("sans-serif", 14))
        .axis_desc_style(("sans-serif", 15))
        .x_label_formatter(&|at| super::table::number(*at))
        .y_label_formatter(&|at| super::table::number(*at))
        .light_line_style(RGBColor(0xee, 0xee, 0xee))
        .draw()?;
    for ((number, colour), (name, points)) in (0..).zip(COLOURS.iter().cycle()).zip(lines) {
        chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
        // Of lines that cover each other the larger circles show below the smaller ones.
        let size = 8 - number;
        chart.draw_series(points.iter().map(|point| Circle::new(*point, size, colour.filled())))?;
        let at = 60 + 26 * number;
        legend.draw(&PathElement::new(vec![(4, at), (28, at)], colour.stroke_width(2)))?;
        legend.draw(&Circle::new((16, at), size, colour.filled()))?;
        legend.draw(&Text::new(name.clone(), (36, at - 7), ("sans-serif", 14)))?;
    }
    root.present()?;
    Ok(())
}
