//! What `w2s compare` reads: run folders and files of labels as answers by id, and their gold.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::data::{
    GivenLabel, GoldAnswers, Task, WeakRecord, read_given_labels, read_json_lines,
    read_label_records,
};
use crate::error::{Error, ErrorKind, Result};
use crate::eval::{Answer, AnsweredRun, ComparedMethod, Role};
use crate::pipeline::finished::{complete_run, task_of};
use crate::run::{Input, Manifest, RunDir};

/// A method as it stands on the command line.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) published: Option<f64>,
    runs: Vec<PathBuf>,
}

impl Named {
    /// Returns the method that `text` names: `NAME=RUN,...`; weak supervisor and ceiling may do
    /// without a name.
    pub(super) fn parse(text: &str, role: Role) -> Result<Self> {
        let (option, own_name) = match role {
            Role::Weak => ("weak", Some("weak")),
            Role::Ceiling => ("ceiling", Some("ceiling")),
            Role::Method => ("method", None),
        };
        let fault = |message: String| {
            Error::new(ErrorKind::Usage, message)
                .hint(format!("expected such as `--{option} naive=runs/naive-0,runs/naive-1`"))
        };
        let (name, runs) = match (text.split_once('='), own_name) {
            (Some((name, runs)), _) => (name.trim(), runs),
            (None, Some(name)) => (name, text),
            (None, None) => {
                return Err(fault(format!("`--{option} {text}` has no name")));
            }
        };
        let runs: Vec<PathBuf> = runs
            .split(',')
            .map(str::trim)
            .filter(|run| !run.is_empty())
            .map(PathBuf::from)
            .collect();
        if name.is_empty() || runs.is_empty() {
            return Err(fault(format!("`--{option} {text}` lacks a name or a run")));
        }
        let mut seen = HashSet::new();
        if let Some(twice) = runs.iter().find(|run| !seen.insert(*run)) {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("method `{name}` has the run `{}` twice", twice.display()),
            )
            .hint("a run that is counted twice makes seeds look more alike than they are"));
        }
        Ok(Self { name: name.to_owned(), role, published: None, runs })
    }
}

/// Everything that is compared.
pub(super) struct Read {
    pub(super) task: Task,
    /// The label names; of options those up to the last in use; none for open answers.
    pub(super) labels: Vec<String>,
    pub(super) positive: usize,
    pub(super) methods: Vec<ComparedMethod>,
    /// Name and answers by id of each gold column.
    pub(super) gold: Vec<(String, HashMap<String, String>)>,
    pub(super) gold_sha256: String,
}

/// A run that is not read yet: a folder, or a file of labels.
enum GivenRun {
    Folder(RunDir, Box<Manifest>),
    File(PathBuf),
}

/// Returns the answers of all runs, and gold for them.
pub(super) fn read(
    methods: &[Named],
    task: Option<&str>,
    gold: &Path,
    columns: &[String],
) -> Result<Read> {
    let mut given = Vec::new();
    for method in methods {
        let runs = method.runs.iter().map(|run| {
            if run.is_file() {
                return Ok(GivenRun::File(run.clone()));
            }
            let (folder, manifest) = complete_run(run)?;
            Ok(GivenRun::Folder(folder, Box::new(manifest)))
        });
        given.push(runs.collect::<Result<Vec<_>>>()?);
    }
    let task = common_task(&given, task)?;
    let mut all = Vec::with_capacity(methods.len());
    for (method, given) in methods.iter().zip(&given) {
        let runs = given.iter().zip(&method.runs).map(|(run, path)| answers(run, path, &task));
        all.push(runs.collect::<Result<Vec<_>>>()?);
    }
    let ids: HashSet<&str> =
        all.iter().flatten().flat_map(|run| &run.rows).map(|row| row.id.as_str()).collect();
    let columns: Vec<Option<&str>> = match columns {
        [] => vec![None],
        columns => columns.iter().map(|column| Some(column.as_str())).collect(),
    };
    let mut of_columns = Vec::with_capacity(columns.len());
    for column in columns {
        let found = GoldAnswers::read(gold, &task, column)?;
        let name = column.map_or_else(|| found.columns().join(", "), str::to_owned);
        let known = ids.iter().filter_map(|id| Some(((*id).to_owned(), found.get(id)?.to_owned())));
        of_columns.push((name, known.collect::<HashMap<String, String>>()));
    }
    let labels = labels_in_use(&task, &all, &of_columns);
    let methods = methods.iter().zip(all).map(|(method, runs)| ComparedMethod {
        name: method.name.clone(),
        role: method.role,
        published: method.published,
        runs: runs.into_iter().map(|run| run.answered(&labels)).collect(),
    });
    Ok(Read {
        methods: methods.collect(),
        positive: task.positive.min(labels.len().saturating_sub(1)),
        labels,
        gold: of_columns,
        gold_sha256: Input::of_file("gold", gold)?.sha256,
        task,
    })
}

