//! The reader of Parquet, the hub's own format; lists and structs become JSON values.
//!
//! The `parquet` crate panics on some damaged files and on values it cannot put into words, so it is
//! called behind a guard. A small file may hold very many equal values: what the rows take in memory is
//! counted and limited by the file's size.

use std::fs::File;
use std::path::Path;

use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::{Map, Value};

use super::record::Record;
use crate::error::{Error, ErrorKind, Result};
use crate::guard::{caught, guarded};

/// What the rows of any file may take in memory, in bytes; larger files may take [`MOST_GROWTH`] times
/// their size.
const LEAST_LIMIT: u64 = 256 << 20;
/// Text is compressed some 5 times; columns of few different values may be 100 times.
const MOST_GROWTH: u64 = 200;
/// Bytes that a row, and a value besides its text, take as JSON.
const ROW_BYTES: u64 = 96;
const VALUE_BYTES: u64 = 72;

/// Returns the rows of a Parquet file; a record's line is its row.
///
/// A value that cannot be put into words (a date beyond the calendar) is an error where `all_columns`
/// are wanted, else an object `{"unreadable": reason}`, which no field takes: columns that are not asked
/// for harm nobody.
///
/// # Errors
/// [`ErrorKind::Io`] if the file cannot be opened; [`ErrorKind::Data`] if it is no Parquet file, is
/// cut off or damaged, is compressed in a way that is not built in, or would take memory out of all
/// proportion to its size.
pub(super) fn read_parquet(path: &Path, all_columns: bool) -> Result<Vec<Record>> {
    let file = File::open(path).map_err(|source| Error::io("read", path, &source))?;
    let size = file.metadata().map_err(|source| Error::io("read", path, &source))?.len();
    let limit = LEAST_LIMIT.max(size.saturating_mul(MOST_GROWTH));
    guarded("the Parquet reader", ErrorKind::Data, path, || rows(file, limit, all_columns, path))
}

fn broken(source: &dyn std::fmt::Display, path: &Path) -> Error {
    let text = source.to_string();
    let facts = text.lines().next().unwrap_or_default().to_owned();
    Error::new(ErrorKind::Data, format!("broken Parquet: {facts}"))
        .at(path)
        .hint("fetch or write the file again; Snappy, gzip, LZ4 and Zstandard are read")
}

fn too_large(what: &str, bytes: u64, limit: u64, path: &Path) -> Error {
    Error::new(
        ErrorKind::Data,
        format!("{what} {} MiB of memory, expected at most {} MiB", bytes >> 20, limit >> 20),
    )
    .at(path)
    .hint("the file is damaged, or made to exhaust memory; if it is neither, write its rows as JSON lines or as several files")
}

fn rows(file: File, limit: u64, all_columns: bool, path: &Path) -> Result<Vec<Record>> {
    let reader = SerializedFileReader::new(file).map_err(|source| broken(&source, path))?;
    check_sizes(reader.metadata(), limit, path)?;
    let rows = reader.get_row_iter(None).map_err(|source| broken(&source, path))?;
    let mut records = Vec::new();
    let mut bytes: u64 = 0;
    for row in rows {
        let row = row.map_err(|source| broken(&source, path))?;
        let mut values = Map::new();
        bytes += ROW_BYTES;
        for (name, field) in row.get_column_iter() {
            let value = value_of(field).or_else(|reason| {
                if !all_columns {
                    return Ok(unreadable(reason));
                }
                let message = format!("value of column `{name}` cannot be read: {reason}");
                Err(Error::new(ErrorKind::Data, message)
                    .at_line(path, records.len() + 1)
                    .hint("the line is the row; the value is out of the range of its type"))
            })?;
            bytes += name.len() as u64 + bytes_of(&value);
            values.insert(name.clone(), value);
        }
        if bytes > limit {
            return Err(too_large("its rows take more than", bytes, limit, path));
        }
        let place = records.len() + 1;
        records.push(Record { row: place, line: place, values });
    }
    Ok(records)
}

/// Refuses a file that says of itself that it would take too much, before anything is read.
fn check_sizes(metadata: &ParquetMetaData, limit: u64, path: &Path) -> Result<()> {
    let unsigned = |num: i64| u64::try_from(num).unwrap_or(u64::MAX);
    let num_rows = unsigned(metadata.file_metadata().num_rows());
    let num_columns = metadata.file_metadata().schema().get_fields().len() as u64;
    let of_rows = num_rows.saturating_mul(ROW_BYTES + num_columns * VALUE_BYTES);
    if of_rows > limit {
        let what = format!("{num_rows} rows of {num_columns} columns would take");
        return Err(too_large(&what, of_rows, limit, path));
    }
    let columns = metadata.row_groups().iter().flat_map(|group| group.columns());
    let unpacked =
        columns.fold(0_u64, |sum, column| sum.saturating_add(unsigned(column.uncompressed_size())));
    if unpacked > limit {
        return Err(too_large("its columns unpack to", unpacked, limit, path));
    }
    Ok(())
}

/// The value, or why it cannot be put into words.
fn value_of(field: &Field) -> std::result::Result<Value, String> {
    Ok(match field {
        Field::Str(text) => Value::from(text.as_str()),
        Field::Null => Value::Null,
        Field::Bool(truth) => Value::from(*truth),
        Field::Int(number) => Value::from(*number),
        Field::Long(number) => Value::from(*number),
        // A panic for each of a million rows would take a minute.
        Field::TimestampMillis(time) if !CALENDAR.contains(&(*time / 1_000)) => {
            return Err(no_time());
        }
        Field::TimestampMicros(time) if !CALENDAR.contains(&(*time / 1_000_000)) => {
            return Err(no_time());
        }
        _ => return caught(|| field.to_json_value()),
    })
}

/// Times that have a date, in seconds since 1970: 250,000 years around it, a little fewer than those
/// the `chrono` crate can write.
const CALENDAR: std::ops::RangeInclusive<i64> = -7_889_238_000_000..=7_889_238_000_000;

fn no_time() -> String {
    "the time is beyond the calendar".to_owned()
}

/// Stands for a value of a column that nobody may ask for.
fn unreadable(reason: String) -> Value {
    Value::Object(Map::from_iter([("unreadable".to_owned(), Value::from(reason))]))
}

fn bytes_of(value: &Value) -> u64 {
    VALUE_BYTES
        + match value {
            Value::String(text) => text.len() as u64,
            Value::Array(items) => items.iter().map(bytes_of).sum(),
            Value::Object(entries) => {
                entries.iter().map(|(name, value)| name.len() as u64 + bytes_of(value)).sum()
            }
            _ => 0,
        }
}
