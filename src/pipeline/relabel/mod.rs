//! `w2s relabel`: labels that a model looks at again, in a run folder.

mod summary;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::backend::{Backend, Need};
use super::columns::ColumnOptions;
use super::ids::{IdsOptions, numbered};
use super::model::ModelOptions;
use super::note::Note;
use super::observer::{Event, Resume, Wait};
use super::outcome::Outcome;
use super::prior::{self, PriorOptions};
use super::run_options::RunOptions;
use super::server::ServerOptions;
use super::session::Session;
use super::usage::usage;
use crate::data::{Dataset, LabelRecord, Task, json_lines, read_labels, write_labels};
use crate::error::{Error, ErrorKind, Result};
use crate::label::{Method, TraceEvent, label};
use crate::run::files::LABELS;
use crate::run::{GoldUse, Input, Manifest, RunDir, SeedStream};
use crate::score::{Cached, Calibration, Journaled, Prior};

pub use summary::RelabelSummary;

/// Margin from which on a label is changed or dropped, in nats.
const MARGIN: f64 = 1.0;

/// Re-check labels with a model; flip or drop disagreements
///
/// Asks the model about each labelled example without demonstrations, as `w2s train` taught it, and
/// compares its answer with the label. A label it contradicts by the margin or more is exchanged for
/// the model's, or dropped. A model that learnt these very labels mostly repeats them: one that learnt
/// others (`w2s loop --cross-fit`) sees more.
///
/// Writes a run folder: labels.jsonl (the labels as they now are, with the model's log-probabilities),
/// history.jsonl (what became of each), summary.json and manifest.json. Gold labels are not read.
///
/// Example:
///   w2s relabel --model models/gemma-3-270m --adapter runs/student --task sentiment \
///       --data data/demo/reviews.jsonl --labels runs/mine/labels.jsonl --by flip --out runs/again
#[derive(Clone, Debug, Args, Serialize)]
#[command(verbatim_doc_comment)]
pub struct RelabelJob {
    /// The model.
    #[serde(flatten)]
    #[command(flatten)]
    pub model: ModelOptions,
    /// How a server is asked, where the model is one.
    #[serde(flatten)]
    #[command(flatten)]
    pub server: ServerOptions,

    /// Built-in task (see `w2s tasks`) or path of a task file
    #[arg(long, value_name = "TASK", help_heading = "Data")]
    pub task: String,
    /// Examples: JSON, JSON lines, CSV, TSV or Parquet
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub data: PathBuf,
    /// Which columns of the data are what.
    #[serde(flatten)]
    #[command(flatten)]
    pub columns: ColumnOptions,
    /// Labels by id: labels.jsonl, or any file with id and label; may be given more than once
    #[arg(long, value_name = "FILE", help_heading = "Data", required = true)]
    pub labels: Vec<PathBuf>,
    /// Which examples.
    #[serde(flatten)]
    #[command(flatten)]
    pub ids: IdsOptions,
    /// Prompt variant of the task; `w2s tasks TASK` shows them [default: the task's own]
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub prompt_variant: Option<String>,

    /// What becomes of labels that the model contradicts
    #[arg(long, value_enum, default_value_t = ChangeName::None, help_heading = "Labels")]
    pub by: ChangeName,
    /// By how many nats it must contradict them: log-probability of its answer less that of the label
    /// [default: 1]
    #[arg(long, value_name = "NATS", help_heading = "Labels")]
    pub margin: Option<f64>,
    /// Corrects the model's prior towards label words (calibration) [default: batch]
    #[arg(long, value_enum, help_heading = "Labels")]
    pub calibrate: Option<Calibration>,
    /// The shares of labels that calibration supposes.
    #[serde(flatten)]
    #[command(flatten, next_help_heading = "Labels")]
    pub prior: PriorOptions,

    /// The run folder.
    #[serde(flatten)]
    #[command(flatten)]
    pub run: RunOptions,
}

