//! The comparison chart: one bar per method with its interval over items and seeds, its runs as dots,
//! and what was published beside it.

use super::axis::Axis;
use super::bars::{percent, whisker};
use super::heading::Heading;
use super::svg::{Anchor, Canvas, Stroke, Type, px};
use super::{svg, text};
use crate::eval::{ColumnComparison, Comparison, Estimate, MethodComparison, PgrComparison, Role};

const LEFT: f64 = 62.0;
const MARGIN: f64 = 16.0;
/// Room beside the names of the lines across the chart.
const LINE_NAME_GAP: f64 = 6.0;
const MAX_LINE_NAME: f64 = 96.0;
const NAME_SIZE: f64 = 12.0;
const SMALL_SIZE: f64 = 11.0;
const VALUE_SIZE: f64 = 14.0;
const LINE: f64 = 15.0;
const PLOT_HEIGHT: f64 = 260.0;
/// Room above 100 % for the two lines of a bar that reaches it.
const HEADROOM: f64 = 44.0;
const MIN_PLOT_WIDTH: f64 = 380.0;
const SLOT_WIDTH: (f64, f64) = (92.0, 136.0);
/// The width the slots share while they are neither too narrow nor too wide.
const GOOD_PLOT_WIDTH: f64 = 600.0;
const BAR_SHARE: f64 = 0.5;
const MAX_BAR_WIDTH: f64 = 56.0;
const MAX_NAME_LINES: usize = 5;
/// The least room between two names.
const NAME_GAP: f64 = 12.0;
/// Below this width an interval needs a decimal to say anything.
const NARROW_INTERVAL: f64 = 0.04;
const DOT_RADIUS: f64 = 2.6;
const MAX_DOT_STEP: f64 = 8.0;
const MARK_RADIUS: f64 = 4.5;
/// What a value and its interval take above a bar.
const VALUE_HEIGHT: f64 = 36.0;

/// Returns the chart of one gold column as an SVG document.
///
/// Bars of the weak supervisor and the ceiling are grey, and with both of them lines at their heights
/// show what the methods recover of the gap; the share stands below the names. Names break into lines
/// and the figure grows with the methods, so that no text meets another.
pub fn comparison_bars(comparison: &Comparison, column: &ColumnComparison) -> String {
    let methods = &column.methods;
    let num = methods.len().max(1) as f64;
    let widest = methods.iter().map(|m| text::widest_part(&m.name, NAME_SIZE)).fold(0.0, f64::max);
    let slot = (GOOD_PLOT_WIDTH / num).max(widest + NAME_GAP).clamp(SLOT_WIDTH.0, SLOT_WIDTH.1);
    let plot_width = (slot * num).max(MIN_PLOT_WIDTH);
    let slot = plot_width / num;
    let across = lines_across(comparison, column);
    let line_room = across
        .iter()
        .map(|line| text::width(&line.name, SMALL_SIZE) + LINE_NAME_GAP)
        .fold(0.0, f64::max);
    let width = LEFT + plot_width + line_room + MARGIN;
    let names: Vec<Vec<String>> = methods
        .iter()
        .map(|m| text::wrap(&m.name, NAME_SIZE, slot - NAME_GAP, MAX_NAME_LINES))
        .collect();
    let name_lines = names.iter().map(Vec::len).max().unwrap_or(0);
    let pgr_lines = if column.pgr.is_empty() { 0 } else { 2 };

    let title = title(comparison, column);
    let heading = Heading::new(&title, &subtitle(column), LEFT, width - LEFT - MARGIN);
    let top = heading.end() + HEADROOM;
    let bottom = top + PLOT_HEIGHT;
    let names_end = bottom + 8.0 + NAME_SIZE * 0.4 + LINE * name_lines as f64;
    let height = names_end + LINE * f64::from(pgr_lines) + 12.0;

    let mut canvas = Canvas::new(width, height, &title, &description(column));
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

    let bar_width = (slot * BAR_SHARE).min(MAX_BAR_WIDTH);
    let centre = |index: usize| LEFT + slot * (index as f64 + 0.5);
    for (index, method) in methods.iter().enumerate() {
        let fill = if method.role == Role::Method { svg::BLUE } else { svg::GREY };
        let y = axis.at(percent(method.accuracy.value));
        let corner = (centre(index) - bar_width / 2.0, y);
        canvas.bar(corner, (bar_width, bottom - y), fill, &describe(method));
    }
    canvas.line((LEFT, bottom), (end, bottom), Stroke::new(svg::AXIS, 1.0));
    draw_across(&mut canvas, &across, &axis, (LEFT, end));
    for (index, method) in methods.iter().enumerate() {
        let x = centre(index);
        draw_method(&mut canvas, method, &axis, (x, bar_width));
        let mut y = bottom + 8.0 + NAME_SIZE * 0.8;
        for line in &names[index] {
            canvas.text((x, y), Anchor::Middle, Type::new(NAME_SIZE, svg::INK), line);
            y += LINE;
        }
        let pgr = column.pgr.iter().find(|of| of.method == method.name);
        for (line, words) in pgr.into_iter().flat_map(pgr_text).enumerate() {
            let y = names_end + LINE * (line as f64 + 0.6);
            canvas.text((x, y), Anchor::Middle, Type::new(SMALL_SIZE, svg::SOFT), &words);
        }
    }
    canvas.finish()
}

