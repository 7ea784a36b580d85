//! From the values of a record to text: ids, fields and the spelling of labels.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::literal::parse_literal;
use super::record::Record;
use crate::error::{Error, ErrorKind, Result};

/// Returns the text of a value; `None` for null and for what is not one value (list, object).
pub(super) fn text_of(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Bool(truth) => Some(Cow::Borrowed(if *truth { "true" } else { "false" })),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Returns `text` trimmed, and whole numbers without their `.0`, which pandas adds.
pub(super) fn without_zero_fraction(text: &str) -> &str {
    let text = text.trim();
    match text.split_once('.') {
        Some((whole, zeros))
            if !zeros.is_empty()
                && zeros.bytes().all(|b| b == b'0')
                && !whole.trim_start_matches('-').is_empty()
                && whole.trim_start_matches('-').bytes().all(|b| b.is_ascii_digit()) =>
        {
            whole
        }
        _ => text,
    }
}

/// Returns the form in which label spellings are compared: trimmed, lower case, `1.0` as `1`.
pub(super) fn spelling(text: &str) -> String {
    without_zero_fraction(text).to_lowercase()
}

/// Returns whether a value says nothing: null, or text of blanks only.
pub(super) fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        _ => false,
    }
}

/// Returns the value of a column; `choices.0` and `targets.labels` reach into lists and maps, also
/// into those a table keeps as text.
///
/// A column whose own name has the dots comes first.
pub(super) fn lookup<'r>(values: &'r Map<String, Value>, column: &str) -> Option<Cow<'r, Value>> {
    if let Some(value) = values.get(column) {
        return Some(Cow::Borrowed(value));
    }
    let (root, path) = column.split_once('.')?;
    let mut value = Cow::Borrowed(values.get(root)?);
    for step in path.split('.') {
        value = inside(structured(value), step)?;
    }
    Some(value)
}

/// Returns the list or map that a text spells, and any other value as it is.
pub(super) fn structured(value: Cow<'_, Value>) -> Cow<'_, Value> {
    match value.as_str().and_then(parse_literal) {
        Some(parsed) => Cow::Owned(parsed),
        None => value,
    }
}

fn inside<'r>(value: Cow<'r, Value>, step: &str) -> Option<Cow<'r, Value>> {
    fn get<'v>(value: &'v Value, step: &str) -> Option<&'v Value> {
        match value {
            Value::Array(items) => items.get(step.parse::<usize>().ok()?),
            Value::Object(entries) => entries.get(step),
            _ => None,
        }
    }
    match value {
        Cow::Borrowed(value) => get(value, step).map(Cow::Borrowed),
        Cow::Owned(value) => get(&value, step).cloned().map(Cow::Owned),
    }
}

/// Returns the first of `columns` that is in the record and says something.
pub(super) fn first_filled<'r, 'c>(
    values: &'r Map<String, Value>,
    columns: &'c [String],
) -> Option<(&'c str, Cow<'r, Value>)> {
    columns.iter().find_map(|column| {
        let value = lookup(values, column)?;
        (!is_blank(&value)).then_some((column.as_str(), value))
    })
}

/// Returns the record's own id, if it has one: the first of `columns`, and the others behind it.
///
/// # Errors
/// [`ErrorKind::Data`] if a part of the id is neither text nor a number.
pub(super) fn own_id(record: &Record, columns: &[String], path: &Path) -> Result<Option<String>> {
    let mut id: Option<String> = None;
    for column in columns {
        let value = lookup(&record.values, column).filter(|value| !is_blank(value));
        let part = match value.as_deref() {
            None if id.is_none() => return Ok(None),
            None => continue,
            Some(Value::String(text)) => without_zero_fraction(text).to_owned(),
            Some(Value::Number(number)) => {
                // Beyond 2^53 neighbours are one number, and two ids would be one.
                if number.as_i64().is_none()
                    && number.as_u64().is_none()
                    && number.as_f64().is_none_or(|n| n.abs() >= 9_007_199_254_740_992.0)
                {
                    return Err(Error::new(
                        ErrorKind::Data,
                        format!("{column} is {number}, a number too large to be told from its neighbours"),
                    )
                    .at_line(path, record.line)
                    .hint("write such ids as text, in quotes"));
                }
                without_zero_fraction(&number.to_string()).to_owned()
            }
            Some(other) => {
                return Err(Error::new(
                    ErrorKind::Data,
                    format!("{column} is {}, expected text or a number", kind_of(other)),
                )
                .at_line(path, record.line)
                .hint("give every record an `id` such as \"r-001\", or none at all"));
            }
        };
        id = Some(id.map_or(part.clone(), |id| format!("{id}-{part}")));
    }
    Ok(id)
}

/// Returns the record's id, `row-N` if it has none of its own.
pub(super) fn id_or_row(record: &Record, columns: &[String], path: &Path) -> Result<String> {
    Ok(own_id(record, columns, path)?.unwrap_or_else(|| format!("row-{}", record.row)))
}

/// Returns an id that a file gives as text or number, in the form in which ids are joined: whole numbers
/// without the `.0` that pandas adds.
pub fn id_text(value: &Value) -> String {
    match value {
        Value::String(text) => without_zero_fraction(text).to_owned(),
        other => without_zero_fraction(&other.to_string()).to_owned(),
    }
}

/// Returns what a value is, in words for a message.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Returns names in back-ticks, joined by commas.
pub(super) fn quoted<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{}`", name.as_ref())).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Ids seen so far with their lines, to refuse the second of two.
#[derive(Default)]
pub(super) struct SeenIds {
    lines: HashMap<String, usize>,
}

impl SeenIds {
    /// Takes note of `id`.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] naming both lines if the id was there before.
    pub(super) fn insert(&mut self, id: &str, line: usize, path: &Path) -> Result<()> {
        match self.lines.insert(id.to_owned(), line) {
            None => Ok(()),
            Some(first) => Err(Error::new(
                ErrorKind::Data,
                format!("duplicate id `{id}`, first used in line {first}"),
            )
            .at_line(path, line)
            .hint(
                "ids join labels to examples; give each record an id of its own, or name the columns \
                 that make one in the task file: id = [..]",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_reach_into_lists_and_maps() {
        let record = serde_json::json!({
            "a.0": "named so", "a": ["x", "y"], "t": {"labels": [1, 0]}, "p": "[\"it's\", 'q']",
        });
        let Value::Object(values) = record else { panic!("an object") };
        for (column, expected) in [
            ("a.0", Some("named so")),
            ("a.1", Some("y")),
            ("a.2", None),
            ("a.x", None),
            ("t.labels.1", Some("0")),
            ("p.0", Some("it's")),
            ("p.0.0", None),
            ("b.0", None),
            ("a.1.", None),
        ] {
            let found = lookup(&values, column);
            assert_eq!(found.as_deref().and_then(text_of).as_deref(), expected, "{column}");
        }
    }

    #[test]
    fn spellings_by_hand() {
        for (text, expected) in [
            ("True", "true"),
            (" 1.0 ", "1"),
            ("1.00", "1"),
            ("-1.0", "-1"),
            ("1.5", "1.5"),
            ("v1.0", "v1.0"),
            (".0", ".0"),
            ("1.", "1."),
            ("Sci/Tech", "sci/tech"),
        ] {
            assert_eq!(spelling(text), expected, "text {text:?}");
        }
    }
}
