//! The entropy chart: right and wrong weak labels as stacked bars, one for each bin of entropy.

use super::axis::Axis;
use super::heading::Heading;
use super::svg::{Anchor, Canvas, Stroke, Type};
use super::{svg, text};
use crate::eval::{EntropyBin, WeakAccuracy};

/// Beside the numbers of the axis: its name.
const AXIS_NAME: f64 = 26.0;
/// Between the numbers and the bars.
const AXIS_GAP: f64 = 8.0;
const MIN_LEFT: f64 = 62.0;
const RIGHT: f64 = 20.0;
const PLOT_HEIGHT: f64 = 240.0;
const MIN_PLOT_WIDTH: f64 = 400.0;
const SLOT_WIDTH: (f64, f64) = (76.0, 110.0);
const GOOD_PLOT_WIDTH: f64 = 560.0;
const MAX_BAR_WIDTH: f64 = 64.0;
/// Room above the highest bar for its two lines.
const HEADROOM: f64 = 40.0;
/// Room for the words `kept` and `dropped`.
const FILTER_BAND: f64 = 24.0;
const LEGEND_LINE: f64 = 24.0;
const SWATCH: f64 = 10.0;
const SMALL_SIZE: f64 = 11.0;
const BODY_SIZE: f64 = 12.0;
const LINE: f64 = 15.0;
/// Below this width an interval needs a decimal to say anything.
const NARROW_INTERVAL: f64 = 0.04;
/// Decimals of an entropy: the first number that tells all bins apart.
const DIGITS: std::ops::RangeInclusive<usize> = 3..=6;

const RIGHT_FILL: &str = svg::BLUE;
const WRONG_FILL: &str = svg::VERMILION;
const UNPARSED_FILL: &str = svg::PART;

/// What the entropy chart shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EntropyChart {
    /// The heading, such as task and model.
    pub title: String,
    /// The bins from left to right.
    pub bins: Vec<EntropyBin>,
}

/// How the filter cuts the bins.
#[derive(Clone, Copy, PartialEq)]
enum Cut {
    /// All or none were kept.
    None,
    /// So many bins were kept and all others dropped.
    After(usize),
    /// Some bins were kept in part.
    Within,
}

