//! The loop chart: accuracy above where it is known, below what the brakes watch, both by round.

use super::axis::Axis;
use super::heading::Heading;
use super::panels::{BODY_SIZE, EndLabel, LEFT, RIGHT, SMALL_SIZE, WIDTH, panel, write_labels};
use super::svg::{self, Anchor, Canvas, Stroke, Type, px};
use super::text;

const HEIGHT: f64 = 200.0;
const WATCHED_HEIGHT: f64 = 170.0;
const GAP: f64 = 30.0;
/// Half the width of the bar at an interval's end.
const CAP: f64 = 3.5;
/// How far series with intervals stand apart, so that these do not hide each other.
const APART: f64 = 5.0;

/// A rate with its interval, all as shares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoopRate {
    /// The rate.
    pub rate: f64,
    /// The ends of its 95 % interval.
    pub interval: [f64; 2],
}

/// One round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoopPoint {
    /// The round; 0 is the model before the first.
    pub round: usize,
    /// Accuracy of the new labels.
    pub batch: Option<LoopRate>,
    /// Accuracy of the round's model on what was set aside.
    pub held_out: Option<LoopRate>,
    /// Share of the labels that the model contradicts.
    pub flip_rate: Option<f64>,
    /// Entropy of the new labels' shares, over the most it can be.
    pub class_entropy: Option<f64>,
    /// Share of the held-out answers that stay what they were.
    pub agreement: Option<f64>,
}

/// What the loop chart shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoopChart {
    /// The heading, such as task and model.
    pub title: String,
    /// What stands below it.
    pub subtitle: String,
    /// The rounds in their order.
    pub points: Vec<LoopPoint>,
    /// The round after which the loop was stopped, if it was.
    pub stopped: Option<usize>,
}

/// A line of the chart.
struct Series<'a> {
    name: &'a str,
    color: &'static str,
    /// Units to the right of its round.
    shift: f64,
    dash: Option<&'static str>,
    values: Vec<(usize, f64, Option<[f64; 2]>)>,
}

/// Returns the loop chart as an SVG document.
pub fn loop_curve(chart: &LoopChart) -> String {
    let heading = Heading::new(&chart.title, &chart.subtitle, LEFT, WIDTH - LEFT - 16.0);
    let rates = [
        accuracies(chart, "held out", svg::VERMILION, -APART, |p| p.held_out),
        accuracies(chart, "new labels", svg::BLUE, APART, |p| p.batch),
    ];
    let is_evaluated = rates.iter().any(|series| !series.values.is_empty());
    let top = heading.end() + 24.0;
    let middle = if is_evaluated { top + HEIGHT + GAP } else { top };
    let bottom = middle + WATCHED_HEIGHT;
    let end = WIDTH - RIGHT;
    let mut canvas = Canvas::new(WIDTH, bottom + 50.0, &chart.title, &description(chart));
    heading.draw(&mut canvas);
    let first = chart.points.iter().map(|point| point.round).min().unwrap_or(0) as f64;
    let last = chart.points.iter().map(|point| point.round).max().unwrap_or(1) as f64;
    // Rounds stand off the axis, where their intervals would lie on it.
    let x = Axis::new((first - 0.25, (last + 0.25).max(first + 0.75)), (LEFT, end));

    let percent = Axis::new((0.0, 100.0), (middle + WATCHED_HEIGHT, middle));
    if is_evaluated {
        let all = rates.iter().flat_map(|series| &series.values);
        let lowest = all.map(|(_, value, ends)| ends.map_or(*value, |e| e[0])).fold(50.0, f64::min);
        // Half the height would be empty where every rate is above one half.
        let low = (lowest / 10.0).floor() * 10.0;
        let y = Axis::new((low.max(0.0), 100.0), (top + HEIGHT, top));
        panel(&mut canvas, (top, top + HEIGHT), &y.ticks(7, true), &y, "accuracy (%)");
        draw_all(&mut canvas, &rates, (&x, &y), (top, top + HEIGHT), end);
    }
    panel(&mut canvas, (middle, bottom), &percent.ticks(6, true), &percent, "share (%)");
    let share = |value: Option<f64>| value.map(|value| 100.0 * value);
    let watched = [
        series(chart, "class entropy", svg::GREY, None, |p| share(p.class_entropy)),
        series(chart, "as before", svg::VERMILION, Some("5 4"), |p| share(p.agreement)),
        series(chart, "contradicted", svg::INK, None, |p| share(p.flip_rate)),
    ];
    draw_all(&mut canvas, &watched, (&x, &percent), (middle, bottom), end);
    for round in chart.points.iter().map(|point| point.round) {
        let place = x.at(round as f64);
        canvas.line((place, bottom), (place, bottom + 4.0), Stroke::new(svg::AXIS, 1.0));
        let style = Type::new(SMALL_SIZE, svg::SOFT);
        canvas.text((place, bottom + 17.0), Anchor::Middle, style, &round.to_string());
    }
    let style = Type::new(BODY_SIZE, svg::SOFT);
    canvas.text(((LEFT + end) / 2.0, bottom + 38.0), Anchor::Middle, style, "round");
    if let Some(round) = chart.stopped {
        let place = x.at(round as f64 + 0.125).min(end);
        canvas.line((place, top), (place, bottom), Stroke::new(svg::AXIS, 1.0).dashed("3 3"));
        let place = place.clamp(LEFT + 30.0, end - 24.0);
        let style = Type::new(SMALL_SIZE, svg::SOFT);
        canvas.text((place, top - 5.0), Anchor::Middle, style, "stopped");
    }
    canvas.finish()
}

