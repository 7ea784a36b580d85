//! Text that a terminal shows and does not obey.
//!
//! Ids, texts, file names and answers of servers come from others, and a terminal takes some of their
//! characters for commands: to move, to erase, to set a title, to turn the order of what follows. All
//! that this program prints goes through here.

use std::borrow::Cow;
use std::fmt::Write;

/// Returns `text` with its control characters, but tab and line feed, and the marks of writing direction
/// spelled as JSON does (`\u001b`), so that printed JSON stays what it is.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_command) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_command(c) {
            // All of them are in the basic plane, so four digits hold them.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

fn is_command(c: char) -> bool {
    let is_direction = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    // Separators of lines and paragraphs break a line where no line feed is seen.
    let is_separator = matches!(c, '\u{2028}' | '\u{2029}');
    (c.is_control() && c != '\n' && c != '\t') || is_direction || is_separator
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_spelled_and_text_is_left() {
        let text = "naïve 東京 🙂\t|\n";
        assert!(matches!(printable(text), Cow::Borrowed(same) if same == text));
        assert_eq!(printable("\u{1b}[2J\r\u{7}a\u{9b}31m"), "\\u001b[2J\\u000d\\u0007a\\u009b31m");
        assert_eq!(printable("a\u{202e}b\u{2066}\u{7f}\0"), "a\\u202eb\\u2066\\u007f\\u0000");
    }

    #[test]
    fn printed_json_stays_what_it_is() {
        let value = serde_json::json!({ "id": "a\u{9b}b\u{202e}\u{7f}\u{1b}\n" });
        let printed = printable(&value.to_string()).into_owned();
        assert!(!printed.contains(is_command), "{printed}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&printed).unwrap(), value);
    }
}
