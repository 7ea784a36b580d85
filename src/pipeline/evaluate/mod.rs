//! `w2s eval`: the first and only place of the flow where labels meet gold.

mod held_out;
mod rounds;
pub(super) mod weak;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::finished::{complete_run, task_of};
use super::label::restarts;
use super::model::ModelOptions;
use super::note::Note;
use super::observer::Event;
use super::results::Evaluated;
use super::server::ServerOptions;
use super::session::Session;
use super::voice::Voice;
use super::warning::Warning;
use crate::data::{GoldLabels, LabelRecord, read_label_records};
use crate::error::{Error, ErrorKind, Result};
use crate::eval::{
    Basins, Diagnostics, Evaluation, LabelledRun, Prediction, Z_95, basins, curve_from_trace,
    diagnose_trace, evaluate, margins, wilson,
};
use crate::run::{Manifest, RunDir, write_atomic};

pub use held_out::HeldOutOptions;

/// Compare labels with gold: accuracy with its interval, balance, AUROC, Brier, ECE
///
/// Joins the labels of each run with the gold file by id. Writes eval.json and diagnostics.json into
/// each run folder and, for a search, curve.jsonl (score and accuracy by iteration); prints one line
/// for each run and gold column. Of several searches, of one run (`--restarts`) or several, it says
/// which found the same (basins); for those of one run it writes basins.json there.
///
/// Of a run of `w2s filter` it says how right the weak labels are before the filter, among those kept
/// and among those dropped, and what the filter gains; eval.json also has accuracy by entropy and
/// reliability by truth and answer.
///
/// Of a loop (`w2s loop`) it evaluates every round: the new labels, and the answers to what was set aside.
///
/// With --test it labels a held-out file first, by many-shot prompting with the labels of a run or of
/// a file, and evaluates that: what the labels are worth as a teacher.
///
/// Examples:
///   w2s eval runs/mine --gold gold.jsonl
///   w2s eval runs/seed-0 runs/seed-1 --gold all.csv --gold-column label,is_long
///   w2s eval runs/filtered --gold gold.jsonl
///   w2s eval --test test.jsonl --gold test.jsonl --demonstrations runs/mine \
///       --model models/gemma-3-270m --out runs/mine-test
///   w2s eval --test test.jsonl --gold test.jsonl --demonstrations train.jsonl \
///       --noise-accuracy 0.84 --task sentiment --model models/gemma-3-270m --out runs/noise-test
#[derive(Clone, Debug, Args, Serialize)]
#[command(verbatim_doc_comment, mut_arg("model", |arg| arg.required(false)))]
pub struct EvaluateJob {
    /// Run folders to evaluate
    #[arg(required_unless_present = "test", conflicts_with = "test", value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Gold labels: any data file with `id` and the task's gold column
    #[arg(long, value_name = "FILE")]
    pub gold: PathBuf,
    /// Columns of the gold file to compare with, the main one first [default: the task's]
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    pub gold_column: Vec<String>,
    /// Print each label by itself too: how many have it in gold and were given it, precision, recall, F1
    #[arg(long)]
    pub per_label: bool,
    /// Write the basins of several searches to this file, for `w2s report`
    #[arg(long, value_name = "FILE", conflicts_with = "test")]
    pub basins: Option<PathBuf>,
    /// Write the answers of one `w2s filter` run as a published table, with gold as `target`
    #[arg(long, value_name = "FILE", conflicts_with = "test")]
    pub export_csv: Option<PathBuf>,
    /// Two searches are of one basin when this share of their labels agrees, up to a renaming of the
    /// labels
    #[arg(long, value_name = "X", default_value_t = restarts::BASIN_AGREEMENT, conflicts_with = "test")]
    pub basin_agreement: f64,
    /// Labels of test examples by many-shot prompting.
    #[serde(flatten)]
    #[command(flatten)]
    pub held_out: HeldOutOptions,
    /// The model.
    #[serde(flatten)]
    #[command(flatten)]
    pub model: Option<ModelOptions>,
    /// How a server is asked, where the model is one.
    #[serde(flatten)]
    #[command(flatten)]
    pub server: ServerOptions,
}

