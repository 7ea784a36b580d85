//! The loss chart: training and validation loss above, the learning rate below, over the steps.

use super::axis::{Axis, padded_range};
use super::heading::Heading;
use super::panels::{
    EndLabel, LEFT, RIGHT, SMALL_SIZE, WIDTH, panel, short, write_labels, x_ticks,
};
use super::svg::{self, Anchor, Canvas, Stroke, Type, px};
use super::text;

const LOSS_HEIGHT: f64 = 240.0;
const RATE_HEIGHT: f64 = 52.0;
const GAP: f64 = 22.0;
/// The moving mean reaches over this share of the steps.
const WINDOW_SHARE: usize = 20;
/// Validations beyond this number have no dot each.
const MAX_DOTS: usize = 40;

/// One step of a training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossPoint {
    /// One-based number of the step.
    pub step: usize,
    /// The loss of its batch.
    pub loss: f64,
    /// The learning rate.
    pub lr: f64,
}

/// What the loss chart shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LossChart {
    /// The heading, such as task and model.
    pub title: String,
    /// What stands below it, such as how the training was set.
    pub subtitle: String,
    /// The training, step after step.
    pub points: Vec<LossPoint>,
    /// Steps after which the loss on what was set aside was measured, with that loss.
    pub validation: Vec<(usize, f64)>,
    /// The step whose weights were written, where it is not the last.
    pub written_step: Option<usize>,
}

/// Returns the loss chart as an SVG document.
///
/// The loss of each batch is drawn faintly, its mean over the steps around it (a twentieth of all)
/// strongly. Losses that are not numbers are left out.
pub fn loss_curve(chart: &LossChart) -> String {
    let heading = Heading::new(&chart.title, &chart.subtitle, LEFT, WIDTH - LEFT - 16.0);
    let top = heading.end() + 24.0;
    let middle = top + LOSS_HEIGHT + GAP;
    let bottom = middle + RATE_HEIGHT;
    let end = WIDTH - RIGHT;
    let mut canvas = Canvas::new(WIDTH, bottom + 50.0, &chart.title, &description(chart));
    heading.draw(&mut canvas);

    let points: Vec<LossPoint> =
        chart.points.iter().copied().filter(|point| point.loss.is_finite()).collect();
    let validation: Vec<(usize, f64)> =
        chart.validation.iter().copied().filter(|(_, loss)| loss.is_finite()).collect();
    let last_step = points.last().map_or(1, |point| point.step.max(2));
    let x = Axis::new((1.0_f64.min(last_step as f64 - 1.0), last_step as f64), (LEFT, end));
    let losses = points.iter().map(|point| point.loss);
    let losses = losses.chain(validation.iter().map(|(_, loss)| *loss));
    let y = Axis::new(padded_range(losses), (top + LOSS_HEIGHT, top));
    panel(&mut canvas, (top, top + LOSS_HEIGHT), &y.ticks(7, false), &y, "loss");
    if let Some(step) = chart.written_step {
        let place = x.at(step as f64);
        let stroke = Stroke::new(svg::AXIS, 1.0).dashed("3 3");
        canvas.line((place, top), (place, bottom), stroke);
        let style = Type::new(SMALL_SIZE, svg::SOFT);
        // Beside the axis it would meet the axis' numbers.
        let place = place.clamp(LEFT + 24.0, end - 24.0);
        canvas.text((place, top - 5.0), Anchor::Middle, style, "written");
    }

    let places = |values: &[(usize, f64)]| -> Vec<(f64, f64)> {
        values.iter().map(|(step, value)| (x.at(*step as f64), y.at(*value))).collect()
    };
    let raw: Vec<(usize, f64)> = points.iter().map(|point| (point.step, point.loss)).collect();
    let reach = points.len() / (2 * WINDOW_SHARE);
    let window = 2 * reach + 1;
    let mean = moving_mean(&raw, reach);
    let mut labels = Vec::new();
    if window > 1 {
        canvas.path(&line(&places(&raw)), Stroke::new(svg::PALE_BLUE, 1.0));
    }
    if let Some(&(_, value)) = mean.last() {
        draw(&mut canvas, &places(&mean), svg::BLUE, false);
        let style = Type::new(13.0, svg::BLUE).bold();
        let y = y.at(value);
        labels.push(EndLabel { y, text: format!("training {}", precise(value)), style });
        if window > 1 {
            let style = Type::new(SMALL_SIZE, svg::SOFT);
            let text = format!("mean of {} steps", text::grouped(window as u64));
            // Just below the line it explains, also where labels are moved apart.
            labels.push(EndLabel { y: y + 1e-3, text, style });
        }
    }
    if let Some(&(_, value)) = validation.last() {
        draw(&mut canvas, &places(&validation), svg::VERMILION, validation.len() <= MAX_DOTS);
        let style = Type::new(13.0, svg::VERMILION).bold();
        let text = format!("validation {}", precise(value));
        labels.push(EndLabel { y: y.at(value), text, style });
    }
    write_labels(&mut canvas, labels, (top, top + LOSS_HEIGHT), end);

    learning_rate(&mut canvas, &points, &x, (middle, bottom));
    x_ticks(&mut canvas, &x, bottom, "step");
    canvas.finish()
}

