//! The evaluation of weak labels, put together of its parts.

use std::collections::{HashMap, HashSet};

use rand::Rng;

use super::measure::{self, Evaluated};
use super::{Binning, RowAccuracies, WeakEvaluation};
use crate::data::{WeakRecord, WeightRecord};
use crate::error::{Error, ErrorKind, Result};

/// Returns how right the weak labels are against `gold`, the answers by id, before and after the
/// filter.
///
/// `labels` are the task's, empty for open answers. The interval of `gain` is Newcombe's
/// for the difference of kept and dropped, joined with Wilson's for the share dropped; those of `auroc` and
/// `rows` are Wilson's for the variance over resampled questions with their rows, where what the filter
/// kept is held fixed.
///
/// # Errors
/// When no question has gold, an id occurs twice, a row belongs to no question, an answer is not one
/// of `labels`, or a number is not finite.
///
/// # Cost
/// 2000 resamples of the questions.
///
/// # Source
/// arXiv 2406.19032 for accuracy by entropy and the reliability map.
pub fn evaluate_weak(
    kept: &[WeakRecord],
    dropped: &[WeakRecord],
    rows: &[WeightRecord],
    gold: &HashMap<String, String>,
    labels: &[String],
    binning: Binning,
    rng: &mut impl Rng,
) -> Result<WeakEvaluation> {
    check(kept, dropped, rows, gold, labels)?;
    let num_questions = kept.len() + dropped.len();
    let questions = kept.iter().map(|one| (one, true));
    let mut evaluated: Vec<Evaluated> = questions
        .chain(dropped.iter().map(|one| (one, false)))
        .filter_map(|(one, kept)| Some(Evaluated::new(one, kept, gold.get(&one.id)?)))
        .collect();
    if evaluated.is_empty() {
        return Err(Error::new(
            ErrorKind::Data,
            format!("none of the {num_questions} questions has a gold answer"),
        )
        .hint("check that the gold file and the run name the questions by the same ids"));
    }
    evaluated.sort_by(|a, b| a.question.entropy_nats.total_cmp(&b.question.entropy_nats));
    let places: HashMap<&str, usize> =
        evaluated.iter().enumerate().map(|(i, one)| (one.question.id.as_str(), i)).collect();
    for row in rows {
        if let Some(&place) = places.get(row.id.as_str()) {
            evaluated[place].add(row);
        }
    }
    let ties = measure::ties(&evaluated);
    let [gain, auroc, rows_of @ ..] = measure::estimates(&evaluated, &ties, rng);
    let with_gold = |row: &&WeightRecord| places.contains_key(row.id.as_str());
    let [of_all, of_kept, of_dropped, weighted, kept_weighted] = rows_of;
    Ok(WeakEvaluation {
        task: String::new(),
        answers: String::new(),
        gold_column: String::new(),
        labels: labels.to_vec(),
        num_questions,
        num_kept: kept.len(),
        retained_share: kept.len() as f64 / num_questions as f64,
        num_with_gold: evaluated.len(),
        before: measure::accuracy(evaluated.iter()),
        kept: measure::accuracy(evaluated.iter().filter(|one| one.kept)),
        dropped: measure::accuracy(evaluated.iter().filter(|one| !one.kept)),
        gain,
        auroc,
        bins: measure::bins(&evaluated, &ties, binning),
        rows: RowAccuracies {
            num_rows: evaluated.iter().map(|one| one.num_rows).sum(),
            num_unparsed: rows.iter().filter(with_gold).filter(|row| row.answer.is_none()).count(),
            all: of_all,
            kept: of_kept,
            dropped: of_dropped,
            weighted,
            kept_weighted,
        },
        coverage: labels.iter().map(|label| measure::coverage(label, &evaluated)).collect(),
        reliability_map: (!labels.is_empty()).then(|| measure::reliability_map(labels, rows, gold)),
        calibration: measure::calibration(&evaluated),
        other_columns: Vec::new(),
    })
}

fn check(
    kept: &[WeakRecord],
    dropped: &[WeakRecord],
    rows: &[WeightRecord],
    gold: &HashMap<String, String>,
    labels: &[String],
) -> Result<()> {
    let data = |message: String| Error::new(ErrorKind::Data, message);
    let not_finite = |what: &str, id: &str, value: f64| {
        Error::new(ErrorKind::Numeric, format!("the {what} of `{id}` is {value}"))
    };
    let known = |what: &str, id: &str, answer: Option<&String>| match answer {
        Some(answer) if !labels.is_empty() && !labels.contains(answer) => Err(data(format!(
            "the {what} of `{id}` is `{answer}`, expected one of `{}`",
            labels.join("`, `")
        ))),
        _ => Ok(()),
    };
    let mut seen = HashSet::with_capacity(kept.len() + dropped.len());
    for WeakRecord { id, label, entropy_nats, .. } in kept.iter().chain(dropped) {
        if !seen.insert(id.as_str()) {
            return Err(data(format!("question `{id}` occurs twice"))
                .hint("every question is either kept or dropped; make the run again"));
        }
        if !entropy_nats.is_finite() {
            return Err(not_finite("entropy", id, *entropy_nats));
        }
        known("weak label", id, label.as_ref())?;
        known("gold label", id, gold.get(id))?;
    }
    for WeightRecord { id, answer, weight, .. } in rows {
        if !seen.contains(id.as_str()) {
            return Err(data(format!(
                "an answer is to question `{id}`, which is neither kept nor dropped"
            ))
            .hint("the files are of different runs; make the run again"));
        }
        if !weight.is_finite() {
            return Err(not_finite("weight", id, *weight));
        }
        known("answer", id, answer.as_ref())?;
    }
    Ok(())
}
