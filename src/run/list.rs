//! The run folders below a folder: what each is and how far it came. Reads only, and never fails for
//! what a single folder holds.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;

use super::files::{JOURNAL, MANIFEST, METRICS, SIGNS, SUMMARY, TIMING};
use super::manifest::Manifest;
use crate::error::{Error, Result};

/// Folders within folders are followed this deep; a loop of links ends here at the latest.
const MAX_DEPTH: usize = 16;

/// How far a run came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum RunState {
    /// It ended.
    Complete,
    /// It did not end, or has not yet.
    Unfinished {
        /// What is done, such as `step 12`; none where nothing is known.
        progress: Option<String>,
    },
    /// Its files cannot be understood.
    Damaged {
        /// What is wrong.
        reason: String,
    },
}

/// A run folder that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FoundRun {
    /// Its path, which begins with the folder that was searched.
    pub path: PathBuf,
    /// How far it came.
    #[serde(flatten)]
    pub state: RunState,
    /// The sub-command that made it; empty where that cannot be read.
    pub command: String,
    /// The method of a labelling run.
    pub method: Option<String>,
    /// The task's name.
    pub task: Option<String>,
    /// The last part of the model's path.
    pub model: Option<String>,
    /// The last part of the path of the data.
    pub data: Option<String>,
    /// The seed.
    pub seed: Option<u64>,
    /// The score of a search.
    pub score: Option<f64>,
    /// The last loss of a training.
    pub loss: Option<f64>,
    /// The accuracy that `w2s eval` found, 0 to 1; of a filter run that of all its weak labels.
    pub accuracy: Option<f64>,
    /// The last sign of life, in seconds since 1970.
    pub modified: Option<u64>,
    /// [`Manifest::digest`].
    pub digest: Option<String>,
}

