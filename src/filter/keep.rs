//! From the answers to what is kept, and with what weight: no model, no gold.

use std::collections::{BTreeMap, HashMap, HashSet};

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::rule::{Candidate, Rule, sample, select};
use super::uncertainty::{Split, Votes, mean_distribution, split};
use crate::data::{AnswerRecord, Example, WeakRecord, WeightRecord, split_ids};
use crate::error::{Error, ErrorKind, Result};
use crate::run::SeedStream;

/// What the weight of an answer is.
#[derive(Clone, Debug, PartialEq)]
pub enum WeightBy {
    /// Its share of the variants, sharpened and normalised over the answers that occur.
    Reliability {
        /// The temperature, above 0.
        temperature: f64,
    },
    /// By how much its probability (or share) is above that of the best other answer; 0 if below.
    Margin,
    /// Its probability in the mean distribution, or its share where answers were written.
    SoftAgreement,
    /// The probability that a search's margin stands for: the logistic of it for the label of the
    /// search, the rest for any other answer. By id: label and margin in nats.
    IcmMargin(HashMap<String, (String, f64)>),
}

/// What is made of the answers.
#[derive(Clone, Debug, PartialEq)]
pub struct KeepSettings {
    /// Which questions are kept.
    pub rule: Rule,
    /// What an answer weighs.
    pub weight_by: WeightBy,
    /// Whether rows are drawn, with replacement, as many as there are questions.
    pub sampling: bool,
    /// Share of the kept questions that is set aside for validation.
    pub validation_fraction: f64,
}

/// One line of `sample.jsonl`: a row that was drawn of the kept ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleRecord {
    /// The question's id.
    pub id: String,
    /// The variant's zero-based place.
    pub variant: usize,
    /// Its answer.
    pub answer: Option<String>,
    /// Weight of the example in training.
    pub weight: f64,
}

/// What became of the questions.
#[derive(Clone, Debug)]
pub struct Filtered {
    /// The kept ones, in their order.
    pub kept: Vec<WeakRecord>,
    /// The others, in their order.
    pub dropped: Vec<WeakRecord>,
    /// A weight for every answer, in the order of the answers.
    pub weights: Vec<WeightRecord>,
    /// Rows drawn of the kept questions' answers; empty unless asked for.
    pub sample: Vec<SampleRecord>,
    /// The highest entropy that could be kept, in nats.
    pub threshold_nats: Option<f64>,
    /// Answers that could not be read.
    pub num_unparsed: usize,
}

/// Returns what becomes of questions with these answers, a list for each question.
///
/// `examples` are those of the questions where they are known, for the texts of options and for what
/// belongs together in a split.
///
/// # Errors
/// [`ErrorKind::Data`] if a question has no answer, answers of both forms, or is missing in the
/// margins.
pub fn keep(
    answers: &[Vec<AnswerRecord>],
    examples: Option<&[Example]>,
    settings: &KeepSettings,
    streams: &SeedStream,
) -> Result<Filtered> {
    let by_id: HashMap<&str, &Example> =
        examples.unwrap_or_default().iter().map(|e| (e.id.as_str(), e)).collect();
    let mut records = Vec::with_capacity(answers.len());
    let mut bounds = Vec::with_capacity(answers.len());
    let mut weights = Vec::new();
    for rows in answers {
        let question = Question::of(rows)?;
        let record = question.record(by_id.get(question.id).copied(), &settings.weight_by)?;
        for row in rows {
            weights.push(WeightRecord {
                id: row.id.clone(),
                variant: row.variant,
                answer: row.answer.clone(),
                weight: question.weight(row.answer.as_deref(), &settings.weight_by)?,
            });
        }
        bounds.push(question.bounds(record.entropy_nats));
        records.push(record);
    }
    let candidates: Vec<Candidate<'_>> = records
        .iter()
        .zip(&bounds)
        .map(|(record, &(lowest_nats, highest_nats))| Candidate {
            id: &record.id,
            lowest_nats,
            highest_nats,
            has_label: record.label.is_some(),
        })
        .collect();
    let selection = select(settings.rule, &candidates, streams);
    let limit = selection.threshold_nats;
    let highest: Vec<f64> = bounds.iter().map(|bounds| bounds.1).collect();
    let num_unparsed = records.iter().map(|record| record.num_unparsed).sum();
    let (mut kept, mut dropped) = (Vec::new(), Vec::new());
    for ((mut record, is_kept), highest) in records.into_iter().zip(&selection.kept).zip(highest) {
        record.reason = reason(&record, *is_kept, highest, limit, settings.rule);
        if *is_kept { kept.push(record) } else { dropped.push(record) }
    }
    set_aside(&mut kept, &by_id, settings.validation_fraction, streams);
    let sample = match settings.sampling {
        true => draw(&kept, &weights, answers.len(), streams),
        false => Vec::new(),
    };
    Ok(Filtered { kept, dropped, weights, sample, threshold_nats: limit, num_unparsed })
}

