//! Prompt templates: plain text with `{field}` holes.
//!
//! `{field}` puts the field's text as it is, `{field|oneline}` puts it on one line with blanks for its
//! breaks, `{field|nobreaks}` without them, `{{` and `}}` stand for braces. There is no logic: a prompt that needs another shape is another task file.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Result};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field { name: String, filter: Filter },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filter {
    Plain,
    OneLine,
    NoBreaks,
}

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

impl Template {
    /// Returns the template that `text` spells.
    ///
    /// # Errors
    /// [`ErrorKind::Task`] for a brace without its partner, an empty hole or an unknown filter.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            let after = &rest[at + 1..];
            if let Some(tail) = after.strip_prefix(brace) {
                literal.push_str(brace);
                rest = tail;
            } else if brace == "}" {
                return Err(fault("template has a `}` that closes nothing"));
            } else {
                let Some(end) = after.find(['{', '}']).filter(|&end| after[end..].starts_with('}'))
                else {
                    return Err(fault("template has a `{` that is not closed"));
                };
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                }
                parts.push(hole(&after[..end])?);
                rest = &after[end + 1..];
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self { parts })
    }

    /// Returns the template filled with the texts of `fields`.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] if a field of the template is not there.
    pub fn render(&self, fields: &BTreeMap<String, String>) -> Result<String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Field { name, filter } => {
                    let value = fields.get(name).ok_or_else(|| {
                        Error::new(ErrorKind::Data, format!("example has no field `{name}`"))
                    })?;
                    match filter {
                        Filter::Plain => text.push_str(value),
                        Filter::OneLine => text.push_str(&on_one_line(value)),
                        Filter::NoBreaks => text.extend(value.split('\n')),
                    }
                }
            }
        }
        Ok(text)
    }

    /// Returns the names of the fields the template asks for, each once, in order of first use.
    pub fn fields(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for part in &self.parts {
            if let Part::Field { name, .. } = part
                && !names.contains(&name.as_str())
            {
                names.push(name);
            }
        }
        names
    }
}

fn hole(inside: &str) -> Result<Part> {
    let (name, filter) = match inside.split_once('|') {
        Some((name, filter)) => (name, Some(filter)),
        None => (inside, None),
    };
    if name.is_empty() || name.contains(|c: char| c.is_whitespace()) {
        return Err(fault(&format!("template has a hole `{{{inside}}}` without a field name")));
    }
    let filter = match filter {
        None => Filter::Plain,
        Some("oneline") => Filter::OneLine,
        Some("nobreaks") => Filter::NoBreaks,
        Some(other) => {
            return Err(Error::new(
                ErrorKind::Task,
                format!("template asks for an unknown filter `{other}` on field `{name}`"),
            )
            .hint("the filters are `oneline` and `nobreaks`"));
        }
    };
    Ok(Part::Field { name: name.to_owned(), filter })
}

fn fault(message: &str) -> Error {
    Error::new(ErrorKind::Task, message)
        .hint("a field is written `{field}`, `{field|oneline}` or `{field|nobreaks}`, a plain brace `{{` or `}}`")
}

/// Returns `text` with each run of line breaks, and the blanks round it, as one space. A text
/// without line breaks comes back as it is.
fn on_one_line(text: &str) -> String {
    const BREAKS: [char; 6] = ['\n', '\r', '\u{b}', '\u{c}', '\u{2028}', '\u{2029}'];
    if !text.contains(BREAKS) {
        return text.to_owned();
    }
    let pieces: Vec<&str> =
        text.split(BREAKS).map(str::trim).filter(|piece| !piece.is_empty()).collect();
    pieces.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn holes_and_escapes_by_hand() {
        let cases = [
            ("", ""),
            ("plain", "plain"),
            ("Q: {q}\nA: ", "Q: one\r\n\ntwo\nA: "),
            ("{q|oneline}", "one two"),
            ("{q|nobreaks}", "one\rtwo"),
            ("{{q}}", "{q}"),
            ("{{{x}}}", "{7}"),
            ("{x}{x}", "77"),
            ("}}{{", "}{"),
        ];
        let values = fields(&[("q", "one\r\n\ntwo"), ("x", "7")]);
        for (template, expected) in cases {
            let rendered = Template::parse(template).unwrap().render(&values).unwrap();
            assert_eq!(rendered, expected, "template {template:?}");
        }
    }

    #[test]
    fn braces_in_a_field_are_text() {
        let values = fields(&[("q", "{x} }} {{")]);
        assert_eq!(Template::parse("<{q}>").unwrap().render(&values).unwrap(), "<{x} }} {{>");
    }

    #[test]
    fn oneline_touches_only_line_breaks() {
        for (text, expected) in [
            ("  a  b ", "  a  b "),
            ("a \n b", "a b"),
            ("a\n\n\nb\r\nc", "a b c"),
            ("\na\n", "a"),
            ("\n", ""),
        ] {
            assert_eq!(on_one_line(text), expected, "text {text:?}");
        }
    }

    #[test]
    fn broken_templates_are_refused() {
        for template in ["{", "}", "a {q", "{q {x}", "{}", "{|oneline}", "{q|upper}", "{{}"] {
            let error = Template::parse(template).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Task, "template {template:?}");
        }
    }

    #[test]
    fn fields_are_named_once_in_order() {
        let template = Template::parse("{b} {a|oneline} {b} {{c}}").unwrap();
        assert_eq!(template.fields(), ["b", "a"]);
        let error = template.render(&fields(&[("b", "x")])).unwrap_err();
        assert!(error.message().contains("`a`"));
    }
}
