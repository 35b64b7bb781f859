//! Charts of the results, as SVG for the documentation.

use std::path::Path;

use anyhow::Context;
use plotters::prelude::{
    BLACK, ChartBuilder, Color, EmptyElement, IntoDrawingArea, IntoFont, IntoSegmentedCoord,
    RGBColor, Rectangle, SVGBackend, SegmentValue, Text, WHITE,
};

use super::compare::{linux_metrics, sel4};
use super::results::{Mode, Results, figures};

/// A chart: its file, its title, and the metrics of Skink in it.
struct Chart {
    file: &'static str,
    title: &'static str,
    metrics: &'static [&'static str],
}

const CHARTS: &[Chart] = &[
    Chart {
        file: "bench-messages.svg",
        title: "There and back between two processes: instructions",
        metrics: &[
            "ipc.roundtrip.cross_space.8B",
            "ipc.roundtrip.cross_space.64B",
            "ipc.roundtrip.cross_space.4KiB",
            "ipc.typed.32B",
            "ipc.notify_roundtrip",
        ],
    },
    Chart {
        file: "bench-calls.svg",
        title: "Calls and switches: instructions",
        metrics: &["ipc.syscall_null", "time.page", "sched.switch"],
    },
    Chart {
        file: "bench-memory.svg",
        title: "Memory: instructions",
        metrics: &[
            "mem.fault_null",
            "mem.fault_anon_4K",
            "mem.map_512_per_page",
        ],
    },
];

const SKINK: RGBColor = RGBColor(46, 125, 50);
const SEL4: RGBColor = RGBColor(84, 110, 122);
const LINUX: RGBColor = RGBColor(239, 138, 30);

/// Width of a chart, and of the names and margins in it, in pixels.
const WIDTH: u32 = 900;
const NAMES_WIDTH: u32 = 300;
const MARGIN: u32 = 12;
/// Height of a bar with the room around it, and of title and axis.
const ROW: u32 = 22;
const REST: u32 = 80;
/// Part of its row that a bar fills, in percent, halved.
const BAR_HALF: u32 = 36;
/// The axis goes beyond the longest bar, for its number.
const ROOM: f64 = 1.12;
const FONT: &str = "sans-serif";

/// A bar; without a system it is the gap between two groups.
#[derive(Debug, PartialEq)]
struct Bar {
    label: String,
    value: f64,
    color: RGBColor,
}

/// Draws all charts into `docs/images`.
pub(crate) fn draw(results: &Results, root: &Path) -> anyhow::Result<()> {
    for chart in CHARTS {
        let bars = bars(results, chart.metrics);
        anyhow::ensure!(
            bars.iter().any(|bar| bar.color == LINUX),
            "there are no results of Linux: run `cargo xtask bench --linux --plot`"
        );
        let file = root.join("docs/images").join(chart.file);
        let svg = svg(chart.title, &bars)?;
        std::fs::write(&file, svg).with_context(|| format!("cannot write {}", file.display()))?;
        println!("{}", file.display());
    }
    Ok(())
}

/// Returns the bars of metrics, in groups: Skink's, then what others do for the same job.
fn bars(results: &Results, metrics: &[&str]) -> Vec<Bar> {
    let mut bars: Vec<Bar> = Vec::new();
    for name in metrics {
        let Some(value) = results.value(Mode::Icount, name) else {
            continue;
        };
        if !bars.is_empty() {
            bars.push(Bar {
                label: String::new(),
                value: 0.0,
                color: WHITE,
            });
        }
        let mut add = |label: String, value, color| {
            bars.push(Bar {
                label,
                value,
                color,
            });
        };
        add(format!("Skink: {name}"), value, SKINK);
        for (what, value) in sel4(name) {
            add(format!("seL4: {what}"), value, SEL4);
        }
        let linux = results.linux.as_ref();
        for name in linux_metrics(name) {
            if let Some(value) = linux.and_then(|linux| linux.value(Mode::Icount, name)) {
                add(format!("Linux: {name}"), value, LINUX);
            }
        }
    }
    bars
}

