//! Where two finished runs part: settings and inputs first, then the first proposal, score or label.
//!
//! Reads the files of two run folders and nothing else; it knows what a trace line is called but not
//! what it means.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind as IoErrorKind};
use std::path::Path;

use serde_json::{Map, Value};

use super::folder::RunDir;
use super::manifest::{Manifest, PATHS};
use crate::error::{Error, ErrorKind, Result};

/// Parts of `summary.json` that say what a run cost, not what it found.
const COST: [&str; 4] = ["num_passes", "tokens_computed", "tokens_full_prompts", "num_questions"];

/// A named thing with its value in either run; null where a run has no such thing.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// What differs, such as `search.form.alpha` or `changes[0][2]`.
    pub name: String,
    /// Its value in the first run.
    pub a: Value,
    /// Its value in the second run.
    pub b: Value,
}

/// The first place of a file in which two runs differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Parting {
    /// The file's name.
    pub file: &'static str,
    /// The one-based line, for files of lines.
    pub line: Option<usize>,
    /// What stands there, such as `proposal of iteration 3, batch 0, example x`.
    pub what: String,
    /// What of it differs.
    pub differences: Vec<Difference>,
}

/// How many labels two runs share and how many of these differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LabelCounts {
    /// Examples that both runs labelled.
    pub num_shared: usize,
    /// Those among them with another label.
    pub num_different: usize,
    /// Examples that one run alone labelled.
    pub num_in_one: usize,
}

/// In what two runs differ.
#[derive(Clone, Debug, PartialEq)]
pub struct RunDiff {
    /// The command that both runs are of.
    pub command: String,
    /// Settings, seed, inputs, use of gold and versions that differ.
    pub settings: Vec<Difference>,
    /// The first difference of `trace.jsonl`, `labels.jsonl`, `answers.jsonl`, `kept.jsonl`,
    /// `metrics.jsonl` and `summary.json`, in this order; a file that agrees is not here.
    pub partings: Vec<Parting>,
    /// The first answer of the model that differs, looked for only when the results differ.
    pub first_answer: Option<Parting>,
    /// How the labels compare.
    pub labels: LabelCounts,
}

impl RunDiff {
    /// Returns whether both runs found the same, whatever their settings.
    pub fn agrees(&self) -> bool {
        self.partings.is_empty()
    }
}

/// Returns in what the runs in the folders `a` and `b` differ; numbers that are at most `tolerance`
/// apart count as equal.
///
/// The command line, paths of inputs with equal contents, wall time and cost are not compared.
///
/// # Errors
/// [`ErrorKind::Run`] when a folder holds no run or an unfinished one, the runs are of different
/// commands, or a file is damaged; [`ErrorKind::Usage`] for a tolerance that is no number from 0 up.
///
/// # Cost
/// Reads both runs' files once, line by line.
pub fn diff_runs(a: &Path, b: &Path, tolerance: f64) -> Result<RunDiff> {
    if !(tolerance.is_finite() && tolerance >= 0.0) {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("the tolerance is {tolerance}, expected a number from 0 up"),
        ));
    }
    let [(a, manifest_a), (b, manifest_b)] = [finished(a)?, finished(b)?];
    if manifest_a.command != manifest_b.command {
        return Err(Error::new(
            ErrorKind::Run,
            format!(
                "one run is of `w2s {}`, the other of `w2s {}`",
                manifest_a.command, manifest_b.command
            ),
        )
        .at(b.path())
        .hint("compare runs of the same command"));
    }
    let settings = manifest_differences(&manifest_a, &manifest_b);
    let file = |name| [a.file(name), b.file(name)];
    let mut partings = Vec::new();
    partings.extend(first_line("trace.jsonl", &file("trace.jsonl"), tolerance, event_name)?);
    let label_name = |line: &Value, _| format!("label of example {}", text(line.get("id")));
    partings.extend(first_line("labels.jsonl", &file("labels.jsonl"), tolerance, label_name)?);
    let answer_name = |line: &Value, _| {
        format!(
            "answer to variant {} of question {}",
            text(line.get("variant")),
            text(line.get("id"))
        )
    };
    partings.extend(first_line("answers.jsonl", &file("answers.jsonl"), tolerance, answer_name)?);
    let question_name = |line: &Value, _| format!("question {}", text(line.get("id")));
    partings.extend(first_line("kept.jsonl", &file("kept.jsonl"), tolerance, question_name)?);
    let step_name = |line: &Value, _| {
        let validation = line.get("validation_loss").is_some();
        format!(
            "{} {}",
            if validation { "validation after step" } else { "step" },
            line.get("step").unwrap_or(&Value::Null)
        )
    };
    partings.extend(first_line("metrics.jsonl", &file("metrics.jsonl"), tolerance, step_name)?);
    let [summary_a, summary_b] = file("summary.json").map(|path| read_summary(&path));
    let mut differences = Vec::new();
    compare(&summary_a?, &summary_b?, "", tolerance, &mut differences);
    if !differences.is_empty() {
        let what = "summary".to_owned();
        partings.push(Parting { file: "summary.json", line: None, what, differences });
    }
    let first_answer = if partings.is_empty() {
        None
    } else {
        let name = |_: &Value, line| format!("answer {line} of the model");
        let mut found = first_line("journal.jsonl", &file("journal.jsonl"), tolerance, name)?;
        // The answers to two questions are not one answer that differs.
        if let Some(answer) = &mut found
            && answer.differences.iter().any(|difference| difference.name == "tree")
        {
            answer.differences.retain(|difference| difference.name == "tree");
        }
        found
    };
    let labels = count_labels(&file(match manifest_a.command.as_str() {
        "filter" => "kept.jsonl",
        _ => "labels.jsonl",
    }))?;
    let command = manifest_a.command;
    Ok(RunDiff { command, settings, partings, first_answer, labels })
}

