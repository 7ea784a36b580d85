//! `w2s export`: the labelled, weighted set of a run in the forms that other trainers read.
//!
//! How their configurations are written, `formats` says.

mod formats;

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use rand::Rng;
use serde::Serialize;
use serde_json::{Value, json};

use super::observer::Event;
use super::results::Exported;
use super::run_labels::{Labelled, RunLabels};
use super::session::Session;
use crate::data::json_lines;
use crate::error::{Error, ErrorKind, Result};
use crate::prompt::PromptFormat;
use crate::report::{code_span, plain};
use crate::run::{GoldUse, SeedStream, write_atomic};

use formats::TrainingSettings;

pub use formats::Format;

/// Write the labelled, weighted set of a run for TRL, axolotl or LLaMA-Factory
///
/// Writes a folder with train.jsonl (prompts and completions), validation.jsonl where the run set some
/// aside, a configuration with the settings of a training or the defaults of `w2s train`,
/// weighted.jsonl (every row once, with its weight) and a README. None of the three can weigh the loss
/// of an example, so where weights differ, train.jsonl holds each row as often as its weight asks,
/// drawn by the seed. `w2s train` weighs the loss itself.
///
/// Example:
///   w2s export runs/weak --format trl --base-model Qwen/Qwen2.5-7B --out export/trl
#[derive(Clone, Debug, Args, Serialize)]
#[command(verbatim_doc_comment)]
pub struct ExportJob {
    /// Run folder of `w2s label`, `relabel` or `filter`
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// The trainer
    #[arg(long, value_enum)]
    pub format: Format,
    /// The model that is to be trained: a name on the hub or a folder, as the trainer takes it
    #[arg(long, value_name = "NAME|DIR")]
    pub base_model: String,
    /// Run folder of `w2s train` whose settings the configuration has [default: the defaults of `w2s
    /// train`, with the target modules of --base-model, or of the run's model if it is no folder]
    #[arg(long, value_name = "RUN")]
    pub training: Option<PathBuf>,
    /// Folder to make
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
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

/// A text to learn.
struct Row {
    id: String,
    prompt: String,
    completion: String,
    weight: f64,
}

pub(super) fn run(args: ExportJob, session: &Session<'_>) -> Result<Exported> {
    if args.out.exists() && !args.force {
        return Err(Error::new(ErrorKind::Run, "the folder is there already")
            .at(&args.out)
            .hint("choose another, or write over its files with `--force`"));
    }
    let labels = RunLabels::read(&args.run, args.data.as_deref())?;
    let training = match &args.training {
        Some(run) => TrainingSettings::of_run(run)?,
        None => TrainingSettings::default_for(&args.base_model, &labels.manifest),
    };
    let (validation, train): (Vec<&Labelled>, Vec<&Labelled>) =
        labels.labels.iter().partition(|labelled| labelled.validation);
    let rows = |all: &[&Labelled]| all.iter().map(|l| row(&labels, l)).collect::<Result<Vec<_>>>();
    let (train, validation) = (rows(&train)?, rows(&validation)?);
    let Some(first) = train.first() else {
        return Err(Error::new(ErrorKind::Data, "no label is left to train on").at(&args.run));
    };
    let is_weighted = train.iter().any(|row| row.weight != first.weight);
    let times = if is_weighted { draw(&train, args.seed)? } else { vec![1; train.len()] };
    let sampled: Vec<&Row> = train
        .iter()
        .zip(&times)
        .flat_map(|(row, &times)| std::iter::repeat_n(row, times))
        .collect();
    let files = args.format.files(&args.base_model, !validation.is_empty(), &training)?;
    std::fs::create_dir_all(&args.out).map_err(|e| Error::io("make the folder", &args.out, &e))?;
    let write = |name: &str, bytes: &[u8]| write_atomic(&args.out.join(name), bytes);
    let texts =
        |rows: &[&Row]| json_lines(&rows.iter().map(|r| args.format.row(r)).collect::<Vec<_>>());
    write("train.jsonl", &texts(&sampled)?)?;
    let weighted = |row: &Row| json!({ "id": row.id, "prompt": row.prompt, "completion": row.completion, "weight": row.weight });
    write("weighted.jsonl", &json_lines(&train.iter().map(weighted).collect::<Vec<_>>())?)?;
    if !validation.is_empty() {
        write("validation.jsonl", &texts(&validation.iter().collect::<Vec<_>>())?)?;
    }
    for (name, text) in files {
        write(&name, text.as_bytes())?;
    }
    let left_out = times.iter().filter(|&&times| times == 0).count();
    let how = if is_weighted {
        format!(
            "The loss of {} cannot be weighted by example. So the weights are sampling weights: train.jsonl has\n{} rows, each example as often as its weight asks (weight divided by the mean weight, rounded up or\ndown at random, seed {}); {left_out} of {} examples were not drawn. weighted.jsonl has every example once with its weight.\n",
            args.format.trainer(),
            sampled.len(),
            args.seed,
            train.len()
        )
    } else {
        "All examples weigh the same; train.jsonl has each of them once.\n".to_owned()
    };
    write("README.md", readme(&args, &labels, &training, &how).as_bytes())?;
    let exported = Exported {
        folder: args.out.clone(),
        format: args.format,
        num_examples: train.len(),
        num_rows: sampled.len(),
        num_validation: validation.len(),
        num_not_drawn: is_weighted.then_some(left_out),
        settings: training.origin().to_owned(),
        remark: training.remark(args.format.trainer()),
        gold_used: labels.manifest.gold_used.clone(),
    };
    session.voice.event(&Event::Exported(&exported))?;
    Ok(exported)
}

/// The text of a label. Blanks at the prompt's end go to the completion: trainers tokenise the two
/// apart, and a blank is the word's, as where the label was scored.
fn row(labels: &RunLabels, labelled: &Labelled) -> Result<Row> {
    let format = PromptFormat::new(&labels.task)?;
    let example = labels.example(labelled);
    let whole = [format.instruction(), &format.question(example)?].concat();
    let word = if labels.task.answers.is_open {
        labelled.label.clone()
    } else {
        let index = labels.task.label_index(&Value::from(labelled.label.as_str()));
        let word = index.and_then(|index| format.words_of(example).get(index).copied());
        word.map(str::to_owned).ok_or_else(|| {
            Error::new(
                ErrorKind::Data,
                format!("example `{}` has no label `{}`", example.id, labelled.label),
            )
        })?
    };
    let prompt = whole.trim_end_matches(' ');
    let completion = [&whole[prompt.len()..], &word].concat();
    Ok(Row {
        id: example.id.clone(),
        prompt: prompt.to_owned(),
        completion,
        weight: labelled.weight,
    })
}

/// How often each row stands in a set of as many rows: its weight by the mean weight, the fraction
/// drawn so that the whole set has its size (systematic sampling, which has the least noise).
fn draw(rows: &[Row], seed: u64) -> Result<Vec<usize>> {
    let sum: f64 = rows.iter().map(|row| row.weight).sum();
    if !(sum.is_finite() && sum > 0.0) || rows.iter().any(|row| row.weight < 0.0) {
        return Err(Error::new(ErrorKind::Data, "the weights do not sum to more than 0"));
    }
    let num = rows.len() as f64;
    let start: f64 = SeedStream::new(seed).rng("export", &[]).random();
    let mut upto = 0.0;
    let mut taken = 0;
    let times = rows.iter().map(|row| {
        upto += row.weight;
        // Points start, start + 1, ... below the row's end, on a scale where the mean weight is 1.
        let end = ((upto / sum * num - start).ceil().max(0.0) as usize).min(rows.len());
        let times = end - taken;
        taken = end;
        times
    });
    Ok(times.collect())
}

fn readme(args: &ExportJob, labels: &RunLabels, training: &TrainingSettings, how: &str) -> String {
    let mut text = format!("# Labels for {}\n\n", args.format.trainer());
    let manifest = &labels.manifest;
    let setting = |name: &str| manifest.settings.get(name).and_then(Value::as_str).unwrap_or("-");
    let _ = writeln!(
        text,
        "Made by `w2s export` {} from a run of `w2s {}`: task {}, model {}.",
        env!("CARGO_PKG_VERSION"),
        manifest.command,
        code_span(setting("task")),
        code_span(setting("model"))
    );
    let gold = match &manifest.gold_used {
        GoldUse::No(_) => "No gold label had a part in the labels.".to_owned(),
        GoldUse::Because(reason) => format!("Gold had a part in the labels: {}.", plain(reason)),
    };
    let _ = writeln!(
        text,
        "{gold}\n\n## Weights\n\n{how}\n## Settings\n\nThe settings are {}.",
        training.origin()
    );
    if let Some(remark) = training.remark(args.format.trainer()) {
        let _ = writeln!(text, "{remark}.");
    }
    let _ = writeln!(text, "\n## Use\n\n{}", args.format.usage());
    text
}

impl Format {
    /// Returns the trainer's name.
    pub fn trainer(self) -> &'static str {
        match self {
            Self::Trl => "TRL",
            Self::Axolotl => "axolotl",
            Self::LlamaFactory => "LLaMA-Factory",
        }
    }

