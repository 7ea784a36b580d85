//! Gold labels, sealed.
//!
//! `eval` may name [`GoldLabels`], and so may the commands whose purpose is to use gold and that
//! record it in the manifest (training a weak supervisor or a ceiling on gold, seeding a search
//! with it). `label`, `filter` and `train` themselves may not: labels that are found without
//! supervision come from code that could not read a gold column if it tried.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use super::gold_spec::Verdict;
use super::key::final_number;
use super::load::check_id_column;
use super::read::read_records;
use super::record::{Record, Records};
use super::task::Task;
use super::value::{SeenIds, first_filled, id_or_row, is_blank, lookup, quoted, text_of};
use crate::error::{Error, ErrorKind, Result};

/// The gold labels of a file, by id.
#[derive(Clone)]
pub struct GoldLabels {
    labels: HashMap<String, usize>,
    columns: Vec<String>,
    sha256: String,
}

impl GoldLabels {
    /// Returns the labels in the task's gold columns, the first one that is filled in a record.
    ///
    /// The file is the data itself or one of ids and labels. Records without a gold column are
    /// unlabelled; ids are those [`Dataset`](super::Dataset) gives the same records.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file cannot be read; [`ErrorKind::Data`] with the line for a broken
    /// file, a duplicate id or a label the task does not know, and if no record is labelled.
    pub fn read(path: impl AsRef<Path>, task: &Task) -> Result<Self> {
        let read = read_records(path.as_ref(), task.layout())?;
        check_id_column(&read, task)?;
        let names: Vec<&str> = task.gold.columns.iter().map(String::as_str).collect();
        let gold = Self::of_names(&read, task, &names)?;
        if gold.is_empty() {
            let others = Self::each(&read, task)?;
            let error = no_label(&read);
            return Err(if others.is_empty() {
                error.hint(format!(
                    "task `{}` looks for gold in {}; the columns of the file are {}; name the one with gold: `--gold-column {}`",
                    task.name,
                    quoted(task.gold.all_columns()),
                    quoted(read.records.iter().take(1).flat_map(|record| record.values.keys())),
                    spelling_column(&read, task).map_or("COLUMN".to_owned(), in_shell)
                ))
            } else {
                let there = others.iter().flat_map(|gold| gold.columns());
                error.hint(format!("the file has the gold columns {}; ask for one", quoted(there)))
            });
        }
        Ok(gold)
    }

    /// Returns the labels of one gold column or concept of the task, or of any other column whose
    /// values are spellings of the task's labels: another concept the labels may have been found by.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if neither the task nor the file has one of that name; otherwise as
    /// [`read`](Self::read).
    pub fn read_column(path: impl AsRef<Path>, task: &Task, name: &str) -> Result<Self> {
        let read = read_records(path.as_ref(), task.layout())?;
        check_id_column(&read, task)?;
        let own = name_there(&read, name);
        let name = own.as_deref().unwrap_or(name);
        let there = || read.records.iter().any(|record| lookup(&record.values, name).is_some());
        if !task.gold_names().any(|known| known == name) && !there() {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("neither task `{}` nor the file has the column `{name}`", task.name),
            )
            .at(path.as_ref())
            .hint(format!(
                "the task has {}; the file's columns are {}",
                quoted(task.gold_names()),
                quoted(read.records.iter().take(1).flat_map(|record| record.values.keys()))
            )));
        }
        let gold = Self::of_names(&read, task, &[name])?;
        if gold.is_empty() {
            return Err(no_label(&read).hint(format!("gold column `{name}` is nowhere filled")));
        }
        Ok(gold)
    }

    /// Returns the labels of every gold column and concept that the file has, each by itself and
    /// with its name in [`columns`](Self::columns).
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_each(path: impl AsRef<Path>, task: &Task) -> Result<Vec<Self>> {
        let read = read_records(path.as_ref(), task.layout())?;
        check_id_column(&read, task)?;
        let each = Self::each(&read, task)?;
        if each.is_empty() {
            return Err(no_label(&read)
                .hint(format!("gold columns of the task are {}", quoted(task.gold_names()))));
        }
        Ok(each)
    }

    fn each(read: &Records, task: &Task) -> Result<Vec<Self>> {
        let mut each = Vec::new();
        for name in task.gold_names() {
            let gold = Self::of_names(read, task, &[name])?;
            if !gold.is_empty() {
                each.push(gold);
            }
        }
        Ok(each)
    }

    /// The first of `names` that labels a record; may label none.
    fn of_names(read: &Records, task: &Task, names: &[&str]) -> Result<Self> {
        let mut seen = SeenIds::default();
        let mut labels = HashMap::new();
        let mut columns: Vec<String> = Vec::new();
        for record in &read.records {
            let id = id_or_row(record, &task.id_columns, &read.path)?;
            seen.insert(&id, record.line, &read.path)?;
            for name in names {
                if let Some(label) = label_of(record, task, name, &read.path)? {
                    labels.insert(id, label);
                    if !columns.iter().any(|known| known == name) {
                        columns.push((*name).to_owned());
                    }
                    break;
                }
            }
        }
        Ok(Self { labels, columns, sha256: read.sha256.clone() })
    }

    /// Returns the place in the task's labels of the gold label of `id`.
    pub fn get(&self, id: &str) -> Option<usize> {
        self.labels.get(id).copied()
    }

    /// Returns the gold columns that labels were read from, in order of first use.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Returns the number of labelled ids.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Returns whether there are no labels; never so for labels that were read.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Returns the SHA-256 of the file.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

