//! `w2s eval` on runs of `w2s filter`: what the weak labels and their filter are worth.

use std::collections::HashMap;
use std::path::Path;

use crate::data::{
    AnswerRecord, Dataset, GoldAnswers, Task, WeakRecord, WeightRecord, by_question,
    read_json_lines,
};
use crate::error::{Error, ErrorKind, Result};
use crate::eval::{Binning, WeakEvaluation, evaluate_weak};
use crate::filter::write_published;
use crate::pipeline::finished::task_of;
use crate::pipeline::note::Note;
use crate::pipeline::voice::Voice;
use crate::pipeline::warning::Warning;
use crate::run::{Manifest, Origin, RunDir, SeedStream, write_atomic};

/// The command whose runs are evaluated here.
pub(in crate::pipeline) const COMMAND: &str = "filter";

/// Writes `eval.json` into the run folder and returns what it holds.
pub(super) fn evaluate_run(
    folder: &RunDir,
    manifest: &Manifest,
    gold: &Path,
    columns: &[String],
    voice: &Voice<'_>,
) -> Result<WeakEvaluation> {
    let run = folder.path();
    let task = task_of(manifest, run)?;
    let kept: Vec<WeakRecord> = read_json_lines(&folder.file("kept.jsonl"))?;
    let dropped: Vec<WeakRecord> = read_json_lines(&folder.file("dropped.jsonl"))?;
    let rows: Vec<WeightRecord> = read_json_lines(&folder.file("weights.jsonl"))?;
    // Answers that were given to the filter may be of either form.
    let is_soft = kept.iter().chain(&dropped).any(|one| one.distribution.is_some());
    let (answers, binning) =
        if is_soft { ("soft", Binning::EqualCounts) } else { ("votes", Binning::Distinct) };
    let columns: Vec<Option<&str>> = match columns {
        [] => vec![None],
        columns => columns.iter().map(|column| Some(column.as_str())).collect(),
    };
    let mut evaluations = Vec::new();
    for (index, column) in columns.into_iter().enumerate() {
        let gold = GoldAnswers::read(gold, &task, column)?;
        let answers_by_id: HashMap<String, String> = kept
            .iter()
            .chain(&dropped)
            .filter_map(|one| Some((one.id.clone(), gold.get(&one.id)?.to_owned())))
            .collect();
        let given = rows.iter().filter_map(|row| row.answer.as_ref());
        let labels = labels_in_use(&task, given.chain(answers_by_id.values()));
        let rng = &mut SeedStream::new(manifest.seed).rng("weak-evaluation", &[index as u64]);
        let found = evaluate_weak(&kept, &dropped, &rows, &answers_by_id, &labels, binning, rng)
            .map_err(|error| error.at(run))?;
        let name = column.map_or_else(|| gold.columns().join(", "), str::to_owned);
        evaluations.push(found.named(&task.name, answers, &name));
    }
    let others = evaluations.split_off(1);
    let evaluation = evaluations.remove(0).with_columns(others);
    folder.write_json("eval.json", &evaluation)?;
    tell_doubts(run, &evaluation, voice);
    Ok(evaluation)
}

/// Writes the run's answers as a published table, gold as its `target`.
///
/// # Errors
/// [`ErrorKind::Run`] for a run of another command, a file that is there, or data that are gone.
pub(super) fn export(
    folder: &RunDir,
    manifest: &Manifest,
    gold: &Path,
    columns: &[String],
    path: &Path,
) -> Result<()> {
    let run = folder.path();
    let fault = |message: &str, at: &Path| Error::new(ErrorKind::Run, message).at(at);
    if manifest.command != COMMAND {
        return Err(fault("the run is none of `w2s filter`, whose answers the table holds", run));
    }
    if path.exists() {
        return Err(fault("the file is there already", path)
            .hint("choose another name for `--export-csv`; nothing was changed"));
    }
    let task = task_of(manifest, run)?;
    let gold = GoldAnswers::read(gold, &task, columns.first().map(String::as_str))?;
    let data = manifest.inputs.iter().find(|input| input.role == "data");
    let dataset = match data.filter(|_| task.has_options()) {
        None => None,
        Some(input) => {
            let dataset = Dataset::read(Origin::find(run, Path::new(&input.path)), &task).map_err(
                |error| {
                    error.hint(
                        "the table holds texts of options: the run's data must still be there",
                    )
                },
            )?;
            if dataset.sha256 != input.sha256 {
                return Err(fault("the data changed since the run", Path::new(&input.path)));
            }
            Some(dataset)
        }
    };
    let answers: Vec<AnswerRecord> = read_json_lines(&folder.file("answers.jsonl"))?;
    let kept: Vec<WeakRecord> = read_json_lines(&folder.file("kept.jsonl"))?;
    let dropped: Vec<WeakRecord> = read_json_lines(&folder.file("dropped.jsonl"))?;
    let records: Vec<&WeakRecord> = kept.iter().chain(&dropped).collect();
    let table = write_published(
        &by_question(answers, |row| &row.id),
        &records,
        dataset.as_ref().map(|dataset| dataset.examples.as_slice()),
        |id| gold.get(id).map(str::to_owned),
    )?;
    write_atomic(path, &table)
}

/// The names of the labels; where they are options, those up to the last that occurs.
fn labels_in_use<'a>(task: &Task, answers: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut labels: Vec<String> = task.labels.iter().map(|label| label.name.clone()).collect();
    if task.has_options() {
        let last = answers.filter_map(|name| labels.iter().position(|label| label == name)).max();
        labels.truncate(last.map_or(2, |last| last + 1).max(2));
    }
    labels
}

/// Tells what should make a reader doubt the numbers or the filter.
fn tell_doubts(run: &Path, e: &WeakEvaluation, voice: &Voice<'_>) {
    let run = || run.to_path_buf();
    if e.num_with_gold < e.num_questions {
        let (num_with_gold, num_questions) = (e.num_with_gold, e.num_questions);
        voice.note(&Note::PartOfGold { run: run(), num_with_gold, num_questions });
    }
    if e.num_kept == e.num_questions {
        voice.warn(&Warning::KeptAll { run: run() });
    }
    if let Some(doubt) = e.doubt_of_entropy() {
        voice.warn(&Warning::EntropyDoubted { run: run(), doubt });
    }
}
