//! From the answers of many runs to one table: the items that every run answered and gold knows.

use std::collections::{HashMap, HashSet};

use ndarray::Array2;

use super::{AnsweredRun, ComparedMethod};
use crate::error::{Error, ErrorKind, Result};

/// What the runs of one method say of the joined items.
#[derive(Debug)]
pub(super) struct Cells<'a> {
    /// Runs x items: the label's place among the labels; none for an answer that could not be read. For
    /// open answers 0 is right and 1 wrong.
    pub given: Array2<Option<usize>>,
    /// Runs x items.
    pub right: Array2<bool>,
    /// The log-probabilities of each item by run; none where a run has not all of them.
    pub logprobs: Vec<Option<Vec<&'a [f64]>>>,
}

/// All runs of all methods on the items of one gold column.
#[derive(Debug)]
pub(super) struct Joined<'a> {
    /// The gold label of each item, rising; 0 for open answers.
    pub gold: Vec<usize>,
    pub methods: Vec<Cells<'a>>,
    pub num_not_in_every_run: usize,
    pub num_without_gold: usize,
}

/// Returns the table of the items that every run answered and `gold` knows.
///
/// Items stand in the order of gold and id, so that a method's numbers depend neither on the order of
/// the files' lines nor on the methods it is compared with.
pub(super) fn join<'a>(
    methods: &'a [ComparedMethod],
    labels: &[String],
    gold: &HashMap<String, String>,
) -> Result<Joined<'a>> {
    let runs: Vec<&AnsweredRun> = methods.iter().flat_map(|method| &method.runs).collect();
    let mut places: Vec<HashMap<&str, usize>> = Vec::with_capacity(runs.len());
    let mut all: HashSet<&str> = HashSet::new();
    for run in &runs {
        let mut by_id = HashMap::with_capacity(run.answers.len());
        for (place, answer) in run.answers.iter().enumerate() {
            if by_id.insert(answer.id.as_str(), place).is_some() {
                let message = format!("id `{}` is answered twice", answer.id);
                return Err(Error::new(ErrorKind::Data, message)
                    .at(&run.path)
                    .hint("every item may occur once; remove the second line"));
            }
            check(run, place, labels)?;
            all.insert(answer.id.as_str());
        }
        places.push(by_id);
    }
    let Some(first) = runs.first() else {
        return Err(Error::new(ErrorKind::Usage, "no run to compare"));
    };
    let common: Vec<&str> = first
        .answers
        .iter()
        .map(|answer| answer.id.as_str())
        .filter(|id| places.iter().all(|by_id| by_id.contains_key(id)))
        .collect();
    if common.is_empty() {
        return Err(nothing_common(&runs, &places));
    }
    let mut items: Vec<(usize, &str)> = Vec::with_capacity(common.len());
    for id in &common {
        let Some(answer) = gold.get(*id) else { continue };
        items.push((gold_place(answer, id, labels)?, id));
    }
    if items.is_empty() {
        let message =
            format!("none of the {} items that every run answered has gold", common.len());
        return Err(Error::new(ErrorKind::Data, message)
            .hint("check that the gold file and the runs name the items by the same ids"));
    }
    let answer_of = |run: usize, id: &str| &runs[run].answers[places[run][id]];
    let given = |run: usize, id: &str| {
        let answer = answer_of(run, id).answer.as_ref()?;
        match labels {
            [] => Some(usize::from(Some(answer) != gold.get(id))),
            labels => labels.iter().position(|label| label == answer),
        }
    };
    items.sort_unstable();
    let logprobs = |run: usize| {
        let of_items = items.iter().map(|(_, id)| answer_of(run, id).logprobs.as_deref());
        if labels.is_empty() { None } else { of_items.collect() }
    };
    let mut next = 0;
    let mut table = Vec::with_capacity(methods.len());
    for method in methods {
        let (first, num_runs) = (next, method.runs.len());
        next += num_runs;
        let shape = (num_runs, items.len());
        let given = Array2::from_shape_fn(shape, |(run, item)| given(first + run, items[item].1));
        let right = Array2::from_shape_fn(shape, |at| given[at] == Some(items[at.1].0));
        table.push(Cells { given, right, logprobs: (first..next).map(logprobs).collect() });
    }
    Ok(Joined {
        gold: items.iter().map(|(gold, _)| *gold).collect(),
        methods: table,
        num_not_in_every_run: all.len() - common.len(),
        num_without_gold: common.len() - items.len(),
    })
}

fn check(run: &AnsweredRun, place: usize, labels: &[String]) -> Result<()> {
    let answer = &run.answers[place];
    let id = &answer.id;
    let fault = |kind, message: String| Error::new(kind, message).at(&run.path);
    if let Some(name) = answer.answer.as_ref().filter(|_| !labels.is_empty())
        && !labels.contains(name)
    {
        let message = format!("label `{name}` of `{id}` is not one of `{}`", labels.join("`, `"));
        return Err(fault(ErrorKind::Data, message));
    }
    let Some(logprobs) = &answer.logprobs else { return Ok(()) };
    if logprobs.len() != labels.len() {
        let message =
            format!("`{id}` has {} log-probabilities for {} labels", logprobs.len(), labels.len());
        return Err(fault(ErrorKind::Data, message));
    }
    if !logprobs.iter().all(|logprob| logprob.is_finite()) {
        let message = format!("a log-probability of `{id}` is not a finite number");
        return Err(fault(ErrorKind::Numeric, message));
    }
    Ok(())
}

fn gold_place(answer: &str, id: &str, labels: &[String]) -> Result<usize> {
    if labels.is_empty() {
        return Ok(0);
    }
    labels.iter().position(|label| label == answer).ok_or_else(|| {
        let message =
            format!("gold label `{answer}` of `{id}` is not one of `{}`", labels.join("`, `"));
        Error::new(ErrorKind::Data, message)
    })
}

/// Says which run shares nothing with the first.
fn nothing_common(runs: &[&AnsweredRun], places: &[HashMap<&str, usize>]) -> Error {
    let first = &places[0];
    let stranger = places.iter().position(|by_id| !by_id.keys().any(|id| first.contains_key(id)));
    let message = match stranger {
        Some(other) => format!("`{}` and `{}` share no id", runs[0].path, runs[other].path),
        None => "no item was answered by every run".to_owned(),
    };
    Error::new(ErrorKind::Data, message)
        .hint("methods are compared on the same items, joined by id: label the same test file")
}