/// What becomes of a label that is contradicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeName {
    /// It stays, and is counted
    None,
    /// It is exchanged for the model's
    Flip,
    /// The example is left without a label
    Drop,
}

/// What became of one label: a line of `history.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Change {
    id: String,
    /// The label it had.
    before: String,
    /// The model's.
    model: String,
    /// Log-probability of the model's label less that of the one it had, in nats.
    margin: f64,
    /// `kept`, `flipped` or `dropped`.
    action: String,
}

pub(super) fn run(mut args: RelabelJob, session: &mut Session) -> Result<Outcome<RelabelSummary>> {
    let began = Instant::now();
    args.run.check("relabel")?;
    args.model.follow(&session.voice)?;
    let margin = args.margin()?;
    let mut task = args.columns.task(&args.task)?;
    if let Some(name) = &args.prompt_variant {
        task = task.with_variant(name)?;
    }
    let mut dataset = Dataset::read(&args.data, &task)?;
    args.ids.select(&mut dataset)?;
    let known = Task::with_num_options(task.clone(), dataset.max_options());
    let task = if task.has_options() { known } else { task };
    session.voice.warn_of_words(&task.prompt);
    let before = args.read_labels(&task)?;
    dataset.examples.retain(|example| before.contains_key(&example.id));
    if dataset.examples.is_empty() {
        return Err(Error::new(ErrorKind::Data, "no example of the data has a label here")
            .at(&args.labels[0])
            .hint("labels and data are joined by id; give the data the labels were made of"));
    }
    let task = dataset.labelled_task(task)?;
    let calibration = args.calibration();
    let prior = args.prior.prior(&task, calibration)?;
    let method = Method::ZeroShot { calibration, prior };
    let spinner = session.voice.wait(Wait::OpeningModel);
    let mut scorer = Backend::open(&args.model, &args.server, Need::Scores, session)?;
    let manifest = args.manifest(margin, &task, &dataset, method.prior(), (session, &scorer))?;
    spinner.end();
    let folder = RunDir::open(&args.run.out, &manifest, args.run.mode())?;
    if folder.is_complete() {
        session.voice.note(&Note::RunComplete { folder: args.run.out.clone() });
        scorer.give_back(session);
        return Outcome::complete(folder);
    }
    session.tell_settings(&manifest);
    session.voice.tell_gold(&manifest.gold_used);
    session.voice.interruptible(Resume::Run { folder: &args.run.out });
    let bar = session.voice.labelling(None, dataset.examples.len());
    let mut asked = Cached::new(Journaled::new(&mut scorer, folder.journal()?));
    let work_began = Instant::now();
    let streams = SeedStream::new(args.run.seed);
    let labelling = label(
        &task,
        &dataset.examples,
        &method,
        streams,
        &mut asked,
        &mut |event: &TraceEvent| bar.update(event),
    )?;
    bar.end();
    let work_seconds = work_began.elapsed().as_secs_f64();
    let (records, history) = changed(labelling.records, &before, args.by, margin);
    let mut bytes = Vec::new();
    write_labels(&mut bytes, &records)?;
    folder.write(LABELS, &bytes)?;
    folder.write("history.jsonl", &json_lines(&history)?)?;
    let num = |action: &str| history.iter().filter(|change| change.action == action).count();
    let num_contradicted = history.iter().filter(|change| change.before != change.model).count();
    let share = |name: &String| {
        let of = records.iter().filter(|record| record.label == *name).count();
        (name.clone(), Value::from(of as f64 / records.len().max(1) as f64))
    };
    let summary = RelabelSummary {
        num_examples: history.len(),
        num_contradicted,
        flip_rate: num_contradicted as f64 / history.len() as f64,
        num_flipped: num("flipped"),
        num_dropped: num("dropped"),
        share: task.labels.iter().map(|label| share(&label.name)).collect(),
        tokens_computed: labelling.summary.tokens_computed,
        tokens_full_prompts: labelling.summary.tokens_full_prompts,
    };
    folder.write_json("summary.json", &summary)?;
    let seconds = began.elapsed().as_secs_f64();
    scorer.write_cost(&folder)?;
    let folder = folder.finish(seconds, work_seconds)?;
    session.voice.tell(&Event::Relabelled { summary: &summary, seconds, folder: &folder });
    scorer.tell_cost(&session.voice);
    scorer.give_back(session);
    session.tell_finished(&folder);
    Ok(Outcome { folder, summary, seconds, was_complete: false })
}

