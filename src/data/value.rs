//! From the values of a record to text: ids, fields and the spelling of labels.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::read::Record;
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

/// Returns the first of `columns` that is in the record and says something.
pub(super) fn first_filled<'r>(
    values: &'r Map<String, Value>,
    columns: &[String],
) -> Option<(&'r str, &'r Value)> {
    columns.iter().find_map(|column| {
        let (name, value) = values.get_key_value(column)?;
        (!is_blank(value)).then_some((name.as_str(), value))
    })
}

/// Returns the record's own id, if it has one.
///
/// # Errors
/// [`ErrorKind::Data`] if the id is neither text nor a number.
pub(super) fn own_id(record: &Record, path: &Path) -> Result<Option<String>> {
    match record.values.get("id") {
        None => Ok(None),
        Some(value) if is_blank(value) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.trim().to_owned())),
        Some(Value::Number(number)) => {
            Ok(Some(without_zero_fraction(&number.to_string()).to_owned()))
        }
        Some(other) => Err(Error::new(
            ErrorKind::Data,
            format!("id is {}, expected text or a number", kind_of(other)),
        )
        .at_line(path, record.line)
        .hint("give every record an `id` such as \"r-001\", or none at all")),
    }
}

/// Returns the record's id, `row-N` if it has none of its own.
pub(super) fn id_or_row(record: &Record, path: &Path) -> Result<String> {
    Ok(own_id(record, path)?.unwrap_or_else(|| format!("row-{}", record.row)))
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
            .hint("ids join labels to examples; give each record an id of its own")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
