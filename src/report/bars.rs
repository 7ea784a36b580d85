//! The accuracy chart: one bar per run, its interval as a whisker, chance as a dashed line.

use super::axis::Axis;
use super::svg::{Anchor, Canvas, Stroke, Type};
use super::{svg, text};

const LEFT: f64 = 62.0;
/// Holds the word at the end of the chance line.
const RIGHT: f64 = 62.0;
const TITLE_SIZE: f64 = 16.0;
const SUBTITLE_SIZE: f64 = 12.0;
const NAME_SIZE: f64 = 12.0;
const SMALL_SIZE: f64 = 11.0;
const LINE: f64 = 15.0;
const TITLE_LINE: f64 = 21.0;
const PLOT_HEIGHT: f64 = 240.0;
/// Room above 100 % for the two lines of a bar that reaches it.
const HEADROOM: f64 = 42.0;
const MIN_PLOT_WIDTH: f64 = 360.0;
const SLOT_WIDTH: (f64, f64) = (84.0, 128.0);
/// The width the slots share while they are neither too narrow nor too wide.
const GOOD_PLOT_WIDTH: f64 = 560.0;
const MAX_BAR_WIDTH: f64 = 58.0;
const MAX_NAME_LINES: usize = 5;
/// The least room between two names.
const NAME_GAP: f64 = 12.0;
/// Below this width an interval needs a decimal to say anything.
const NARROW_INTERVAL: f64 = 0.04;

/// One run in the accuracy chart; rates lie between 0 and 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// What stands below the bar.
    pub name: String,
    /// The bar's height.
    pub accuracy: f64,
    /// The lower end of its interval.
    pub low: f64,
    /// The upper end of its interval.
    pub high: f64,
    /// How many examples the accuracy speaks of.
    pub num_examples: usize,
    /// Whether the bar is in focus; with no such bar all look alike.
    pub emphasis: bool,
}

/// What the accuracy chart shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BarChart {
    /// The heading, such as task and model.
    pub title: String,
    /// How many labels the task has, which places the chance line; none leaves it out.
    pub num_labels: Option<usize>,
    /// The bars from left to right.
    pub bars: Vec<Bar>,
}

