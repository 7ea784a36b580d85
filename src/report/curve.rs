//! The search chart: score above, accuracy below, both over the iterations of the search.

use super::axis::{Axis, padded_range};
use super::panels::{
    BODY_SIZE, EndLabel, LABEL_GAP, LABEL_LINE, LEFT, RIGHT, SMALL_SIZE, WIDTH, panel, short,
    write_labels, x_ticks,
};
use super::svg::{Anchor, Canvas, Stroke, Type, px};
use super::{svg, text};
use crate::eval::CurvePoint;

const PANEL_HEIGHT: f64 = 160.0;
const PANEL_GAP: f64 = 24.0;
const TITLE_SIZE: f64 = 16.0;
const TITLE_LINE: f64 = 21.0;

/// What the search chart shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SearchChart {
    /// The heading, such as task and model.
    pub title: String,
    /// The search, batch after batch.
    pub points: Vec<CurvePoint>,
    /// Index and name of the label whose share is drawn.
    pub share_of: Option<(usize, String)>,
    /// Name and score of the best labelling that gives every example the same label.
    pub best_constant: Option<(String, f64)>,
}

/// Returns the search chart as an SVG document.
///
/// Batches are parted by thin vertical lines; each line ends in its final value. Points whose
/// score is not a number are left out, and where accuracy is unknown its line breaks.
pub fn search_curve(chart: &SearchChart) -> String {
    let text_room = WIDTH - LEFT - 16.0;
    let title = text::wrap(&chart.title, TITLE_SIZE * text::BOLD, text_room, 2);
    let batches: Vec<&[CurvePoint]> = chart.points.chunk_by(|a, b| a.batch == b.batch).collect();
    let many = batches.len() > 1;
    let title_end = 10.0 + TITLE_LINE * title.len() as f64;
    let top = title_end + 4.0 + LABEL_LINE + if many { 30.0 } else { 16.0 };
    let middle = top + PANEL_HEIGHT + PANEL_GAP;
    let bottom = middle + PANEL_HEIGHT;
    let end = WIDTH - RIGHT;

    let subtitle = subtitle(&batches);
    let mut canvas = Canvas::new(WIDTH, bottom + 50.0, &chart.title, &description(chart));
    for (index, line) in title.iter().enumerate() {
        let place = (LEFT, 10.0 + TITLE_LINE * (index as f64 + 0.8));
        canvas.text(place, Anchor::Start, Type::new(TITLE_SIZE, svg::INK).bold(), line);
    }
    let place = (LEFT, title_end + 4.0 + LABEL_LINE * 0.75);
    canvas.text(place, Anchor::Start, Type::new(BODY_SIZE, svg::SOFT), &subtitle);

    let last_step = chart.points.last().map_or(1, |point| point.step.max(1));
    let x = Axis::new((0.0, last_step as f64), (LEFT, end));
    let constant = chart.best_constant.as_ref().map(|(_, score)| *score);
    let scores = chart.points.iter().map(|point| point.score).chain(constant);
    let score = Axis::new(padded_range(scores), (top + PANEL_HEIGHT, top));
    let accuracy = Axis::new((0.0, 100.0), (bottom, middle));

    panel(&mut canvas, (top, top + PANEL_HEIGHT), &score.ticks(6, false), &score, "score U");
    panel(&mut canvas, (middle, bottom), &accuracy.ticks(6, true), &accuracy, "accuracy (%)");
    x_ticks(&mut canvas, &x, bottom, "iteration");
    if many {
        part_batches(&mut canvas, &batches, &x, &[(top, top + PANEL_HEIGHT), (middle, bottom)]);
    }

    let mut upper = Vec::new();
    if let Some((name, value)) = &chart.best_constant
        && value.is_finite()
    {
        let y = score.at(*value);
        canvas.line((LEFT, y), (end, y), Stroke::new(svg::SOFT, 1.2).dashed("5 4"));
        let value = short(*value);
        let room = RIGHT - LABEL_GAP - 4.0 - text::width(&format!("if all : {value}"), SMALL_SIZE);
        let text = format!("if all {}: {value}", text::fit(name, SMALL_SIZE, room));
        upper.push(EndLabel { y, text, style: Type::new(SMALL_SIZE, svg::SOFT) });
    }
    let series = Series { batches: &batches, x: &x, y: &score };
    let stroke = Stroke::new(svg::BLUE, 1.8);
    if let Some((y, value)) = series.draw(&mut canvas, stroke, &|point| Some(point.score)) {
        let style = Type::new(13.0, svg::BLUE).bold();
        upper.push(EndLabel { y, text: format!("score {}", short(value)), style });
    }
    write_labels(&mut canvas, upper, (top, top + PANEL_HEIGHT), end);

    let mut lower = Vec::new();
    let series = Series { batches: &batches, x: &x, y: &accuracy };
    if let Some((index, name)) = &chart.share_of {
        let share = |point: &CurvePoint| point.share.get(*index).map(|share| share * 100.0);
        let stroke = Stroke::new(svg::GREY, 1.1);
        if let Some((y, value)) = series.draw(&mut canvas, stroke, &share) {
            let value = text::number(value, 1);
            let room = RIGHT - LABEL_GAP - 4.0 - text::width(&format!("{value}% are "), SMALL_SIZE);
            let text = format!("{value}% are {}", text::fit(name, SMALL_SIZE, room));
            lower.push(EndLabel { y, text, style: Type::new(SMALL_SIZE, svg::SOFT) });
        }
    }
    let right = |point: &CurvePoint| point.accuracy.map(|rate| rate * 100.0);
    if let Some((y, value)) = series.draw(&mut canvas, Stroke::new(svg::VERMILION, 1.8), &right) {
        let style = Type::new(13.0, svg::VERMILION).bold();
        lower.push(EndLabel { y, text: format!("accuracy {}%", text::number(value, 1)), style });
    }
    write_labels(&mut canvas, lower, (middle, bottom), end);
    canvas.finish()
}

