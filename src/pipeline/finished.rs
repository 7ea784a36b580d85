//! Runs that are done, as other verbs read them.

use std::path::Path;

use serde_json::Value;

use crate::data::{ColumnNames, Task};
use crate::error::{Error, ErrorKind, Result};
use crate::run::{Manifest, Origin, RunDir};

/// The folder and the manifest of a run, if it is complete.
pub(super) fn complete_run(run: &Path) -> Result<(RunDir, Manifest)> {
    let (folder, manifest) = RunDir::existing(run)?;
    if !folder.is_complete() {
        return Err(Error::new(ErrorKind::Run, "the run is not complete").at(run).hint(format!(
            "end it first: the same `w2s {}` command with `--resume`",
            manifest.command
        )));
    }
    Ok((folder, manifest))
}

/// The task a run was made with, unchanged since.
pub(super) fn task_of(manifest: &Manifest, run: &Path) -> Result<Task> {
    let Some(name) = manifest.settings.get("task").and_then(Value::as_str) else {
        return Err(Error::new(ErrorKind::Run, "the run's manifest names no task").at(run));
    };
    // A task file may be named as it was seen from the folder that the run began in.
    let file = Path::new(name);
    let found = match file.extension() {
        Some(_) if !file.exists() => Origin::find(run, file),
        _ => file.to_path_buf(),
    };
    let task = Task::load(&found.display().to_string())?
        .with_columns(&ColumnNames::of_settings(&manifest.settings))?;
    let num_labels = manifest.settings.get("num_labels").and_then(Value::as_u64);
    let task = match num_labels {
        Some(num) => task.with_num_options(num as usize),
        None => task,
    };
    let before = manifest.inputs.iter().find(|input| input.role == "task");
    if before.is_some_and(|input| input.sha256 != task.sha256) {
        return Err(Error::new(ErrorKind::Run, format!("task `{name}` changed since the run"))
            .at(run)
            .hint("evaluate with the program and the task file that made the labels"));
    }
    Ok(task)
}