/// The labels as they now are, and what became of each, from the model's.
fn changed(
    model: Vec<LabelRecord>,
    before: &HashMap<String, String>,
    by: ChangeName,
    margin: f64,
) -> (Vec<LabelRecord>, Vec<Change>) {
    let (mut records, mut history) = (Vec::new(), Vec::new());
    for record in model {
        let Some(old) = before.get(&record.id) else { continue };
        let logprob = |name: &str| {
            record.logprobs.iter().find(|(l, _)| l == name).map_or(f64::NEG_INFINITY, |(_, x)| *x)
        };
        let by_nats = logprob(&record.label) - logprob(old);
        let is_contradicted = record.label != *old;
        let action = match by {
            ChangeName::Flip if is_contradicted && by_nats >= margin => "flipped",
            ChangeName::Drop if is_contradicted && by_nats >= margin => "dropped",
            _ => "kept",
        };
        history.push(Change {
            id: record.id.clone(),
            before: old.clone(),
            model: record.label.clone(),
            margin: by_nats,
            action: action.to_owned(),
        });
        match action {
            "flipped" => records.push(record),
            "dropped" => {}
            _ => {
                let margin = if is_contradicted { -by_nats } else { record.margin };
                records.push(LabelRecord { label: old.clone(), margin, ..record });
            }
        }
    }
    (records, history)
}

impl RelabelJob {
    /// The prompt variant to ask with, if not the task's own.
    pub(super) fn prompt_variant(&self) -> Option<&str> {
        self.prompt_variant.as_deref()
    }

    /// Refuses options that do not go together, or not with the task or a model in a folder.
    pub(super) fn check_settings(&self, task: &Task) -> Result<()> {
        self.margin()?;
        self.prior.prior(task, self.calibration()).map(|_| ())
    }

    fn margin(&self) -> Result<f64> {
        match (self.margin, self.by) {
            (Some(_), ChangeName::None) => {
                Err(usage("`--margin` has no effect without `--by flip` or `--by drop`".into()))
            }
            (Some(nats), _) if !(nats.is_finite() && nats >= 0.0) => {
                Err(usage(format!("`--margin` is {nats}, expected a number from 0 up")))
            }
            (nats, _) => Ok(nats.unwrap_or(MARGIN)),
        }
    }

    fn calibration(&self) -> Calibration {
        self.calibrate.unwrap_or_default()
    }

    /// The labels by id; one that two files speak of is an error.
    fn read_labels(&self, task: &Task) -> Result<HashMap<String, String>> {
        let mut all: HashMap<String, String> = HashMap::new();
        for path in &self.labels {
            for (id, label) in read_labels(path, task)? {
                let name = task.labels[label].name.clone();
                if all.insert(id.clone(), name).is_some() {
                    return Err(Error::new(
                        ErrorKind::Data,
                        format!("`{id}` has a label in another file too"),
                    )
                    .at(path)
                    .hint("an example has one label; leave one of the files out"));
                }
            }
        }
        Ok(all)
    }