fn part_batches(
    canvas: &mut Canvas,
    batches: &[&[CurvePoint]],
    x: &Axis,
    panels: &[(f64, f64); 2],
) {
    let spans: Vec<(f64, f64)> = batches
        .iter()
        .filter_map(|batch| Some((batch.first()?.step, batch.last()?.step)))
        .map(|(first, last)| (x.at(first as f64), x.at(last as f64)))
        .collect();
    for (from, _) in spans.iter().skip(1) {
        for (top, bottom) in panels {
            canvas.line((*from, *top), (*from, *bottom), Stroke::new(svg::PART, 1.0));
        }
    }
    let style = Type::new(SMALL_SIZE, svg::SOFT);
    let numbers = batches.iter().map(|batch| (batch[0].batch + 1).to_string());
    let long: Vec<String> = numbers.clone().map(|number| format!("batch {number}")).collect();
    let fits = |(name, (from, to)): (&String, &(f64, f64))| {
        text::width(name, SMALL_SIZE) + 6.0 <= to - from
    };
    let names = if long.iter().zip(&spans).all(fits) { long } else { numbers.collect() };
    // Where not every name has room, every second, third, ... is written.
    let widest = names.iter().map(|name| text::width(name, SMALL_SIZE) + 6.0).fold(0.0, f64::max);
    let narrowest = spans.iter().map(|(from, to)| to - from).fold(f64::INFINITY, f64::min);
    let stride = (widest / narrowest.max(0.1)).ceil() as usize;
    for (name, (from, to)) in names.iter().zip(&spans).step_by(stride.max(1)) {
        canvas.text(((from + to) / 2.0, panels[0].0 - 6.0), Anchor::Middle, style, name);
    }
}

/// One quantity over all batches, in the places of a panel.
struct Series<'a> {
    batches: &'a [&'a [CurvePoint]],
    x: &'a Axis,
    y: &'a Axis,
}