/// A named line from one side of the chart to the other.
struct Across {
    name: String,
    rate: f64,
    stroke: Stroke,
}

fn lines_across(comparison: &Comparison, column: &ColumnComparison) -> Vec<Across> {
    let mut lines = Vec::new();
    let num_labels = comparison.labels.len();
    if num_labels > 0 {
        let stroke = Stroke::new(svg::INK, 1.0).dashed("5 4");
        lines.push(Across { name: "chance".to_owned(), rate: 1.0 / num_labels as f64, stroke });
    }
    let of = |role| column.methods.iter().find(|method| method.role == role);
    if let Some((weak, ceiling)) = of(Role::Weak).zip(of(Role::Ceiling)) {
        for (method, role) in [(weak, "weak"), (ceiling, "ceiling")] {
            let stroke = Stroke::new(svg::AXIS, 1.0).dashed("2 3");
            let fits = text::width(&method.name, SMALL_SIZE) <= MAX_LINE_NAME;
            let name = if fits { method.name.clone() } else { role.to_owned() };
            lines.push(Across { name, rate: method.accuracy.value, stroke });
        }
    }
    lines
}

fn draw_across(canvas: &mut Canvas, lines: &[Across], axis: &Axis, (from, to): (f64, f64)) {
    let mut places: Vec<(f64, &Across)> =
        lines.iter().map(|line| (axis.at(percent(line.rate)), line)).collect();
    places.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut least = f64::NEG_INFINITY;
    for (y, line) in places {
        canvas.line((from, y), (to, y), line.stroke);
        // Names of lines that nearly meet stand below each other.
        let name_y = y.max(least);
        least = name_y + SMALL_SIZE * 1.2;
        let style = Type::new(SMALL_SIZE, svg::SOFT);
        canvas.text((to + LINE_NAME_GAP, name_y + 4.0), Anchor::Start, style, &line.name);
    }
}

