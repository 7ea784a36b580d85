//! `w2s export`: the labelled, weighted set of a run in the forms that other trainers read.
//!
//! How their configurations are written, `formats` says; how claims become pairs, `preferences`.

mod formats;
mod notes;
mod preferences;
mod rows;
mod settings;
mod table;

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use super::audit::covered;
use super::observer::Event;
use super::results::Exported;
use super::run_labels::RunLabels;
use super::session::Session;
use super::usage::{no_effect, wrong};
use crate::data::json_lines;
use crate::error::{Error, ErrorKind, Result};
use crate::eval::Guarantee;
use crate::report::{code_span, plain};
use crate::run::{GoldUse, Manifest, write_atomic};

use notes::{Notes, gold_used};
use preferences::preferences;
use rows::{Learnt, Row, completions, draw, num_cut_otherwise};
use settings::TrainingSettings;

pub use formats::Format;

/// Write the labels of a run beside your own columns, or as a set for other trainers
///
/// csv, jsonl and parquet write one file with every row of the data: its own columns in their order
/// and spelling, then label, probability, margin, kept and weight (with w2s_ before them where the
/// data have such a name). The data themselves are never written over.
///
/// The others write a folder with train.jsonl (prompts and completions), validation.jsonl where the
/// run set some aside, a configuration with the settings of a training or the defaults of `w2s train`,
/// weighted.jsonl (every row once, with its weight) and a README. None of them can weigh the loss of
/// an example, so where weights differ, train.jsonl holds each row as often as its weight asks, drawn
/// by the seed. `w2s train` weighs the loss itself.
///
/// For dpo and reward, labels of tasks that ask which of two answers is the better one (alpaca,
/// truthfulqa-preference) become rows with prompt, chosen and rejected, and the margin of the label in
/// nats. Claims about one pair, in either order, are joined; pairs about which they disagree are left
/// out.
///
/// Examples:
///   w2s export runs/mine --format csv --out labelled.csv
///   w2s export runs/weak --format trl --base-model Qwen/Qwen2.5-7B --out export/trl
///   w2s export runs/alpaca --format reward --base-model Qwen/Qwen2.5-7B --out export/reward
#[derive(Clone, Debug, Args, Serialize)]
#[command(verbatim_doc_comment)]
pub struct ExportJob {
    /// Run folder of `w2s label`, `relabel`, `filter` or, for a table, `loop`
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// The form of the table, or the trainer
    #[arg(long, value_enum)]
    pub format: Format,
    /// The model that is to be trained: a name on the hub or a folder, as the trainer takes it
    #[arg(long, value_name = "NAME|DIR", default_value = "", hide_default_value = true,
        required_if_eq_any = [("format", "trl"), ("format", "dpo"), ("format", "reward"),
            ("format", "axolotl"), ("format", "llama-factory")])]
    pub base_model: String,
    /// Run folder of `w2s train` whose settings the configuration has [default: the defaults of `w2s
    /// train`, with the target modules of --base-model, or of the run's model if it is no folder]
    #[arg(long, value_name = "RUN")]
    pub training: Option<PathBuf>,
    /// File to write, or folder to make for a trainer
    #[arg(long, value_name = "FILE|DIR")]
    pub out: PathBuf,
    /// Write the labels alone that an audit of the run (`w2s audit`) covers with this guarantee: largest
    /// share of wrong labels, and confidence; the auditor's answers stand in for the labels of audited rows
    #[arg(long, value_name = "ERROR@CONFIDENCE")]
    pub guarantee: Option<Guarantee>,
    /// Data of the run [default: where the run read them]
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Seed of the draw
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub seed: u64,
    /// Write into a folder that is there, over its files
    #[arg(long)]
    pub force: bool,
}

