//! The reader of CSV and TSV, with and without a header.

use std::path::Path;

use serde_json::Value;

use super::read::{Layout, LineCounter, Record};
use super::value::quoted;
use crate::error::{Error, ErrorKind, Result};

/// Returns the rows of a table.
///
/// # Errors
/// [`ErrorKind::Data`] with the line for a row of another length than the header, a column named
/// twice, or a quote that is not closed.
pub(super) fn read_table(
    text: &str,
    delimiter: u8,
    layout: Layout<'_>,
    path: &Path,
) -> Result<Vec<Record>> {
    // Flexible: the row length is checked here, where the header can be named in the message.
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut header: Option<Vec<String>> = None;
    let mut is_named_by_task = false;
    let mut lines = LineCounter::new(text);
    let mut records = Vec::new();
    let mut row = csv::StringRecord::new();
    let mut first = true;
    loop {
        let begin = reader.position().byte();
        let more = reader.read_record(&mut row).map_err(|source| {
            Error::new(ErrorKind::Data, format!("broken table: {source}")).at(path)
        })?;
        if !more {
            break;
        }
        // The reader's own line is that of the blank lines it skipped before the row.
        let raw = &text[usize::try_from(begin).unwrap_or(0)..];
        let offset = text.len() - raw.trim_start_matches(['\r', '\n']).len();
        let line = lines.at(offset);
        let end = usize::try_from(reader.position().byte()).unwrap_or(text.len());
        if end >= text.len() && ends_inside_quotes(&text[offset..], delimiter) {
            return Err(Error::new(ErrorKind::Data, "quoted field is not closed")
                .at_line(path, line)
                .hint("inside a quoted field a quote is written twice"));
        }
        let is_first = std::mem::take(&mut first);
        if is_first {
            match layout.columns {
                Some(columns) if !is_header(&row, columns, layout.known) => {
                    header = Some(columns.to_vec());
                    is_named_by_task = true;
                }
                _ => {
                    header = Some(header_of(&row, line, path)?);
                    continue;
                }
            }
        }
        let names = header.as_deref().unwrap_or_default();
        if row.len() != names.len() {
            let from = if is_named_by_task { "the task file's `columns`" } else { "the header" };
            return Err(Error::new(
                ErrorKind::Data,
                format!("row has {} fields, expected {} as {from}", row.len(), names.len()),
            )
            .at_line(path, line)
            .hint(format!("the columns are {}", quoted(names))));
        }
        let values = names
            .iter()
            .zip(&row)
            .map(|(name, cell)| (name.clone(), Value::String(cell.to_owned())))
            .collect();
        records.push(Record { row: records.len() + 1, line, values });
    }
    Ok(records)
}

/// Returns whether a first row names columns: those the task gives, or one that it speaks of.
///
/// A single letter is none: it may be the answer to a multiple choice.
fn is_header(row: &csv::StringRecord, columns: &[String], known: &[String]) -> bool {
    let is_name = |cell: &str| cell.chars().count() > 1 && known.iter().any(|name| name == cell);
    row.iter().map(str::trim).eq(columns.iter().map(String::as_str))
        || row.iter().map(str::trim).any(is_name)
}

fn header_of(row: &csv::StringRecord, line: usize, path: &Path) -> Result<Vec<String>> {
    let names: Vec<String> = row.iter().map(|name| name.trim().to_owned()).collect();
    for (index, name) in names.iter().enumerate() {
        // pandas writes its index under an empty name, so that one is let through.
        if !name.is_empty() && names[..index].contains(name) {
            return Err(Error::new(
                ErrorKind::Data,
                format!("header names the column `{name}` twice"),
            )
            .at_line(path, line)
            .hint("if the file has no header, name its columns in the task file: columns = [..]"));
        }
    }
    Ok(names)
}

/// Returns whether the last row's text ends in a quoted field, which the `csv` crate lets pass and
/// which would make the rest of the file one field.
fn ends_inside_quotes(row: &str, delimiter: u8) -> bool {
    let mut inside = false;
    let mut field_begins = true;
    let mut bytes = row.bytes().peekable();
    while let Some(byte) = bytes.next() {
        if inside {
            if byte == b'"' && bytes.next_if_eq(&b'"').is_none() {
                inside = false;
            }
        } else {
            inside = field_begins && byte == b'"';
            field_begins = byte == delimiter || byte == b'\n' || byte == b'\r';
        }
    }
    inside
}
