//! The arguments of `w2s filter`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use serde::Serialize;

use crate::data::{ParserName, Task, VariantKind, read_label_records};
use crate::error::{Error, ErrorKind, Result};
use crate::filter::{KeepSettings, Rule, WeightBy};
use crate::pipeline::columns::ColumnOptions;
use crate::pipeline::ids::IdsOptions;
use crate::pipeline::model::ModelOptions;
use crate::pipeline::prior::PriorOptions;
use crate::pipeline::run_options::RunOptions;
use crate::pipeline::server::ServerOptions;
use crate::score::{Calibration, Prior};

/// Temperature of the reliability weights: as published.
const TEMPERATURE: f64 = 0.2;
/// Quantile of the entropies up to which questions are kept: as published.
const QUANTILE: f64 = 0.5;

/// Keep questions that the weak model answers consistently across prompt variants
///
/// Puts variants of each question to the model (other orders of the options or label words, other
/// wordings), takes the entropy of its answers over them, keeps the questions of low entropy, and
/// weighs every answer by how reliable it is. Gold labels are not read; `w2s eval RUN --gold FILE`
/// says afterwards what the filter gained.
///
/// Writes a run folder: answers.jsonl (a row a variant), kept.jsonl and dropped.jsonl (a row a
/// question: weak label, entropy and its parts, weight, reason), weights.jsonl, summary.json and
/// manifest.json. kept.jsonl is a file of labels for `w2s train`. An interrupted run goes on with
/// --resume.
///
/// Examples:
///   w2s filter --entropy --model models/smollm2-135m-instruct --task mmlu \
///       --data mmlu.jsonl --out runs/weak
///   w2s filter --entropy --from runs/weak/answers.jsonl --task mmlu --data mmlu.jsonl \
///       --keep-fraction 0.3 --out runs/strict
#[derive(Clone, Debug, Args, Serialize)]
#[command(verbatim_doc_comment, mut_arg("model", |arg| arg.required(false)))]
#[command(group(ArgGroup::new("criterion").required(true)))]
#[command(group(ArgGroup::new("kept").args(["quantile", "max_entropy", "keep_fraction"])))]
pub struct FilterJob {
    /// Filter by the entropy of the answers over variants of a question
    #[arg(long, group = "criterion", help_heading = "Filter")]
    pub entropy: bool,
    /// Keep entropies up to this quantile of all, ties kept [default: 0.5]
    #[arg(long, value_name = "Q", help_heading = "Filter")]
    pub quantile: Option<f64>,
    /// Keep entropies up to this many nats
    #[arg(long, value_name = "NATS", help_heading = "Filter")]
    pub max_entropy: Option<f64>,
    /// Keep this share of the questions, rounded down, lowest entropy first; ties are drawn
    #[arg(long, value_name = "SHARE", help_heading = "Filter")]
    pub keep_fraction: Option<f64>,
    /// Also draw, with replacement, as many of the kept rows as there are questions (sample.jsonl, for
    /// `w2s train --sample`)
    #[arg(long, alias = "do_sampling", help_heading = "Filter")]
    pub do_sampling: bool,
    /// Set this share of the kept questions aside for validation, whole questions and groups only
    /// (`split` in kept.jsonl)
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, help_heading = "Filter")]
    pub validation_fraction: f64,

    /// What an answer weighs in training [default: reliability]
    #[arg(long, value_enum, value_name = "WEIGHT", help_heading = "Weights")]
    pub weight_by: Option<WeightName>,
    /// Temperature of the reliability: below 1 it sharpens the shares of the answers [default: 0.2]
    #[arg(long, value_name = "T", help_heading = "Weights")]
    pub temperature: Option<f64>,
    /// labels.jsonl of a search on the same data, whose margins are the weights (icm-margin)
    #[arg(long, value_name = "FILE", help_heading = "Weights")]
    pub labels: Option<PathBuf>,

    /// The model.
    #[serde(flatten)]
    #[command(flatten)]
    pub model: Option<ModelOptions>,
    /// How a server is asked, where the model is one.
    #[serde(flatten)]
    #[command(flatten)]
    pub server: ServerOptions,

    /// Built-in task (see `w2s tasks`) or path of a task file
    #[arg(long, value_name = "TASK", help_heading = "Data")]
    pub task: String,
    /// Questions: JSON, JSON lines, CSV, TSV or Parquet
    #[arg(long, value_name = "FILE", help_heading = "Data", required_unless_present = "from")]
    pub data: Option<PathBuf>,
    /// Which columns of the data are what.
    #[serde(flatten)]
    #[command(flatten)]
    pub columns: ColumnOptions,
    /// Take answers that are there instead of asking a model: answers.jsonl of a run, or a published
    /// table (ind, target, prompt, model_output, model_pred, entropy) as .csv
    #[arg(long, value_name = "FILE", help_heading = "Data", conflicts_with_all = ["model", "variants",
        "num_variants", "answers", "parser", "max_new_tokens", "calibrate", "prior", "limit", "files"],
        required_unless_present = "model")]
    pub from: Option<PathBuf>,
    /// Take the first N questions only
    #[arg(long, value_name = "N", help_heading = "Data", conflicts_with = "files")]
    pub limit: Option<NonZeroUsize>,
    /// Which examples.
    #[serde(flatten)]
    #[command(flatten)]
    pub ids: IdsOptions,

    /// What varies in a question [default: the task's; `w2s tasks TASK` shows what it can]
    #[arg(long, value_enum, value_name = "KIND", help_heading = "Answers")]
    pub variants: Option<VariantKind>,
    /// Variants of a question; 1, which says nothing of how sure the model is, with --keep-fraction 1
    /// [default: 5, or as many as it has]
    #[arg(long, value_name = "N", help_heading = "Answers")]
    pub num_variants: Option<usize>,
    /// How the model answers [default: soft; votes where answers are open]
    #[arg(long, value_enum, value_name = "FORM", help_heading = "Answers")]
    pub answers: Option<AnswerForm>,
    /// Corrects the model's prior towards label words or letters (soft answers) [default: batch]
    #[arg(long, value_enum, help_heading = "Answers")]
    pub calibrate: Option<CalibrateName>,
    /// The shares of labels that calibration supposes.
    #[serde(flatten)]
    #[command(flatten, next_help_heading = "Answers")]
    pub prior: PriorOptions,
    /// How written answers are read (votes) [default: the task's]
    #[arg(long, value_enum, value_name = "PARSER", help_heading = "Answers")]
    pub parser: Option<ParserName>,
    /// Most tokens of a written answer (votes) [default: the task's, mostly 50]
    #[arg(long, value_name = "N", help_heading = "Answers", alias = "max_new_tokens")]
    pub max_new_tokens: Option<usize>,
    /// Prompt variant of the task; `w2s tasks TASK` shows them [default: the task's own]
    #[arg(long, value_name = "NAME", help_heading = "Answers")]
    pub prompt_variant: Option<String>,

    /// The run folder.
    #[serde(flatten)]
    #[command(flatten)]
    pub run: RunOptions,
    /// Also write the answers as a published table, without its `target`, which is gold (`w2s eval`
    /// writes it with)
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    pub export_csv: Option<PathBuf>,
}