fn learning_rate(canvas: &mut Canvas, points: &[LossPoint], x: &Axis, (top, bottom): (f64, f64)) {
    let most = points.iter().map(|point| point.lr).fold(0.0, f64::max);
    let scale = if most > 0.0 { most } else { 1.0 };
    let y = Axis::new((0.0, scale), (bottom, top));
    let ticks = [(0.0, "0".to_owned()), (scale, power(scale))];
    panel(canvas, (top, bottom), &ticks, &y, "rate");
    let places: Vec<(f64, f64)> =
        points.iter().map(|point| (x.at(point.step as f64), y.at(point.lr))).collect();
    if !places.is_empty() {
        canvas.path(&line(&places), Stroke::new(svg::GREY, 1.4));
    }
    let place = (WIDTH - RIGHT + 10.0, (top + bottom) / 2.0 + 4.0);
    canvas.text(place, Anchor::Start, Type::new(SMALL_SIZE, svg::SOFT), "learning rate");
}

fn draw(canvas: &mut Canvas, places: &[(f64, f64)], color: &'static str, dots: bool) {
    canvas.path(&line(places), Stroke::new(color, 1.8));
    for (i, place) in places.iter().enumerate() {
        if dots || i + 1 == places.len() {
            canvas.dot(*place, 2.9, color);
        }
    }
}

/// Returns the mean of each value and up to `reach` on either side of it.
fn moving_mean(values: &[(usize, f64)], reach: usize) -> Vec<(usize, f64)> {
    (0..values.len())
        .map(|i| {
            let part = &values[i.saturating_sub(reach)..(i + reach + 1).min(values.len())];
            (values[i].0, part.iter().map(|(_, value)| value).sum::<f64>() / part.len() as f64)
        })
        .collect()
}

/// Returns the path through places from left to right; within one unit of width only first, extremes
/// and last, more cannot be seen.
fn line(places: &[(f64, f64)]) -> String {
    let mut path = String::new();
    let mut to = |(x, y): (f64, f64)| {
        let letter = if path.is_empty() { 'M' } else { 'L' };
        path.push_str(&format!("{letter}{} {}", px(x), px(y)));
    };
    for column in places.chunk_by(|a, b| a.0.floor() == b.0.floor()) {
        if column.len() <= 4 {
            column.iter().for_each(|&place| to(place));
            continue;
        }
        let least = column.iter().map(|place| place.1).fold(f64::INFINITY, f64::min);
        let most = column.iter().map(|place| place.1).fold(f64::NEG_INFINITY, f64::max);
        let (first, last) = (column[0], column[column.len() - 1]);
        [first, (first.0, least), (first.0, most), last].into_iter().for_each(&mut to);
    }
    path
}

/// Returns a loss with as many decimals as tell losses apart.
fn precise(loss: f64) -> String {
    if loss.abs() < 10.0 { text::number(loss, 3) } else { short(loss) }
}

/// Returns a rate such as `5e-5`.
fn power(rate: f64) -> String {
    let text = format!("{rate:.2e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    format!("{digits}e{}", exponent.replace('-', "\u{2212}"))
}

fn description(chart: &LossChart) -> String {
    let ends = match (chart.points.first(), chart.points.last()) {
        (Some(first), Some(last)) => format!(
            " The loss of a batch goes from {} to {}.",
            precise(first.loss),
            precise(last.loss)
        ),
        _ => String::new(),
    };
    let validation = match chart.validation.last() {
        Some((_, loss)) => format!(" The validation loss ends at {}.", precise(*loss)),
        None => String::new(),
    };
    format!(
        "Two line charts over the steps of a training: loss and learning rate.{ends}{validation}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand.
    #[test]
    fn means_are_shorter_at_the_ends() {
        let values: Vec<(usize, f64)> = [4.0, 2.0, 6.0, 1.0].into_iter().enumerate().collect();
        let means: Vec<f64> = moving_mean(&values, 1).into_iter().map(|(_, mean)| mean).collect();
        assert_eq!(means, [3.0, 4.0, 3.0, 3.5]);
        assert_eq!(moving_mean(&values, 0), values);
    }

    #[test]
    fn rates_are_short() {
        assert_eq!(
            [power(5e-5), power(1.25e-3), power(1.0)],
            ["5e\u{2212}5", "1.25e\u{2212}3", "1e0"]
        );
    }

    #[test]
    fn a_crowded_column_keeps_its_extremes() {
        let places: Vec<(f64, f64)> = [3.0, 9.0, 1.0, 5.0, 4.0]
            .iter()
            .enumerate()
            .map(|(i, y)| (i as f64 * 0.1, *y))
            .collect();
        assert_eq!(line(&places), "M0 3L0 1L0 9L0.4 4");
    }
}
