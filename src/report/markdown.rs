//! Names and texts of others inside Markdown and its YAML head, where they must stay text.

/// Returns `text` as a code span on one line that may stand in a table's cell.
///
/// # Source
/// CommonMark 0.31, 6.1: a span is fenced by more back-ticks than stand together inside it; GitHub's
/// tables split cells at `|` before spans are read, and take `\|` for the character.
pub fn code_span(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let longest = line.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    // A span that begins or ends in a back-tick or is blank needs a blank that is taken off again.
    let pad = if longest > 0 || line.trim().is_empty() { " " } else { "" };
    format!("{fence}{pad}{}{pad}{fence}", line.replace('|', "\\|"))
}

/// Returns `text` as plain words of Markdown: what would begin markup or HTML has a backslash before it.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// Returns `text` as a YAML scalar: plain where it can only be read as that text, else in double quotes.
///
/// # Source
/// YAML 1.2.2, 7.3.1: a double-quoted scalar takes JSON's escapes.
pub fn yaml_scalar(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    // Words that YAML reads as something else than text.
    let is_word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word));
    if begins && !is_word && text.chars().all(is_plain) {
        return text.to_owned();
    }
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_fenced_by_more_than_they_hold() {
        assert_eq!(code_span("models/a b"), "`models/a b`");
        assert_eq!(code_span("a`b``c"), "``` a`b``c ```");
        assert_eq!(code_span("a|b\n---\nc"), "`a\\|b --- c`");
        assert_eq!(code_span(" "), "`   `");
    }

    #[test]
    fn words_keep_to_themselves() {
        assert_eq!(plain("<script>[x](y)|`*_#\\"), "\\<script\\>\\[x\\](y)\\|\\`\\*\\_\\#\\\\");
        assert_eq!(plain("a\nb"), "a b");
    }

    #[test]
    fn scalars_are_read_as_the_text_they_are() {
        assert_eq!(yaml_scalar("models/gemma-3-270m"), "models/gemma-3-270m");
        assert_eq!(yaml_scalar("a: b\n---\nx"), "\"a: b\\n---\\nx\"");
        for text in ["", "no", "1.5", "-", "a #b", "[x]", "~", "é\"", "http://x"] {
            let quoted = yaml_scalar(text);
            assert!(quoted.starts_with('"'), "{quoted}");
            assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), text);
        }
    }
}
