//! What the report reads of a finished run: its settings, its result, its evaluation, its curve.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind as IoErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::eval::{Basins, CurvePoint, Diagnostics, Evaluation};

/// A run folder's content, as far as it is shown.
#[derive(Debug)]
pub(super) struct Run {
    /// The folder's name.
    pub name: String,
    pub method: String,
    pub task: String,
    /// The model folder's name, or the model's name where it is not a folder.
    pub model: Option<String>,
    /// Why gold was used in making the labels, where it was.
    pub gold_used: Option<String>,
    pub evaluation: Evaluation,
    pub summary: Summary,
    /// Empty for methods that do not search.
    pub curve: Vec<CurvePoint>,
    /// None for runs that were evaluated before there were diagnostics.
    pub diagnostics: Option<Diagnostics>,
    /// Which of several searches found the same, for a run with restarts.
    pub basins: Option<Basins>,
}

/// The part of `summary.json` that is shown.
#[derive(Debug, Deserialize)]
pub(super) struct Summary {
    #[serde(default)]
    pub score: Option<f64>,
    #[serde(default)]
    pub constant_scores: Option<BTreeMap<String, Option<f64>>>,
    /// None for other methods than the search, or where it was left out.
    #[serde(default)]
    pub order_check: Option<OrderCheck>,
    #[serde(default)]
    pub tokens_computed: Option<u64>,
    #[serde(default)]
    pub tokens_full_prompts: Option<u64>,
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

impl Run {
    /// Returns the run in a folder.
    ///
    /// # Errors
    /// When a file other than `curve.jsonl` is missing, or one is broken.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        if !dir.is_dir() {
            return Err(Error::new(ErrorKind::Run, "the run folder does not exist")
                .at(dir)
                .hint("name folders that `w2s label` has written"));
        }
        let manifest: Manifest = read_json(
            &dir.join("manifest.json"),
            "this is not a run folder; name one that `w2s label` has written",
        )?;
        let summary = read_json(
            &dir.join("summary.json"),
            "the run did not finish; finish it before reporting on it",
        )?;
        let evaluation: Evaluation = read_json(
            &dir.join("eval.json"),
            &format!("run `w2s eval --gold FILE {}` first", dir.display()),
        )?;
        let Settings { method, task, model } = manifest.settings;
        Ok(Self {
            name: folder_name(dir),
            method: method.unwrap_or_else(|| evaluation.method.clone()),
            task: task.unwrap_or_else(|| evaluation.task.clone()),
            model: model.map(|model| last_part(&model)),
            gold_used: reason(&manifest.gold_used),
            evaluation,
            summary,
            curve: read_curve(&dir.join("curve.jsonl"))?,
            diagnostics: read_optional(&dir.join("diagnostics.json"))?,
            basins: read_optional(&dir.join("basins.json"))?,
        })
    }

    /// Returns the method's name as figures show it.
    pub(super) fn method_name(&self) -> String {
        let method = match self.method.as_str() {
            "icm" => "ICM",
            other => other,
        };
        let named = method.contains("gold");
        let gold = if self.gold_used.is_some() && !named { " gold" } else { "" };
        format!("{method}{gold}")
    }

    /// Returns whether the labels came from a search.
    pub(super) fn searched(&self) -> bool {
        self.method == "icm"
    }
}

fn reason(gold_used: &Value) -> Option<String> {
    match gold_used {
        Value::Null | Value::Bool(false) => None,
        Value::String(reason) => Some(reason.clone()),
        _ => Some("yes".to_owned()),
    }
}

fn folder_name(dir: &Path) -> String {
    // `.` and `..` have no name of their own.
    let whole: PathBuf = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_path_buf());
    let name = dir.file_name().or_else(|| whole.file_name());
    name.map_or_else(|| "run".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn last_part(model: &str) -> String {
    model.trim_end_matches('/').rsplit('/').next().unwrap_or(model).to_owned()
}

fn read_optional<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
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

fn read_curve(path: &Path) -> Result<Vec<CurvePoint>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(source) if source.kind() == IoErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::io("read the file", path, &source)),
    };
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
