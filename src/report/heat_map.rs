//! The reliability chart: the mean weight of answers, by truth (rows) and answer (columns).

use super::axis::Axis;
use super::heading::Heading;
use super::svg::{Anchor, Canvas, Stroke, Type, px};
use super::{svg, text};
use crate::eval::{ReliabilityMap, WeightCell};

const CELL_WIDTH: (f64, f64) = (38.0, 112.0);
const CELL_HEIGHT: (f64, f64) = (32.0, 56.0);
const GOOD_GRID: (f64, f64) = (480.0, 360.0);
/// Below this width of a cell its numbers are small.
const NARROW_CELL: f64 = 46.0;
/// From here on a name breaks into lines, also within a word; below it stands upright.
const WIDE_CELL: f64 = 76.0;
const MIN_WIDTH: f64 = 460.0;
const NAME_SIZE: f64 = 12.0;
const SMALL_SIZE: f64 = 11.0;
const LINE: f64 = 15.0;
const MAX_ROW_NAME: f64 = 150.0;
const MAX_COLUMN_NAME: f64 = 120.0;
/// Holds the name of the rows.
const LEFT: f64 = 34.0;
/// Sets the answers that could not be read apart from the labels.
const NONE_GAP: f64 = 6.0;
const SCALE_GAP: f64 = 26.0;
const SCALE_SIZE: (f64, f64) = (14.0, 200.0);
/// Holds the numbers of the scale.
const SCALE_ROOM: f64 = 48.0;
const NONE: &str = "none";

/// Light to dark, in equal steps: the Blues of ColorBrewer, which also tell apart in grey.
const SCALE: [[u8; 3]; 5] = [
    [0xf7, 0xfb, 0xff],
    [0xc6, 0xdb, 0xef],
    [0x6b, 0xae, 0xd6],
    [0x21, 0x71, 0xb5],
    [8, 0x30, 0x6b],
];
/// From here on the colour is too dark for dark type.
const DARK_FROM: f64 = 0.66;

/// What the reliability chart shows.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatMap {
    /// The heading, such as task and model.
    pub title: String,
    /// Mean weights by truth and answer.
    pub map: ReliabilityMap,
}