pub(super) fn run(args: EvaluateJob, session: &mut Session) -> Result<Evaluated> {
    let columns = &args.gold_column;
    if args.held_out.test.is_some() {
        let mut model = args.model.ok_or_else(|| {
            Error::new(ErrorKind::Usage, "`--test` needs `--model DIR`")
                .hint("the test file is labelled by prompting that model")
        })?;
        model.follow(&session.voice)?;
        let out = held_out::label_test(&args.held_out, (&model, &args.server), session)?;
        let (folder, manifest) = complete_run(&out)?;
        let done = evaluate_run(folder, &manifest, &args.gold, columns, &session.voice)?;
        let labels = vec![(out, done.evaluation)];
        session.voice.event(&Event::Evaluated { runs: &labels, per_label: args.per_label })?;
        return Ok(Evaluated { labels, ..Evaluated::default() });
    }
    args.check()?;
    if let Some(path) = &args.export_csv {
        let [run] = args.runs.as_slice() else {
            return Err(Error::new(ErrorKind::Usage, "`--export-csv` takes one run"));
        };
        let (folder, manifest) = complete_run(run)?;
        weak::export(&folder, &manifest, &args.gold, columns, path)?;
    }
    let (all, compared) = evaluate_runs(&args, &session.voice)?;
    session.voice.event(&Event::Evaluated { runs: &all.labels, per_label: args.per_label })?;
    session.voice.event(&Event::EvaluatedFilters(&all.filters))?;
    session.voice.event(&Event::EvaluatedLoops(&all.loops))?;
    for one in compared.iter().filter(|run| run.searches.len() > 1) {
        if let Some(found) = find_basins(std::slice::from_ref(one), args.basin_agreement)? {
            one.folder.write_json("basins.json", &found)?;
        }
    }
    let found = find_basins(&compared, args.basin_agreement)?;
    if let Some(found) = &found {
        session.voice.tell(&Event::EvaluatedSearches(found));
    }
    if let Some(path) = &args.basins {
        let Some(found) = &found else {
            return Err(Error::new(
                ErrorKind::Data,
                "basins need two or more searches of one task",
            )
            .hint("name the run folders of several seeds or restarts"));
        };
        let mut text = serde_json::to_string_pretty(found)
            .map_err(|e| Error::new(ErrorKind::Internal, format!("cannot write: {e}")))?;
        text.push('\n');
        write_atomic(path, text.as_bytes())?;
    }
    Ok(Evaluated { basins: found, ..all })
}

impl EvaluateJob {
    /// Refuses options that have no effect without `--test`, or that are out of range.
    fn check(&self) -> Result<()> {
        self.server.forbid()?;
        if self.model.is_some() {
            return Err(Error::new(
                ErrorKind::Usage,
                "`--model` has no effect without `--test FILE`",
            )
            .hint("labels of runs are compared with gold as they are"));
        }
        if !self.held_out.columns.fields.is_empty() {
            return Err(Error::new(
                ErrorKind::Usage,
                "`--field` has no effect without `--test FILE`",
            )
            .hint("gold is compared by id: `--id COLUMN` names its column, `--gold-column` that of gold"));
        }
        if !(0.5..=1.0).contains(&self.basin_agreement) {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("`--basin-agreement` is {}, expected 0.5 to 1", self.basin_agreement),
            ));
        }
        Ok(())
    }
}

/// Evaluates the runs, each by what it is, and returns with it what those with labels are compared by.
fn evaluate_runs(args: &EvaluateJob, voice: &Voice<'_>) -> Result<(Evaluated, Vec<LabelRun>)> {
    let (gold, columns) = (&args.gold, &args.gold_column);
    let mut all = Evaluated::default();
    let mut compared = Vec::new();
    for run in &args.runs {
        let (folder, mut manifest) = complete_run(run)?;
        // The file of gold may have its ids elsewhere than the data had.
        args.held_out.columns.over(&manifest.settings).insert(&mut manifest.settings);
        if manifest.command == weak::COMMAND {
            let found = weak::evaluate_run(&folder, &manifest, gold, columns, voice)?;
            all.filters.push((run.clone(), found));
        } else if manifest.command == rounds::COMMAND {
            let found = rounds::evaluate_run(&folder, &manifest, gold, columns)?;
            all.loops.push((run.clone(), found));
        } else {
            let found = evaluate_run(folder, &manifest, gold, columns, voice)?;
            all.labels.push((run.clone(), found.evaluation.clone()));
            compared.push(found);
        }
    }
    Ok((all, compared))
}

