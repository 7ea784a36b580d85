//! A small SVG writer: escaped, well-formed, and the same bytes for the same drawing.
//!
//! It knows shapes and text, not charts.

use std::fmt::Write as _;

use super::text;

/// The sans-serif fonts a viewer is asked for, best first.
const FONTS: &str = "Helvetica Neue, Helvetica, Arial, sans-serif";

/// The ground.
pub(super) const WHITE: &str = "#ffffff";
/// Ink of titles and values.
pub(super) const INK: &str = "#1f2328";
/// Ink on colours that are the same on a light and on a dark page; told apart from [`INK`] by its code.
pub(super) const ON_LIGHT: &str = "#1f2329";
/// Ink on dark colours that are the same on a light and on a dark page.
pub(super) const ON_DARK: &str = "#fefefe";
/// Ink of axis labels and remarks; 5:1 against white.
pub(super) const SOFT: &str = "#626b75";
/// Axes and ticks.
pub(super) const AXIS: &str = "#8b949e";
/// Lines that part sections.
pub(super) const PART: &str = "#c3cad1";
/// Grid lines.
pub(super) const GRID: &str = "#e8ebee";
/// The first data colour: blue of the Okabe-Ito palette.
pub(super) const BLUE: &str = "#0072b2";
/// The first data colour for what is not in focus.
pub(super) const PALE_BLUE: &str = "#a9c6da";
/// The second data colour: vermilion of the Okabe-Ito palette.
pub(super) const VERMILION: &str = "#d55e00";
/// The third data colour, for context.
pub(super) const GREY: &str = "#9aa2ab";

/// Where a text stands relative to its x.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text looks.
#[derive(Clone, Copy)]
pub(super) struct Type {
    pub size: f64,
    pub bold: bool,
    pub fill: &'static str,
    /// A white ground that keeps text legible where lines pass behind it.
    pub ground: bool,
}

impl Type {
    /// Returns plain text of a size and colour.
    pub(super) fn new(size: f64, fill: &'static str) -> Self {
        Self { size, bold: false, fill, ground: false }
    }

    /// Returns the same text in bold.
    pub(super) fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    /// Returns the same text on a white ground.
    pub(super) fn ground(self) -> Self {
        Self { ground: true, ..self }
    }
}

/// How a line looks.
#[derive(Clone, Copy)]
pub(super) struct Stroke {
    pub color: &'static str,
    pub width: f64,
    pub dash: Option<&'static str>,
}

impl Stroke {
    /// Returns a solid line.
    pub(super) fn new(color: &'static str, width: f64) -> Self {
        Self { color, width, dash: None }
    }

    /// Returns the same line in dashes.
    pub(super) fn dashed(self, dash: &'static str) -> Self {
        Self { dash: Some(dash), ..self }
    }

