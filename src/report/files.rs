//! The files of a run that the report reads, and what is the same in every run.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind as IoErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::eval::CurvePoint;

/// What tells a run from others.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// The folder's name.
    pub folder: String,
    pub method: String,
    /// The method's name as figures show it.
    pub method_name: String,
    pub task: String,
    /// The model folder's name, or the model's name where it is not a folder.
    pub model: Option<String>,
}

/// What every run folder has.
pub(super) struct Start {
    /// The folder's name.
    pub folder: String,
    /// The command that made the run.
    pub command: Option<String>,
    pub method: Option<String>,
    pub task: Option<String>,
    pub model: Option<String>,
    /// Why gold was used, where it was.
    pub gold_used: Option<String>,
    pub summary: Summary,
}

impl Start {
    pub(super) fn read(dir: &Path) -> Result<Self> {
        if !dir.is_dir() {
            return Err(Error::new(ErrorKind::Run, "the run folder does not exist")
                .at(dir)
                .hint("name folders that `w2s label`, `filter`, `train`, `loop`, `compare` or `reproduce` has written"));
        }
        let Manifest { command, settings, gold_used } = read_json(
            &dir.join("manifest.json"),
            "this is not a run folder; name one that `w2s label`, `w2s filter` or `w2s train` has \
             written",
        )?;
        let summary = read_json(
            &dir.join("summary.json"),
            "the run did not finish; finish it before reporting on it",
        )?;
        Ok(Self {
            folder: folder_name(dir),
            command,
            method: settings.method,
            task: settings.task,
            model: settings.model.map(|model| last_part(&model)),
            gold_used: reason(&gold_used),
            summary,
        })
    }

    /// Returns what `w2s eval` found.
    ///
    /// # Errors
    /// When there is no such file or it is broken.
    pub(super) fn evaluation<T: DeserializeOwned>(&self, dir: &Path) -> Result<T> {
        let hint = format!("run `w2s eval --gold FILE {}` first", dir.display());
        read_json(&dir.join("eval.json"), &hint)
    }
}

/// The part of `summary.json` that is shown.
#[derive(Debug, Deserialize)]
pub(super) struct Summary {
    #[serde(default)]
    pub score: Option<f64>,
    #[serde(default)]
    pub constant_scores: Option<BTreeMap<String, Option<f64>>>,
    /// U of the labels permuted over the examples.
    #[serde(default)]
    pub permuted_scores: Option<Vec<f64>>,
    /// None for other methods than the search, or where it was left out.
    #[serde(default)]
    pub order_check: Option<OrderCheck>,
    /// How kinds of questions fared under a filter.
    #[serde(default)]
    pub coverage: Vec<KindCoverage>,
    #[serde(default)]
    pub tokens_computed: Option<u64>,
    #[serde(default)]
    pub tokens_full_prompts: Option<u64>,
}

/// How one kind of question fared under a filter.
#[derive(Debug, Deserialize)]
pub(super) struct KindCoverage {
    pub by: String,
    pub kind: String,
    pub num: usize,
    pub num_kept: usize,
}

/// What a new order of demonstrations does to the result.
#[derive(Debug, Deserialize)]
pub(super) struct OrderCheck {
    pub score: f64,
    pub score_change: f64,
    pub mean_margin_change_nats: f64,
    pub share_predicted_otherwise: f64,
}

impl Summary {
    /// Returns the best score of the labels permuted over the examples.
    pub(super) fn best_permuted(&self) -> Option<f64> {
        self.permuted_scores.iter().flatten().copied().reduce(f64::max)
    }

    /// Returns the label whose constant labelling scores best, with that score.
    pub(super) fn best_constant(&self) -> Option<(String, f64)> {
        let scores = self.constant_scores.as_ref()?;
        scores
            .iter()
            .filter_map(|(label, score)| score.map(|score| (label.clone(), score)))
            .max_by(|a, b| a.1.total_cmp(&b.1))
    }
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    command: Option<String>,
    settings: Settings,
    #[serde(default)]
    gold_used: Value,
}

#[derive(Deserialize)]
struct Settings {
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    task: Option<String>,
    #[serde(default)]
    model: Option<String>,
}

pub(super) fn method_name(method: &str, gold_used: bool) -> String {
    let name = match method {
        "icm" => "ICM",
        other => other,
    };
    let gold = if gold_used && !name.contains("gold") { " gold" } else { "" };
    format!("{name}{gold}")
}

fn reason(gold_used: &Value) -> Option<String> {
    match gold_used {
        Value::Null | Value::Bool(false) => None,
        Value::String(reason) => Some(reason.clone()),
        _ => Some("yes".to_owned()),
    }
}

/// Returns the folder's own name.
pub(super) fn folder_name(dir: &Path) -> String {
    // `.` and `..` have no name of their own.
    let whole: PathBuf = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_path_buf());
    let name = dir.file_name().or_else(|| whole.file_name());
    name.map_or_else(|| "run".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn last_part(model: &str) -> String {
    // A folder's name, or that of a model behind an address.
    model.trim_end_matches('/').rsplit(['/', '#']).next().unwrap_or(model).to_owned()
}

pub(super) fn read_optional<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if path.exists() { read_json(path, "").map(Some) } else { Ok(None) }
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path, hint_if_missing: &str) -> Result<T> {
    let text = fs::read_to_string(path).map_err(|source| match source.kind() {
        IoErrorKind::NotFound => {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Error::new(ErrorKind::Run, format!("the run has no `{name}`"))
                .at(path)
                .hint(hint_if_missing)
        }
        _ => Error::io("read the file", path, &source),
    })?;
    serde_json::from_str(&text).map_err(|source| broken(path, source.line(), &source))
}

pub(super) fn read_curve(path: &Path) -> Result<Vec<CurvePoint>> {
    if path.exists() { read_lines(path) } else { Ok(Vec::new()) }
}

/// Returns the lines of a file of JSON lines.
///
/// # Errors
/// When the file cannot be read or a line is not as it should be.
pub(super) fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text =
        fs::read_to_string(path).map_err(|source| Error::io("read the file", path, &source))?;
    let parse = |(index, line)| {
        serde_json::from_str(line).map_err(|source| broken(path, index + 1, &source))
    };
    text.lines().enumerate().map(parse).collect()
}

fn broken(path: &Path, line: usize, source: &serde_json::Error) -> Error {
    // The place is told by the error itself, for a file of JSON lines with the right line.
    let text = source.to_string();
    let reason = text.split(" at line ").next().unwrap_or(&text);
    Error::new(ErrorKind::Run, format!("the file cannot be understood: {reason}"))
        .at_line(path, line.max(1))
        .hint("the file is damaged or from another version; make it again")
}
