//! The reliability diagram: how often labels given with a probability are right, and how many there
//! are of each.

use super::axis::Axis;
use super::heading::Heading;
use super::svg::{Anchor, Canvas, Stroke, Type, px};
use super::{svg, text};
use crate::eval::{Reliability, ReliabilityBin, Z_95, wilson};

const LEFT: f64 = 66.0;
const RIGHT: f64 = 24.0;
const SIDE: f64 = 340.0;
/// The panel of counts below the square.
const COUNTS: f64 = 64.0;
const GAP: f64 = 16.0;
const BODY_SIZE: f64 = 12.0;
const SMALL_SIZE: f64 = 11.0;
const DOT_RADIUS: f64 = 4.0;

/// What the reliability diagram shows.
#[derive(Clone, Debug, PartialEq)]
pub struct CalibrationChart {
    /// The heading, such as task, model and method.
    pub title: String,
    /// Bins, ECE and Brier score.
    pub reliability: Reliability,
}

/// Returns the reliability diagram as an SVG document.
///
/// A point for each bin that holds examples, at its mean confidence and its accuracy with the Wilson
/// interval; on the dashed line a label keeps what it promises, below it promises too much. Under it
/// the share of the examples in each bin.
///
/// # Source
/// Guo et al. 2017, Figure 1, with points at the mean confidence in place of bars.
pub fn calibration_diagram(chart: &CalibrationChart) -> String {
    let found = &chart.reliability;
    let width = LEFT + SIDE + RIGHT;
    let heading = Heading::new(&chart.title, &subtitle(found), LEFT, width - LEFT - RIGHT);
    let top = heading.end() + 14.0;
    let bottom = top + SIDE;
    let counts_top = bottom + GAP;
    let counts_bottom = counts_top + COUNTS;
    let height = counts_bottom + 52.0;
    let mut canvas = Canvas::new(width, height, &chart.title, &description(found));
    heading.draw(&mut canvas);

    let end = LEFT + SIDE;
    let x = Axis::new((0.0, 1.0), (LEFT, end));
    let y = Axis::new((0.0, 1.0), (bottom, top));
    let soft = Type::new(SMALL_SIZE, svg::SOFT);
    for (value, label) in y.ticks(6, false) {
        canvas.line((LEFT, y.at(value)), (end, y.at(value)), Stroke::new(svg::GRID, 1.0));
        canvas.line((x.at(value), top), (x.at(value), bottom), Stroke::new(svg::GRID, 1.0));
        canvas.text((LEFT - 8.0, y.at(value) + 4.0), Anchor::End, soft, &label);
    }
    canvas.line((LEFT, bottom), (end, top), Stroke::new(svg::INK, 1.0).dashed("5 4"));
    canvas.line((LEFT, top), (LEFT, bottom), Stroke::new(svg::AXIS, 1.0));
    canvas.line((LEFT, bottom), (end, bottom), Stroke::new(svg::AXIS, 1.0));
    let points: Vec<(f64, f64)> =
        found.bins.iter().map(|bin| (x.at(bin.confidence), y.at(bin.accuracy))).collect();
    if points.len() > 1 {
        let path: Vec<String> =
            points.iter().map(|(x, y)| format!("{} {}", px(*x), px(*y))).collect();
        canvas.path(&format!("M{}", path.join("L")), Stroke::new(svg::PALE_BLUE, 2.0));
    }
    for (bin, &(at, accuracy)) in found.bins.iter().zip(&points) {
        let (low, high) = interval(bin);
        canvas.line((at, y.at(low)), (at, y.at(high)), Stroke::new(svg::BLUE, 1.4));
        canvas.dot((at, accuracy), DOT_RADIUS, svg::BLUE);
    }
    let name = Type::new(BODY_SIZE, svg::SOFT);
    canvas.text_upwards((20.0, (top + bottom) / 2.0), name, "share that is right");

    let share = |bin: &ReliabilityBin| bin.num_examples as f64 / found.num_examples.max(1) as f64;
    let most = found.bins.iter().map(share).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let count = Axis::new((0.0, most), (counts_bottom, counts_top + 14.0));
    for bin in &found.bins {
        let (from, to) = (x.at(bin.low) + 1.0, x.at(bin.high) - 1.0);
        let height = counts_bottom - count.at(share(bin));
        let corner = (from, counts_bottom - height);
        canvas.bar(corner, (to - from, height), svg::PALE_BLUE, &describe(bin));
        let percent = 100.0 * share(bin);
        let words = if percent < 1.0 { "<1".to_owned() } else { text::number(percent, 0) };
        let place = ((from + to) / 2.0, corner.1 - 3.0);
        canvas.text(place, Anchor::Middle, soft, &words);
    }
    canvas.line((LEFT, counts_bottom), (end, counts_bottom), Stroke::new(svg::AXIS, 1.0));
    for (value, label) in x.ticks(6, false) {
        let place = x.at(value);
        canvas.line(
            (place, counts_bottom),
            (place, counts_bottom + 4.0),
            Stroke::new(svg::AXIS, 1.0),
        );
        canvas.text((place, counts_bottom + 17.0), Anchor::Middle, soft, &label);
    }
    canvas.text_upwards((20.0, (counts_top + counts_bottom) / 2.0), name, "% of labels");
    let words = "probability of the label given";
    canvas.text(((LEFT + end) / 2.0, counts_bottom + 38.0), Anchor::Middle, name, words);
    canvas.finish()
}

fn interval(bin: &ReliabilityBin) -> (f64, f64) {
    let num_right = (bin.accuracy * bin.num_examples as f64).round() as usize;
    wilson(num_right, bin.num_examples, Z_95)
}

fn subtitle(found: &Reliability) -> String {
    format!(
        "n = {}; ECE {}, Brier {}; whiskers: 95% Wilson intervals",
        text::grouped(found.num_examples as u64),
        text::number(found.ece, 3),
        text::number(found.brier, 3)
    )
}

fn describe(bin: &ReliabilityBin) -> String {
    format!(
        "probability {} to {}: {} labels, {}% right",
        text::number(bin.low, 1),
        text::number(bin.high, 1),
        bin.num_examples,
        text::number(100.0 * bin.accuracy, 1)
    )
}

fn description(found: &Reliability) -> String {
    let bins: Vec<String> = found.bins.iter().map(describe).collect();
    format!(
        "Reliability diagram: expected calibration error {}. {}.",
        text::number(found.ece, 3),
        bins.join("; ")
    )
}