/// Returns the accuracy chart as an SVG document.
///
/// Names break into lines and the figure grows with the bars, so that no text meets another. The
/// number of examples stands in the subtitle, or below each name where it differs.
pub fn accuracy_bars(chart: &BarChart) -> String {
    let num_bars = chart.bars.len().max(1) as f64;
    let widest =
        chart.bars.iter().map(|bar| text::widest_part(&bar.name, NAME_SIZE)).fold(0.0, f64::max);
    let slot =
        (GOOD_PLOT_WIDTH / num_bars).max(widest + NAME_GAP).clamp(SLOT_WIDTH.0, SLOT_WIDTH.1);
    let plot_width = (slot * num_bars).max(MIN_PLOT_WIDTH);
    let slot = plot_width / num_bars;
    let width = LEFT + plot_width + RIGHT;
    let names: Vec<Vec<String>> = chart
        .bars
        .iter()
        .map(|bar| text::wrap(&bar.name, NAME_SIZE, slot - NAME_GAP, MAX_NAME_LINES))
        .collect();
    let same_n = chart.bars.windows(2).all(|two| two[0].num_examples == two[1].num_examples);

    let text_room = width - LEFT - 16.0;
    let title = text::wrap(&chart.title, TITLE_SIZE * text::BOLD, text_room, 2);
    let subtitle = text::wrap(&subtitle(chart, same_n), SUBTITLE_SIZE, text_room, 2);
    let title_end = 10.0 + TITLE_LINE * title.len() as f64;
    let top = title_end + 4.0 + LINE * subtitle.len() as f64 + HEADROOM;
    let bottom = top + PLOT_HEIGHT;
    let name_lines = names.iter().map(Vec::len).max().unwrap_or(0);
    let count_line = if same_n { 0.0 } else { LINE };
    let height = bottom + 8.0 + NAME_SIZE * 0.4 + LINE * name_lines as f64 + count_line + 10.0;

    let mut canvas = Canvas::new(width, height, &chart.title, &description(chart));
    for (index, line) in title.iter().enumerate() {
        let place = (LEFT, 10.0 + TITLE_LINE * (index as f64 + 0.8));
        canvas.text(place, Anchor::Start, Type::new(TITLE_SIZE, svg::INK).bold(), line);
    }
    for (index, line) in subtitle.iter().enumerate() {
        let place = (LEFT, title_end + 4.0 + LINE * (index as f64 + 0.75));
        canvas.text(place, Anchor::Start, Type::new(SUBTITLE_SIZE, svg::SOFT), line);
    }

    let axis = Axis::new((0.0, 100.0), (bottom, top));
    let end = LEFT + plot_width;
    for (value, label) in axis.ticks(6, true) {
        let y = axis.at(value);
        if value > 0.0 {
            canvas.line((LEFT, y), (end, y), Stroke::new(svg::GRID, 1.0));
        }
        let style = Type::new(SMALL_SIZE, svg::SOFT);
        canvas.text((LEFT - 8.0, y + 4.0), Anchor::End, style, &label);
    }
    let style = Type::new(SUBTITLE_SIZE, svg::SOFT);
    canvas.text_upwards((20.0, (top + bottom) / 2.0), style, "accuracy (%)");

    let focus = chart.bars.iter().any(|bar| bar.emphasis);
    let centre = |index: usize| LEFT + slot * (index as f64 + 0.5);
    for (index, bar) in chart.bars.iter().enumerate() {
        let fill = if bar.emphasis || !focus { svg::BLUE } else { svg::PALE_BLUE };
        let bar_width = (slot * 0.56).min(MAX_BAR_WIDTH);
        let y = axis.at(percent(bar.accuracy));
        let corner = (centre(index) - bar_width / 2.0, y);
        canvas.bar(corner, (bar_width, bottom - y), fill, &describe(bar));
    }
    canvas.line((LEFT, bottom), (end, bottom), Stroke::new(svg::AXIS, 1.0));
    if let Some(num_labels) = chart.num_labels.filter(|&count| count > 0) {
        let y = axis.at(100.0 / num_labels as f64);
        canvas.line((LEFT, y), (end, y), Stroke::new(svg::INK, 1.0).dashed("5 4"));
        let style = Type::new(SMALL_SIZE, svg::SOFT);
        canvas.text((end + 6.0, y + 4.0), Anchor::Start, style, "chance");
    }
    for (index, bar) in chart.bars.iter().enumerate() {
        let x = centre(index);
        whisker(&mut canvas, x, axis.at(percent(bar.low)), axis.at(percent(bar.high)));
        let base = axis.at(percent(bar.high.max(bar.accuracy)));
        let small = Type::new(SMALL_SIZE, svg::SOFT).ground();
        canvas.text((x, base - 7.0), Anchor::Middle, small, &interval(bar));
        let large = Type::new(14.0, svg::INK).bold().ground();
        let value = text::number(percent(bar.accuracy), 1);
        canvas.text((x, base - 21.0), Anchor::Middle, large, &value);
        let mut y = bottom + 8.0 + NAME_SIZE * 0.8;
        for line in &names[index] {
            canvas.text((x, y), Anchor::Middle, Type::new(NAME_SIZE, svg::INK), line);
            y += LINE;
        }
        if !same_n {
            let count = format!("n = {}", text::grouped(bar.num_examples as u64));
            canvas.text((x, y), Anchor::Middle, Type::new(SMALL_SIZE, svg::SOFT), &count);
        }
    }
    canvas.finish()
}

/// Draws an interval, legible on a bar and on the ground.
pub(super) fn whisker(canvas: &mut Canvas, x: f64, low: f64, high: f64) {
    let cap = 5.0;
    let ends = [
        ((x, low), (x, high)),
        ((x - cap, low), (x + cap, low)),
        ((x - cap, high), (x + cap, high)),
    ];
    // The white edge keeps the lower half visible on a dark bar.
    for stroke in [Stroke::new(svg::WHITE, 3.4), Stroke::new(svg::INK, 1.4)] {
        for (from, to) in ends {
            canvas.line(from, to, stroke);
        }
    }
}

pub(super) fn percent(rate: f64) -> f64 {
    if rate.is_finite() { rate.clamp(0.0, 1.0) * 100.0 } else { 0.0 }
}

fn interval(bar: &Bar) -> String {
    let digits = usize::from(bar.high - bar.low < NARROW_INTERVAL);
    let end = |rate| text::number(percent(rate), digits);
    format!("[{}, {}]", end(bar.low), end(bar.high))
}

fn describe(bar: &Bar) -> String {
    let value = text::number(percent(bar.accuracy), 1);
    format!("{}: {value}% {}, n = {}", bar.name, interval(bar), bar.num_examples)
}

fn subtitle(chart: &BarChart, same_n: bool) -> String {
    let whiskers = "whiskers: 95% Wilson intervals";
    match chart.bars.first() {
        Some(bar) if same_n => {
            format!("n = {}; {whiskers}", text::grouped(bar.num_examples as u64))
        }
        _ => format!("n below each name; {whiskers}"),
    }
}

fn description(chart: &BarChart) -> String {
    let bars: Vec<String> = chart.bars.iter().map(describe).collect();
    let chance =
        chart.num_labels.map(|count| format!(" Chance is one in {count}.")).unwrap_or_default();
    format!(
        "Bar chart of accuracy in percent with 95% Wilson intervals. {}.{chance}",
        bars.join("; ")
    )
}
