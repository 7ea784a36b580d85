//! The reader of CSV and TSV, with and without a header.
//!
//! It does not guess: what can be read in two ways is read in neither, and the error says how to tell
//! which is meant. A first row is the header unless it cannot be one (or the task says so), quotes
//! enclose whole fields or nothing, and every row has the header's length.

use std::path::Path;

use serde_json::Value;

use super::quotes::{self, Quoting};
use super::record::{Layout, LineCounter, Record};
use super::value::quoted;
use crate::error::{Error, ErrorKind, Result};

/// Delimiters that are looked for where the file's own makes one column of everything.
const DELIMITERS: [u8; 4] = [b',', b'\t', b';', b'|'];
/// A cell of more characters is no column's name.
const MAX_NAME_CHARS: usize = 100;

/// One row of a table.
struct Row {
    line: usize,
    cells: Vec<String>,
}

/// The rows of a table.
#[derive(Default)]
pub(super) struct Table {
    pub(super) records: Vec<Record>,
    /// What parts the columns, where it is not what the file's name says.
    pub(super) separator: Option<char>,
}

/// Returns the rows of a table whose name says that `delimiter` parts its columns.
///
/// # Errors
/// [`ErrorKind::Data`] with the line for a row of another length than the header, a column named
/// twice, a quote that does not enclose a whole field or is not closed, a NUL byte, and a first row of
/// which nothing tells whether it is the header.
pub(super) fn read_table(
    text: &str,
    delimiter: u8,
    layout: Layout<'_>,
    path: &Path,
) -> Result<Table> {
    if let Some(at) = text.find('\0') {
        return Err(Error::new(ErrorKind::Data, "the table has a NUL byte")
            .at_line(path, LineCounter::new(text).at(at))
            .hint("the file is damaged, or no text; write it again as UTF-8"));
    }
    let (body, said) = without_separator_line(text);
    let usual = delimiter;
    let delimiter = match said {
        Some(said) => said,
        None => delimiter_of(body, usual, path)?,
    };
    let separator = (delimiter != usual).then_some(char::from(delimiter));
    let skipped = text[..text.len() - body.len()].matches('\n').count();
    let mut rows = rows(body, delimiter, path)?;
    rows.iter_mut().for_each(|row| row.line += skipped);
    let mut rows = rows.into_iter();
    let Some(first) = rows.next() else { return Ok(Table::default()) };
    let names = match layout.columns {
        Some(columns) if !is_header(&first, columns, layout, path)? => {
            let rows = [first].into_iter().chain(rows);
            let records = records(columns, "the task file's `columns`", rows, path)?;
            return Ok(Table { records, separator });
        }
        _ => header_of(&first, layout.known, path)?,
    };
    Ok(Table { records: records(&names, "the header", rows, path)?, separator })
}

fn records(
    names: &[String],
    from: &str,
    rows: impl Iterator<Item = Row>,
    path: &Path,
) -> Result<Vec<Record>> {
    rows.enumerate()
        .map(|(index, Row { line, cells })| {
            if cells.len() != names.len() {
                return Err(Error::new(
                    ErrorKind::Data,
                    format!("row has {} fields, expected {} as {from}", cells.len(), names.len()),
                )
                .at_line(path, line)
                .hint(format!("the columns are {}", quoted(names))));
            }
            let values = names.iter().cloned().zip(cells.into_iter().map(Value::String)).collect();
            Ok(Record { row: index + 1, line, values })
        })
        .collect()
}

/// Excel's first line that names the delimiter, and is no row; returns the text behind it.
fn without_separator_line(text: &str) -> (&str, Option<u8>) {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let first = first.trim_end_matches('\r').trim_matches('"');
    match first.get(..4).zip(first.as_bytes().get(4)) {
        Some((key, &by)) if key.eq_ignore_ascii_case("sep=") && first.len() == 5 && by != b'"' => {
            (rest, Some(by))
        }
        _ => (text, None),
    }
}

/// Returns the delimiter: the usual one, unless by it the first row is one column and by exactly one
/// other every row has the same number of columns, two or more.
fn delimiter_of(text: &str, usual: u8, path: &Path) -> Result<u8> {
    let width = |by: u8| {
        let rows = rows(text, by, path).ok()?;
        let num = rows.first()?.cells.len();
        rows.iter().all(|row| row.cells.len() == num).then_some(num)
    };
    // What is wrong with the usual way is told where the rows are read.
    let is_one = rows(text, usual, path)
        .is_ok_and(|rows| rows.first().is_some_and(|first| first.cells.len() == 1));
    if !is_one {
        return Ok(usual);
    }
    let others: Vec<u8> = DELIMITERS
        .into_iter()
        .filter(|by| *by != usual && width(*by).is_some_and(|num| num > 1))
        .collect();
    match others[..] {
        [] => Ok(usual),
        [by] => Ok(by),
        _ => {
            let names: Vec<String> =
                others.iter().map(|by| format!("{:?}", char::from(*by))).collect();
            Err(Error::new(
                ErrorKind::Data,
                format!("cannot tell what parts the columns: {} would all do", names.join(" and ")),
            )
            .at_line(path, 1)
            .hint("write the table with commas (.csv) or tabs (.tsv) between its columns"))
        }
    }
}