/// Returns the entropy chart as an SVG document.
///
/// Over each bar stands the share of right labels with its interval, below it the bin's entropy. A
/// line parts kept from dropped questions where it falls between two bins; else each bar says how
/// much of it was kept.
pub fn entropy_bars(chart: &EntropyChart) -> String {
    let bins = &chart.bins;
    let num_bins = bins.len().max(1) as f64;
    let slot = (GOOD_PLOT_WIDTH / num_bins).clamp(SLOT_WIDTH.0, SLOT_WIDTH.1);
    let plot_width = (slot * num_bins).max(MIN_PLOT_WIDTH);
    let slot = plot_width / num_bins;
    let most = bins.iter().map(|bin| bin.labels.num_questions).max().unwrap_or(0).max(1);
    let ticks: Vec<(f64, String)> = Axis::new((0.0, most as f64), (0.0, 1.0))
        .ticks(6, true)
        .into_iter()
        .map(|(value, _)| (value, text::grouped(value as u64)))
        .collect();
    let widest = ticks.iter().map(|(_, label)| text::width(label, SMALL_SIZE)).fold(0.0, f64::max);
    let left = (AXIS_NAME + widest + AXIS_GAP).max(MIN_LEFT);
    let (width, end) = (left + plot_width + RIGHT, left + plot_width);
    let cut = cut(bins);
    let heading = Heading::new(&chart.title, &subtitle(bins, cut), left, plot_width);
    let legend_y = heading.end() + 4.0 + LEGEND_LINE / 2.0;
    let band = heading.end() + 4.0 + LEGEND_LINE;
    let band_height = if matches!(cut, Cut::After(_)) { FILTER_BAND } else { 0.0 };
    let top = band + band_height + HEADROOM;
    let bottom = top + PLOT_HEIGHT;
    let bin_names = bin_names(bins);
    let names: Vec<Vec<String>> =
        bin_names.iter().map(|name| text::wrap(name, BODY_SIZE, slot - 8.0, 3)).collect();
    let name_lines = names.iter().map(Vec::len).max().unwrap_or(1) as f64;
    let count_lines = if cut == Cut::Within { 2.0 } else { 1.0 };
    let title_y = bottom + 8.0 + LINE * (name_lines + count_lines) + 20.0;

    let mut canvas = Canvas::new(width, title_y + 12.0, &chart.title, &description(bins, cut));
    heading.draw(&mut canvas);
    legend(&mut canvas, (left, legend_y), bins.iter().any(|bin| bin.labels.num_unparsed > 0));
    let axis = Axis::new((0.0, most as f64), (bottom, top));
    for (value, label) in &ticks {
        let y = axis.at(*value);
        if *value > 0.0 {
            canvas.line((left, y), (end, y), Stroke::new(svg::GRID, 1.0));
        }
        let style = Type::new(SMALL_SIZE, svg::SOFT);
        canvas.text((left - AXIS_GAP, y + 4.0), Anchor::End, style, label);
    }
    let style = Type::new(BODY_SIZE, svg::SOFT);
    let axis_x = left - AXIS_GAP - widest - AXIS_GAP;
    canvas.text_upwards((axis_x, (top + bottom) / 2.0), style, "questions");
    let axis_name = "entropy of the answers (nats)";
    canvas.text(((left + end) / 2.0, title_y), Anchor::Middle, style, axis_name);

    let centre = |index: usize| left + slot * (index as f64 + 0.5);
    let bar_width = (slot * 0.62).min(MAX_BAR_WIDTH);
    for (index, bin) in bins.iter().enumerate() {
        let WeakAccuracy { num_right, num_unparsed, .. } = bin.labels;
        let mut below = 0;
        for (num, fill, what) in [
            (num_right, RIGHT_FILL, "right"),
            (bin.num_wrong, WRONG_FILL, "wrong"),
            (num_unparsed, UNPARSED_FILL, "unparsed"),
        ] {
            if num == 0 {
                continue;
            }
            let y = axis.at((below + num) as f64);
            let size = (bar_width, axis.at(below as f64) - y);
            let tip = format!("{num} {what} at {} nats", bin_names[index]);
            canvas.bar((centre(index) - bar_width / 2.0, y), size, fill, &tip);
            below += num;
        }
    }
    canvas.line((left, bottom), (end, bottom), Stroke::new(svg::AXIS, 1.0));
    if let Cut::After(num) = cut {
        let parted = Parted { start: left, at: left + slot * num as f64, end };
        filter_line(&mut canvas, (band, bottom), parted);
    }
    for (index, bin) in bins.iter().enumerate() {
        let x = centre(index);
        let base = axis.at(bin.labels.num_questions as f64);
        let small = Type::new(SMALL_SIZE, svg::SOFT).ground();
        canvas.text((x, base - 6.0), Anchor::Middle, small, &interval(&bin.labels));
        let large = Type::new(14.0, svg::INK).bold().ground();
        canvas.text((x, base - 20.0), Anchor::Middle, large, &accuracy(&bin.labels));
        let mut y = bottom + 8.0 + BODY_SIZE * 0.8;
        for line in &names[index] {
            canvas.text((x, y), Anchor::Middle, Type::new(BODY_SIZE, svg::INK), line);
            y += LINE;
        }
        let mut y = bottom + 8.0 + LINE * name_lines + BODY_SIZE * 0.8;
        let style = Type::new(SMALL_SIZE, svg::SOFT);
        let count = format!("n = {}", text::grouped(bin.labels.num_questions as u64));
        canvas.text((x, y), Anchor::Middle, style, &text::fit(&count, SMALL_SIZE, slot - 4.0));
        if cut == Cut::Within {
            y += LINE;
            canvas.text((x, y), Anchor::Middle, style, &format!("kept {}", kept_share(bin)));
        }
    }
    canvas.finish()
}

fn cut(bins: &[EntropyBin]) -> Cut {
    let all = |bin: &EntropyBin| bin.num_kept == bin.labels.num_questions;
    let num = bins.iter().take_while(|bin| all(bin)).count();
    let num_kept: usize = bins.iter().map(|bin| bin.num_kept).sum();
    if num == bins.len() || num_kept == 0 {
        Cut::None
    } else if bins[num..].iter().all(|bin| bin.num_kept == 0) {
        Cut::After(num)
    } else {
        Cut::Within
    }
}

/// A stretch in two parts.
#[derive(Clone, Copy)]
struct Parted {
    start: f64,
    at: f64,
    end: f64,
}