    fn manifest(
        &self,
        margin: f64,
        task: &Task,
        dataset: &Dataset,
        prior: &Prior,
        (session, scorer): (&Session, &Backend),
    ) -> Result<Manifest> {
        let mut settings = Map::new();
        settings.insert("task".into(), self.task.clone().into());
        settings.insert("prompt_variant".into(), task.prompt.name.clone().into());
        if task.has_options() {
            settings.insert("num_labels".into(), task.num_labels().into());
        }
        settings.insert("data".into(), self.data.display().to_string().into());
        scorer.settings(&self.model, &mut settings);
        self.columns.insert(&mut settings);
        settings.insert("method".into(), "relabel".into());
        settings.insert("calibration".into(), json!(self.calibration()));
        prior::insert(&mut settings, (prior, self.calibration()), task);
        let by = self.by.to_possible_value().map(|value| value.get_name().to_owned());
        settings.insert("by".into(), by.into());
        if self.by != ChangeName::None {
            settings.insert("margin".into(), margin.into());
        }
        let path = self.data.display().to_string();
        let mut inputs = vec![
            Input { role: "data".into(), path, sha256: dataset.sha256.clone() },
            Input { role: "task".into(), path: self.task.clone(), sha256: task.sha256.clone() },
        ];
        inputs.extend(numbered("labels", &self.labels, session)?);
        inputs.extend(self.ids.inputs(session)?);
        inputs.extend(scorer.inputs(&self.model, session)?);
        Ok(Manifest {
            command: "relabel".into(),
            command_line: session.command_line(),
            settings,
            seed: self.run.seed,
            inputs,
            gold_used: self.gold_used(),
            versions: scorer.versions(&self.model),
        })
    }

    /// Why gold had a part in the labels or the model; labels that are no run's are the user's.
    fn gold_used(&self) -> GoldUse {
        for path in &self.labels {
            let folder = path.parent().unwrap_or(path);
            match RunDir::existing(folder) {
                Ok((_, manifest)) => {
                    if let GoldUse::Because(reason) = manifest.gold_used {
                        return GoldUse::Because(format!("by the labels: {reason}"));
                    }
                }
                Err(_) => {
                    let path = path.display();
                    return GoldUse::Because(format!("labels were given by the user: {path}"));
                }
            }
        }
        self.model.gold_used(GoldUse::no())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, logprobs: [f64; 2]) -> LabelRecord {
        let first = logprobs[0] > logprobs[1];
        LabelRecord {
            id: id.into(),
            label: if first { "no" } else { "yes" }.into(),
            logprobs: vec![("no".into(), logprobs[0]), ("yes".into(), logprobs[1])],
            margin: (logprobs[0] - logprobs[1]).abs(),
            last_flip: None,
        }
    }

    /// Margins by hand: 2 nats for `no`, 0.5 nats for `no`, 1 nat for `yes`.
    fn by(by: ChangeName, margin: f64) -> Vec<(String, String, f64)> {
        let model =
            vec![record("a", [-1.0, -3.0]), record("b", [-1.0, -1.5]), record("c", [-2.0, -1.0])];
        let before = ["a", "b", "c"].map(|id| (id.to_owned(), "yes".to_owned()));
        let (records, history) = changed(model, &before.into_iter().collect(), by, margin);
        assert_eq!(history.len(), 3);
        assert_eq!(history[2].margin, 0.0);
        records.into_iter().map(|record| (record.id, record.label, record.margin)).collect()
    }

    #[test]
    fn labels_change_by_margin() {
        let row = |id: &str, label: &str, margin| (id.to_owned(), label.to_owned(), margin);
        let c = row("c", "yes", 1.0);
        let kept = [row("a", "yes", -2.0), row("b", "yes", -0.5), c.clone()];
        assert_eq!(by(ChangeName::None, 0.0), kept);
        assert_eq!(by(ChangeName::Flip, 2.5), kept);
        let one = [row("a", "no", 2.0), row("b", "yes", -0.5), c.clone()];
        assert_eq!(by(ChangeName::Flip, 1.0), one);
        assert_eq!(by(ChangeName::Flip, 2.0), one);
        assert_eq!(by(ChangeName::Drop, 1.0), [row("b", "yes", -0.5), c.clone()]);
        assert_eq!(
            by(ChangeName::Flip, 0.0),
            [row("a", "no", 2.0), row("b", "no", 0.5), c.clone()]
        );
        assert_eq!(by(ChangeName::Drop, 0.0), [c]);
    }
}
