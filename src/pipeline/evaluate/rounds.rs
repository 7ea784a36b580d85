//! `w2s eval` on a loop: every round's labels and answers against gold.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::data::{GoldLabels, Task, read_json_lines, read_label_records};
use crate::error::{Error, ErrorKind, Result};
use crate::eval::{LoopEvaluation, Prediction, Rate, RoundEvaluation, evaluate};
use crate::pipeline::finished::task_of;
use crate::run::{LOOP, LoopRecord, Manifest, ROUNDS, Round, RunDir};

/// The command whose runs are evaluated here.
pub(super) const COMMAND: &str = "loop";

/// Writes `eval.json` into the loop's folder and returns what it holds.
pub(super) fn evaluate_run(
    folder: &RunDir,
    manifest: &Manifest,
    gold: &Path,
    columns: &[String],
) -> Result<LoopEvaluation> {
    let task = task_of(manifest, folder.path())?;
    let gold: Vec<(String, GoldLabels)> = if columns.is_empty() {
        let gold = GoldLabels::read(gold, &task)?;
        vec![(gold.columns().join(", "), gold)]
    } else {
        let read =
            |column: &String| Ok((column.clone(), GoldLabels::read_column(gold, &task, column)?));
        columns.iter().map(read).collect::<Result<_>>()?
    };
    let rounds: Vec<Round> = read_json_lines(&folder.file(ROUNDS))?;
    let record: LoopRecord = read_json(&folder.file(LOOP))?;
    let changes = manifest.settings["relabel"]["by"].as_str().is_some_and(|by| by != "none");
    let mut all = Vec::new();
    for (column, gold) in &gold {
        let against = Against { task: &task, gold };
        all.push(against.evaluation(column, folder, &rounds, &record, changes)?);
    }
    let others = all.split_off(1);
    let evaluation = LoopEvaluation { other_columns: others, ..all.remove(0) };
    folder.write_json("eval.json", &evaluation)?;
    Ok(evaluation)
}

struct Against<'a> {
    task: &'a Task,
    gold: &'a GoldLabels,
}

impl Against<'_> {
    fn evaluation(
        &self,
        column: &str,
        folder: &RunDir,
        rounds: &[Round],
        record: &LoopRecord,
        changes: bool,
    ) -> Result<LoopEvaluation> {
        let labels = |round: usize, parts: &[&str]| -> Vec<PathBuf> {
            let path = |part: &&str| folder.file(&format!("round-{round}/{part}/labels.jsonl"));
            parts.iter().map(path).filter(|path| path.exists()).collect()
        };
        let mut found = Vec::new();
        let before = self.rate(&labels(0, &["probe"]))?;
        if before.is_some() {
            let none = RoundEvaluation {
                round: 0,
                batch: None,
                labels: None,
                held_out: before,
                stopped: None,
            };
            found.push(none);
        }
        for round in rounds {
            let number = round.round;
            let looked = labels(number, &["relabel", "relabel-a", "relabel-b"]);
            found.push(RoundEvaluation {
                round: number,
                batch: self.rate(&labels(number, &["label"]))?,
                labels: if changes { self.rate(&looked)? } else { None },
                held_out: self.rate(&labels(number, &["probe"]))?,
                stopped: round.alarm.as_ref().map(|alarm| alarm.message.clone()),
            });
        }
        let last = match record.num_labels {
            0 => None,
            _ => self.rate(&[folder.file("labels.jsonl")])?,
        };
        Ok(LoopEvaluation {
            task: self.task.name.clone(),
            gold_column: column.to_owned(),
            rounds: found,
            labels: last,
            other_columns: Vec::new(),
        })
    }

    /// The agreement of the labels of files with gold; none without a file.
    fn rate(&self, files: &[PathBuf]) -> Result<Option<Rate>> {
        let names: Vec<String> = self.task.labels.iter().map(|label| label.name.clone()).collect();
        let mut items = Vec::new();
        for path in files {
            for record in read_label_records(path, self.task)? {
                let label = self.task.label_index(&Value::from(record.label.as_str()));
                let Some(label) = label else {
                    return Err(Error::new(
                        ErrorKind::Data,
                        format!("label `{}` of `{}` is not the task's", record.label, record.id),
                    )
                    .at(path));
                };
                items.push(Prediction {
                    gold: self.gold.get(&record.id),
                    logprobs: Some(record.logprobs.into_iter().map(|(_, x)| x).collect()),
                    id: record.id,
                    label,
                });
            }
        }
        if items.is_empty() {
            return Ok(None);
        }
        let found = evaluate("loop", &self.task.name, &names, self.task.positive, &items)
            .map_err(|error| error.at(&files[0]))?;
        Ok(Some(Rate::from(&found)))
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, &e))?;
    serde_json::from_str(&text).map_err(|e| {
        Error::new(ErrorKind::Run, format!("the file cannot be understood: {e}"))
            .at(path)
            .hint("the file is damaged or from another version; make the loop again")
    })
}
