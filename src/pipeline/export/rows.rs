//! What another trainer learns: texts with their answers, or the better and the worse of two.

use std::path::Path;

use rand::Rng;
use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::lm::Tokenizer;
use crate::pipeline::run_labels::{Labelled, RunLabels};
use crate::prompt::PromptFormat;
use crate::run::SeedStream;

/// What is learnt of an example, or of several claims about one pair.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) prompt: String,
    pub(super) learnt: Learnt,
    pub(super) weight: f64,
    /// Whether it is set aside for validation.
    pub(super) validation: bool,
}

/// What stands behind a prompt.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Learnt {
    Completion(String),
    Preference {
        chosen: String,
        rejected: String,
        /// How much more likely the labels are than their opposites, in nats.
        margin: Option<f64>,
        /// The ids of the claims that say so.
        claims: Vec<String>,
    },
}

/// Splits off blanks at a prompt's end, for the answer: many trainers tokenise the two apart, and a
/// blank is the word's, as where the label was scored.
pub(super) fn without_blanks(prompt: &str) -> (&str, &str) {
    let bare = prompt.trim_end_matches(' ');
    (bare, &prompt[bare.len()..])
}

/// The texts of the labels.
pub(super) fn completions(labels: &RunLabels) -> Result<Vec<Row>> {
    let format = PromptFormat::new(&labels.task)?;
    labels.labels.iter().map(|labelled| completion(labels, labelled, &format)).collect()
}

fn completion(labels: &RunLabels, labelled: &Labelled, format: &PromptFormat<'_>) -> Result<Row> {
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
    let (prompt, blanks) = without_blanks(&whole);
    Ok(Row {
        id: example.id.clone(),
        prompt: prompt.to_owned(),
        learnt: Learnt::Completion([blanks, &word].concat()),
        weight: labelled.weight,
        validation: labelled.validation,
    })
}

/// How many rows have other tokens where prompt and answer are cut one by one than where they are cut as
/// one text; `None` where the model is no folder with a tokenizer.
pub(super) fn num_cut_otherwise(rows: &[Row], base_model: &str) -> Result<Option<usize>> {
    let Ok(tokenizer) = Tokenizer::open(Path::new(base_model)) else { return Ok(None) };
    let mut num = 0;
    for row in rows {
        let Learnt::Completion(completion) = &row.learnt else { continue };
        let ids = |text: &str| tokenizer.encode(text).map(|tokens| tokens.ids);
        let apart = [ids(&row.prompt)?, ids(completion)?].concat();
        num += usize::from(apart != ids(&[row.prompt.as_str(), completion].concat())?);
    }
    Ok(Some(num))
}

/// How often each row stands in a set of as many rows: its weight by the mean weight, the fraction
/// drawn so that the whole set has its size (systematic sampling, which has the least noise).
pub(super) fn draw(rows: &[&Row], seed: u64) -> Result<Vec<usize>> {
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
                learnt: Learnt::Completion(String::new()),
                weight,
                validation: false,
            })
            .collect();
        let rows: Vec<&Row> = rows.iter().collect();
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