/// Returns the reliability chart as an SVG document.
///
/// Each cell holds the mean weight and, in small type, the number of answers; those of right answers
/// are outlined. The scale goes from 0 to 1, farther where weights do. Answers that could not be read
/// have a column of their own, where there are any.
pub fn heat_map(chart: &HeatMap) -> String {
    let map = &chart.map;
    let unparsed = map.cells.iter().filter_map(|row| row.last()).any(|cell| cell.num_rows > 0);
    let num_rows = map.labels.len();
    let columns: Vec<&str> =
        map.labels.iter().map(String::as_str).chain(unparsed.then_some(NONE)).collect();
    let spread = |good: f64, num: usize, (least, most): (f64, f64)| {
        (good / num.max(1) as f64).clamp(least, most)
    };
    let cell = (
        spread(GOOD_GRID.0, columns.len(), CELL_WIDTH),
        spread(GOOD_GRID.1, num_rows, CELL_HEIGHT),
    );
    let row_name = map.labels.iter().map(|label| text::width(label, NAME_SIZE)).fold(0.0, f64::max);
    let left = LEFT + row_name.min(MAX_ROW_NAME) + 8.0;
    let gap = if unparsed { NONE_GAP } else { 0.0 };
    let grid_width = cell.0 * columns.len() as f64 + gap;
    let width = (left + grid_width + SCALE_GAP + SCALE_SIZE.0 + SCALE_ROOM).max(MIN_WIDTH);
    let range = range(map);
    let heading = Heading::new(&chart.title, &subtitle(unparsed), LEFT, width - LEFT - 16.0);
    let top = heading.end() + 14.0;
    let bottom = top + cell.1 * num_rows as f64;
    let (names, name_height) = column_names(&columns, cell.0);
    let title_y = bottom + 8.0 + name_height + 18.0;

    // One row of cells is too low for the scale.
    let scale_height = SCALE_SIZE.1.min((bottom - top).max(CELL_HEIGHT.1 * 2.0));
    let end = (title_y + 12.0).max(top + scale_height + 12.0);

    let mut canvas = Canvas::new(width, end, &chart.title, &description(map, &columns));
    heading.draw(&mut canvas);
    let x =
        |column: usize| left + cell.0 * column as f64 + if column == num_rows { gap } else { 0.0 };
    let y = |row: usize| top + cell.1 * row as f64;
    for (row, cells) in map.cells.iter().enumerate() {
        let lines = text::wrap(&map.labels[row], NAME_SIZE, MAX_ROW_NAME, 2);
        let first = y(row) + cell.1 / 2.0 - LINE * (lines.len() as f64 - 1.0) / 2.0;
        for (index, line) in lines.iter().enumerate() {
            let place = (left - 8.0, first + LINE * index as f64 + NAME_SIZE * 0.35);
            canvas.text(place, Anchor::End, Type::new(NAME_SIZE, svg::INK), line);
        }
        for (column, (value, answer)) in cells.iter().zip(&columns).enumerate() {
            let tip = format!("truth {}, answer {answer}: {}", map.labels[row], describe(value));
            draw_cell(&mut canvas, (x(column), y(row)), cell, value, range, &tip);
        }
    }
    // Over the neighbours' edges.
    for place in 0..num_rows {
        let (from, to) = ((x(place) + 1.0, y(place) + 1.0), (x(place) + cell.0, y(place) + cell.1));
        let outline = format!(
            "M{} {}H{}V{}H{}Z",
            px(from.0),
            px(from.1),
            px(to.0 - 1.0),
            px(to.1 - 1.0),
            px(from.0)
        );
        canvas.path(&outline, Stroke::new(svg::ON_LIGHT, 1.6));
    }
    for (column, lines) in names.iter().enumerate() {
        let middle = x(column) + cell.0 / 2.0;
        let style = Type::new(NAME_SIZE, svg::INK);
        match lines {
            Name::Level(lines) => {
                for (index, line) in lines.iter().enumerate() {
                    let y = bottom + 8.0 + NAME_SIZE * 0.8 + LINE * index as f64;
                    canvas.text((middle, y), Anchor::Middle, style, line);
                }
            }
            Name::Upright(line) => {
                let place = (middle + NAME_SIZE * 0.35, bottom + 8.0);
                canvas.text_upwards_to(place, style, line);
            }
        }
    }
    let style = Type::new(NAME_SIZE, svg::SOFT);
    canvas.text_upwards((14.0, (top + bottom) / 2.0), style, "truth");
    canvas.text((left + grid_width / 2.0, title_y), Anchor::Middle, style, "weak answer");
    scale(&mut canvas, (left + grid_width + SCALE_GAP, top), scale_height, range);
    canvas.finish()
}

fn draw_cell(
    canvas: &mut Canvas,
    (x, y): (f64, f64),
    (width, height): (f64, f64),
    cell: &WeightCell,
    (low, high): (f64, f64),
    tip: &str,
) {
    let middle = x + width / 2.0;
    let size = (width - 1.0, height - 1.0);
    let Some(weight) = cell.mean_weight else {
        canvas.bar((x, y), size, svg::GRID, tip);
        let place = (middle, y + height / 2.0 + 4.0);
        return canvas.text(place, Anchor::Middle, Type::new(NAME_SIZE, svg::AXIS), "\u{2013}");
    };
    let share = ((weight - low) / (high - low)).clamp(0.0, 1.0);
    canvas.bar((x, y), size, &colour(share), tip);
    let (large, small) = if width < NARROW_CELL { (11.0, 8.5) } else { (13.5, 10.0) };
    let fill = if share >= DARK_FROM { svg::ON_DARK } else { svg::ON_LIGHT };
    let value = text::fit(&number(weight, low, high), large, width - 2.0);
    let place = (middle, y + height / 2.0);
    canvas.text(place, Anchor::Middle, Type::new(large, fill).bold(), &value);
    let place = (middle, y + height / 2.0 + small * 1.25);
    canvas.text(place, Anchor::Middle, Type::new(small, fill), &count(cell.num_rows));
}

