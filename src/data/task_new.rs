//! Task files for a user's own data: what the file's columns are, and the file's text.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::dataset::Dataset;
use super::read::read_records;
use super::record::Layout;
use super::task::Task;
use super::task_file;
use super::task_prompt::is_plain;
use super::value::{is_blank, text_of};
use crate::error::{Error, ErrorKind, Result};

/// Characters of a sample.
const SAMPLE_CHARS: usize = 60;

/// A column of a data file, as a person recognises it.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The beginning of its first text.
    pub sample: String,
    /// Mean length of its texts, in characters.
    pub mean_chars: f64,
    /// Whether no two records have the same text in it, and none is empty.
    pub is_distinct: bool,
}

/// Returns the columns of a data file that hold single texts or numbers, in its order.
///
/// # Errors
/// As [`Dataset::read`].
pub fn read_columns(path: &Path) -> Result<Vec<Column>> {
    let read = read_records(path, Layout { all_columns: true, ..Layout::default() })?;
    let mut names: Vec<&String> = Vec::new();
    for record in &read.records {
        for name in record.values.keys() {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let column = |name: &String| {
        let texts: Vec<String> = read
            .records
            .iter()
            .filter_map(|record| record.values.get(name).filter(|value| !is_blank(value)))
            .filter_map(|value| Some(text_of(value)?.into_owned()))
            .collect();
        let first = texts.first()?;
        let sample: String = first.chars().take(SAMPLE_CHARS).collect();
        let chars: usize = texts.iter().map(|text| text.chars().count()).sum();
        let distinct: HashSet<&str> = texts.iter().map(|text| text.trim()).collect();
        Some(Column {
            name: name.clone(),
            sample: sample.split_whitespace().collect::<Vec<_>>().join(" "),
            mean_chars: chars as f64 / texts.len() as f64,
            is_distinct: distinct.len() == read.records.len(),
        })
    };
    Ok(names.into_iter().filter_map(column).collect())
}

/// What a new task is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTask {
    /// Its name.
    pub name: String,
    /// The file that it is for.
    pub data: PathBuf,
    /// Its fields, each with a column of the file, in the order of the prompt.
    pub fields: Vec<(String, String)>,
    /// The column of the ids; rows are numbered without one.
    pub id: Option<String>,
    /// Names of the labels, which are the words that the model is to say. The last is the positive one.
    pub labels: Vec<String>,
    /// What is asked about the fields.
    pub question: Option<String>,
    /// The column of the gold labels, which only evaluation reads.
    pub gold: Option<String>,
}

impl NewTask {
    /// Returns the text of the task file, and the task and data as that file reads them.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] where something is missing or cannot be a name; [`ErrorKind::Task`] and
    /// [`ErrorKind::Data`] for what the file's reader refuses.
    pub fn checked(&self, path: &Path) -> Result<(String, Task, Dataset)> {
        let usage = |message: String| Error::new(ErrorKind::Usage, message);
        if self.labels.len() < 2 {
            return Err(usage("a task needs two labels or more".into())
                .hint("give their names with commas between them: `--labels no,yes`"));
        }
        if let Some((name, _)) = self.fields.iter().find(|(name, _)| !is_plain(name)) {
            return Err(usage(format!("`{name}` cannot be the name of a field")).hint(
                "a field's name is made of letters, digits, `-`, `_` and `.`: `--field text=COLUMN`",
            ));
        }
        let toml = self.to_toml();
        let task = task_file::parse(&toml, path)?;
        let dataset = Dataset::read(&self.data, &task)?;
        Ok((toml, task, dataset))
    }

    /// The text of the task file.
    fn to_toml(&self) -> String {
        let text = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let key = |name: &str| match name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            true => name.to_owned(),
            false => text(name),
        };
        let question = self.question.as_deref().unwrap_or("").trim();
        let about = match question {
            "" => format!("labels of {}", self.data.display()),
            asked => asked.replace('\n', " "),
        };
        let mut out = format!(
            "# A task for `w2s`, made by `w2s tasks new`. `w2s tasks THIS_FILE` shows what it comes to;\n\
             # data/tasks/README.md of w2s lists all that can stand here.\n\
             name = {}\ndescription = {}\n",
            text(&self.name),
            text(&about)
        );
        out += "# The label that margins and log-odds speak for.\n";
        out += &format!("positive = {}\n", text(self.labels.last().map_or("", String::as_str)));
        match &self.id {
            Some(id) => {
                out += &format!("# The column that tells records apart.\nid = [{}]\n", text(id))
            }
            None => {
                out += "# No column tells records apart, so that rows are numbered: id = [\"COLUMN\"] names one.\n";
            }
        }
        out += "\n# What the prompt shows, each from the first of these columns that is filled.\n[fields]\n";
        for (name, column) in &self.fields {
            out += &format!("{} = [{}]\n", key(name), text(column));
        }
        out += &format!(
            "\n# The label's word follows the template directly.\n[prompt]\ntemplate = {}\nseparator = \"\\n\\n\"\n",
            text(&self.template())
        );
        out += "\n# `word` is what the model is to say, where that is not the name; `accept` lists other spellings in files.\n";
        for label in &self.labels {
            out += &format!("[[labels]]\nname = {}\n\n", text(label));
        }
        out += "# Columns that hold the answer: read by `w2s eval` alone, and closed to prompts.\n[gold]\n";
        let gold = self.gold.as_deref().unwrap_or("label");
        out += &format!("columns = [{}]\n", text(gold));
        out += "\n# Where examples of one group exclude each other, a rule keeps the search from giving all of them one\n\
                # label (\"Consistency\" in data/tasks/README.md):\n\
                # [consistency]\n# group = [\"COLUMN\"]\n# key = { from = \"text\", field = \"FIELD\" }\n# rules = [\"asymmetry\"]\n";
        out
    }

    fn template(&self) -> String {
        let mut template = String::new();
        for (name, _) in &self.fields {
            let title: String = name.replace(['_', '-', '.'], " ");
            let mut letters = title.chars();
            let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
            template += &format!("{first}{}: {{{name}}}\n", letters.as_str());
        }
        match self.question.as_deref().map(str::trim) {
            Some(question) if !question.is_empty() => template += &format!("{question} "),
            _ => template += "Label: ",
        }
        template
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_told_by_their_texts() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("t.csv");
        std::fs::write(&path, "No;Text;kind\n1;a  long\ttext;x\n2;other;x\n").unwrap();
        let found = read_columns(&path).unwrap();
        let facts: Vec<(&str, &str, f64, bool)> = found
            .iter()
            .map(|c| (c.name.as_str(), c.sample.as_str(), c.mean_chars, c.is_distinct))
            .collect();
        let expected =
            [("No", "1", 1.0, true), ("Text", "a long text", 8.5, true), ("kind", "x", 1.0, false)];
        assert_eq!(facts, expected);
    }

    #[test]
    fn a_new_task_reads_its_data() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("t.csv");
        std::fs::write(
            &path,
            "n,the \"odd\" text,ok\nA1,it rains,yes\nA2,it snows,no\n".replace("\"odd\"", "odd"),
        )
        .unwrap();
        let new = NewTask {
            name: "weather".into(),
            data: path,
            fields: vec![("text".into(), "the odd text".into())],
            id: Some("n".into()),
            labels: vec!["no".into(), "yes".into()],
            question: Some("Is it \"wet\"?".into()),
            gold: Some("ok".into()),
        };
        let (toml, task, dataset) = new.checked(Path::new("t.toml")).unwrap();
        assert_eq!(dataset.examples[1].id, "A2");
        assert_eq!(dataset.examples[1].fields["text"], "it snows");
        assert_eq!(task.prompt.template, "Text: {text}\nIs it \"wet\"? ");
        assert_eq!(task.labels[task.positive].name, "yes");
        assert!(toml.contains("columns = [\"ok\"]"), "{toml}");
        let closed = NewTask { fields: vec![("text".into(), "ok".into())], ..new.clone() };
        assert!(
            closed.checked(Path::new("t.toml")).unwrap_err().to_string().contains("holds gold")
        );
        let one = NewTask { labels: vec!["no".into()], ..new };
        assert!(one.checked(Path::new("t.toml")).is_err());
    }
}
