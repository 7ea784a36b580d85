//! How wide text is and where it breaks: enough typography to keep labels apart.
//!
//! The SVG does not know which font its viewer has, so widths are estimates with some slack.

/// Advance widths of the ASCII characters from space to `~` in Noto Sans, in 1/2048 em.
const ADVANCES: [u16; 95] = [
    532, 551, 836, 1323, 1171, 1702, 1499, 461, 614, 614, 1128, 1171, 549, 659, 549, 762, 1171,
    1171, 1171, 1171, 1171, 1171, 1171, 1171, 1171, 1171, 549, 549, 1171, 1171, 1171, 889, 1841,
    1309, 1331, 1294, 1495, 1139, 1063, 1491, 1518, 694, 559, 1268, 1073, 1858, 1556, 1599, 1239,
    1599, 1274, 1124, 1139, 1497, 1229, 1905, 1200, 1159, 1171, 674, 762, 674, 1171, 909, 1188,
    1149, 1260, 983, 1260, 1155, 705, 1260, 1266, 528, 528, 1094, 528, 1915, 1266, 1239, 1260,
    1260, 846, 981, 739, 1266, 1040, 1610, 1083, 1044, 963, 778, 1128, 778, 1171,
];
/// Room for viewers whose sans-serif font is wider than Noto Sans.
const SLACK: f64 = 1.08;
/// How much wider bold type may be, in the widest of the common fonts (DejaVu Sans).
pub(super) const BOLD: f64 = 1.15;
/// The width of other letters, in em: Greek and Cyrillic, and full-width scripts from U+2E80 on.
const OTHER_EM: f64 = 0.62;
const FULL_WIDTH_EM: f64 = 1.0;
const FIRST_FULL_WIDTH: char = '\u{2e80}';
/// What a long word may break after.
const BREAKS: [char; 3] = ['-', '_', '/'];

/// Returns the width of `text` at a font size, both in user units.
pub(super) fn width(text: &str, size: f64) -> f64 {
    text.chars().map(em).sum::<f64>() * size * SLACK
}

fn em(letter: char) -> f64 {
    let ascii = u32::from(letter).checked_sub(u32::from(' ')).map(|index| index as usize);
    match ascii.and_then(|index| ADVANCES.get(index)) {
        Some(&advance) => f64::from(advance) / 2048.0,
        None if letter >= FIRST_FULL_WIDTH => FULL_WIDTH_EM,
        None => OTHER_EM,
    }
}

/// Returns `text`, cut with an ellipsis where it is wider than `room`.
pub(super) fn fit(text: &str, size: f64, room: f64) -> String {
    if width(text, size) <= room {
        return text.to_owned();
    }
    let mut kept: String = text.to_owned();
    while !kept.is_empty() && width(&kept, size) + width("\u{2026}", size) > room {
        kept.pop();
    }
    format!("{}\u{2026}", kept.trim_end())
}

/// Returns the lines of `text` in a column `room` wide, cut after `max_lines`.
///
/// Lines break at spaces; a word wider than the column breaks after `-`, `_` or `/`, and a part
/// wider than the column anywhere.
pub(super) fn wrap(text: &str, size: f64, room: f64, max_lines: usize) -> Vec<String> {
    let fits = |line: &str, more: &str| width(&format!("{line}{}", more.trim_end()), size) <= room;
    let mut lines = vec![String::new()];
    for word in text.split_inclusive(' ') {
        let parts: Vec<&str> =
            if fits("", word) { vec![word] } else { word.split_inclusive(BREAKS).collect() };
        for part in parts {
            let whole = fits("", part);
            for piece in if whole { vec![part] } else { part.split_inclusive(|_| true).collect() } {
                match lines.last_mut() {
                    Some(line) if line.is_empty() || fits(line, piece) => line.push_str(piece),
                    _ => lines.push(piece.to_owned()),
                }
            }
        }
    }
    if lines.len() > max_lines {
        let rest = lines.split_off(max_lines.saturating_sub(1)).concat();
        lines.push(fit(&rest, size, room));
    }
    lines.retain(|line| !line.trim().is_empty());
    lines.iter().map(|line| line.trim().to_owned()).collect()
}

/// Returns the width of the widest part of `text` that a line would rather not break.
pub(super) fn widest_part(text: &str, size: f64) -> f64 {
    let parts = text.split_inclusive(' ').flat_map(|word| word.trim_end().split_inclusive(BREAKS));
    parts.map(|part| width(part, size)).fold(0.0, f64::max)
}

/// Returns a number with a typographic minus and `digits` decimals.
pub(super) fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    match text.strip_prefix('-') {
        // A negative number that rounds to zero is zero.
        Some(magnitude) if magnitude.bytes().all(|byte| matches!(byte, b'0' | b'.')) => {
            magnitude.to_owned()
        }
        Some(magnitude) => format!("\u{2212}{magnitude}"),
        None => text,
    }
}

/// Returns a whole number with commas between the thousands.
pub(super) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapped_lines_fit_and_lose_nothing() {
        let name = "few-shot with 8 gold demonstrations / gemma-3-270m_instruct";
        for room in [40.0, 64.0, 120.0] {
            let lines = wrap(name, 12.0, room, 99);
            assert!(lines.iter().all(|line| width(line, 12.0) <= room), "{lines:?}");
            let glue = |text: &str| text.replace(' ', "");
            assert_eq!(glue(&lines.concat()), glue(name));
        }
        assert_eq!(wrap("zero-shot", 12.0, 300.0, 3), ["zero-shot"]);
        assert_eq!(wrap("ICM (seed-0)", 12.0, 60.0, 3), ["ICM", "(seed-0)"]);
    }

    #[test]
    fn too_many_lines_end_in_an_ellipsis() {
        let lines = wrap("a rather long name that never ends at all", 12.0, 50.0, 2);
        assert_eq!(lines.len(), 2);
        assert!(lines[1].ends_with('\u{2026}'));
        assert!(lines.iter().all(|line| width(line, 12.0) <= 50.0));
    }

    #[test]
    fn numbers_read_as_in_print() {
        assert_eq!(number(-3.25, 1), "\u{2212}3.2");
        assert_eq!(number(-0.01, 1), "0.0");
        assert_eq!(number(12.0, 0), "12");
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