/// How a model answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnswerForm {
    /// The distribution of the labels, from one pass over the variants; nothing is written or read
    Soft,
    /// A written answer to each variant, read by a parser, as published
    Votes,
}

/// How answers are calibrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CalibrateName {
    /// Subtract the mean log-probability of each word over all variants
    Batch,
    /// Subtract the logarithm of the mean probability of each word over all variants
    BatchMeanProb,
    /// Not at all
    None,
}

/// What a question's weight is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightName {
    /// The answer's share of the variants, sharpened by the temperature
    Reliability,
    /// By how much it is more likely than the next answer
    Margin,
    /// Its mean probability over the variants
    SoftAgreement,
    /// The logistic of the margin that a search gave the question (`--labels`)
    IcmMargin,
}

/// How the model is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum AskForm {
    Soft(Calibration, Prior),
    Votes(ParserName, usize),
}

impl FilterJob {
    /// How the model is asked.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for options of the other form, and for a form the task cannot have.
    pub(in crate::pipeline) fn ask_form(&self, task: &Task) -> Result<AskForm> {
        let usage = |message: String| Error::new(ErrorKind::Usage, message);
        let open = task.answers.is_open;
        let form = self.answers.unwrap_or(if open { AnswerForm::Votes } else { AnswerForm::Soft });
        match form {
            AnswerForm::Soft if open => Err(usage(format!(
                "task `{}` has open answers, which have no distribution",
                task.name
            ))
            .hint("leave out `--answers soft`; answers are written and counted")),
            AnswerForm::Soft => {
                let other = [
                    (self.parser.is_some(), "--parser"),
                    (self.max_new_tokens.is_some(), "--max-new-tokens"),
                ];
                if let Some((_, name)) = other.iter().find(|(given, _)| *given) {
                    return Err(usage(format!("`{name}` has no effect with `--answers soft`"))
                        .hint("add `--answers votes`, which lets the model write"));
                }
                let calibration = match self.calibrate {
                    Some(CalibrateName::None) => Calibration::None,
                    Some(CalibrateName::BatchMeanProb) => Calibration::BatchMeanProb,
                    Some(CalibrateName::Batch) | None => Calibration::Batch,
                };
                Ok(AskForm::Soft(calibration, self.prior.prior(task, calibration)?))
            }
            AnswerForm::Votes => {
                let given =
                    [("calibrate", self.calibrate.is_some()), ("prior", self.prior.is_given())];
                if let Some((name, _)) = given.iter().find(|(_, given)| *given) {
                    return Err(usage(format!("`--{name}` has no effect with `--answers votes`"))
                        .hint("what a model writes has no distribution to be calibrated"));
                }
                let parser = self.parser.unwrap_or(task.answers.parser);
                if parser.is_closed() == open {
                    return Err(usage(format!(
                        "parser `{}` reads no answers of task `{}`",
                        parser.name(),
                        task.name
                    ))
                    .hint(format!("the task's own is `{}`", task.answers.parser.name())));
                }
                match self.max_new_tokens.unwrap_or(task.answers.max_new_tokens) {
                    0 => Err(usage("`--max-new-tokens` is 0, expected 1 or more".into())),
                    num => Ok(AskForm::Votes(parser, num)),
                }
            }
        }
    }