/// Names the two sides of the line that parts them.
fn filter_line(canvas: &mut Canvas, (band, bottom): (f64, f64), of: Parted) {
    let Parted { start, at: x, end } = of;
    canvas.line((x, band + 2.0), (x, bottom), Stroke::new(svg::INK, 1.2).dashed("5 4"));
    let y = band + FILTER_BAND - 6.0;
    let style = Type::new(BODY_SIZE, svg::INK).bold();
    for ((from, to), word) in [((start, x - 4.0), "kept"), ((x + 4.0, end), "dropped")] {
        canvas.line((from, y), (to, y), Stroke::new(svg::AXIS, 1.0));
        canvas.text(((from + to) / 2.0, y - 5.0), Anchor::Middle, style, word);
    }
}

fn legend(canvas: &mut Canvas, (mut x, y): (f64, f64), unparsed: bool) {
    let entries =
        [("right", RIGHT_FILL), ("wrong", WRONG_FILL), ("could not be read", UNPARSED_FILL)];
    for (word, fill) in entries.into_iter().take(if unparsed { 3 } else { 2 }) {
        canvas.bar((x, y - SWATCH / 2.0), (SWATCH, SWATCH), fill, word);
        x += SWATCH + 6.0;
        let style = Type::new(BODY_SIZE, svg::INK);
        canvas.text((x, y + BODY_SIZE * 0.35), Anchor::Start, style, word);
        x += text::width(word, BODY_SIZE) + 18.0;
    }
}

/// Returns the entropy of each bin, with as many decimals as tell neighbours apart.
pub(super) fn bin_names(bins: &[EntropyBin]) -> Vec<String> {
    let with = |digits| bins.iter().map(|bin| name(bin, digits)).collect::<Vec<_>>();
    let apart = |names: &[String]| names.windows(2).all(|two| two[0] != two[1]);
    let digits = DIGITS.clone().find(|&digits| apart(&with(digits)));
    with(digits.unwrap_or(*DIGITS.end()))
}

fn name(bin: &EntropyBin, digits: usize) -> String {
    let number = |entropy: f64| match text::number(entropy, digits) {
        zero if zero.bytes().all(|byte| matches!(byte, b'0' | b'.')) => "0".to_owned(),
        other => other,
    };
    let [low, high] = [bin.low_nats, bin.high_nats].map(number);
    if low == high { low } else { format!("{low} to {high}") }
}

fn kept_share(bin: &EntropyBin) -> String {
    let share = 100.0 * bin.num_kept as f64 / bin.labels.num_questions.max(1) as f64;
    // Only what is all or nothing may look so.
    let share = match bin.num_kept {
        0 => 0.0,
        num if num == bin.labels.num_questions => 100.0,
        _ => share.round().clamp(1.0, 99.0),
    };
    format!("{}%", text::number(share, 0))
}

fn accuracy(labels: &WeakAccuracy) -> String {
    labels.accuracy.map_or("-".to_owned(), |rate| format!("{}%", text::number(100.0 * rate, 1)))
}

fn interval(labels: &WeakAccuracy) -> String {
    let digits = usize::from(labels.wilson_high - labels.wilson_low < NARROW_INTERVAL);
    let end = |rate: f64| text::number(100.0 * rate, digits);
    format!("[{}, {}]", end(labels.wilson_low), end(labels.wilson_high))
}

fn subtitle(bins: &[EntropyBin], cut: Cut) -> String {
    let num: usize = bins.iter().map(|bin| bin.labels.num_questions).sum();
    let kept: usize = bins.iter().map(|bin| bin.num_kept).sum();
    let [num, kept] = [num, kept].map(|num| text::grouped(num as u64));
    let kept = match cut {
        Cut::None if kept == num => "all kept".to_owned(),
        Cut::None => "none kept".to_owned(),
        _ => format!("{kept} kept"),
    };
    format!("n = {num}, {kept}; accuracy with 95% Wilson intervals")
}

fn description(bins: &[EntropyBin], cut: Cut) -> String {
    let bars: Vec<String> = bins
        .iter()
        .zip(bin_names(bins))
        .map(|(bin, name)| {
            let WeakAccuracy { num_right, num_unparsed, .. } = bin.labels;
            format!(
                "{name} nats: {num_right} right, {} wrong, {num_unparsed} unparsed, accuracy {} {}, kept {}",
                bin.num_wrong,
                accuracy(&bin.labels),
                interval(&bin.labels),
                kept_share(bin)
            )
        })
        .collect();
    let filter = match cut {
        Cut::After(num) => format!(" The filter keeps the first {num} of the bars."),
        Cut::None | Cut::Within => String::new(),
    };
    format!(
        "Stacked bars of right and wrong weak labels by entropy of the answers. {}.{filter}",
        bars.join("; ")
    )
}
