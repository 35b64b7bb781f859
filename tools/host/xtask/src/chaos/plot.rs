//! The chart of a campaign: how many gaps are how long, for each service.

use anyhow::Context;
use plotters::prelude::{
    BLACK, ChartBuilder, Color, IntoDrawingArea, IntoLogRange, PathElement, RGBColor, SVGBackend,
    SeriesLabelPosition, WHITE,
};

use super::figures::Figures;

const SIZE: (u32, u32) = (900, 460);
const MARGIN: u32 = 12;
const FONT: &str = "sans-serif";
/// Colours of the services; they are told apart on light and dark screens.
const COLORS: [RGBColor; 10] = [
    RGBColor(46, 125, 50),
    RGBColor(239, 138, 30),
    RGBColor(25, 118, 210),
    RGBColor(198, 40, 40),
    RGBColor(106, 27, 154),
    RGBColor(0, 151, 167),
    RGBColor(121, 85, 72),
    RGBColor(84, 110, 122),
    RGBColor(194, 24, 91),
    RGBColor(130, 119, 23),
];

/// Draws, for each service, which part of the gaps is not longer than a time.
pub(crate) fn svg(figures: &Figures) -> anyhow::Result<String> {
    let rows: Vec<_> = figures
        .services
        .iter()
        .map(|(name, service)| (name, service.main_gaps()))
        .filter(|(_, gaps)| gaps.len() > 0)
        .collect();
    let ms = |ns: u64| (ns as f64 / 1e6).max(0.001);
    let all = || rows.iter();
    let shortest = all()
        .map(|(_, gaps)| ms(gaps.per_mille(0)))
        .min_by(f64::total_cmp);
    let longest = all()
        .map(|(_, gaps)| ms(gaps.per_mille(1000)))
        .max_by(f64::total_cmp);
    let (shortest, longest) = shortest.zip(longest).context("there are no gaps to draw")?;
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let times = (shortest * 0.8..longest * 1.25).log_scale();
        let mut chart = ChartBuilder::on(&area)
            .caption(
                "From a kill to the next request served: part of all kills, by ms",
                (FONT, 18),
            )
            .margin(MARGIN)
            .x_label_area_size(28)
            .y_label_area_size(48)
            .build_cartesian_2d(times, 0.0..100.0)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE.mix(0.0))
            .x_label_formatter(&|ms| format!("{ms}"))
            .y_label_formatter(&|percent| format!("{percent:.0} %"))
            .label_style((FONT, 13))
            .draw()?;
        for ((name, gaps), color) in rows.iter().zip(COLORS.iter().cycle()) {
            let at = |percent: usize| (ms(gaps.per_mille(percent * 10)), percent as f64);
            let points: Vec<_> = (0..=100).map(at).collect();
            chart
                .draw_series([PathElement::new(points, color.stroke_width(2))])?
                .label(name.as_str())
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 16, y)], color.stroke_width(3))
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .label_font((FONT, 13))
            .draw()?;
        area.present()?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::svg;
    use crate::chaos::figures::tests::{figures, printed};

    #[test]
    fn the_chart_names_each_service() {
        let svg = svg(&figures(&printed())).unwrap();
        assert!(svg.contains("vfs") && svg.contains("log"), "{svg}");
    }

    #[test]
    fn without_gaps_there_is_no_chart() {
        let error = svg(&figures("")).unwrap_err().to_string();
        assert!(error.contains("no gaps"), "{error}");
    }
}