impl Series<'_> {
    /// Draws the quantity and returns the place and value it ends in.
    fn draw(
        &self,
        canvas: &mut Canvas,
        stroke: Stroke,
        value: &dyn Fn(&CurvePoint) -> Option<f64>,
    ) -> Option<(f64, f64)> {
        let value = |point: &CurvePoint| value(point).filter(|value| value.is_finite());
        for batch in self.batches {
            for run in batch.chunk_by(|a, b| value(a).is_some() == value(b).is_some()) {
                let places: Vec<(f64, f64)> = run
                    .iter()
                    .filter_map(|point| {
                        value(point).map(|v| (self.x.at(point.step as f64), self.y.at(v)))
                    })
                    .collect();
                if !places.is_empty() {
                    canvas.path(&steps(&places), stroke);
                }
            }
        }
        let (point, last) = self
            .batches
            .iter()
            .rev()
            .flat_map(|batch| batch.iter().rev())
            .find_map(|point| value(point).map(|value| (point, value)))?;
        let y = self.y.at(last);
        canvas.dot((self.x.at(point.step as f64), y), stroke.width * 1.6, stroke.color);
        Some((y, last))
    }
}

/// Returns the path of a value that holds until it changes.
///
/// Within one unit of width only the extremes and the last value are drawn; more cannot be seen.
fn steps(places: &[(f64, f64)]) -> String {
    let mut path = Path::default();
    for column in places.chunk_by(|a, b| a.0.floor() == b.0.floor()) {
        if column.len() <= 3 {
            column.iter().for_each(|&(x, y)| path.step(x, y));
            continue;
        }
        let (x, first) = column[0];
        let lowest = column.iter().map(|place| place.1).fold(first, f64::min);
        let highest = column.iter().map(|place| place.1).fold(first, f64::max);
        let (last_x, last) = column[column.len() - 1];
        for (x, y) in [(x, first), (x, lowest), (x, highest), (last_x, last)] {
            path.step(x, y);
        }
    }
    path.finish()
}

/// A path of horizontal and vertical strokes.
#[derive(Default)]
struct Path {
    commands: String,
    x: String,
    y: String,
}

impl Path {
    fn step(&mut self, x: f64, y: f64) {
        let (x, y) = (px(x), px(y));
        if self.commands.is_empty() {
            self.commands = format!("M{x} {y}");
        } else if y != self.y {
            self.commands.push_str(&format!("H{x}V{y}"));
        }
        (self.x, self.y) = (x, y);
    }

    fn finish(mut self) -> String {
        self.commands.push_str(&format!("H{}", self.x));
        self.commands
    }
}

fn subtitle(batches: &[&[CurvePoint]]) -> String {
    let last = || batches.iter().filter_map(|batch| batch.last());
    let labelled: usize = last().map(|point| point.num_labelled).sum();
    let iterations = last().map(|point| point.step).max().unwrap_or(0);
    let batches = match batches.len() {
        0 | 1 => String::new(),
        count => format!(" in {count} batches"),
    };
    let [labelled, iterations] = [labelled, iterations].map(|count| text::grouped(count as u64));
    format!("{labelled} examples labelled{batches}, {iterations} iterations")
}

fn description(chart: &SearchChart) -> String {
    let ends = match (chart.points.first(), chart.points.last()) {
        (Some(first), Some(last)) => {
            let accuracy = match last.accuracy {
                Some(rate) => format!(", accuracy {}%", text::number(rate * 100.0, 1)),
                None => String::new(),
            };
            format!(
                " The score goes from {} to {}{accuracy}.",
                short(first.score),
                short(last.score)
            )
        }
        _ => String::new(),
    };
    let constant = match &chart.best_constant {
        Some((name, score)) => {
            format!(" Giving every example the label {name} scores {}.", short(*score))
        }
        None => String::new(),
    };
    format!(
        "Two line charts over the iterations of the search: score and accuracy.{ends}{constant}"
    )
}