    fn row(self, row: &Row) -> Value {
        match self {
            Self::Trl | Self::Axolotl => {
                json!({ "prompt": row.prompt, "completion": row.completion })
            }
            Self::LlamaFactory => {
                json!({ "instruction": row.prompt, "input": "", "output": row.completion })
            }
        }
    }

    fn usage(self) -> &'static str {
        match self {
            Self::Trl => {
                "    trl sft --config config.yaml\n\nThe loss is on completions only. TRL adds the end token to them.\n"
            }
            Self::Axolotl => {
                "    axolotl train config.yaml\n\nThe loss is on completions only (`train_on_inputs: false`). axolotl adds the end token to them.\n"
            }
            Self::LlamaFactory => {
                "    llamafactory-cli train config.yaml\n\nThe template `empty` leaves prompts as they are; it adds no begin token and no end token. A model whose\ntokenizer has a begin token was labelled with it and is trained without.\n"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_drawn_as_often_as_they_weigh() {
        let rows: Vec<Row> = [1.0, 0.0, 3.0, 0.5, 0.5]
            .iter()
            .map(|&weight| Row {
                id: String::new(),
                prompt: String::new(),
                completion: String::new(),
                weight,
            })
            .collect();
        let mut sums = [0.0; 5];
        for seed in 0..400 {
            let times = draw(&rows, seed).unwrap();
            assert_eq!(times.iter().sum::<usize>(), 5, "{times:?}");
            assert!(times[0] == 1 && times[1] == 0 && times[2] == 3, "whole weights: {times:?}");
            for (sum, times) in sums.iter_mut().zip(times) {
                *sum += times as f64 / 400.0;
            }
        }
        assert!((sums[3] - 0.5).abs() < 0.1 && (sums[4] - 0.5).abs() < 0.1, "{sums:?}");
        let nothing = draw(&rows[1..2], 0);
        assert!(nothing.is_err());
    }
}