pub(super) fn run(args: ExportJob, session: &Session<'_>) -> Result<Exported> {
    if args.out.exists() && !args.force {
        let (what, hint) = match args.format.is_table() {
            true => ("file", "choose another name, or replace it with `--force`"),
            false => ("folder", "choose another, or write over its files with `--force`"),
        };
        return Err(Error::new(ErrorKind::Run, format!("the {what} is there already"))
            .at(&args.out)
            .hint(hint));
    }
    if args.format.is_table() {
        args.forbid_trainer()?;
        let ExportJob { run, format, out, data, guarantee, .. } = &args;
        let (format, data, guarantee) = (*format, data.as_deref(), guarantee.as_ref());
        let asked = table::Asked { run, format, out, data, guarantee };
        return table::export(&asked, session);
    }
    if args.guarantee.is_some() && args.format.is_of_preferences() {
        return Err(wrong(
            format!("`--guarantee` does not go with `--format {}`", args.format.word()),
            "an audit is about labels, and a pair is made of several; export claims instead",
        ));
    }
    let mut labels = RunLabels::read(&args.run, args.data.as_deref())?;
    let covered = match &args.guarantee {
        Some(guarantee) => Some(covered(&mut labels, guarantee)?),
        None => None,
    };
    let training = match &args.training {
        Some(run) => TrainingSettings::of_run(run)?,
        None => TrainingSettings::default_for(&args.base_model, &labels.manifest),
    };
    let mut notes = Notes::default();
    if let Some(covered) = &covered {
        notes.of_guarantee(covered);
    }
    let rows = if args.format.is_of_preferences() {
        let preferences = preferences(&labels)?;
        notes.of_preferences(&preferences, args.format);
        preferences.rows
    } else {
        completions(&labels)?
    };
    let (validation, train): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.validation);
    let Some(first) = train.first() else {
        return Err(Error::new(ErrorKind::Data, "no label is left to train on").at(&args.run));
    };
    let is_weighted = train.iter().any(|row| row.weight != first.weight);
    let times = if is_weighted { draw(&train, args.seed)? } else { vec![1; train.len()] };
    let sampled: Vec<&Row> = train
        .iter()
        .zip(&times)
        .flat_map(|(row, &times)| std::iter::repeat_n(*row, times))
        .collect();
    let left_out = times.iter().filter(|&&times| times == 0).count();
    if is_weighted {
        notes.of_weights(args.format, left_out);
    }
    if args.format.tokenises_apart() {
        notes.of_tokens(args.format, num_cut_otherwise(&rows, &args.base_model)?, rows.len());
    }
    let files = args.format.files(&args.base_model, !validation.is_empty(), &training)?;
    let write = |name: &str, bytes: &[u8]| {
        let path = args.out.join(name);
        let folder = path.parent().unwrap_or(&args.out);
        std::fs::create_dir_all(folder).map_err(|e| Error::io("make the folder", folder, &e))?;
        write_atomic(&path, bytes)
    };
    let texts =
        |rows: &[&Row]| json_lines(&rows.iter().map(|r| args.format.row(r)).collect::<Vec<_>>());
    write(&args.format.place("train.jsonl"), &texts(&sampled)?)?;
    let weighted = |row: &&Row| match &row.learnt {
        Learnt::Completion(completion) => {
            json!({ "id": row.id, "prompt": row.prompt, "completion": completion, "weight": row.weight })
        }
        Learnt::Preference { .. } => {
            let mut value = args.format.row(row);
            value["weight"] = row.weight.into();
            value
        }
    };
    write("weighted.jsonl", &json_lines(&train.iter().map(weighted).collect::<Vec<_>>())?)?;
    if !validation.is_empty() {
        write(&args.format.place("validation.jsonl"), &texts(&validation)?)?;
    }
    for (name, text) in files {
        let text = match name.as_str() {
            "config.yaml" => [notes.as_comment(), text].concat(),
            _ => text,
        };
        write(&name, text.as_bytes())?;
    }
    let gold_used = gold_used(&labels.manifest.gold_used, covered.as_ref());
    let how = if is_weighted {
        format!(
            "The loss of {} cannot be weighted by example. So the weights are sampling weights: train.jsonl has\n{} rows, each example as often as its weight asks (weight divided by the mean weight, rounded up or\ndown at random, seed {}); {left_out} of {} examples were not drawn. weighted.jsonl has every example once with its weight.\n",
            args.format.name(),
            sampled.len(),
            args.seed,
            train.len()
        )
    } else {
        "All examples weigh the same; train.jsonl has each of them once.\n".to_owned()
    };
    write(
        "README.md",
        readme(&args, (&labels.manifest, &gold_used), &training, &how, &notes).as_bytes(),
    )?;
    let exported = Exported {
        folder: args.out.clone(),
        format: args.format,
        num_examples: train.len(),
        num_rows: sampled.len(),
        num_validation: validation.len(),
        is_lossy: notes.loses(),
        notes: notes.0,
        settings: training.origin().to_owned(),
        remark: remark(&args, &training),
        gold_used,
    };
    session.voice.event(&Event::Exported(&exported))?;
    Ok(exported)
}

impl ExportJob {
    /// Refuses what means something for trainers only.
    fn forbid_trainer(&self) -> Result<()> {
        let given = [
            ("base-model", !self.base_model.is_empty()),
            ("training", self.training.is_some()),
            ("seed", self.seed != 0),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((option, _)) => {
                Err(no_effect(option, "for a table")
                    .hint("leave it out, or name a trainer's format"))
            }
            None => Ok(()),
        }
    }
}

/// What a trainer does otherwise than the training whose settings it gets.
fn remark(args: &ExportJob, training: &TrainingSettings) -> Option<String> {
    training.remark(args.format.name()).filter(|_| !args.format.is_of_preferences())
}

fn readme(
    args: &ExportJob,
    (manifest, gold_used): (&Manifest, &GoldUse),
    training: &TrainingSettings,
    how: &str,
    notes: &Notes,
) -> String {
    let mut text = format!("# Labels for {}\n\n", args.format.name());
    let setting = |name: &str| manifest.settings.get(name).and_then(Value::as_str).unwrap_or("-");
    let _ = writeln!(
        text,
        "Made by `w2s export` {} from a run of `w2s {}`: task {}, model {}.",
        env!("CARGO_PKG_VERSION"),
        manifest.command,
        code_span(setting("task")),
        code_span(setting("model"))
    );
    let gold = match gold_used {
        GoldUse::No(_) => "No gold label had a part in the labels.".to_owned(),
        GoldUse::Because(reason) => format!("Gold had a part in the labels: {}.", plain(reason)),
    };
    let _ = writeln!(text, "{gold}\n\n## Weights\n\n{how}");
    if !notes.0.is_empty() {
        let _ = writeln!(text, "## Notes\n");
        for note in &notes.0 {
            let _ = writeln!(text, "- {note}");
        }
        let _ = writeln!(text);
    }
    let _ = writeln!(text, "## Settings\n\nThe settings are {}.", training.origin());
    if let Some(remark) = remark(args, training) {
        let _ = writeln!(text, "{remark}.");
    }
    let _ = writeln!(text, "\n## Use\n\n{}", args.format.usage());
    text
}