    fn attributes(self) -> String {
        let mut text = format!(r#"stroke="{}" stroke-width="{}""#, self.color, px(self.width));
        if let Some(dash) = self.dash {
            let _ = write!(text, r#" stroke-dasharray="{dash}""#);
        }
        text
    }
}

/// A drawing under way.
pub(super) struct Canvas {
    width: f64,
    height: f64,
    title: String,
    description: String,
    body: String,
}

impl Canvas {
    /// Returns an empty drawing; title and description are what a screen reader says.
    pub(super) fn new(width: f64, height: f64, title: &str, description: &str) -> Self {
        Self {
            // Whole units, so that the ground fills the picture's last row and column.
            width: width.ceil(),
            height: height.ceil(),
            title: title.to_owned(),
            description: description.to_owned(),
            body: String::new(),
        }
    }

    /// Draws a straight line.
    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: Stroke) {
        let (x1, y1, x2, y2) = (px(from.0), px(from.1), px(to.0), px(to.1));
        let attributes = stroke.attributes();
        self.push(&format!(r#"<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" {attributes}/>"#));
    }

    /// Draws an open path from its SVG commands.
    pub(super) fn path(&mut self, commands: &str, stroke: Stroke) {
        let attributes = stroke.attributes();
        let join = r#"fill="none" stroke-linejoin="round" stroke-linecap="round""#;
        self.push(&format!(r#"<path d="{commands}" {join} {attributes}/>"#));
    }

    /// Draws a filled rectangle; the tip shows when a pointer rests on it.
    pub(super) fn bar(&mut self, corner: (f64, f64), size: (f64, f64), fill: &str, tip: &str) {
        let (x, y, w, h) = (px(corner.0), px(corner.1), px(size.0), px(size.1));
        let tip = escape(tip);
        self.push(&format!(
            r#"<rect x="{x}" y="{y}" width="{w}" height="{h}" fill="{fill}"><title>{tip}</title></rect>"#
        ));
    }

    /// Draws a rectangle whose colour goes through `stops` from bottom to top; one to a drawing.
    pub(super) fn gradient(&mut self, corner: (f64, f64), size: (f64, f64), stops: &[String]) {
        let last = stops.len().saturating_sub(1).max(1) as f64;
        let stops: String = stops
            .iter()
            .enumerate()
            .map(|(i, colour)| {
                format!(r#"<stop offset="{}" stop-color="{colour}"/>"#, px(i as f64 / last))
            })
            .collect();
        self.push(&format!(
            r#"<linearGradient id="scale" x1="0" y1="1" x2="0" y2="0">{stops}</linearGradient>"#
        ));
        let (x, y, w, h) = (px(corner.0), px(corner.1), px(size.0), px(size.1));
        self.push(&format!(
            r#"<rect x="{x}" y="{y}" width="{w}" height="{h}" fill="url(#scale)"/>"#
        ));
    }

    /// Draws a filled circle.
    pub(super) fn dot(&mut self, centre: (f64, f64), radius: f64, fill: &str) {
        let (x, y, r) = (px(centre.0), px(centre.1), px(radius));
        self.push(&format!(r#"<circle cx="{x}" cy="{y}" r="{r}" fill="{fill}"/>"#));
    }

    /// Writes a text with its baseline at a place.
    pub(super) fn text(&mut self, place: (f64, f64), anchor: Anchor, style: Type, words: &str) {
        if style.ground {
            // An outline drawn below the letters would look finer, but some viewers draw it above.
            let width = text::width(words, style.size);
            let left = match anchor {
                Anchor::Start => place.0,
                Anchor::Middle => place.0 - width / 2.0,
                Anchor::End => place.0 - width,
            };
            let (x, y) = (px(left), px(place.1 - style.size * 0.82));
            let (w, h) = (px(width), px(style.size * 1.1));
            let fill = WHITE;
            self.push(&format!(
                r#"<rect x="{x}" y="{y}" width="{w}" height="{h}" fill="{fill}"/>"#
            ));
        }
        let element = text_element(&px(place.0), &px(place.1), "", anchor, style, words);
        self.push(&element);
    }

    /// Writes a text that reads upwards, centred on a place.
    pub(super) fn text_upwards(&mut self, place: (f64, f64), style: Type, text: &str) {
        self.turned(place, Anchor::Middle, style, text);
    }

    /// Writes a text that reads upwards and ends at a place.
    pub(super) fn text_upwards_to(&mut self, place: (f64, f64), style: Type, text: &str) {
        self.turned(place, Anchor::End, style, text);
    }

    fn turned(&mut self, place: (f64, f64), anchor: Anchor, style: Type, text: &str) {
        let (x, y) = (px(place.0), px(place.1));
        let turn = format!(r#" transform="rotate(-90 {x} {y})""#);
        let element = text_element(&x, &y, &turn, anchor, style, text);
        self.push(&element);
    }

    /// Returns the SVG document.
    pub(super) fn finish(self) -> String {
        let (w, h) = (px(self.width), px(self.height));
        let title = escape(&self.title);
        let description = escape(&self.description);
        format!(
            concat!(
                r#"<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" "#,
                r#"viewBox="0 0 {w} {h}" role="img" font-family="{fonts}">"#,
                "\n<title>{title}</title>\n<desc>{description}</desc>\n",
                r#"<rect width="{w}" height="{h}" fill="{white}"/>"#,
                "\n{body}</svg>\n"
            ),
            w = w,
            h = h,
            fonts = FONTS,
            white = WHITE,
            title = title,
            description = description,
            body = self.body,
        )
    }

    fn push(&mut self, element: &str) {
        self.body.push_str(element);
        self.body.push('\n');
    }
}

fn text_element(x: &str, y: &str, extra: &str, anchor: Anchor, style: Type, text: &str) -> String {
    let anchor = match anchor {
        Anchor::Start => "",
        Anchor::Middle => r#" text-anchor="middle""#,
        Anchor::End => r#" text-anchor="end""#,
    };
    let weight = if style.bold { r#" font-weight="bold""# } else { "" };
    let (size, fill, text) = (px(style.size), style.fill, escape(text));
    format!(
        r#"<text x="{x}" y="{y}"{extra}{anchor} font-size="{size}"{weight} fill="{fill}">{text}</text>"#
    )
}

/// Returns a coordinate with at most two decimals, the same text on every machine.
pub(super) fn px(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// Returns text that is safe between tags and in attributes; characters XML forbids are replaced.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\t' | '\n' | '\r' => escaped.push(' '),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            _ => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_are_short_and_never_minus_zero() {
        let texts = [px(1.0), px(1.005), px(-0.001), px(12.3456), px(100.0), px(-2.5)];
        assert_eq!(texts, ["1", "1", "0", "12.35", "100", "-2.5"]);
    }

    #[test]
    fn forbidden_characters_do_not_reach_the_document() {
        assert_eq!(escape("a<b&\"c\"\u{1}'\n"), "a&lt;b&amp;&quot;c&quot;\u{fffd}&#39; ");
    }
}