/// The task that was asked for, or that of the run folders; the labels of all are the same.
fn common_task(given: &[Vec<GivenRun>], asked: Option<&str>) -> Result<Task> {
    let mut common = asked.map(Task::load).transpose()?;
    let names = |task: &Task| {
        // Questions may differ in their number of options.
        let num = if task.has_options() { 0 } else { task.labels.len() };
        task.labels.iter().take(num).map(|label| label.name.clone()).collect::<Vec<_>>()
    };
    for run in given.iter().flatten() {
        let GivenRun::Folder(folder, manifest) = run else { continue };
        if manifest.command == "train" {
            return Err(Error::new(ErrorKind::Run, "the run is a training, which has no labels")
                .at(folder.path())
                .hint("label the test data with it: `w2s label --adapter RUN`, and compare that"));
        }
        let task = task_of(manifest, folder.path())?;
        let Some(first) = &common else {
            common = Some(task);
            continue;
        };
        if names(first) != names(&task) || first.answers.is_open != task.answers.is_open {
            return Err(Error::new(
                ErrorKind::Data,
                format!("the run is of task `{}`, others of `{}`", task.name, first.name),
            )
            .at(folder.path())
            .hint("methods are compared on one task: the labels must be the same"));
        }
        if first.has_options() && task.labels.len() > first.labels.len() && asked.is_none() {
            common = Some(task);
        }
    }
    common.ok_or_else(|| {
        Error::new(ErrorKind::Usage, "no run says which task the labels are of")
            .hint("name it with `--task`")
    })
}

/// The labels of one run.
struct Labelled {
    path: String,
    digest: Option<String>,
    rows: Vec<GivenLabel>,
}

impl Labelled {
    fn answered(self, labels: &[String]) -> AnsweredRun {
        let row = |row: GivenLabel| {
            let logprobs = row.logprobs.filter(|_| !labels.is_empty()).map(|named| {
                let of = |label: &String| named.iter().find(|(name, _)| name == label);
                // An option that the question does not have.
                let none = f64::MIN_POSITIVE.ln();
                labels.iter().map(|label| of(label).map_or(none, |(_, value)| *value)).collect()
            });
            Answer { id: row.id, answer: row.label, logprobs }
        };
        let answers = self.rows.into_iter().map(row).collect();
        AnsweredRun { path: self.path, digest: self.digest, answers }
    }
}

fn answers(run: &GivenRun, path: &Path, task: &Task) -> Result<Labelled> {
    let path = path.display().to_string();
    let (folder, manifest) = match run {
        GivenRun::File(file) => {
            return Ok(Labelled { path, digest: None, rows: read_given_labels(file, task)? });
        }
        GivenRun::Folder(folder, manifest) => (folder, manifest),
    };
    let rows = if manifest.command == crate::pipeline::evaluate::weak::COMMAND {
        let kept: Vec<WeakRecord> = read_json_lines(&folder.file("kept.jsonl"))?;
        let dropped: Vec<WeakRecord> = read_json_lines(&folder.file("dropped.jsonl"))?;
        kept.into_iter().chain(dropped).map(weak_label).collect()
    } else {
        let file = folder.file("labels.jsonl");
        // A question's number of options is that of its own run.
        let own = task_of(manifest, folder.path())?;
        let records = read_label_records(&file, &own)?;
        let given = records.into_iter().map(|record| {
            let index = own.label_index(&Value::from(record.label.as_str()));
            let label = index.map(|index| own.labels[index].name.clone()).ok_or_else(|| {
                let message =
                    format!("label `{}` of `{}` is not the task's", record.label, record.id);
                Error::new(ErrorKind::Data, message).at(&file)
            })?;
            Ok(GivenLabel { id: record.id, label: Some(label), logprobs: Some(record.logprobs) })
        });
        given.collect::<Result<Vec<_>>>()?
    };
    Ok(Labelled { path, digest: Some(manifest.digest()), rows })
}

fn weak_label(record: WeakRecord) -> GivenLabel {
    // A probability that was rounded to 0 still has a logarithm.
    let logprob = |(name, p): (String, f64)| (name, p.max(f64::MIN_POSITIVE).ln());
    let logprobs = record.distribution.map(|all| all.into_iter().map(logprob).collect());
    GivenLabel { id: record.id, label: record.label, logprobs }
}

/// The names of the labels; where they are options, those up to the last that occurs.
fn labels_in_use(
    task: &Task,
    runs: &[Vec<Labelled>],
    gold: &[(String, HashMap<String, String>)],
) -> Vec<String> {
    if task.answers.is_open {
        return Vec::new();
    }
    let mut labels: Vec<String> = task.labels.iter().map(|label| label.name.clone()).collect();
    if task.has_options() {
        let rows = runs.iter().flatten().flat_map(|run| &run.rows);
        let given = rows.flat_map(|row| {
            let offered = row.logprobs.iter().flatten().map(|(name, _)| name);
            row.label.iter().chain(offered)
        });
        let gold = gold.iter().flat_map(|(_, answers)| answers.values());
        let place = |name: &String| labels.iter().position(|label| label == name);
        let last = given.chain(gold).filter_map(place).max();
        labels.truncate(last.map_or(2, |last| last + 1).max(2));
    }
    labels
}
