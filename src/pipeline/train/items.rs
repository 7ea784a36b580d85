//! What `w2s train` learns: labels or answers of a weak supervisor, or gold, joined with the data
//! by id, with their weights.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::files::{Extra, Sample, Weights, answer_text, data, unknown_ids};
use crate::data::{
    AnswerRecord, Dataset, Example, Task, WeakRecord, by_question, id_text, read_json_lines,
    read_labels,
};
use crate::error::{Error, ErrorKind, Result};
use crate::filter::Votes;
use crate::pipeline::gold;
use crate::pipeline::warning::Part;
use crate::prompt::PromptFormat;
use crate::train::{Item, ItemBuilder};

/// Where labels come from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// Gold labels of a file, of a column if named.
    Gold(&'a Path, Option<&'a str>),
    /// Files with id and label.
    Labels(&'a [PathBuf]),
    /// What a weak supervisor answered to variants.
    Answers(Answers<'a>),
}

/// The answers to variants that are learnt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answers<'a> {
    pub(super) paths: &'a [PathBuf],
    /// The labels whose questions alone count, if given.
    pub(super) labels: &'a [PathBuf],
    /// The rows that were drawn of them, if given.
    pub(super) sample: Option<&'a Path>,
}

/// What labels and answers weigh.
#[derive(Clone, Copy, Debug)]
pub enum Weighing<'a> {
    /// All the same.
    Alike,
    /// What files say, and what those weigh that they do not name.
    Files(&'a [PathBuf], Option<f64>),
    /// What the lines of the labels say.
    Lines,
    /// By the reliability of the answer among those to its question, at this temperature.
    Reliability(f64),
}

/// What a training is made of.
pub(super) struct Training {
    /// Learnt from.
    pub(super) items: Vec<Item>,
    /// Set aside by the file of labels; never learnt from.
    pub(super) validation: Vec<Item>,
    /// Examples of the data without a label here.
    pub(super) num_unlabelled: usize,
    /// Answers that could not be read.
    pub(super) num_unread: usize,
    /// Items that weigh nothing.
    pub(super) num_weightless: usize,
    /// Questions that the filter which asked them had dropped, of those learnt.
    pub(super) dropped_questions: Part,
}

/// How items are made.
pub(super) struct Making<'a> {
    pub(super) task: &'a Task,
    pub(super) dataset: &'a Dataset,
    /// The examples that are learnt from, if not all.
    pub(super) ids: Option<HashSet<String>>,
    /// Whether every label is an answer, for losses over labels.
    pub(super) all_labels: bool,
    /// Whether the weak distribution is learnt and not its likeliest label.
    pub(super) soft: bool,
    /// Whether every line of the labels must have a weight.
    pub(super) weights_on_lines: bool,
}

/// One label or answer.
struct Row<'a> {
    example: &'a Example,
    /// The variant's place.
    variant: Option<usize>,
    /// What the weights know it by.
    answer: String,
    prompt: String,
    /// Texts and their shares.
    answers: Vec<(String, f64)>,
    /// The words of all labels of the question; none where the answer is open or was written.
    words: Vec<&'a str>,
    validation: bool,
    /// How often it is learnt.
    times: usize,
    /// The weight on its line.
    weight: Option<f64>,
}

