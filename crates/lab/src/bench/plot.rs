//! Latency over load as a picture: one SVG file, throughput to the right, latency up, both by powers of ten.
//!
//! Drawn with plotters: axes by powers of ten, their labels and a legend are a library's work. Only its SVG back
//! end is built, which needs no fonts and no image formats.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use plotters::prelude::*;

use super::report::Report;

/// Width and height of the picture, in pixels.
const SIZE: (u32, u32) = (900, 560);
/// The width of the legend on the right, in pixels.
const LEGEND: u32 = 190;
/// Colours that readers with red-green blindness can tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(90, 90, 90),
];

/// Runs that differ only in the requests in flight form one curve, from few to many.
type Curves<'a> = BTreeMap<(u16, u32, u32), Vec<&'a Report>>;

/// Draws all runs: a curve for each size of group and value, p50 solid and p99 dashed.
///
/// # Errors
/// When there is nothing to draw, or the file cannot be written.
pub fn draw(reports: &[Report], path: &Path) -> Result<()> {
    let mut curves = Curves::new();
    for report in reports.iter().filter(|report| report.counts.ok > 0 && report.cell.rate.is_none()) {
        let cell = &report.cell;
        curves.entry((cell.nodes, cell.size, cell.round)).or_default().push(report);
    }
    ensure!(!curves.is_empty(), "nothing was measured that could be drawn");
    curves.values_mut().for_each(|curve| curve.sort_by_key(|report| report.cell.outstanding));
    let mut text = String::new();
    render(&curves, &mut text).map_err(|error| anyhow!("cannot draw the plot: {error}"))?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn render(curves: &Curves<'_>, text: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (plane, legend) = root.split_horizontally(SIZE.0 - LEGEND);
    let all = || curves.values().flatten();
    let rates = around(all().map(|report| report.counts.per_second));
    let times = around(all().flat_map(|r| [r.counts.p50_us as f64, r.counts.p99_us as f64]));
    let mut chart = ChartBuilder::on(&plane)
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(rates.log_scale(), times.log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(222, 222, 222))
        .axis_desc_style(("sans-serif", 15))
        .label_style(("sans-serif", 13))
        .x_desc("answers per second")
        .y_desc("latency")
        .x_label_formatter(&|rate| short(*rate))
        .y_label_formatter(&|us| time(*us))
        .draw()?;
    for (curve, colour) in curves.values().zip(COLOURS.iter().cycle()) {
        let p50: Vec<_> = curve.iter().map(|r| (r.counts.per_second, r.counts.p50_us as f64)).collect();
        let p99: Vec<_> = curve.iter().map(|r| (r.counts.per_second, r.counts.p99_us as f64)).collect();
        chart.draw_series(LineSeries::new(p50.clone(), colour.stroke_width(2)))?;
        chart.draw_series(DashedLineSeries::new(p99.clone(), 5, 4, colour.stroke_width(1)))?;
        chart.draw_series(p99.iter().map(|point| Circle::new(*point, 2, colour.filled())))?;
        chart.draw_series(p50.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
        chart.draw_series(curve.iter().zip(&p50).map(|(report, point)| {
            let label =
                Text::new(report.cell.outstanding.to_string(), (6, 4), ("sans-serif", 12).into_font());
            EmptyElement::at(*point) + label
        }))?;
    }
    explain(&legend, curves)?;
    root.present()?;
    Ok(())
}

/// The legend: the meaning of each colour, and the two kinds of lines.
fn explain<B: DrawingBackend>(
    area: &DrawingArea<B, plotters::coord::Shift>,
    curves: &Curves<'_>,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    const ROW: i32 = 22;
    let style = ("sans-serif", 14).into_font();
    let mut y = 24;
    for ((nodes, size, round), colour) in curves.keys().zip(COLOURS.iter().cycle()) {
        let of = if *nodes == 0 { String::new() } else { format!(", {nodes} nodes") };
        let again = if *round > 1 { format!(", round {round}") } else { String::new() };
        area.draw(&PathElement::new([(0, y), (24, y)], colour.stroke_width(2)))?;
        area.draw(&Text::new(format!("{size} B{of}{again}"), (32, y - 7), style.clone()))?;
        y += ROW;
    }
    for note in ["full: p50", "dashed: p99", "numbers: in flight"] {
        area.draw(&Text::new(note, (0, y), style.clone().color(&RGBColor(90, 90, 90))))?;
        y += ROW;
    }
    Ok(())
}

/// The range from the power of ten below the lowest to the one above the highest.
fn around(numbers: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (low, high) = numbers.fold((f64::MAX, f64::MIN), |(low, high), n| (low.min(n), high.max(n)));
    10f64.powf(low.max(1.0).log10().floor())..10f64.powf((high.max(1.0) * 1.01).log10().ceil())
}

fn short(number: f64) -> String {
    match number {
        n if n >= 1e6 => format!("{} M", n / 1e6),
        n if n >= 1e3 => format!("{} k", n / 1e3),
        n => n.to_string(),
    }
}

fn time(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{} s", us / 1e6),
        us if us >= 1e3 => format!("{} ms", us / 1e3),
        us => format!("{us} µs"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::RunConfig;
    use super::super::load::{Counts, Summary};
    use super::super::report::Used;
    use super::*;

    #[test]
    fn every_curve_and_every_load_stands_in_the_picture() {
        let report = |nodes, size, outstanding: u32| {
            let cell = RunConfig {
                nodes,
                size,
                outstanding,
                clients: 1,
                reads: None,
                fill: 0,
                rate: None,
                round: 1,
            };
            let counts = Counts {
                ok: 1_000,
                per_second: 900.0 * f64::from(outstanding),
                p50_us: 700,
                p99_us: 3_000,
                ..Counts::default()
            };
            Report::new(cell, &Summary { counts, ..Summary::default() }, &Used::default(), None)
        };
        let reports = [report(3, 16, 1), report(3, 16, 64), report(5, 256, 777)];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plot.svg");
        draw(&reports, &path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        for part in
            ["<svg", "16 B, 3 nodes", "256 B, 5 nodes", "777", "answers per second", "100 µs", "10 ms"]
        {
            assert!(text.contains(part), "no {part} in\n{text}");
        }
        assert!(draw(&[], &path).is_err());
    }
}