fn reason(
    record: &WeakRecord,
    is_kept: bool,
    highest: f64,
    limit: Option<f64>,
    rule: Rule,
) -> String {
    if record.label.is_none() {
        return "no answer could be read".to_owned();
    }
    let unread = match record.num_unparsed {
        0 => String::new(),
        num => format!(" ({num} answers could not be read)"),
    };
    let sign = if is_kept { "<=" } else { ">" };
    match (rule, limit) {
        (Rule::KeepFraction(_), _) if is_kept => {
            format!("entropy {highest:.3}{unread} is among the lowest")
        }
        (Rule::KeepFraction(_), _) => {
            format!("entropy {highest:.3}{unread} is not among the lowest")
        }
        (_, Some(limit)) => format!("entropy {highest:.3}{unread} {sign} {limit:.3}"),
        (_, None) => format!("entropy {highest:.3}{unread}"),
    }
}

/// Sets whole questions aside, with all that belongs to them.
fn set_aside(
    kept: &mut [WeakRecord],
    by_id: &HashMap<&str, &Example>,
    fraction: f64,
    streams: &SeedStream,
) {
    if fraction <= 0.0 {
        return;
    }
    let group = |id: &str| by_id.get(id).and_then(|example| example.group.clone());
    let ids: Vec<(String, Option<String>)> =
        kept.iter().map(|record| (record.id.clone(), group(&record.id))).collect();
    let is_validation = split_ids(&ids, fraction, streams);
    for (record, aside) in kept.iter_mut().zip(is_validation) {
        record.split = Some(if aside { "validation" } else { "train" }.to_owned());
    }
}

/// Draws rows of the kept questions, those set aside for validation and unread answers left out.
fn draw(
    kept: &[WeakRecord],
    weights: &[WeightRecord],
    num_questions: usize,
    streams: &SeedStream,
) -> Vec<SampleRecord> {
    let ids: HashSet<&str> = kept
        .iter()
        .filter(|record| record.split.as_deref() != Some("validation"))
        .map(|record| record.id.as_str())
        .collect();
    let rows: Vec<&WeightRecord> = weights
        .iter()
        .filter(|row| row.answer.is_some() && ids.contains(row.id.as_str()))
        .collect();
    sample(rows.len(), num_questions, streams)
        .into_iter()
        .map(|place| SampleRecord {
            id: rows[place].id.clone(),
            variant: rows[place].variant,
            answer: rows[place].answer.clone(),
            weight: rows[place].weight,
        })
        .collect()
}

/// The answers to one question.
struct Question<'a> {
    id: &'a str,
    votes: Votes,
    /// Mean probability of each label where distributions were given.
    mean: Option<Vec<(String, f64)>>,
    entropy: Split,
}

impl<'a> Question<'a> {
    fn of(rows: &'a [AnswerRecord]) -> Result<Self> {
        let Some(first) = rows.first() else {
            return Err(Error::new(ErrorKind::Data, "a question without an answer"));
        };
        let fault = |message: &str| {
            Error::new(ErrorKind::Data, format!("question `{}`: {message}", first.id))
        };
        let votes = Votes::of(rows.iter().map(|row| row.answer.as_deref()));
        let given: Vec<&Vec<(String, f64)>> =
            rows.iter().filter_map(|row| row.distribution.as_ref()).collect();
        if given.is_empty() {
            // A written answer is sure of itself.
            let total = votes.entropy_nats();
            let entropy = Split { total, aleatoric: 0.0, epistemic: total };
            return Ok(Self { id: &first.id, votes, mean: None, entropy });
        }
        let names: Vec<&String> = given[0].iter().map(|(name, _)| name).collect();
        let fits = |row: &&Vec<(String, f64)>| {
            row.iter().map(|(name, _)| name).eq(names.iter().copied())
                && row.iter().all(|(_, p)| p.is_finite() && *p >= 0.0)
        };
        if given.len() != rows.len() || !given.iter().all(fits) {
            return Err(fault("its distributions are not of the same labels, or not all there"));
        }
        let shape = (given.len(), names.len());
        let probabilities = Array2::from_shape_fn(shape, |(row, label)| given[row][label].1);
        let mean = mean_distribution(probabilities.view());
        let mean = names.into_iter().cloned().zip(mean).collect();
        let entropy = split(probabilities.view());
        Ok(Self { id: &first.id, votes, mean: Some(mean), entropy })
    }

    /// The weak label: the most likely, or the most frequent answer.
    fn label(&self) -> Option<&str> {
        match &self.mean {
            None => self.votes.winner(),
            Some(mean) => {
                let most = mean.iter().map(|(_, p)| *p).fold(f64::NEG_INFINITY, f64::max);
                mean.iter().find(|(_, p)| *p == most).map(|(name, _)| name.as_str())
            }
        }
    }

    /// Lowest and highest entropy that unread answers leave open.
    fn bounds(&self, entropy_nats: f64) -> (f64, f64) {
        match &self.mean {
            Some(_) => (entropy_nats, entropy_nats),
            None => (self.votes.lowest_entropy_nats(), self.votes.highest_entropy_nats()),
        }
    }

