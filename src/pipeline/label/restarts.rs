//! The searches of a run with `--restarts`: their folders, and which of them found the same.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use crate::data::{LabelRecord, Task, read_label_records, write_labels};
use crate::error::{Error, ErrorKind, Result};
use crate::eval::{Basins, LabelledRun, basins};
use crate::label::{Restart, RestartSummary};
use crate::run::RunDir;
use crate::run::files::{LABELS, TRACE};

/// Agreement from which on two searches found the same, unless a command says otherwise.
pub(in crate::pipeline) const BASIN_AGREEMENT: f64 = 0.9;

/// A file of one of several searches, in the run's folder.
pub(super) fn file(restart: usize, name: &str) -> String {
    format!("restarts/{restart}/{name}")
}

/// Writes the labels of each search, and the trace of the kept one as the run's; returns which of
/// them found the same.
pub(super) fn write(
    folder_of_run: &RunDir,
    restarts: &[Restart],
    summaries: &[RestartSummary],
    task: &Task,
) -> Result<Basins> {
    for restart in restarts {
        let mut bytes = Vec::new();
        write_labels(&mut bytes, &restart.records)?;
        folder_of_run.write(&file(restart.restart, LABELS), &bytes)?;
    }
    for kept in summaries.iter().filter(|restart| restart.kept) {
        let trace = folder_of_run.file(&file(kept.restart, TRACE));
        let bytes = std::fs::read(&trace).map_err(|e| Error::io("read", &trace, &e))?;
        folder_of_run.write(TRACE, &bytes)?;
    }
    Ok(find_basins(restarts, task))
}

/// What a search is called among those of its run.
fn name(restart: usize) -> String {
    format!("restart {restart}")
}

/// Returns which of the searches found the same, up to a renaming of the labels.
fn find_basins(restarts: &[Restart], task: &Task) -> Basins {
    let mut places: HashMap<&str, usize> = HashMap::new();
    for record in restarts.iter().flat_map(|restart| &restart.records) {
        let next = places.len();
        places.entry(&record.id).or_insert(next);
    }
    let run = |restart: &Restart| {
        let mut labels = vec![None; places.len()];
        for record in &restart.records {
            labels[places[record.id.as_str()]] =
                task.labels.iter().position(|label| label.name == record.label);
        }
        LabelledRun { name: name(restart.restart), labels, score: Some(restart.score) }
    };
    let runs: Vec<LabelledRun> = restarts.iter().map(run).collect();
    basins(&runs, &[], task.num_labels(), BASIN_AGREEMENT)
}

/// The labels of one of several searches of a run.
pub(in crate::pipeline) struct Found {
    /// The run folder's path with the number of the search.
    pub(in crate::pipeline) name: String,
    pub(in crate::pipeline) records: Vec<LabelRecord>,
    pub(in crate::pipeline) score: Option<f64>,
}

/// Returns the searches of a run with `--restarts`, by its summary; none of another run.
///
/// # Errors
/// When the labels of one are missing or broken.
pub(in crate::pipeline) fn read(run: &Path, summary: &Value, task: &Task) -> Result<Vec<Found>> {
    let Some(Value::Array(restarts)) = summary.get("restarts") else { return Ok(Vec::new()) };
    restarts
        .iter()
        .map(|restart| {
            let Some(number) = restart.get("restart").and_then(Value::as_u64) else {
                return Err(Error::new(ErrorKind::Run, "a restart has no number")
                    .at(run.join("summary.json"))
                    .hint("the file is damaged or edited; make the run again"));
            };
            let labels = run.join(file(number as usize, LABELS));
            Ok(Found {
                name: format!("{} {}", run.display(), name(number as usize)),
                records: read_label_records(&labels, task)?,
                score: restart.get("score").and_then(Value::as_f64),
            })
        })
        .collect()
}
