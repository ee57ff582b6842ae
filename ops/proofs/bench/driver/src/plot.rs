//! The growth as a picture: each cost relative to its first point, beside the logarithm that it must not outgrow.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::{coord::Shift, prelude::*};

use crate::{
    figure::{Figure, as_f64, thousands},
    growth::{Axis, Growth, Line, WATCHED, logarithm},
};

const SIZE: (u32, u32) = (1_040, 460);
const FONT: &str = "sans-serif";
const BOUND: RGBColor = RGBColor(120, 120, 120);

/// Writes the picture as SVG.
pub(crate) fn draw(growth: &Growth, path: &Path) -> Result<()> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    let drawn = (|| {
        root.fill(&WHITE)?;
        for (area, (axis, line)) in root.split_evenly((1, growth.len())).iter().zip(growth) {
            panel(area, *axis, line)?;
        }
        root.present()
    })();
    drawn.map_err(|error| anyhow!("{} was not drawn: {error}", path.display()))
}

type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn panel<'a>(area: &DrawingArea<SVGBackend<'a>, Shift>, axis: Axis, line: &Line) -> Drawn<'a> {
    let (Some(&least), Some(&most)) = (line.keys().next(), line.keys().next_back()) else { return Ok(()) };
    let bound = |x: f64| (1.0 + x.log10()) / logarithm(least);
    let curves: Vec<(Figure, Vec<(f64, f64)>)> =
        WATCHED.into_iter().map(|figure| (figure, relative(figure, line))).collect();
    let top = curves
        .iter()
        .flat_map(|(_, points)| points.iter().map(|point| point.1))
        .fold(bound(as_f64(most)), f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(format!("a job's cost by {}", axis.title()), (FONT, 17))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(44)
        .build_cartesian_2d((as_f64(least)..as_f64(most)).log_scale(), 0.0..top * 1.1)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_desc(axis.title())
        .y_desc("relative to the first point")
        .x_label_formatter(&|x| thousands(*x))
        .draw()?;
    let steps =
        (0..=100).map(|step| as_f64(least) * (as_f64(most) / as_f64(least)).powf(f64::from(step) / 100.0));
    chart
        .draw_series(DashedLineSeries::new(steps.map(|x| (x, bound(x))), 6, 4, BOUND.stroke_width(2)))?
        .label("the logarithm")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], BOUND.stroke_width(2)));
    for (index, (figure, points)) in curves.into_iter().enumerate() {
        let color = Palette99::pick(index).to_rgba();
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)).point_size(3))?
            .label(figure.title())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .label_font((FONT, 12))
        .draw()?;
    Ok(())
}

/// The figure's cost at each point, as a multiple of the first.
fn relative(figure: Figure, line: &Line) -> Vec<(f64, f64)> {
    let costs =
        line.iter().filter_map(|(&x, figures)| Some((as_f64(x), figure.cost(figures.get(&figure)?.median))));
    let costs: Vec<(f64, f64)> = costs.collect();
    let first = costs.first().map_or(1.0, |point| point.1);
    costs.into_iter().map(|(x, cost)| (x, cost / first)).collect()
}
