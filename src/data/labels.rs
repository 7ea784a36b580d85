//! Label files: what `w2s label` writes, labels from elsewhere, and demonstrations.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::dataset::{Dataset, example_of};
use super::example::Example;
use super::in_order;
use super::key::final_number;
use super::read::read_records;
use super::record::{Layout, Record, Records};
use super::task::Task;
use super::task_parts::Label;
use super::value::{
    SeenIds, first_filled, is_blank, kind_of, lookup, own_id, quoted, structured, text_of,
};
use crate::error::{Error, ErrorKind, Result};

/// The column of the label in a file of labels.
const LABEL: &str = "label";

/// One line of `labels.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelRecord {
    /// The example's id.
    pub id: String,
    /// Name of the label.
    pub label: String,
    /// Name and log-probability (nats) of each label, in the task's order.
    #[serde(with = "in_order")]
    pub logprobs: Vec<(String, f64)>,
    /// Log-probability of the label less that of the best other label.
    pub margin: f64,
    /// The iteration that last changed the label; `None` if none did.
    pub last_flip: Option<u64>,
}

/// Writes `records` as JSON lines.
///
/// # Errors
/// [`ErrorKind::Numeric`] naming the id if a number is not finite (JSON has no word for it);
/// [`ErrorKind::Io`] if the writer fails.
pub fn write_labels(mut writer: impl Write, records: &[LabelRecord]) -> Result<()> {
    for record in records {
        let mut numbers = record.logprobs.iter().map(|(_, logprob)| logprob);
        if !record.margin.is_finite() || !numbers.all(|logprob| logprob.is_finite()) {
            return Err(Error::new(
                ErrorKind::Numeric,
                format!("label of `{}` has a number that is not finite", record.id),
            )
            .hint("the model gave NaN or an infinite log-probability; try dtype float32"));
        }
        let mut line = serde_json::to_string(record).map_err(|source| {
            Error::new(ErrorKind::Internal, format!("cannot write a label: {source}"))
        })?;
        line.push('\n');
        writer.write_all(line.as_bytes()).map_err(|source| {
            Error::new(ErrorKind::Io, format!("cannot write labels: {source}"))
        })?;
    }
    Ok(())
}

/// Returns id and label of every record of a file with the columns `id` and `label`.
///
/// # Errors
/// [`ErrorKind::Io`] if the file cannot be read; [`ErrorKind::Data`] with the line for a broken or
/// empty file, a record without id or label, a duplicate id or a label the task does not know.
pub fn read_labels(path: impl AsRef<Path>, task: &Task) -> Result<Vec<(String, usize)>> {
    let read = read_records(path.as_ref(), Layout::default())?;
    let mut seen = SeenIds::default();
    read.records.iter().map(|record| id_and_label(record, &read, task, &mut seen)).collect()
}

/// Returns the records of a `labels.jsonl` that [`write_labels`] wrote.
///
/// # Errors
/// As [`read_labels`], and [`ErrorKind::Data`] if a record lacks its numbers.
pub fn read_label_records(path: impl AsRef<Path>, task: &Task) -> Result<Vec<LabelRecord>> {
    let read = read_records(path.as_ref(), Layout::default())?;
    let mut seen = SeenIds::default();
    let mut labels = Vec::with_capacity(read.records.len());
    for record in &read.records {
        let (id, index) = id_and_label(record, &read, task, &mut seen)?;
        let fault = |message: String| {
            Error::new(ErrorKind::Data, message)
                .at_line(&read.path, record.line)
                .hint("expected a line of `labels.jsonl` as `w2s label` writes it")
        };
        let label: LabelRecord = serde_json::from_value(Value::Object(record.values.clone()))
            .map_err(|source| fault(format!("not a label record: {source}")))?;
        let names = label.logprobs.iter().map(|(name, _)| name);
        if !names.eq(task.labels.iter().map(|label| &label.name)) {
            return Err(fault(format!(
                "logprobs of `{}` are for {}, expected {}",
                label.id,
                quoted(label.logprobs.iter().map(|(name, _)| name)),
                quoted(task.labels.iter().map(|label| &label.name))
            )));
        }
        // Another spelling of a label, as hands write it, is that label.
        labels.push(LabelRecord { id, label: task.labels[index].name.clone(), ..label });
    }
    Ok(labels)
}