    fn record(&self, example: Option<&Example>, by: &WeightBy) -> Result<WeakRecord> {
        let label = self.label().map(str::to_owned);
        let weight = match &label {
            Some(label) => self.weight(Some(label), by)?,
            None => 0.0,
        };
        let text = example.zip(label.as_deref()).and_then(|(example, label)| {
            let place = example.options.iter().enumerate().position(|(i, _)| {
                label.len() == 1 && label.starts_with(crate::data::option_letter(i))
            })?;
            Some(example.options[place].clone())
        });
        Ok(WeakRecord {
            id: self.id.to_owned(),
            agreement: label.as_deref().map_or(0.0, |label| self.votes.share(Some(label))),
            label,
            text,
            distribution: self.mean.clone(),
            entropy_nats: self.entropy.total,
            aleatoric_nats: self.entropy.aleatoric,
            epistemic_nats: self.entropy.epistemic,
            weight,
            num_variants: self.votes.num(),
            num_unparsed: self.votes.num_unparsed(),
            reason: String::new(),
            split: None,
        })
    }

    /// The probability of an answer, or its share where answers were written.
    fn probability(&self, answer: &str) -> f64 {
        match &self.mean {
            None => self.votes.share(Some(answer)),
            Some(mean) => mean.iter().find(|(name, _)| name == answer).map_or(0.0, |(_, p)| *p),
        }
    }

    /// The best probability among all answers but this one.
    fn best_other(&self, answer: &str, all: &[&str]) -> f64 {
        let others = all.iter().filter(|name| **name != answer);
        others.map(|name| self.probability(name)).fold(0.0, f64::max)
    }

    fn weight(&self, answer: Option<&str>, by: &WeightBy) -> Result<f64> {
        // What could not be read is nothing to learn from.
        let Some(answer) = answer else { return Ok(0.0) };
        Ok(match by {
            WeightBy::Reliability { temperature } => {
                self.votes.reliability(Some(answer), *temperature)
            }
            WeightBy::SoftAgreement => self.probability(answer),
            WeightBy::Margin => {
                let names: Vec<&str> = match &self.mean {
                    Some(mean) => mean.iter().map(|(name, _)| name.as_str()).collect(),
                    None => self.votes.answers().collect(),
                };
                (self.probability(answer) - self.best_other(answer, &names)).max(0.0)
            }
            WeightBy::IcmMargin(margins) => {
                let Some((label, margin)) = margins.get(self.id) else {
                    return Err(Error::new(
                        ErrorKind::Data,
                        format!("the file of labels has no margin for question `{}`", self.id),
                    )
                    .hint("label the same data with `w2s label --method icm`, and name its labels.jsonl"));
                };
                let probability = 1.0 / (1.0 + (-margin).exp());
                if label == answer { probability } else { 1.0 - probability }
            }
        })
    }
}

/// How one kind of question fared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// What the kind is told by: a field, `length`, or `weak label`.
    pub by: String,
    /// The kind.
    pub kind: String,
    /// Questions of the kind.
    pub num: usize,
    /// How many of them were kept.
    pub num_kept: usize,
}

/// Returns how many questions of every kind were kept: by the task's fields of kinds, by the length
/// of the question in quarters, and by weak label where answers are labels (`has_labels`).
pub fn coverage(
    filtered: &Filtered,
    examples: &[Example],
    kinds: &[String],
    has_labels: bool,
) -> Vec<Coverage> {
    let by_id: HashMap<&str, &Example> = examples.iter().map(|e| (e.id.as_str(), e)).collect();
    let length = |example: &Example| -> usize {
        example.fields.values().chain(&example.options).map(|text| text.chars().count()).sum()
    };
    let mut lengths: Vec<usize> = examples.iter().map(length).collect();
    lengths.sort_unstable();
    let quarter = |example: &Example| {
        let below = lengths.partition_point(|&other| other < length(example));
        let number = (4 * below / lengths.len().max(1)).min(3);
        ["1 shortest quarter", "2 shorter quarter", "3 longer quarter", "4 longest quarter"][number]
    };
    let mut counts: BTreeMap<(usize, String, String), (usize, usize)> = BTreeMap::new();
    let both = filtered.kept.iter().map(|record| (record, true));
    for (record, kept) in both.chain(filtered.dropped.iter().map(|record| (record, false))) {
        let mut add = |rank: usize, by: &str, kind: String| {
            let count = counts.entry((rank, by.to_owned(), kind)).or_default();
            count.0 += 1;
            count.1 += usize::from(kept);
        };
        if let Some(example) = by_id.get(record.id.as_str()) {
            for (rank, field) in kinds.iter().enumerate() {
                let kind = example.fields.get(field).cloned().unwrap_or_default();
                add(rank, field, kind);
            }
            add(kinds.len(), "length", quarter(example).to_owned());
        }
        if has_labels {
            let label = record.label.clone().unwrap_or_else(|| "none".to_owned());
            add(kinds.len() + 1, "weak label", label);
        }
    }
    counts
        .into_iter()
        .map(|((_, by, kind), (num, num_kept))| Coverage { by, kind, num, num_kept })
        .collect()
}
