//! The user's file as it is: all columns in their order and spelling, each row with its examples' id.

use std::path::Path;

use serde_json::{Map, Value};

use super::load::check_id_column;
use super::read::read_records;
use super::record::Layout;
use super::task::Task;
use super::value::id_or_row;
use crate::error::Result;

/// The rows of a file, to be written again with more columns.
#[derive(Clone, Debug)]
pub struct OwnTable {
    /// SHA-256 of the file.
    pub sha256: String,
    /// Its columns, in the order in which they first occur.
    pub columns: Vec<String>,
    /// The id of each row's example, and the row.
    pub rows: Vec<(String, Map<String, Value>)>,
    /// What parts the columns of a table, where it is not what the file's name says.
    pub separator: Option<char>,
}

impl OwnTable {
    /// Reads a file of data. Where the task makes several examples of a record, each is a row.
    ///
    /// # Errors
    /// As [`Dataset::read`](super::Dataset::read).
    pub fn read(path: &Path, task: &Task) -> Result<Self> {
        let layout = Layout { all_columns: true, ..task.layout() };
        let read = read_records(path, layout)?;
        check_id_column(&read, task)?;
        let id = |record| id_or_row(record, &task.id_columns, &read.path);
        let ids: Vec<String> = read.records.iter().map(id).collect::<Result<_>>()?;
        let (sha256, separator) = (read.sha256.clone(), read.separator);
        // A header that differs from the task's columns in capitals is spelled as the task does above.
        let own = match task.reader.is_some() || task.columns.is_some() {
            true => read,
            false => read_records(path, Layout { known: &[], ..layout })?,
        };
        let mut columns: Vec<String> = Vec::new();
        for record in &own.records {
            for name in record.values.keys() {
                if !columns.contains(name) {
                    columns.push(name.clone());
                }
            }
        }
        let rows = ids.into_iter().zip(own.records.into_iter().map(|record| record.values));
        Ok(Self { sha256, columns, rows: rows.collect(), separator })
    }
}
