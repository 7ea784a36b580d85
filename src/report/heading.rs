//! Title and subtitle of a figure, broken into lines.

use super::svg::{self, Anchor, Canvas, Type};
use super::text;

const TITLE_SIZE: f64 = 16.0;
const TITLE_LINE: f64 = 21.0;
const SUBTITLE_SIZE: f64 = 12.0;
const SUBTITLE_LINE: f64 = 15.0;
const TOP: f64 = 10.0;
const GAP: f64 = 4.0;
const MAX_LINES: usize = 2;

/// The words over a figure.
pub(super) struct Heading {
    left: f64,
    title: Vec<String>,
    subtitle: Vec<String>,
}

impl Heading {
    /// Returns the heading that begins at `left` and is at most `room` wide.
    pub(super) fn new(title: &str, subtitle: &str, left: f64, room: f64) -> Self {
        Self {
            left,
            title: text::wrap(title, TITLE_SIZE * text::BOLD, room, MAX_LINES),
            subtitle: text::wrap(subtitle, SUBTITLE_SIZE, room, MAX_LINES),
        }
    }

    /// Returns where it ends.
    pub(super) fn end(&self) -> f64 {
        self.title_end() + GAP + SUBTITLE_LINE * self.subtitle.len() as f64
    }

    fn title_end(&self) -> f64 {
        TOP + TITLE_LINE * self.title.len() as f64
    }

    /// Writes it.
    pub(super) fn draw(&self, canvas: &mut Canvas) {
        for (index, line) in self.title.iter().enumerate() {
            let place = (self.left, TOP + TITLE_LINE * (index as f64 + 0.8));
            canvas.text(place, Anchor::Start, Type::new(TITLE_SIZE, svg::INK).bold(), line);
        }
        for (index, line) in self.subtitle.iter().enumerate() {
            let place = (self.left, self.title_end() + GAP + SUBTITLE_LINE * (index as f64 + 0.75));
            canvas.text(place, Anchor::Start, Type::new(SUBTITLE_SIZE, svg::SOFT), line);
        }
    }
}
