//! What charts of panels over a common axis share: places, frames, and labels at the ends of lines.

use super::axis::Axis;
use super::svg::{self, Anchor, Canvas, Stroke, Type};
use super::text;

pub(super) const WIDTH: f64 = 760.0;
pub(super) const LEFT: f64 = 76.0;
/// Holds the labels at the ends of the lines.
pub(super) const RIGHT: f64 = 156.0;
pub(super) const BODY_SIZE: f64 = 12.0;
pub(super) const SMALL_SIZE: f64 = 11.0;
pub(super) const LABEL_GAP: f64 = 10.0;
pub(super) const LABEL_LINE: f64 = 15.0;

/// A text at the end of a line.
pub(super) struct EndLabel {
    pub y: f64,
    pub text: String,
    pub style: Type,
}

/// Draws a panel's frame with its grid and the name of its axis.
pub(super) fn panel(
    canvas: &mut Canvas,
    (top, bottom): (f64, f64),
    ticks: &[(f64, String)],
    axis: &Axis,
    name: &str,
) {
    let end = WIDTH - RIGHT;
    for (value, label) in ticks {
        let y = axis.at(*value);
        canvas.line((LEFT, y), (end, y), Stroke::new(svg::GRID, 1.0));
        let style = Type::new(SMALL_SIZE, svg::SOFT);
        canvas.text((LEFT - 8.0, y + 4.0), Anchor::End, style, label);
    }
    canvas.line((LEFT, top), (LEFT, bottom), Stroke::new(svg::AXIS, 1.0));
    canvas.line((LEFT, bottom), (end, bottom), Stroke::new(svg::AXIS, 1.0));
    canvas.text_upwards((17.0, (top + bottom) / 2.0), Type::new(BODY_SIZE, svg::SOFT), name);
}

/// Writes the whole numbers of the common axis below the last panel, and its name.
pub(super) fn x_ticks(canvas: &mut Canvas, x: &Axis, bottom: f64, name: &str) {
    for (value, _) in x.ticks(8, true) {
        let place = x.at(value);
        canvas.line((place, bottom), (place, bottom + 4.0), Stroke::new(svg::AXIS, 1.0));
        let style = Type::new(SMALL_SIZE, svg::SOFT);
        canvas.text((place, bottom + 17.0), Anchor::Middle, style, &text::grouped(value as u64));
    }
    let style = Type::new(BODY_SIZE, svg::SOFT);
    canvas.text(((LEFT + WIDTH - RIGHT) / 2.0, bottom + 38.0), Anchor::Middle, style, name);
}

/// Writes the labels beside the ends of their lines, moved apart where they would meet.
pub(super) fn write_labels(
    canvas: &mut Canvas,
    mut labels: Vec<EndLabel>,
    (top, bottom): (f64, f64),
    end: f64,
) {
    labels.sort_by(|a, b| a.y.total_cmp(&b.y));
    let mut least = top + 4.0;
    for label in &mut labels {
        label.y = label.y.max(least);
        least = label.y + LABEL_LINE;
    }
    let mut most = bottom;
    for label in labels.iter_mut().rev() {
        label.y = label.y.min(most);
        most = label.y - LABEL_LINE;
    }
    for label in labels {
        let place = (end + LABEL_GAP, label.y + label.style.size * 0.35);
        canvas.text(place, Anchor::Start, label.style, &label.text);
    }
}

/// Returns a score or loss as it stands beside a line.
pub(super) fn short(value: f64) -> String {
    text::number(value, if value.abs() < 100.0 { 2 } else { 1 })
}