/// Returns the rows, blank lines left out.
fn rows(text: &str, delimiter: u8, path: &Path) -> Result<Vec<Row>> {
    let quoting = quotes::quoting(text, delimiter).map_err(|fault| {
        Error::new(ErrorKind::Data, fault.what).at_line(path, fault.line).hint(fault.hint)
    })?;
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .quoting(quoting == Quoting::Enclosing)
        .has_headers(false)
        // The row length is checked where the header can be named in the message.
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut lines = LineCounter::new(text);
    let mut rows = Vec::new();
    let mut row = csv::StringRecord::new();
    loop {
        let begin = usize::try_from(reader.position().byte()).unwrap_or(0);
        let more = reader.read_record(&mut row).map_err(|source| {
            Error::new(ErrorKind::Data, format!("broken table: {source}")).at(path)
        })?;
        if !more {
            return Ok(rows);
        }
        // The reader's own line is that of the blank lines it skipped before the row.
        let raw = &text[begin..];
        let line = lines.at(text.len() - raw.trim_start_matches(['\r', '\n']).len());
        rows.push(Row { line, cells: row.iter().map(str::to_owned).collect() });
    }
}

/// Returns whether the first row names columns: those that the task gives, or one that it speaks of.
///
/// # Errors
/// [`ErrorKind::Data`] if it names none that is known and could be a header all the same.
fn is_header(row: &Row, columns: &[String], layout: Layout<'_>, path: &Path) -> Result<bool> {
    let cells: Vec<&str> = row.cells.iter().map(|cell| cell.trim()).collect();
    let is_columns = cells.iter().copied().eq(columns.iter().map(String::as_str));
    match layout.has_header {
        Some(false) if is_columns => {
            return Err(Error::new(
                ErrorKind::Data,
                "the task says that tables have no header, and the first row is the header",
            )
            .at_line(path, row.line)
            .hint("delete the row, or `header = false` in the task file"));
        }
        Some(has_header) => return Ok(has_header),
        None => {}
    }
    // A single letter is no name: it may be the answer to a multiple choice.
    let is_name = |cell: &&str| {
        cell.chars().count() > 1 && layout.known.iter().any(|name| name.eq_ignore_ascii_case(cell))
    };
    if is_columns || cells.iter().any(is_name) {
        return Ok(true);
    }
    // With another number of columns the task's names do not fit; as a header it is told by name.
    if cells.len() != columns.len() {
        return Ok(true);
    }
    if cannot_be_header(&cells, columns, layout) {
        return Ok(false);
    }
    Err(Error::new(
        ErrorKind::Data,
        format!(
            "cannot tell whether the first row is a header: {}",
            quoted(cells.iter().map(|cell| shortened(cell)))
        ),
    )
    .at_line(path, row.line)
    .hint(format!(
        "if it is, say which column is which (`--field FIELD=COLUMN`, or [fields] of a task file); if it is data, write a first line with the columns {}, or `header = false` in the task file",
        quoted(columns)
    )))
}

/// Returns whether a row is data whatever a header may say: a cell is empty, stands twice, is too long
/// for a name, or is a label in the place of the label.
fn cannot_be_header(cells: &[&str], columns: &[String], layout: Layout<'_>) -> bool {
    // pandas names the columns of a table without names by their places.
    if cells.iter().enumerate().all(|(place, cell)| *cell == place.to_string()) {
        return false;
    }
    let twice = |(index, cell): (usize, &&str)| cells[..index].contains(cell);
    let is_label = |(cell, column): (&&str, &String)| {
        layout.labels.is_some_and(|labels| labels.spells_label(column, cell))
    };
    cells.iter().any(|cell| cell.is_empty() || cell.chars().count() > MAX_NAME_CHARS)
        || cells.iter().enumerate().any(twice)
        || cells.iter().zip(columns).any(is_label)
}

fn shortened(cell: &str) -> String {
    match cell.char_indices().nth(40) {
        Some((end, _)) => format!("{}...", &cell[..end]),
        None => cell.to_owned(),
    }
}

/// Returns the names; one that differs from a column of the task in capitals only stands for that.
fn header_of(row: &Row, known: &[String], path: &Path) -> Result<Vec<String>> {
    let own: Vec<&str> = row.cells.iter().map(|name| name.trim()).collect();
    let meant = |name: &&str| {
        let is_known = name.chars().count() < 2 || known.iter().any(|one| one == name);
        let same = |one: &&String| one.eq_ignore_ascii_case(name) && !own.contains(&one.as_str());
        let found = if is_known { None } else { known.iter().find(same) };
        found.map_or_else(|| (*name).to_owned(), Clone::clone)
    };
    let names: Vec<String> = own.iter().map(meant).collect();
    for (index, name) in names.iter().enumerate() {
        // pandas writes its index under an empty name, so that one is let through.
        if !name.is_empty() && names[..index].contains(name) {
            return Err(Error::new(
                ErrorKind::Data,
                format!("header names the column `{name}` twice"),
            )
            .at_line(path, row.line)
            .hint("if the file has no header, name its columns in the task file: columns = [..]"));
        }
    }
    Ok(names)
}