/// A label from any file, with its log-probabilities where the file has some.
#[derive(Clone, Debug, PartialEq)]
pub struct GivenLabel {
    /// The example's id.
    pub id: String,
    /// Name of the label; where answers are open, the number that the text ends on, if there is one.
    pub label: Option<String>,
    /// Name and log-probability (nats) of each label, in the task's order.
    pub logprobs: Option<Vec<(String, f64)>>,
}

/// Columns that may hold an object of labels and numbers, and whether these are logarithms.
const DISTRIBUTIONS: [(&str, bool); 3] =
    [("logprobs", true), ("probabilities", false), ("distribution", false)];

/// Returns the labels of a file with the columns `id` and `label`, and `logprobs`, `probabilities` or
/// `distribution` if it likes: an object with a number for each label. A table has it as text.
///
/// # Errors
/// As [`read_labels`], and [`ErrorKind::Data`] for a distribution that is no object, or has a label
/// that the task does not know, lacks one of its labels, or has a number that cannot be.
pub fn read_given_labels(path: impl AsRef<Path>, task: &Task) -> Result<Vec<GivenLabel>> {
    let read = read_records(path.as_ref(), Layout::default())?;
    let mut seen = SeenIds::default();
    let one = |record: &Record| {
        if task.answers.is_open {
            let (id, _, value) = id_and_value(record, &read, &mut seen)?;
            let label = text_of(&value).and_then(|text| final_number(&text));
            return Ok(GivenLabel { id, label, logprobs: None });
        }
        let (id, label) = id_and_label(record, &read, task, &mut seen)?;
        let logprobs = distribution(record, task)
            .map_err(|error| error.of(format_args!("`{id}`")).at_line(&read.path, record.line))?;
        Ok(GivenLabel { id, label: Some(task.labels[label].name.clone()), logprobs })
    };
    read.records.iter().map(one).collect()
}

fn distribution(record: &Record, task: &Task) -> Result<Option<Vec<(String, f64)>>> {
    let found = DISTRIBUTIONS.iter().find_map(|&(column, is_log)| {
        let value = lookup(&record.values, column).filter(|value| !is_blank(value))?;
        Some((column, is_log, value))
    });
    let Some((column, is_log, value)) = found else { return Ok(None) };
    let fault = |message: String| {
        let labels = quoted(task.labels.iter().map(|label| &label.name));
        Error::new(ErrorKind::Data, format!("{column}: {message}"))
            .hint(format!("expected an object with a number for each of {labels}"))
    };
    let value = structured(value);
    let Value::Object(numbers) = value.as_ref() else {
        return Err(fault(format!("{} is not an object", kind_of(&value))));
    };
    // A probability that was rounded to 0 still has a logarithm.
    let least = f64::MIN_POSITIVE.ln();
    let mut logprobs: Vec<Option<f64>> = vec![None; task.labels.len()];
    for (name, number) in numbers {
        let Some(label) = task.label_index(&Value::from(name.as_str())) else {
            return Err(fault(format!("`{name}` is not one of the task's labels")));
        };
        let number = number.as_f64().filter(|number| match is_log {
            true => *number < 1e-3,
            false => (0.0..1.001).contains(number),
        });
        let Some(number) = number else {
            let what = if is_log { "log-probability" } else { "probability" };
            return Err(fault(format!("the {what} of `{name}` is {}", numbers[name])));
        };
        logprobs[label] = Some(if is_log { number } else { number.ln() }.max(least));
    }
    // Questions may differ in their number of options.
    let missing = logprobs.iter().position(Option::is_none).filter(|_| !task.has_options());
    if let Some(label) = missing {
        return Err(fault(format!("label `{}` is missing", task.labels[label].name)));
    }
    let named =
        |(label, logprob): (&Label, Option<f64>)| (label.name.clone(), logprob.unwrap_or(least));
    Ok(Some(task.labels.iter().zip(logprobs).map(named).collect()))
}

fn id_and_label(
    record: &Record,
    read: &Records,
    task: &Task,
    seen: &mut SeenIds,
) -> Result<(String, usize)> {
    let (id, column, value) = id_and_value(record, read, seen)?;
    Ok((id, task.label_of(column, &value, (&read.path, record.line))?))
}

