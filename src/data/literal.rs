//! Lists and maps that a table keeps as the text Python printed.
//!
//! A CSV cell has no lists, so data sets that went through pandas hold `['a', "b"]`, numpy's
//! `['a' 'b']` or `defaultdict(<class 'list'>, {'a': [1.0]})`. Only literals are understood:
//! nothing is evaluated.

use serde_json::{Map, Number, Value};

/// Lists inside lists that are followed; deeper text is no data set's.
const MAX_DEPTH: usize = 16;

/// Returns the list or map that `text` spells, `None` if it spells neither.
pub(super) fn parse_literal(text: &str) -> Option<Value> {
    let text = text.trim();
    let text = match text.strip_prefix("defaultdict(") {
        Some(inside) => {
            let begin = inside.find('{')?;
            inside[begin..].strip_suffix(')')?
        }
        None => text,
    };
    if !text.starts_with(['[', '{', '(']) {
        return None;
    }
    let mut parser = Parser { rest: text };
    let value = parser.value(0)?;
    parser.skip_blanks();
    parser.rest.is_empty().then_some(value)
}

struct Parser<'t> {
    rest: &'t str,
}

impl Parser<'_> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, mark: char) -> bool {
        self.skip_blanks();
        match self.rest.strip_prefix(mark) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        self.skip_blanks();
        match self.rest.chars().next()? {
            _ if depth > MAX_DEPTH => None,
            '[' => self.list('[', ']', depth),
            '(' => self.list('(', ')', depth),
            '{' => self.map(depth),
            '\'' | '"' => self.text().map(Value::String),
            _ => self.word(),
        }
    }

    /// Items are separated by commas or, as numpy prints them, by blanks.
    fn list(&mut self, open: char, close: char, depth: usize) -> Option<Value> {
        self.take(open);
        let mut items = Vec::new();
        while !self.take(close) {
            items.push(self.value(depth + 1)?);
            self.take(',');
        }
        Some(Value::Array(items))
    }

    fn map(&mut self, depth: usize) -> Option<Value> {
        self.take('{');
        let mut entries = Map::new();
        while !self.take('}') {
            self.skip_blanks();
            let key = self.text()?;
            if !self.take(':') {
                return None;
            }
            entries.insert(key, self.value(depth + 1)?);
            self.take(',');
        }
        Some(Value::Object(entries))
    }

    fn text(&mut self) -> Option<String> {
        let quote = self.rest.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => text.push(match chars.next()?.1 {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'x' => escape(&mut chars, 2)?,
                    'u' => escape(&mut chars, 4)?,
                    other => other,
                }),
                c if c == quote => {
                    self.rest = &self.rest[at + c.len_utf8()..];
                    return Some(text);
                }
                c => text.push(c),
            }
        }
        None
    }

    fn word(&mut self) -> Option<Value> {
        let end = self.rest.find(|c: char| c.is_whitespace() || ",]})".contains(c));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        match word {
            "None" | "nan" | "null" => Some(Value::Null),
            "True" | "true" => Some(Value::Bool(true)),
            "False" | "false" => Some(Value::Bool(false)),
            _ => match word.parse::<i64>() {
                Ok(whole) => Some(whole.into()),
                Err(_) => word.parse().ok().and_then(Number::from_f64).map(Value::Number),
            },
        }
    }
}

fn escape(chars: &mut impl Iterator<Item = (usize, char)>, digits: usize) -> Option<char> {
    let mut code = 0;
    for _ in 0..digits {
        code = code * 16 + chars.next()?.1.to_digit(16)?;
    }
    char::from_u32(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The texts are what Python 3 and numpy print for the values.
    #[test]
    fn literals_by_hand() {
        for (text, expected) in [
            ("['a', \"it's\"]", json!(["a", "it's"])),
            ("['a' 'b'\n 'c']", json!(["a", "b", "c"])),
            ("[]", json!([])),
            ("('a',)", json!(["a"])),
            ("[1, -2, 0.5, True, None, nan]", json!([1, -2, 0.5, true, null, null])),
            ("{'a': [0.25, 0.75], 'b': []}", json!({"a": [0.25, 0.75], "b": []})),
            ("defaultdict(<class 'list'>, {'S. Africa': [1.0]})", json!({"S. Africa": [1.0]})),
            (
                r"['a\'b', 'c\\d', 'e\nf', '\xe9\u20ac']",
                json!(["a'b", "c\\d", "e\nf", "\u{e9}\u{20ac}"]),
            ),
            ("[[1], [2, 3]]", json!([[1], [2, 3]])),
            ("[\"JSON too\"]", json!(["JSON too"])),
        ] {
            assert_eq!(parse_literal(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_literal_is_left_alone() {
        let deep = "[".repeat(100_000);
        for text in ["", "a", "[", "['a", "['a'] and", "{'a'}", "{1: 2}", "[a b]", "[1,,2]", &deep]
        {
            assert_eq!(parse_literal(text), None, "{}", &text[..text.len().min(20)]);
        }
    }
}
