//! The reader of Parquet, the hub's own format; lists and structs become JSON values.

use std::fs::File;
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;

use super::read::Record;
use crate::error::{Error, ErrorKind, Result};

/// Returns the rows of a Parquet file; a record's line is its row.
///
/// # Errors
/// [`ErrorKind::Io`] if the file cannot be opened; [`ErrorKind::Data`] if it is no Parquet file, is
/// cut off, or is compressed in a way that is not built in.
pub(super) fn read_parquet(path: &Path) -> Result<Vec<Record>> {
    let file = File::open(path).map_err(|source| Error::io("read", path, &source))?;
    let broken = |source: &dyn std::fmt::Display| {
        let text = source.to_string();
        let facts = text.lines().next().unwrap_or_default().to_owned();
        Error::new(ErrorKind::Data, format!("broken Parquet: {facts}"))
            .at(path)
            .hint("fetch or write the file again; Snappy, gzip, LZ4 and Zstandard are read")
    };
    let reader = SerializedFileReader::new(file).map_err(|source| broken(&source))?;
    let rows = reader.get_row_iter(None).map_err(|source| broken(&source))?;
    let mut records = Vec::new();
    for row in rows {
        let row = row.map_err(|source| broken(&source))?;
        let Value::Object(values) = row.to_json_value() else {
            return Err(broken(&"a row has no columns"));
        };
        let place = records.len() + 1;
        records.push(Record { row: place, line: place, values });
    }
    Ok(records)
}