/// Returns the runs in `root` and below, by path: every folder with a `manifest.json` that is a run's
/// or cannot be read.
///
/// Files that are no run's, folders that may not be read and links that lead in a circle are passed
/// over.
///
/// # Errors
/// [`ErrorKind::Io`](crate::error::ErrorKind::Io) when `root` itself is no folder or cannot be read.
pub fn find_runs(root: &Path) -> Result<Vec<FoundRun>> {
    let mut found = Vec::new();
    walk(root, &mut |path| found.extend(read_run(path)))?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Returns the complete run in `root` or below whose [`Manifest::digest`] is `digest`: of several the
/// first by path.
///
/// A folder that is not there holds no run.
///
/// # Errors
/// [`ErrorKind::Io`](crate::error::ErrorKind::Io) when `root` is there and cannot be read.
pub fn find_run(root: &Path, digest: &str) -> Result<Option<PathBuf>> {
    if !root.exists() {
        return Ok(None);
    }
    let mut found: Vec<PathBuf> = Vec::new();
    walk(root, &mut |path| {
        let is_it = || {
            let text = fs::read_to_string(path.join(MANIFEST)).ok()?;
            let manifest: Manifest = serde_json::from_str(&text).ok()?;
            Some(manifest.digest() == digest)
        };
        if path.join(TIMING).is_file() && is_it() == Some(true) {
            found.push(path.to_path_buf());
        }
    })?;
    Ok(found.into_iter().min())
}

/// Calls `visit` for every folder with a manifest.
fn walk(root: &Path, visit: &mut impl FnMut(&Path)) -> Result<()> {
    let entries = fs::read_dir(root).map_err(|e| {
        Error::io("read the folder", root, &e).hint("name a folder that holds run folders")
    })?;
    let mut seen = vec![fs::canonicalize(root).unwrap_or_else(|_| root.to_path_buf())];
    below(root, entries, visit, &mut seen);
    Ok(())
}

fn below(
    folder: &Path,
    entries: fs::ReadDir,
    visit: &mut impl FnMut(&Path),
    above: &mut Vec<PathBuf>,
) {
    if folder.join(MANIFEST).is_file() {
        visit(folder);
    }
    if above.len() > MAX_DEPTH {
        return;
    }
    for path in entries.flatten().map(|entry| entry.path()) {
        // A link to a folder above would be read again and again.
        let Ok(real) = fs::canonicalize(&path) else { continue };
        if !real.is_dir() || above.contains(&real) {
            continue;
        }
        let Ok(entries) = fs::read_dir(&path) else { continue };
        above.push(real);
        below(&path, entries, visit, above);
        above.pop();
    }
}

/// Returns the run in a folder with a manifest; none where the manifest is another program's.
pub fn read_run(path: &Path) -> Option<FoundRun> {
    let mut run = FoundRun {
        path: path.to_path_buf(),
        state: RunState::Complete,
        command: String::new(),
        method: None,
        task: None,
        model: None,
        data: None,
        seed: None,
        score: None,
        loss: None,
        accuracy: None,
        modified: modified(path),
        digest: None,
    };
    let value = match read_json(&path.join(MANIFEST)) {
        Ok(value) => value,
        Err(reason) => {
            run.state = RunState::Damaged { reason: format!("{MANIFEST}: {reason}") };
            return Some(run);
        }
    };
    // Other programs have files of this name too.
    let (Some(command), Some(_)) = (value["command"].as_str(), value["settings"].as_object())
    else {
        return None;
    };
    run.command = command.to_owned();
    let setting = |name: &str| value["settings"][name].as_str().map(str::to_owned);
    let last_part = |name: &str| setting(name).map(|path| last_part(&path));
    run.method = setting("method");
    run.task = setting("task").map(|task| self::last_part(&task));
    run.model = last_part("model");
    run.data = last_part("data").or_else(|| last_part("test"));
    run.seed = value["seed"].as_u64();
    match serde_json::from_value::<Manifest>(value.clone()) {
        Ok(manifest) => run.digest = Some(manifest.digest()),
        Err(error) => {
            run.state = RunState::Damaged { reason: format!("{MANIFEST}: {error}") };
            return Some(run);
        }
    }
    let damage = read_results(path, &mut run).err();
    run.state = match damage {
        Some(reason) => RunState::Damaged { reason },
        None if path.join(TIMING).is_file() => RunState::Complete,
        None => RunState::Unfinished { progress: progress(path) },
    };
    Some(run)
}

/// Reads score, loss and accuracy where they are.
fn read_results(path: &Path, run: &mut FoundRun) -> std::result::Result<(), String> {
    let is_complete = path.join(TIMING).is_file();
    let read = |name: &str| match path.join(name) {
        path if path.is_file() => {
            read_json(&path).map(Some).map_err(|reason| format!("{name}: {reason}"))
        }
        _ => Ok(None),
    };
    let summary = read(SUMMARY)?;
    if is_complete && summary.is_none() {
        return Err("summary.json is missing".to_owned());
    }
    if let Some(summary) = summary {
        run.score = summary["score"].as_f64();
        let losses = ["validation_loss", "last_loss"];
        run.loss = losses.iter().find_map(|name| summary[*name].as_f64());
    }
    if let Some(evaluation) = read("eval.json")? {
        let of_labels = evaluation["accuracy"].as_f64();
        run.accuracy = of_labels.or_else(|| evaluation["before"]["accuracy"].as_f64());
    }
    Ok(())
}

/// How far an unfinished run came: steps of a training, answers of the model of others.
fn progress(path: &Path) -> Option<String> {
    if let Ok(text) = fs::read_to_string(path.join(METRICS)) {
        let step = text.lines().rev().find_map(|line| {
            serde_json::from_str::<Value>(line).ok().and_then(|line| line["step"].as_u64())
        });
        if let Some(step) = step {
            return Some(format!("step {step}"));
        }
    }
    let bytes = fs::read(path.join(JOURNAL)).ok()?;
    let num = bytes.iter().filter(|byte| **byte == b'\n').count();
    Some(format!("{num} {}", if num == 1 { "answer" } else { "answers" })).filter(|_| num > 0)
}

fn read_json(path: &Path) -> std::result::Result<Value, String> {
    let text = fs::read_to_string(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => "not text".to_owned(),
        _ => error.to_string(),
    })?;
    serde_json::from_str(&text).map_err(|error| format!("not JSON: {error}"))
}

fn modified(path: &Path) -> Option<u64> {
    let time = |name: &&str| fs::metadata(path.join(name)).ok()?.modified().ok();
    let last: SystemTime = SIGNS.iter().filter_map(time).max()?;
    Some(last.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

fn last_part(path: &str) -> String {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path).to_owned()
}