/// The column whose texts are all spellings of the task's labels, if there is one.
fn spelling_column<'r>(read: &'r Records, task: &Task) -> Option<&'r str> {
    let names = read.records.iter().take(1).flat_map(|record| record.values.keys());
    let mut spelling = names.filter(|name| {
        let values = read.records.iter().filter_map(|record| record.values.get(*name));
        let mut filled = values.filter(|value| !is_blank(value)).peekable();
        filled.peek().is_some() && filled.all(|value| task.label_index(value).is_some())
    });
    spelling.next().map(String::as_str)
}

/// A name as a shell takes it.
fn in_shell(name: &str) -> String {
    match name.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c)) {
        true => name.to_owned(),
        false => format!("'{name}'"),
    }
}

/// The file's spelling of a column that it has in other capitals only, or that was put into the task's
/// when it was read.
fn name_there(read: &Records, name: &str) -> Option<String> {
    let names = || read.records.iter().take(1).flat_map(|record| record.values.keys());
    if read.records.iter().any(|record| lookup(&record.values, name).is_some()) {
        return None;
    }
    names().find(|own| own.eq_ignore_ascii_case(name)).cloned()
}

/// The gold answers of a file, by id: the names of gold labels, or the texts of open answers.
#[derive(Clone)]
pub struct GoldAnswers {
    answers: HashMap<String, String>,
    columns: Vec<String>,
}

impl GoldAnswers {
    /// Returns the answers in the task's gold columns, or in `column`.
    ///
    /// Where answers are open, gold is the number that its text ends on.
    ///
    /// # Errors
    /// As [`GoldLabels::read`]; [`ErrorKind::Data`] with the line for an open answer without a number.
    pub fn read(path: impl AsRef<Path>, task: &Task, column: Option<&str>) -> Result<Self> {
        if !task.answers.is_open {
            let gold = match column {
                Some(column) => GoldLabels::read_column(path, task, column)?,
                None => GoldLabels::read(path, task)?,
            };
            let name =
                |(id, label): (&String, &usize)| (id.clone(), task.labels[*label].name.clone());
            let answers = gold.labels.iter().map(name).collect();
            return Ok(Self { answers, columns: gold.columns });
        }
        let read = read_records(path.as_ref(), task.layout())?;
        check_id_column(&read, task)?;
        let asked: Vec<String> = match column {
            Some(column) => vec![column.to_owned()],
            None => task.gold.columns.clone(),
        };
        let mut seen = SeenIds::default();
        let mut gold = Self { answers: HashMap::new(), columns: Vec::new() };
        for record in &read.records {
            let id = id_or_row(record, &task.id_columns, &read.path)?;
            seen.insert(&id, record.line, &read.path)?;
            let Some((column, value)) = first_filled(&record.values, &asked) else { continue };
            let number = text_of(&value).and_then(|text| final_number(&text)).ok_or_else(|| {
                Error::new(
                    ErrorKind::Data,
                    format!("column `{column}` of `{id}` has no number to be the answer"),
                )
                .at_line(&read.path, record.line)
                .hint("expected a number, or a solution that ends on one, such as `#### 8`")
            })?;
            gold.answers.insert(id, number);
            if !gold.columns.iter().any(|known| known == column) {
                gold.columns.push(column.to_owned());
            }
        }
        if gold.answers.is_empty() {
            return Err(Error::new(ErrorKind::Data, "no record has a gold answer")
                .at(&read.path)
                .hint(format!("looked in {}", quoted(&asked))));
        }
        Ok(gold)
    }

    /// Returns the gold answer of `id`.
    pub fn get(&self, id: &str) -> Option<&str> {
        self.answers.get(id).map(String::as_str)
    }

    /// Returns the gold columns that answers were read from, in order of first use.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }
}

/// Shows the count only, so that no log shows an answer.
impl fmt::Debug for GoldAnswers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GoldAnswers({} sealed)", self.answers.len())
    }
}

fn no_label(read: &Records) -> Error {
    Error::new(ErrorKind::Data, "no record has a gold label").at(&read.path)
}

/// Returns what the gold column or concept `name` says of a record.
fn label_of(record: &Record, task: &Task, name: &str, path: &Path) -> Result<Option<usize>> {
    let gold = &task.gold;
    let Some(concept) = gold.concepts.get(name) else {
        let value = lookup(&record.values, name).filter(|value| !is_blank(value));
        return match value {
            Some(value) if !gold.is_ignored(&value) => {
                let label = task.label_of(name, &value, (path, record.line))?;
                check_option(record, task, (name, label), path)?;
                Ok(Some(label))
            }
            _ => Ok(None),
        };
    };
    match concept.label(&record.values, gold) {
        Verdict::Absent => Ok(None),
        Verdict::Label(label) => Ok(Some(label)),
        Verdict::Unknown(column, value) => Err(Error::new(
            ErrorKind::Data,
            format!(
                "value `{value}` of column `{column}` is not one that gold column `{name}` knows"
            ),
        )
        .at_line(path, record.line)
        .hint(format!("[gold.concepts.{name}] of the task file says which values it knows"))),
    }
}

/// Refuses a gold label for an option that the question of the record does not have.
fn check_option(
    record: &Record,
    task: &Task,
    (column, label): (&str, usize),
    path: &Path,
) -> Result<()> {
    let Some(options) = &task.options else { return Ok(()) };
    // A file of ids and labels has no options.
    let Ok(there) = options.read(record, "", path) else { return Ok(()) };
    if label < there.len() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Data,
        format!(
            "column `{column}` says option {}, but the question has {} options",
            task.labels[label].name,
            there.len()
        ),
    )
    .at_line(path, record.line)
    .hint("gold is the option's letter, or its place counted from 0"))
}

/// Shows the count only, so that no log shows a label.
impl fmt::Debug for GoldLabels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GoldLabels({} sealed)", self.labels.len())
    }
}