fn id_and_value<'r>(
    record: &'r Record,
    read: &Records,
    seen: &mut SeenIds,
) -> Result<(String, &'static str, Cow<'r, Value>)> {
    let missing = |what: &str| {
        Error::new(ErrorKind::Data, format!("record has no `{what}`"))
            .at_line(&read.path, record.line)
            .hint("a file of labels has the columns `id` and `label`")
    };
    let id = own_id(record, &["id".to_owned()], &read.path)?.ok_or_else(|| missing("id"))?;
    seen.insert(&id, record.line, &read.path)?;
    let value = lookup(&record.values, LABEL).filter(|value| !is_blank(value));
    Ok((id, LABEL, value.ok_or_else(|| missing(LABEL))?))
}

/// Returns the labelled examples of a file, for prompts.
///
/// A record with the task's fields stands for itself; one without is looked up in `base` by id.
/// Records without a label are passed over. A record that stands for itself and has no id takes
/// that of the example of `base` with the same texts, so that an example is never its own
/// demonstration, or else `demonstration-N`.
///
/// # Errors
/// [`ErrorKind::Io`] if the file cannot be read; [`ErrorKind::Data`] for a broken file, a duplicate
/// id, a label the task does not know, an id that is not in `base`, fewer than two labelled records
/// or only one label among them.
pub fn read_demonstrations(
    path: impl AsRef<Path>,
    task: &Task,
    base: &Dataset,
) -> Result<Vec<(Example, usize)>> {
    let read = read_records(path.as_ref(), task.layout())?;
    let by_id: HashMap<&str, &Example> =
        base.examples.iter().map(|example| (example.id.as_str(), example)).collect();
    let columns = task.label_columns();
    let mut seen = SeenIds::default();
    let mut demonstrations: Vec<(Example, usize)> = Vec::new();
    for record in &read.records {
        let Some((column, value)) = first_filled(&record.values, &columns) else { continue };
        if task.gold.is_ignored(&value) {
            continue;
        }
        let label = task.label_of(column, &value, (&read.path, record.line))?;
        let example = demonstration(record, &read.path, task, base, &by_id)?;
        seen.insert(&example.id, record.line, &read.path)?;
        demonstrations.push((example, label));
    }
    if demonstrations.len() < 2 {
        return Err(Error::new(
            ErrorKind::Data,
            format!("file has {} labelled records, expected two or more", demonstrations.len()),
        )
        .at(&read.path)
        .hint(format!("labels are read from column {}", quoted(&columns))));
    }
    let labels: BTreeSet<usize> = demonstrations.iter().map(|(_, label)| *label).collect();
    if let (1, Some(only)) = (labels.len(), labels.first()) {
        return Err(Error::new(
            ErrorKind::Data,
            format!("every demonstration has the label `{}`", task.labels[*only].name),
        )
        .at(&read.path)
        .hint("a prompt of one label teaches the model to repeat it; add others"));
    }
    Ok(demonstrations)
}

fn demonstration(
    record: &Record,
    path: &Path,
    task: &Task,
    base: &Dataset,
    by_id: &HashMap<&str, &Example>,
) -> Result<Example> {
    let id = own_id(record, &task.id_columns, path)?;
    let has_options = task.options.as_ref().is_none_or(|options| {
        let columns = options.columns();
        columns.iter().any(|column| lookup(&record.values, column).is_some())
    });
    let stands_alone = has_options
        && task.fields.iter().all(|field| {
            field.default.is_some() || first_filled(&record.values, &field.columns).is_some()
        });
    match id {
        Some(id) if !stands_alone => {
            by_id.get(id.as_str()).map(|example| (*example).clone()).ok_or_else(|| {
                Error::new(
                    ErrorKind::Data,
                    format!("demonstration `{id}` is not in `{}`", base.path.display()),
                )
                .at_line(path, record.line)
                .hint("use an id of the data, or give the record the task's fields")
            })
        }
        Some(id) => example_of(record, id, task, path),
        None => {
            let own = example_of(record, format!("demonstration-{}", record.row), task, path)?;
            Ok(base
                .examples
                .iter()
                .find(|other| other.fields == own.fields && other.options == own.options)
                .cloned()
                .unwrap_or(own))
        }
    }
}