/// Draws bars from top to bottom.
fn svg(title: &str, bars: &[Bar]) -> anyhow::Result<String> {
    let count = u32::try_from(bars.len()).context("too many bars")?;
    let longest = bars.iter().map(|bar| bar.value).fold(1.0, f64::max);
    // The chart's rows count from below.
    let bar_at = |row: u32| bars.get(count.checked_sub(row + 1)? as usize);
    let mut text = String::new();
    {
        let size = (WIDTH, count * ROW + REST);
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, (FONT, 18))
            .margin(MARGIN)
            .x_label_area_size(24)
            .y_label_area_size(NAMES_WIDTH)
            .build_cartesian_2d(0.0..longest * ROOM, (0..count).into_segmented())?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .light_line_style(WHITE.mix(0.0))
            .y_labels(bars.len())
            .x_labels(6)
            .x_label_formatter(&|value| format!("{value:.0}"))
            .y_label_formatter(&|row| match row {
                SegmentValue::CenterOf(row) => {
                    bar_at(*row).map_or_else(String::new, |bar| bar.label.clone())
                }
                SegmentValue::Exact(_) | SegmentValue::Last => String::new(),
            })
            .label_style((FONT, 13))
            .draw()?;
        for row in 0..count {
            let Some(bar) = bar_at(row).filter(|bar| bar.color != WHITE) else {
                continue;
            };
            let corners = [
                (0.0, SegmentValue::Exact(row)),
                (bar.value, SegmentValue::Exact(row + 1)),
            ];
            let mut rectangle = Rectangle::new(corners, bar.color.filled());
            let gap = ROW * (50 - BAR_HALF) / 100;
            rectangle.set_margin(gap, gap, 0, 0);
            chart.draw_series([rectangle])?;
            let number = Text::new(
                figures(bar.value),
                (6, -6),
                (FONT, 13).into_font().color(&BLACK),
            );
            let at = EmptyElement::at((bar.value, SegmentValue::CenterOf(row)));
            chart.draw_series([at + number])?;
        }
        area.present()?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::{LinuxResults, Metric, RunResults};

    fn run(metrics: &[(&str, f64)]) -> RunResults {
        let metric = |(name, value): &(&str, f64)| Metric {
            name: (*name).to_owned(),
            value: *value,
            median: *value,
            p99: None,
            unit: "instructions",
            samples: 1,
        };
        RunResults {
            mode: Mode::Icount,
            metrics: metrics.iter().map(metric).collect(),
        }
    }

    fn results() -> Results {
        let mut results = Results::new("abc".to_owned());
        results.runs = vec![run(&[("ipc.syscall_null", 50.0), ("sched.switch", 300.0)])];
        results.linux = Some(LinuxResults {
            kernel: "6".to_owned(),
            runs: vec![run(&[("sys_enosys", 228.0), ("ctx_thread_yield", 2041.0)])],
        });
        results
    }

    #[test]
    fn bars_come_in_groups_of_one_job() {
        let bars = bars(&results(), CHARTS[1].metrics);
        let labels: Vec<&str> = bars.iter().map(|bar| bar.label.as_str()).collect();
        let expected = [
            "Skink: ipc.syscall_null",
            "seL4: null system call",
            "Linux: sys_enosys",
            "",
            "Skink: sched.switch",
            "Linux: ctx_thread_yield",
        ];
        assert_eq!(labels, expected);
        assert_eq!(bars[5].value, 2041.0);
    }

    #[test]
    fn a_chart_names_every_bar_and_its_number() {
        let bars = bars(&results(), CHARTS[1].metrics);
        let svg = svg("Calls", &bars).unwrap();
        for bar in bars.iter().filter(|bar| !bar.label.is_empty()) {
            assert!(svg.contains(&bar.label), "{}", bar.label);
            assert!(svg.contains(&figures(bar.value)), "{}", bar.value);
        }
        assert!(svg.contains("#2E7D32") && svg.contains("#EF8A1E"), "{svg}");
    }

    #[test]
    fn there_are_no_charts_without_linux() {
        let mut results = results();
        results.linux = None;
        let folder = Path::new("/nonexistent");
        let error = draw(&results, folder).unwrap_err().to_string();
        assert!(error.contains("--linux"), "{error}");
    }
}
