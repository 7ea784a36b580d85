//! Which columns of the user's file stand for what a task asks for, where the task file does not say.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::closest::did_you_mean;
use super::task::Task;
use super::task_parts::Field;
use super::value::quoted;
use crate::error::{Error, ErrorKind, Result};

/// Setting of a manifest with the columns of fields.
const FIELDS: &str = "fields";
/// Setting of a manifest with the column of the id.
const ID_COLUMN: &str = "id_column";

/// The columns of a file that hold a task's fields and the id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnNames {
    /// Each field with its column.
    pub fields: Vec<(String, String)>,
    /// The column of the id.
    pub id: Option<String>,
}

impl ColumnNames {
    /// Returns the columns that the settings of a manifest name.
    pub fn of_settings(settings: &Map<String, Value>) -> Self {
        let fields = settings.get(FIELDS).and_then(Value::as_object);
        let text =
            |(name, column): (&String, &Value)| Some((name.clone(), column.as_str()?.into()));
        Self {
            fields: fields.into_iter().flatten().filter_map(text).collect(),
            id: settings.get(ID_COLUMN).and_then(Value::as_str).map(str::to_owned),
        }
    }

    /// Adds the columns to the settings of a manifest; nothing where the task file says all.
    pub fn insert(&self, settings: &mut Map<String, Value>) {
        if !self.fields.is_empty() {
            let mut fields = self.fields.clone();
            fields.sort();
            let fields: Map<String, Value> =
                fields.into_iter().map(|(name, column)| (name, column.into())).collect();
            settings.insert(FIELDS.into(), fields.into());
        }
        if let Some(id) = &self.id {
            settings.insert(ID_COLUMN.into(), id.clone().into());
        }
    }

    /// Returns whether no column is named.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.id.is_none()
    }
}

impl Task {
    /// Returns the task with other columns than its file names.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a field that the task does not have or that is named twice, and for a
    /// column that holds gold.
    pub fn with_columns(mut self, names: &ColumnNames) -> Result<Self> {
        let usage = |message: String| Error::new(ErrorKind::Usage, message);
        for (index, (name, column)) in names.fields.iter().enumerate() {
            if names.fields[..index].iter().any(|(other, _)| other == name) {
                return Err(usage(format!("`--field` names the column of `{name}` twice"))
                    .hint("a field comes from one column"));
            }
            self.check_open(&format!("field `{name}`"), column)?;
            let known: Vec<String> = self.field_names().map(str::to_owned).collect();
            let Some(field) = self.fields.iter_mut().find(|field| field.name == *name) else {
                let turned = known.iter().any(|field| field == column);
                let hint = match turned {
                    true => format!("the field comes first: `--field {column}={name}`"),
                    false => {
                        did_you_mean(name, &known) + &format!("the fields are {}", quoted(&known))
                    }
                };
                return Err(usage(format!("task `{}` has no field `{name}`", self.name)).hint(hint));
            };
            *field = Field { name: name.clone(), columns: vec![column.clone()], default: None };
            self.known_columns.push(root(column).to_owned());
        }
        if let Some(id) = &names.id {
            self.check_open("the id", id)?;
            self.known_columns.push(root(id).to_owned());
            self.id_columns = vec![id.clone()];
            (self.names_id, self.is_id_given) = (true, true);
        }
        Ok(self)
    }

    /// Refuses a column that holds gold.
    fn check_open(&self, what: &str, column: &str) -> Result<()> {
        let is_closed = |name: &String| name == column || name == root(column);
        if !self.closed.iter().any(is_closed) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Usage,
            format!(
                "{what} cannot come from column `{column}`, which holds gold for task `{}`",
                self.name
            ),
        )
        .hint(format!(
            "gold columns are {}; rename the column in the file if it holds text",
            quoted(&self.closed)
        )))
    }
}

/// The column of the file that a column's name begins at.
fn root(column: &str) -> &str {
    column.split_once('.').map_or(column, |(root, _)| root)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(fields: &[(&str, &str)], id: Option<&str>) -> ColumnNames {
        let owned = |(name, column): &(&str, &str)| ((*name).to_owned(), (*column).to_owned());
        ColumnNames { fields: fields.iter().map(owned).collect(), id: id.map(str::to_owned) }
    }

    #[test]
    fn settings_keep_the_columns() {
        let mut settings = Map::new();
        names(&[], None).insert(&mut settings);
        assert!(settings.is_empty());
        let given = names(&[("choice", "b.c"), ("answer", "x y")], Some("claim no"));
        given.insert(&mut settings);
        let sorted = names(&[("answer", "x y"), ("choice", "b.c")], Some("claim no"));
        assert_eq!(ColumnNames::of_settings(&settings), sorted);
    }

    #[test]
    fn what_is_wrong_with_a_column_is_told() {
        let says = |given: ColumnNames| {
            Task::load("statements").unwrap().with_columns(&given).unwrap_err().to_string()
        };
        let text = says(names(&[("statment", "a")], None));
        assert!(text.contains("has no field `statment`"), "{text}");
        assert!(text.contains("did you mean `statement`? the fields are `statement`"), "{text}");
        let text = says(names(&[("a", "statement")], None));
        assert!(text.contains("--field statement=a"), "{text}");
        let text = says(names(&[("statement", "label")], None));
        assert!(text.contains("holds gold"), "{text}");
        assert!(says(names(&[], Some("label.x"))).contains("the id cannot come"));
        assert!(says(names(&[("statement", "a"), ("statement", "b")], None)).contains("twice"));
    }
}