/// A run's evaluation with what other runs are compared by.
struct LabelRun {
    folder: RunDir,
    evaluation: Evaluation,
    /// Digest of the task file: label indices mean the same only within one task.
    task_sha256: String,
    /// Every gold column with its labels by id.
    gold: Vec<(String, GoldLabels)>,
    /// The search, or each of several; none for other methods.
    searches: Vec<Searched>,
}

/// What a search is compared with others by.
struct Searched {
    name: String,
    labels: Vec<(String, usize)>,
    score: Option<f64>,
}

fn evaluate_run(
    folder: RunDir,
    manifest: &Manifest,
    gold: &Path,
    columns: &[String],
    voice: &Voice<'_>,
) -> Result<LabelRun> {
    let run = &folder.path().to_path_buf();
    let task = task_of(manifest, run)?;
    let gold = if columns.is_empty() {
        let gold = GoldLabels::read(gold, &task)?;
        vec![(gold.columns().join(", "), gold)]
    } else {
        let read =
            |column: &String| Ok((column.clone(), GoldLabels::read_column(gold, &task, column)?));
        columns.iter().map(read).collect::<Result<_>>()?
    };
    let names: Vec<String> = task.labels.iter().map(|label| label.name.clone()).collect();
    let index = |name: &str| names.iter().position(|known| known == name);
    let path = folder.file("labels.jsonl");
    let mut items = Vec::new();
    let mut all_margins = Vec::new();
    for record in read_label_records(&path, &task)? {
        let Some(label) = task.label_index(&Value::from(record.label.as_str())) else {
            return Err(Error::new(
                ErrorKind::Data,
                format!("label `{}` of `{}` is not the task's", record.label, record.id),
            )
            .at(&path));
        };
        all_margins.push(record.margin);
        items.push(Prediction {
            gold: None,
            id: record.id,
            label,
            logprobs: Some(record.logprobs.into_iter().map(|(_, logprob)| logprob).collect()),
        });
    }
    let method = manifest.settings.get("method").and_then(Value::as_str).unwrap_or("unknown");
    let summary = read_json(&folder.file("summary.json"))?;
    let num_examples = summary.get("num_examples").and_then(Value::as_u64);
    let mut evaluations = Vec::new();
    for (column, gold) in &gold {
        items.iter_mut().for_each(|item| item.gold = gold.get(&item.id));
        let evaluation = evaluate(method, &task.name, &names, task.positive, &items)?
            .for_column(column)
            .out_of(num_examples.map_or(items.len(), |n| n as usize))?;
        evaluations.push(evaluation);
    }
    let others = evaluations.split_off(1);
    let evaluation = evaluations.remove(0).with_columns(others);
    folder.write_json("eval.json", &evaluation)?;
    let trace = folder.file("trace.jsonl");
    let mut search = None;
    if trace.exists() {
        let main = &gold[0].1;
        let points = curve_from_trace(&trace, &|id| main.get(id), &index)?;
        let mut text = String::new();
        for point in &points {
            let json = serde_json::to_string(point)
                .map_err(|e| Error::new(ErrorKind::Internal, format!("cannot write: {e}")))?;
            text.push_str(&json);
            text.push('\n');
        }
        folder.write("curve.jsonl", text.as_bytes())?;
        search = Some(diagnose_trace(&trace, &names)?);
    }
    let diagnostics = Diagnostics { margins: margins(&all_margins), search };
    folder.write_json("diagnostics.json", &diagnostics)?;
    tell_doubts(run, &evaluation, &diagnostics, voice);
    let mut searches: Vec<Searched> = restarts::read(run, &summary, &task)?
        .into_iter()
        .map(|found| {
            let label = |record: LabelRecord| index(&record.label).map(|label| (record.id, label));
            let labels = found.records.into_iter().filter_map(label).collect();
            Searched { name: found.name, labels, score: found.score }
        })
        .collect();
    let score = summary.get("score").and_then(Value::as_f64);
    if searches.is_empty() && score.is_some() {
        let labels = items.into_iter().map(|item| (item.id, item.label)).collect();
        searches.push(Searched { name: run.display().to_string(), labels, score });
    }
    Ok(LabelRun { folder, evaluation, task_sha256: task.sha256, gold, searches })
}

fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, &e))?;
    serde_json::from_str(&text)
        .map_err(|e| Error::new(ErrorKind::Run, format!("broken JSON: {e}")).at(path))
}

/// The basins of the searches, each of several of one run by itself; none for fewer than two, or for
/// searches of different tasks.
fn find_basins(done: &[LabelRun], threshold: f64) -> Result<Option<Basins>> {
    let searched: Vec<&LabelRun> = done.iter().filter(|run| !run.searches.is_empty()).collect();
    let Some(first) = searched.first() else { return Ok(None) };
    let searches: Vec<&Searched> = searched.iter().flat_map(|run| &run.searches).collect();
    if searches.len() < 2 || searched.iter().any(|run| run.task_sha256 != first.task_sha256) {
        return Ok(None);
    }
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (id, _) in searches.iter().flat_map(|search| &search.labels) {
        let next = places.len();
        places.entry(id).or_insert(next);
    }
    let runs: Vec<LabelledRun> = searches
        .iter()
        .map(|search| {
            let mut labels = vec![None; places.len()];
            for (id, label) in &search.labels {
                labels[places[id.as_str()]] = Some(*label);
            }
            LabelledRun { name: search.name.clone(), labels, score: search.score }
        })
        .collect();
    let columns: Vec<(String, Vec<Option<usize>>)> = first
        .gold
        .iter()
        .map(|(column, gold)| {
            let mut labels = vec![None; places.len()];
            for (id, &place) in &places {
                labels[place] = gold.get(id);
            }
            (column.clone(), labels)
        })
        .collect();
    Ok(Some(basins(&runs, &columns, first.evaluation.labels.len(), threshold)))
}

/// What is as right as labels of nobody who looked at the texts: a guess, or the most frequent label.
fn blind(run: &Path, e: &Evaluation) -> Option<Warning> {
    let guess = 1.0 / e.labels.len().max(2) as f64;
    let constant = e
        .gold_share
        .iter()
        .map(|(label, share)| (label.clone(), *share))
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .filter(|(_, share)| e.wilson_low <= *share);
    // Of rare labels something may be known that accuracy does not show.
    let is_balanced_chance = e.balanced_accuracy.is_none_or(|rate| {
        wilson((rate * e.num_with_gold as f64).round() as usize, e.num_with_gold, Z_95).0 <= guess
    });
    let is_blind = e.wilson_low <= guess || (constant.is_some() && is_balanced_chance);
    is_blind.then(|| Warning::NoBetterThanBlind {
        run: run.to_path_buf(),
        interval: (e.wilson_low, e.wilson_high),
        guess,
        constant,
    })
}

/// Tells what should make a reader doubt the labels, and which concept they come closest to.
fn tell_doubts(run: &Path, evaluation: &Evaluation, diagnostics: &Diagnostics, voice: &Voice<'_>) {
    if let Some(warning) = blind(run, evaluation) {
        voice.warn(&warning);
    }
    if let Some(closest) = evaluation.closest_column() {
        voice.note(&Note::ClosestColumn { run: run.to_path_buf(), closest });
    }
    let Some(search) = &diagnostics.search else { return };
    for collapse in &search.collapses {
        voice.warn(&Warning::Collapsed {
            run: run.to_path_buf(),
            collapse: collapse.clone(),
            below_nats: search.collapse_below_nats,
        });
    }
}
