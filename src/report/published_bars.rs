//! The chart of numbers that others published: bars without intervals, for none were given.

use super::axis::Axis;
use super::heading::Heading;
use super::svg::{Anchor, Canvas, Stroke, Type};
use super::{svg, text};

const LEFT: f64 = 62.0;
const MARGIN: f64 = 16.0;
const NAME_SIZE: f64 = 12.0;
const SMALL_SIZE: f64 = 11.0;
const LINE: f64 = 15.0;
const PLOT_HEIGHT: f64 = 180.0;
const HEADROOM: f64 = 26.0;
const MIN_PLOT_WIDTH: f64 = 380.0;
const SLOT_WIDTH: (f64, f64) = (92.0, 136.0);
const GOOD_PLOT_WIDTH: f64 = 600.0;
const MAX_BAR_WIDTH: f64 = 56.0;
const MAX_NAME_LINES: usize = 5;
const NAME_GAP: f64 = 12.0;

/// A number that was published for a method.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishedBar {
    /// The method.
    pub name: String,
    /// Accuracy in percent.
    pub percent: f64,
    /// The model it was measured with.
    pub model: String,
}

/// Returns the chart of published accuracies as an SVG document, in the colour of the marks that
/// published numbers have in [`super::comparison_bars`].
pub fn published_bars(title: &str, subtitle: &str, bars: &[PublishedBar]) -> String {
    let num = bars.len().max(1) as f64;
    let widest = |size: f64, of: fn(&PublishedBar) -> &str| {
        bars.iter().map(|bar| text::widest_part(of(bar), size)).fold(0.0, f64::max)
    };
    let widest = widest(NAME_SIZE, |bar| &bar.name).max(widest(SMALL_SIZE, |bar| &bar.model));
    let slot = (GOOD_PLOT_WIDTH / num).max(widest + NAME_GAP).clamp(SLOT_WIDTH.0, SLOT_WIDTH.1);
    let plot_width = (slot * num).max(MIN_PLOT_WIDTH);
    let slot = plot_width / num;
    let width = LEFT + plot_width + MARGIN;
    let wrapped = |size: f64, of: fn(&PublishedBar) -> &str| -> Vec<Vec<String>> {
        bars.iter().map(|b| text::wrap(of(b), size, slot - NAME_GAP, MAX_NAME_LINES)).collect()
    };
    let names = wrapped(NAME_SIZE, |bar| &bar.name);
    let models = wrapped(SMALL_SIZE, |bar| &bar.model);
    let most = |all: &[Vec<String>]| all.iter().map(Vec::len).max().unwrap_or(0) as f64;
    let heading = Heading::new(title, subtitle, LEFT, width - LEFT - MARGIN);
    let top = heading.end() + HEADROOM;
    let bottom = top + PLOT_HEIGHT;
    let names_end = bottom + 8.0 + NAME_SIZE * 0.4 + LINE * most(&names);
    let height = names_end + LINE * most(&models) + 10.0;

    let told: Vec<String> = bars
        .iter()
        .map(|bar| format!("{} {:.1}% ({})", bar.name, bar.percent, bar.model))
        .collect();
    let mut canvas = Canvas::new(width, height, title, &told.join("; "));
    heading.draw(&mut canvas);
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
    let style = Type::new(NAME_SIZE, svg::SOFT);
    canvas.text_upwards((20.0, (top + bottom) / 2.0), style, "accuracy (%)");
    let bar_width = (slot * 0.5).min(MAX_BAR_WIDTH);
    for (index, bar) in bars.iter().enumerate() {
        let x = LEFT + slot * (index as f64 + 0.5);
        let y = axis.at(bar.percent.clamp(0.0, 100.0));
        canvas.bar((x - bar_width / 2.0, y), (bar_width, bottom - y), svg::VERMILION, &told[index]);
        let style = Type::new(14.0, svg::INK).bold().ground();
        canvas.text((x, y - 6.0), Anchor::Middle, style, &text::number(bar.percent, 1));
        let mut y = bottom + 8.0 + NAME_SIZE * 0.8;
        for line in &names[index] {
            canvas.text((x, y), Anchor::Middle, Type::new(NAME_SIZE, svg::INK), line);
            y += LINE;
        }
        let mut y = names_end + SMALL_SIZE * 0.8;
        for line in &models[index] {
            canvas.text((x, y), Anchor::Middle, Type::new(SMALL_SIZE, svg::SOFT), line);
            y += LINE;
        }
    }
    canvas.line((LEFT, bottom), (end, bottom), Stroke::new(svg::AXIS, 1.0));
    canvas.finish()
}