fn finished(path: &Path) -> Result<(RunDir, Manifest)> {
    let (folder, manifest) = RunDir::existing(path)?;
    if folder.is_complete() {
        return Ok((folder, manifest));
    }
    Err(Error::new(ErrorKind::Run, "the run is not complete")
        .at(path)
        .hint(format!("end it first: the same `w2s {}` command with `--resume`", manifest.command)))
}

fn manifest_differences(a: &Manifest, b: &Manifest) -> Vec<Difference> {
    let object = |manifest: &Manifest| {
        let mut all = Map::new();
        let mut settings = manifest.settings.clone();
        // These name inputs, which are compared by their contents.
        settings.retain(|key, _| !PATHS.contains(&key.as_str()));
        all.insert("settings".into(), settings.into());
        all.insert("seed".into(), manifest.seed.into());
        let gold_used = serde_json::to_value(&manifest.gold_used).unwrap_or_default();
        all.insert("gold_used".into(), gold_used);
        let inputs = manifest.inputs.iter().map(|input| {
            (input.role.clone(), Value::from(format!("{} ({:.12})", input.path, input.sha256)))
        });
        all.insert("inputs".into(), inputs.collect::<Map<_, _>>().into());
        all.insert("versions".into(), manifest.versions.clone().into());
        Value::Object(all)
    };
    let digest = |manifest: &Manifest, role: &str| {
        let input = manifest.inputs.iter().find(|input| input.role == role)?;
        Some(input.sha256.clone())
    };
    let mut differences = Vec::new();
    compare(&object(a), &object(b), "", 0.0, &mut differences);
    differences.retain(|difference| {
        difference
            .name
            .strip_prefix("inputs.")
            .is_none_or(|role| digest(a, role) != digest(b, role))
    });
    for difference in &mut differences {
        if let Some(name) = difference.name.strip_prefix("settings.") {
            difference.name = name.to_owned();
        }
    }
    differences
}

/// Collects where `a` and `b` differ, objects by key and lists of one length by place.
fn compare(a: &Value, b: &Value, name: &str, tolerance: f64, out: &mut Vec<Difference>) {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            let keys = x.keys().chain(y.keys().filter(|key| !x.contains_key(*key)));
            for key in keys {
                let path = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                let get = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                compare(&get(x), &get(y), &path, tolerance, out);
            }
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            for (i, (x, y)) in x.iter().zip(y).enumerate() {
                compare(x, y, &format!("{name}[{i}]"), tolerance, out);
            }
        }
        (Value::Number(x), Value::Number(y)) => {
            let apart = match (x.as_f64(), y.as_f64()) {
                (Some(x), Some(y)) if x != y => (x - y).abs() > tolerance,
                // Counts beyond 2^53 are one number as f64.
                _ => x.is_u64() && y.is_u64() && x != y,
            };
            if apart {
                out.push(Difference { name: name.to_owned(), a: a.clone(), b: b.clone() });
            }
        }
        _ if a != b => {
            out.push(Difference { name: name.to_owned(), a: a.clone(), b: b.clone() });
        }
        _ => {}
    }
}