/// The scale beside the cells.
fn scale(canvas: &mut Canvas, (x, top): (f64, f64), height: f64, (low, high): (f64, f64)) {
    let stops: Vec<String> =
        (0..SCALE.len()).map(|step| colour(step as f64 / (SCALE.len() - 1) as f64)).collect();
    canvas.gradient((x, top), (SCALE_SIZE.0, height), &stops);
    let axis = Axis::new((low, high), (top + height, top));
    for (value, label) in axis.ticks(6, false) {
        let y = axis.at(value);
        let end = x + SCALE_SIZE.0;
        canvas.line((end, y), (end + 4.0, y), Stroke::new(svg::AXIS, 1.0));
        let style = Type::new(SMALL_SIZE, svg::SOFT);
        canvas.text((end + 7.0, y + 4.0), Anchor::Start, style, &label);
    }
}

enum Name {
    Level(Vec<String>),
    Upright(String),
}

/// The names of the columns and the height they need.
fn column_names(columns: &[&str], width: f64) -> (Vec<Name>, f64) {
    let room = width - 6.0;
    if width >= WIDE_CELL || columns.iter().all(|name| text::widest_part(name, NAME_SIZE) <= room) {
        let lines: Vec<Vec<String>> =
            columns.iter().map(|name| text::wrap(name, NAME_SIZE, room, 3)).collect();
        let most = lines.iter().map(Vec::len).max().unwrap_or(1);
        return (lines.into_iter().map(Name::Level).collect(), LINE * most as f64);
    }
    let names: Vec<String> =
        columns.iter().map(|name| text::fit(name, NAME_SIZE, MAX_COLUMN_NAME)).collect();
    let height = names.iter().map(|name| text::width(name, NAME_SIZE)).fold(0.0, f64::max);
    (names.into_iter().map(Name::Upright).collect(), height)
}

/// From 0 to 1, and farther where a weight lies farther.
fn range(map: &ReliabilityMap) -> (f64, f64) {
    let weights = map.cells.iter().flatten().filter_map(|cell| cell.mean_weight);
    weights
        .filter(|weight| weight.is_finite())
        .fold((0.0, 1.0), |(low, high), weight| (weight.min(low), weight.max(high)))
}

fn colour(share: f64) -> String {
    let place = share.clamp(0.0, 1.0) * (SCALE.len() - 1) as f64;
    let step = (place as usize).min(SCALE.len() - 2);
    let mix = |i: usize| {
        let [from, to] = [SCALE[step][i], SCALE[step + 1][i]].map(f64::from);
        (from + (place - step as f64) * (to - from)).round() as u8
    };
    format!("#{:02x}{:02x}{:02x}", mix(0), mix(1), mix(2))
}

fn number(weight: f64, low: f64, high: f64) -> String {
    let most = low.abs().max(high.abs());
    text::number(weight, if most < 10.0 { 2 } else { usize::from(most < 100.0) })
}

fn count(num: usize) -> String {
    match num {
        0..10_000 => text::grouped(num as u64),
        10_000..1_000_000 => {
            format!("{}k", text::number(num as f64 / 1e3, usize::from(num < 100_000)))
        }
        _ => format!("{}M", text::number(num as f64 / 1e6, 1)),
    }
}

fn describe(cell: &WeightCell) -> String {
    match cell.mean_weight {
        Some(weight) => format!("{} ({} answers)", text::number(weight, 3), cell.num_rows),
        None => "no such answer".to_owned(),
    }
}

fn subtitle(unparsed: bool) -> String {
    let none = if unparsed { format!("; {NONE}: unreadable") } else { String::new() };
    format!("mean weight over number of answers; right ones outlined{none}")
}

fn description(map: &ReliabilityMap, columns: &[&str]) -> String {
    let rows: Vec<String> = map
        .labels
        .iter()
        .zip(&map.cells)
        .map(|(truth, cells)| {
            let cells: Vec<String> = columns
                .iter()
                .zip(cells)
                .map(|(answer, cell)| format!("{answer} {}", describe(cell)))
                .collect();
            format!("truth {truth}: {}", cells.join(", "))
        })
        .collect();
    format!("Heat map of the mean weight of answers by truth and answer. {}.", rows.join("; "))
}
