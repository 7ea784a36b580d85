//! `--field` and `--id`: which columns of the user's file stand for what a task asks for.

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use super::field_values::pairs;
use crate::data::{ColumnNames, Task};
use crate::error::Result;

/// Which columns of the data hold the fields of the task and the id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Serialize)]
pub struct ColumnOptions {
    /// Column of the data that holds a field of the task, as in statement=claim_text; repeat it for
    /// further fields [default: the columns that the task names]
    #[arg(long = "field", value_name = "FIELD=COLUMN", value_parser = pair, help_heading = "Data")]
    #[serde(serialize_with = "pairs")]
    pub fields: Vec<(String, String)>,
    /// Column of the data that holds the ids [default: that of the task, most often `id`; rows are
    /// numbered where there is none]
    #[arg(long, value_name = "COLUMN", help_heading = "Data")]
    pub id: Option<String>,
}

fn pair(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, column)) if !name.is_empty() && !column.is_empty() => {
            Ok((name.to_owned(), column.to_owned()))
        }
        _ => Err("expected FIELD=COLUMN, such as statement=claim_text".into()),
    }
}

impl ColumnOptions {
    /// Returns the task of that name with these columns.
    ///
    /// # Errors
    /// As [`Task::load`] and [`Task::with_columns`].
    pub(super) fn task(&self, name: &str) -> Result<Task> {
        Task::load(name)?.with_columns(&self.names())
    }

    /// The columns as tasks take them.
    pub(super) fn names(&self) -> ColumnNames {
        ColumnNames { fields: self.fields.clone(), id: self.id.clone() }
    }

    /// Returns these columns, and where nothing is said of a field those of a run.
    pub(super) fn over(&self, settings: &Map<String, Value>) -> Self {
        let before = ColumnNames::of_settings(settings);
        let mut fields = self.fields.clone();
        for (name, column) in before.fields {
            if !fields.iter().any(|(own, _)| *own == name) {
                fields.push((name, column));
            }
        }
        Self { fields, id: self.id.clone().or(before.id) }
    }

    /// The columns' part of the resolved settings.
    pub(super) fn insert(&self, settings: &mut Map<String, Value>) {
        self.names().insert(settings);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_said_goes_before_what_a_run_says() {
        let settings = json!({ "fields": { "a": "x", "b": "y" }, "id_column": "n" });
        let own = ColumnOptions { fields: vec![("a".into(), "z".into())], id: None };
        let all = own.over(settings.as_object().unwrap());
        assert_eq!(all.fields, [("a".into(), "z".into()), ("b".into(), "y".into())]);
        assert_eq!(all.id.as_deref(), Some("n"));
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(pair("a").is_err() && pair("=b").is_err() && pair("a=").is_err());
    }
}