/// Returns the first line in which two files of JSON lines differ; a file that is in one folder only
/// differs as a whole, one that is in neither does not.
fn first_line(
    file: &'static str,
    paths: &[std::path::PathBuf; 2],
    tolerance: f64,
    name: impl Fn(&Value, usize) -> String,
) -> Result<Option<Parting>> {
    let [a, b] = [Lines::open(&paths[0])?, Lines::open(&paths[1])?];
    let present = [a.is_some(), b.is_some()];
    let (Some(mut a), Some(mut b)) = (a, b) else {
        let differences = vec![Difference {
            name: "file".to_owned(),
            a: present[0].into(),
            b: present[1].into(),
        }];
        let what = "only one run has this file".to_owned();
        let parting = Parting { file, line: None, what, differences };
        return Ok((present[0] != present[1]).then_some(parting));
    };
    loop {
        let (line_a, line_b) = (a.next_line()?, b.next_line()?);
        if line_a == line_b {
            if line_a.is_none() {
                return Ok(None);
            }
            continue;
        }
        let line = a.number.max(b.number);
        let (Some(text_a), Some(text_b)) = (&line_a, &line_b) else {
            let (rest, which) = if line_a.is_some() {
                (a.parse(&line_a), "second")
            } else {
                (b.parse(&line_b), "first")
            };
            let what = format!("the {which} run ends here, before {}", name(&rest?, line));
            return Ok(Some(Parting { file, line: Some(line), what, differences: Vec::new() }));
        };
        let (value_a, value_b) = (a.parse_text(text_a)?, b.parse_text(text_b)?);
        let mut differences = Vec::new();
        compare(&value_a, &value_b, "", tolerance, &mut differences);
        // Cost is no result.
        differences.retain(|difference| !difference.name.starts_with("usage."));
        if !differences.is_empty() {
            let what = name(&value_a, a.number);
            return Ok(Some(Parting { file, line: Some(line), what, differences }));
        }
    }
}

/// The lines of a file, with their place for errors.
struct Lines<'a> {
    path: &'a Path,
    reader: BufReader<File>,
    number: usize,
}

impl<'a> Lines<'a> {
    fn open(path: &'a Path) -> Result<Option<Self>> {
        match File::open(path) {
            Ok(file) => Ok(Some(Self { path, reader: BufReader::new(file), number: 0 })),
            Err(e) if e.kind() == IoErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("read", path, &e)),
        }
    }

    fn next_line(&mut self) -> Result<Option<String>> {
        let mut line = String::new();
        let length =
            self.reader.read_line(&mut line).map_err(|e| Error::io("read", self.path, &e))?;
        if length == 0 {
            return Ok(None);
        }
        self.number += 1;
        Ok(Some(line))
    }

    fn parse(&self, line: &Option<String>) -> Result<Value> {
        self.parse_text(line.as_deref().unwrap_or_default())
    }

    fn parse_text(&self, line: &str) -> Result<Value> {
        serde_json::from_str(line).map_err(|e| {
            Error::new(ErrorKind::Run, format!("the line is not JSON: {e}"))
                .at_line(self.path, self.number)
                .hint("the file is damaged or edited; make the run again")
        })
    }
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => format!("`{text}`"),
        Some(other) => format!("`{other}`"),
        None => "without name".to_owned(),
    }
}

fn event_name(line: &Value, _: usize) -> String {
    let number = |key: &str| line.get(key).map(Value::to_string).unwrap_or_default();
    let (batch, iteration) = (number("batch"), number("iteration"));
    match line.get("event").and_then(Value::as_str) {
        Some("proposal") => format!(
            "proposal of iteration {iteration}, batch {batch}, example {}",
            text(line.get("id"))
        ),
        Some("start") => format!("start of batch {batch}"),
        Some("end") => format!("end of batch {batch}, iteration {iteration}"),
        other => format!(
            "event `{}` of iteration {iteration}, batch {batch}",
            other.unwrap_or("without name")
        ),
    }
}

fn read_summary(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, &e))?;
    let mut summary: Value = serde_json::from_str(&text)
        .map_err(|e| Error::new(ErrorKind::Run, format!("the file is not JSON: {e}")).at(path))?;
    if let Value::Object(map) = &mut summary {
        map.retain(|key, _| !COST.contains(&key.as_str()));
    }
    Ok(summary)
}

fn count_labels(paths: &[std::path::PathBuf; 2]) -> Result<LabelCounts> {
    let [a, b] = [labels_of(&paths[0])?, labels_of(&paths[1])?];
    let num_shared = a.keys().filter(|id| b.contains_key(*id)).count();
    let num_different =
        a.iter().filter(|(id, label)| b.get(*id).is_some_and(|other| other != *label)).count();
    Ok(LabelCounts { num_shared, num_different, num_in_one: a.len() + b.len() - 2 * num_shared })
}

fn labels_of(path: &Path) -> Result<HashMap<String, Value>> {
    let mut labels = HashMap::new();
    let Some(mut lines) = Lines::open(path)? else { return Ok(labels) };
    while let Some(line) = lines.next_line()? {
        let record = lines.parse_text(&line)?;
        labels.insert(text(record.get("id")), record.get("label").cloned().unwrap_or_default());
    }
    Ok(labels)
}