fn accuracies<'a>(
    chart: &LoopChart,
    name: &'a str,
    color: &'static str,
    shift: f64,
    rate: impl Fn(&LoopPoint) -> Option<LoopRate>,
) -> Series<'a> {
    let value = |point: &LoopPoint| {
        let rate = rate(point)?;
        Some((point.round, 100.0 * rate.rate, Some(rate.interval.map(|end| 100.0 * end))))
    };
    let values = chart.points.iter().filter_map(value).collect();
    Series { name, color, shift, dash: None, values }
}

fn series<'a>(
    chart: &LoopChart,
    name: &'a str,
    color: &'static str,
    dash: Option<&'static str>,
    value: impl Fn(&LoopPoint) -> Option<f64>,
) -> Series<'a> {
    let value = |point: &LoopPoint| Some((point.round, value(point)?, None));
    let values = chart.points.iter().filter_map(value).filter(|(_, v, _)| v.is_finite()).collect();
    Series { name, color, shift: 0.0, dash, values }
}

fn draw_all(
    canvas: &mut Canvas,
    all: &[Series<'_>],
    (x, y): (&Axis, &Axis),
    span: (f64, f64),
    end: f64,
) {
    let mut labels = Vec::new();
    for series in all {
        let places: Vec<(f64, f64)> = series
            .values
            .iter()
            .map(|(round, value, _)| (x.at(*round as f64) + series.shift, y.at(*value)))
            .collect();
        let stroke = Stroke { dash: series.dash, ..Stroke::new(series.color, 1.8) };
        if places.len() > 1 {
            let line: Vec<String> =
                places.iter().map(|(x, y)| format!("{} {}", px(*x), px(*y))).collect();
            canvas.path(&format!("M{}", line.join("L")), stroke);
        }
        for ((place, height), (_, _, ends)) in places.iter().zip(&series.values) {
            if let Some(ends) = ends {
                let [low, high] = ends.map(|value| y.at(value));
                let thin = Stroke::new(series.color, 1.1);
                canvas.line((*place, low), (*place, high), thin);
                for at in [low, high] {
                    canvas.line((place - CAP, at), (place + CAP, at), thin);
                }
            }
            canvas.dot((*place, *height), 3.2, series.color);
        }
        if let (Some((_, value, _)), Some((_, height))) = (series.values.last(), places.last()) {
            let color = if series.color == svg::GREY { svg::SOFT } else { series.color };
            let style = Type::new(BODY_SIZE, color).bold();
            let text = format!("{} {}%", series.name, text::number(*value, 1));
            labels.push(EndLabel { y: *height, text, style });
        }
    }
    write_labels(canvas, labels, span, end);
}

fn description(chart: &LoopChart) -> String {
    let rate = |name: &str, rate: Option<LoopRate>| {
        rate.map(|rate| format!("{name} {}%", text::number(100.0 * rate.rate, 1)))
    };
    let rounds: Vec<String> = chart
        .points
        .iter()
        .map(|point| {
            let parts: Vec<String> =
                [rate("new labels", point.batch), rate("held out", point.held_out)]
                    .into_iter()
                    .flatten()
                    .collect();
            format!(
                "round {}: {}",
                point.round,
                if parts.is_empty() { "no gold".into() } else { parts.join(", ") }
            )
        })
        .collect();
    format!(
        "Line charts over the rounds of a loop: accuracy of new labels and on held-out examples, and the quantities that stop it. {}.",
        rounds.join("; ")
    )
}
