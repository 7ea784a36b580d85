//! Files of a task: all their records, and whether they have the ids that the task names.

use std::path::PathBuf;

use serde_json::Value;

use super::closest::did_you_mean;
use super::read::read_records;
use super::record::{Layout, Record, Records};
use super::task::Task;
use super::value::{is_blank, lookup, quoted};
use crate::error::{Error, ErrorKind, Result};

/// Returns the records of files, one after the other, as JSON lines.
///
/// All columns are kept, gold among them. `task` is asked for the columns of a table without a
/// header, and for nothing else.
///
/// # Errors
/// [`ErrorKind::Io`] if a file cannot be read; [`ErrorKind::Data`] with the line if it is broken.
pub fn join_records(paths: &[PathBuf], task: Option<&Task>) -> Result<Vec<u8>> {
    let layout = task.map(|task| Layout { reader: None, ..task.layout() }).unwrap_or_default();
    let layout = Layout { all_columns: true, ..layout };
    let mut bytes = Vec::new();
    for path in paths {
        for record in read_records(path, layout)?.records {
            bytes.extend(Value::Object(record.values).to_string().into_bytes());
            bytes.push(b'\n');
        }
    }
    Ok(bytes)
}

/// Refuses a file that lacks the column of the id that its task names: numbers of rows would join nothing.
pub(super) fn check_id_column(read: &Records, task: &Task) -> Result<()> {
    let Some(first) = task.id_columns.first().filter(|_| task.names_id) else { return Ok(()) };
    let lacks =
        |record: &&Record| lookup(&record.values, first).is_none_or(|value| is_blank(&value));
    let Some(without) = read.records.iter().find(lacks) else { return Ok(()) };
    if read.records.iter().any(|record| !lacks(&record)) {
        return Err(Error::new(
            ErrorKind::Data,
            format!("the record has no `{first}`, which {} names as the id", task.id_namer()),
        )
        .at_line(&read.path, without.line)
        .hint("give every record an id of its own"));
    }
    let there: Vec<&String> =
        read.records.iter().take(1).flat_map(|record| record.values.keys()).collect();
    Err(Error::new(
        ErrorKind::Data,
        format!("the file has no column `{first}`, which {} names as the id", task.id_namer()),
    )
    .at(&read.path)
    .hint(format!(
        "{}the columns are {}; name the one with the ids: `--id COLUMN`, or `id = [..]` in the task file",
        did_you_mean(first, &there),
        quoted(there)
    )))
}