/// Draws what lies over a method's bar: interval, runs, published number, and the value in words.
fn draw_method(
    canvas: &mut Canvas,
    method: &MethodComparison,
    axis: &Axis,
    (x, bar_width): (f64, f64),
) {
    let Estimate { value, low, high } = method.accuracy;
    let several = method.runs.len() > 1;
    let at = |rate: f64| axis.at(percent(rate));
    // Dots have the right part of the bar to themselves.
    let whisker_x = if several { x - bar_width * 0.27 } else { x };
    whisker(canvas, whisker_x, at(low), at(high));
    let mut highest = high.max(value);
    if several {
        let num = method.runs.len() as f64;
        let step = (bar_width * 0.6 / num).min(MAX_DOT_STEP);
        for (index, run) in method.runs.iter().enumerate() {
            let place = x + bar_width * 0.15 + step * (index as f64 - (num - 1.0) / 2.0);
            canvas.dot((place, at(run.accuracy)), DOT_RADIUS + 1.2, svg::WHITE);
            canvas.dot((place, at(run.accuracy)), DOT_RADIUS, svg::INK);
            highest = highest.max(run.accuracy);
        }
    }
    let mut base = at(highest) - 7.0;
    if let Some(published) = method.published {
        let (mark_x, mark_y) = (x + bar_width / 2.0 + MARK_RADIUS + 3.0, at(published));
        // The number above the mark must not meet the value above the bar.
        if mark_y - 20.0 < base && mark_y + MARK_RADIUS > base - VALUE_HEIGHT {
            base = base.min(mark_y - 22.0);
        }
        diamond(canvas, (mark_x, mark_y));
        let style = Type::new(SMALL_SIZE, svg::VERMILION).ground();
        let number = text::number(percent(published), 1);
        canvas.text((mark_x, mark_y - 8.0), Anchor::Middle, style, &number);
    }
    let small = Type::new(SMALL_SIZE, svg::SOFT).ground();
    canvas.text((x, base), Anchor::Middle, small, &interval(method.accuracy));
    let large = Type::new(VALUE_SIZE, svg::INK).bold().ground();
    canvas.text((x, base - 14.0), Anchor::Middle, large, &text::number(percent(value), 1));
}

fn diamond(canvas: &mut Canvas, (x, y): (f64, f64)) {
    // A stroke as wide as the shape fills it.
    let r = MARK_RADIUS / 2.0;
    let path = format!(
        "M{} {}L{} {}L{} {}L{} {}Z",
        px(x - r),
        px(y),
        px(x),
        px(y - r),
        px(x + r),
        px(y),
        px(x),
        px(y + r)
    );
    canvas.path(&path, Stroke::new(svg::VERMILION, MARK_RADIUS * 0.9));
}

fn interval(estimate: Estimate) -> String {
    let digits = usize::from(estimate.high - estimate.low < NARROW_INTERVAL);
    let end = |rate| text::number(percent(rate), digits);
    format!("[{}, {}]", end(estimate.low), end(estimate.high))
}

fn pgr_text(of: &PgrComparison) -> Vec<String> {
    match of.pgr {
        Some(Estimate { value, low, high }) => {
            let [value, low, high] = [value, low, high].map(|value| text::number(value, 2));
            vec![format!("PGR {value}"), format!("[{low}, {high}]")]
        }
        None => vec!["PGR".to_owned(), "undefined".to_owned()],
    }
}

fn title(comparison: &Comparison, column: &ColumnComparison) -> String {
    match comparison.columns.len() {
        0 | 1 => comparison.task.clone(),
        _ => format!("{}, gold column {}", comparison.task, column.gold_column),
    }
}

fn subtitle(column: &ColumnComparison) -> String {
    let several = column.methods.iter().any(|method| method.runs.len() > 1);
    let mut words = format!("n = {}", text::grouped(column.num_items as u64));
    words += "; whiskers: 95% intervals over items";
    if several {
        words += " and seeds; dots: single runs";
    }
    if column.methods.iter().any(|method| method.published.is_some()) {
        words += "; diamonds: published";
    }
    words
}

fn describe(method: &MethodComparison) -> String {
    let value = text::number(percent(method.accuracy.value), 1);
    let mut words = format!("{}: {value}% {}", method.name, interval(method.accuracy));
    if method.runs.len() > 1 {
        words += &format!(", {} runs", method.runs.len());
    }
    if let Some(published) = method.published {
        words += &format!(", published {}%", text::number(percent(published), 1));
    }
    words
}

fn description(column: &ColumnComparison) -> String {
    let methods: Vec<String> = column.methods.iter().map(describe).collect();
    format!(
        "Bar chart of accuracy in percent on {} items with 95% intervals. {}.",
        column.num_items,
        methods.join("; ")
    )
}