impl Making<'_> {
    /// Returns the items of a source with their weights.
    pub(super) fn items(
        &self,
        source: Source<'_>,
        weighing: Weighing<'_>,
        builder: &mut ItemBuilder<'_>,
    ) -> Result<Training> {
        let format = PromptFormat::new(self.task)?;
        let (mut rows, num_unread) = match source {
            Source::Answers(answers) => self.answered(answers, &format)?,
            Source::Labels(paths) => (self.labelled(paths, &format)?, 0),
            Source::Gold(path, column) => {
                let gold = gold::answers(path, column, self.task, self.dataset)?;
                if gold.is_empty() {
                    return Err(data("no example of the data has a gold label here".into(), path)
                        .hint("gold is joined by id; give the file that has it with `--gold`"));
                }
                let rows = self.dataset.examples.iter().filter_map(|example| {
                    let label = gold.get(&example.id)?;
                    Some(self.row(example, label, None, false, &format))
                });
                (rows.collect::<Result<_>>()?, 0)
            }
        };
        if let Some(ids) = &self.ids {
            rows.retain(|row| ids.contains(&row.example.id));
        }
        let weights = match weighing {
            Weighing::Files(paths, missing) => Some(Weights::read(paths, missing, self.dataset)?),
            _ => None,
        };
        let mut votes: HashMap<String, Votes> = HashMap::new();
        if let (Weighing::Reliability(_), Source::Answers(answers)) = (weighing, source) {
            for records in by_question(read_answers(answers.paths)?, |record| &record.id) {
                let of = Votes::of(records.iter().map(|record| record.answer.as_deref()));
                votes.insert(records[0].id.clone(), of);
            }
        }
        let labelled: HashSet<&str> = rows.iter().map(|row| row.example.id.as_str()).collect();
        let mut training = Training {
            items: Vec::new(),
            validation: Vec::new(),
            num_unlabelled: self.dataset.examples.len() - labelled.len(),
            num_unread,
            num_weightless: 0,
            dropped_questions: match source {
                Source::Answers(answers) => num_dropped(answers.paths, &labelled)?,
                _ => Part { num: 0, of: labelled.len() },
            },
        };
        for row in &rows {
            let weight = match (&weights, weighing) {
                (Some(weights), _) => weights.of(&row.example.id, row.variant, &row.answer)?,
                (None, Weighing::Reliability(temperature)) => votes
                    .get(&row.example.id)
                    .map_or(1.0, |votes| votes.reliability(Some(&row.answer), temperature)),
                (None, Weighing::Lines) => row.weight.unwrap_or(1.0),
                (None, _) => 1.0,
            };
            // An example without weight is as if it were not there.
            if weight == 0.0 {
                training.num_weightless += 1;
                continue;
            }
            let answers: Vec<(&str, f64)> =
                row.answers.iter().map(|(text, share)| (text.as_str(), *share)).collect();
            let example = row.example;
            let group = example.group.as_ref().unwrap_or(&example.id);
            let Some(item) =
                builder.item((&example.id, group), &row.prompt, (&answers, &row.words), weight)?
            else {
                continue;
            };
            let to = if row.validation { &mut training.validation } else { &mut training.items };
            to.extend(std::iter::repeat_n(item, row.times));
        }
        if training.items.is_empty() {
            let all = training.num_weightless == rows.len();
            let error = Error::new(
                ErrorKind::Data,
                if all { "every weight is zero" } else { "there is nothing to train on" },
            );
            return Err(error.hint("check the labels, the weights and `--too-long`"));
        }
        Ok(training)
    }

    /// The row of an example with a label by name, or the text of an open answer.
    fn row<'e>(
        &self,
        example: &'e Example,
        label: &str,
        distribution: Option<Vec<f64>>,
        validation: bool,
        format: &PromptFormat<'e>,
    ) -> Result<Row<'e>> {
        let prompt = [format.instruction(), &format.question(example)?].concat();
        let words = format.words_of(example);
        let answers = if self.task.answers.is_open {
            vec![(label.to_owned(), 1.0)]
        } else {
            let index = self.label(label)?;
            self.shares(&words, index, distribution)?
        };
        let answer = label.to_owned();
        Ok(Row {
            example,
            variant: None,
            answer,
            prompt,
            answers,
            words,
            validation,
            times: 1,
            weight: None,
        })
    }

    fn label(&self, name: &str) -> Result<usize> {
        self.task.label_index(&Value::from(name)).ok_or_else(|| {
            Error::new(ErrorKind::Data, format!("task `{}` has no label `{name}`", self.task.name))
        })
    }

    /// The words with their shares: one word, or all of them where the loss or soft labels want it.
    fn shares(
        &self,
        words: &[&str],
        label: usize,
        distribution: Option<Vec<f64>>,
    ) -> Result<Vec<(String, f64)>> {
        if label >= words.len() {
            return Err(Error::new(
                ErrorKind::Data,
                format!(
                    "label `{}` is not among the record's {}",
                    self.task.labels[label].name,
                    words.len()
                ),
            ));
        }
        let hard = || (0..words.len()).map(|i| f64::from(u8::from(i == label))).collect();
        let shares: Vec<f64> = distribution.filter(|_| self.soft).unwrap_or_else(hard);
        let all = words.iter().map(|word| (*word).to_owned()).zip(shares);
        Ok(all.filter(|(_, share)| self.all_labels || *share > 0.0).collect())
    }

    fn labelled<'s>(
        &'s self,
        paths: &[PathBuf],
        format: &PromptFormat<'s>,
    ) -> Result<Vec<Row<'s>>> {
        let mut rows: Vec<Row<'s>> = Vec::new();
        let mut seen: HashMap<&str, &Path> = HashMap::new();
        for path in paths {
            let more = self.labelled_by(path, format)?;
            for row in &more {
                if let Some(other) = seen.insert(&row.example.id, path) {
                    return Err(data(
                        format!("`{}` has a label in `{}` too", row.example.id, other.display()),
                        path,
                    )
                    .hint("an example has one label; leave one of the files out"));
                }
            }
            rows.extend(more);
        }
        // In the order of the data, whatever the files'.
        let place: HashMap<&str, usize> = self
            .dataset
            .examples
            .iter()
            .enumerate()
            .map(|(i, example)| (example.id.as_str(), i))
            .collect();
        rows.sort_by_key(|row| place[row.example.id.as_str()]);
        Ok(rows)
    }

    fn labelled_by<'s>(&'s self, path: &Path, format: &PromptFormat<'s>) -> Result<Vec<Row<'s>>> {
        let examples: HashMap<&str, &Example> =
            self.dataset.examples.iter().map(|e| (e.id.as_str(), e)).collect();
        let is_lines = path.extension().is_some_and(|end| end == "jsonl");
        let more: HashMap<String, Extra> = if is_lines {
            let lines: Vec<Extra> = read_json_lines(path)?;
            lines.into_iter().map(|line| (id_text(&line.id), line)).collect()
        } else {
            HashMap::new()
        };
        let labels: Vec<(String, String)> = if self.task.answers.is_open {
            let text = |(id, extra): (&String, &Extra)| {
                Some((id.clone(), extra.label.as_ref().map(answer_text)?))
            };
            let mut all: Vec<(String, String)> = more.iter().filter_map(text).collect();
            all.sort();
            all
        } else {
            let name = |(id, label): (String, usize)| (id, self.task.labels[label].name.clone());
            read_labels(path, self.task)?.into_iter().map(name).collect()
        };
        let mut strange = Vec::new();
        let mut rows = Vec::with_capacity(labels.len());
        for (id, label) in &labels {
            let Some(&example) = examples.get(id.as_str()) else {
                strange.push(id.as_str());
                continue;
            };
            let extra = more.get(id);
            let validation = extra.is_some_and(|e| e.split.as_deref() == Some("validation"));
            let distribution = match extra.filter(|_| self.soft) {
                Some(extra) => Some(extra.distribution(self.task, id, path)?),
                None if self.soft => {
                    return Err(data(format!("`{id}` has no distribution of labels"), path)
                        .hint("soft labels are in labels.jsonl of `w2s label` and kept.jsonl of `w2s filter`"));
                }
                None => None,
            };
            let mut row = self.row(example, label, distribution, validation, format)?;
            row.weight = extra.map(|extra| extra.weight(path)).transpose()?.flatten();
            if row.weight.is_none() && self.weights_on_lines {
                return Err(data(format!("`{id}` has no `weight` on its line"), path).hint(
                    "`--reweight` with labels alone takes kept.jsonl of `w2s filter`; give `--answers` as well, or weights by `--weights`",
                ));
            }
            rows.push(row);
        }
        if !strange.is_empty() {
            return Err(unknown_ids("labels", &strange, path, self.dataset));
        }
        Ok(rows)
    }

    fn answered<'s>(
        &'s self,
        source: Answers<'_>,
        format: &PromptFormat<'s>,
    ) -> Result<(Vec<Row<'s>>, usize)> {
        let Answers { paths, labels, sample } = source;
        let mut kept: Option<HashMap<String, Extra>> = None;
        for path in labels {
            let lines: Vec<Extra> = read_json_lines(path)?;
            let lines = lines.into_iter().map(|line| (id_text(&line.id), line));
            kept.get_or_insert_default().extend(lines);
        }
        let mut drawn = sample.map(Sample::read).transpose()?;
        let examples: HashMap<&str, &Example> =
            self.dataset.examples.iter().map(|e| (e.id.as_str(), e)).collect();
        let (mut rows, mut num_unread, mut strange) = (Vec::new(), 0, Vec::new());
        for record in read_answers(paths)? {
            let of_label = kept.as_ref().map(|kept| kept.get(&record.id));
            if let Some(None) = of_label {
                continue;
            }
            let split = of_label.flatten().and_then(|extra| extra.split.as_deref());
            let validation = split == Some("validation");
            // Of a sample, only what is learnt was drawn.
            let times = match &mut drawn {
                Some(drawn) if !validation => drawn.take(&record)?,
                _ => 1,
            };
            if times == 0 {
                continue;
            }
            let Some(&example) = examples.get(record.id.as_str()) else {
                strange.push(record.id);
                continue;
            };
            let Some(answer) = record.answer.clone() else {
                num_unread += 1;
                continue;
            };
            let answers = self.answers_of(&record, &answer, example, format)?;
            // What was written is learnt as it stands.
            let is_text = record.output.is_some() && !self.all_labels;
            let words = if is_text { Vec::new() } else { format.words_of(example) };
            let (variant, prompt) = (Some(record.variant), record.prompt);
            rows.push(Row {
                example,
                variant,
                answer,
                prompt,
                answers,
                words,
                validation,
                times,
                weight: None,
            });
        }
        if !strange.is_empty() {
            let strange: Vec<&str> = strange.iter().map(String::as_str).collect();
            return Err(unknown_ids("answers", &strange, &paths[0], self.dataset));
        }
        if let Some(drawn) = drawn {
            drawn.finish(&paths[0])?;
        }
        Ok((rows, num_unread))
    }

    /// The text that was written, or the words of the variant.
    fn answers_of(
        &self,
        record: &AnswerRecord,
        answer: &str,
        example: &Example,
        format: &PromptFormat<'_>,
    ) -> Result<Vec<(String, f64)>> {
        if let (Some(output), false) = (&record.output, self.all_labels) {
            return Ok(vec![(output.clone(), 1.0)]);
        }
        let label = self.label(answer)?;
        // The first letter stands for the option that is shown first.
        let order: Vec<usize> = match record.option_order.as_slice() {
            [] => (0..format.words_of(example).len()).collect(),
            order => order.to_vec(),
        };
        let words = format.words_of(example);
        let shown = order.iter().position(|&place| place == label).unwrap_or(label);
        let distribution = record.distribution.as_ref().map(|named| {
            let share = |place: &usize| {
                let name = &self.task.labels[*place].name;
                named.iter().find(|(other, _)| other == name).map_or(0.0, |(_, share)| *share)
            };
            order.iter().map(share).collect()
        });
        self.shares(&words, shown, distribution)
    }
}

/// How many of the questions that are learnt the filters dropped that asked them, and how many there
/// are.
fn num_dropped(paths: &[PathBuf], learnt: &HashSet<&str>) -> Result<Part> {
    let mut num = 0;
    for path in paths {
        let beside = path.with_file_name("dropped.jsonl");
        if beside.is_file() {
            let dropped: Vec<WeakRecord> = read_json_lines(&beside)?;
            num += dropped.iter().filter(|record| learnt.contains(record.id.as_str())).count();
        }
    }
    Ok(Part { num, of: learnt.len() })
}

/// The answers of all files.
fn read_answers(paths: &[PathBuf]) -> Result<Vec<AnswerRecord>> {
    let mut all = Vec::new();
    for path in paths {
        all.extend(read_json_lines::<AnswerRecord>(path)?);
    }
    Ok(all)
}