    /// What is made of the answers.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for numbers out of range and options without effect; of `--labels`, as
    /// [`read_label_records`].
    pub(in crate::pipeline) fn keep_settings(&self, task: &Task) -> Result<KeepSettings> {
        let usage = |message: String| Error::new(ErrorKind::Usage, message);
        let rule = match (self.quantile, self.max_entropy, self.keep_fraction) {
            (_, Some(nats), _) => Rule::MaxEntropy(nats),
            (_, _, Some(share)) => Rule::KeepFraction(share),
            (quantile, ..) => Rule::Quantile(quantile.unwrap_or(QUANTILE)),
        };
        let by = self.weight_by.unwrap_or(WeightName::Reliability);
        if self.temperature.is_some() && by != WeightName::Reliability {
            return Err(usage("`--temperature` is for `--weight-by reliability` only".into()));
        }
        if self.labels.is_some() && by != WeightName::IcmMargin {
            return Err(usage("`--labels` has no effect without `--weight-by icm-margin`".into()));
        }
        let weight_by = match by {
            WeightName::Reliability => {
                let temperature = self.temperature.unwrap_or(TEMPERATURE);
                if !(temperature.is_finite() && temperature > 0.0) {
                    return Err(usage(format!(
                        "`--temperature` is {temperature}, expected a number above 0"
                    )));
                }
                WeightBy::Reliability { temperature }
            }
            WeightName::Margin => WeightBy::Margin,
            WeightName::SoftAgreement => WeightBy::SoftAgreement,
            WeightName::IcmMargin => {
                let path = self.labels.as_ref().ok_or_else(|| {
                    usage("`--weight-by icm-margin` needs `--labels FILE`".into())
                        .hint("labels.jsonl of a `w2s label` run on the same data")
                })?;
                let records = read_label_records(path, task)?;
                let margins = records.into_iter().map(|r| (r.id, (r.label, r.margin)));
                WeightBy::IcmMargin(margins.collect())
            }
        };
        if !(0.0..1.0).contains(&self.validation_fraction) {
            return Err(usage(format!(
                "`--validation-fraction` is {}, expected 0 or more and less than 1",
                self.validation_fraction
            )));
        }
        Ok(KeepSettings {
            rule: rule.checked()?,
            weight_by,
            sampling: self.do_sampling,
            validation_fraction: self.validation_fraction,
        })
    }
}
