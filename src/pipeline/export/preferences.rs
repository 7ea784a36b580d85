//! From labels of claims that one answer is better than another to pairs of a better and a worse one.

use std::collections::HashMap;

use serde_json::Value;

use super::rows::{Learnt, Row, without_blanks};
use crate::data::Task;
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::run_labels::{Labelled, RunLabels};

/// The pairs that labels prefer one of.
#[derive(Debug)]
pub(super) struct Preferences {
    pub(super) rows: Vec<Row>,
    /// Pairs that several claims agree about.
    pub(super) num_joined: usize,
    /// Pairs that are left out because claims about them contradict each other.
    pub(super) num_contradictory: usize,
    /// Claims that are left out because their two answers are the same.
    pub(super) num_equal: usize,
}

/// What claims say of a pair.
struct Pair<'a> {
    claims: Vec<&'a Labelled>,
    /// Prompt, better and worse answer by the first claim.
    texts: [&'a str; 2],
    prompt: String,
    /// Whether the better one is the first of the pair in its one order; `None`: claims disagree.
    is_first_better: Option<bool>,
}

/// Joins the claims about each pair, in the order in which the pairs come in the data.
///
/// # Errors
/// [`ErrorKind::Usage`] if the task is no preference.
pub(super) fn preferences(labels: &RunLabels) -> Result<Preferences> {
    let Some(preference) = &labels.task.preference else {
        return Err(no_preference(&labels.task));
    };
    let mut places: HashMap<(String, [String; 2]), usize> = HashMap::new();
    let mut pairs: Vec<Pair<'_>> = Vec::new();
    let mut num_equal = 0;
    for labelled in &labels.labels {
        let example = labels.example(labelled);
        let answers = preference.answers(example)?;
        let Some((in_order, is_turned)) = answers.in_order() else {
            num_equal += 1;
            continue;
        };
        let label = &labelled.label;
        let index = labels.task.label_index(&Value::from(label.as_str())).ok_or_else(|| {
            let message = format!("example `{}` has no label `{label}`", example.id);
            Error::new(ErrorKind::Data, message)
        })?;
        let claim_holds = index == labels.task.positive;
        let is_first_better = claim_holds != is_turned;
        let prompt = preference.prompt(example)?;
        let place = *places.entry((prompt.clone(), in_order)).or_insert_with(|| {
            let texts = match claim_holds {
                true => [answers.first, answers.second],
                false => [answers.second, answers.first],
            };
            let is_first_better = Some(is_first_better);
            pairs.push(Pair { claims: Vec::new(), texts, prompt, is_first_better });
            pairs.len() - 1
        });
        let pair = &mut pairs[place];
        pair.claims.push(labelled);
        if pair.is_first_better != Some(is_first_better) {
            pair.is_first_better = None;
        }
    }
    let num = pairs.len();
    pairs.retain(|pair| pair.is_first_better.is_some());
    let has_margins =
        pairs.iter().flat_map(|pair| &pair.claims).all(|claim| claim.margin.is_some());
    let rows: Vec<Row> = pairs.iter().map(|pair| row(labels, pair, has_margins)).collect();
    Ok(Preferences {
        rows,
        num_joined: pairs.iter().filter(|pair| pair.claims.len() > 1).count(),
        num_contradictory: num - pairs.len(),
        num_equal,
    })
}

/// Margin and weight of a pair are the means of its claims': two orders of one question are two looks
/// at one thing, not two things.
fn row(labels: &RunLabels, pair: &Pair<'_>, has_margin: bool) -> Row {
    let mean = |of: &dyn Fn(&Labelled) -> f64| -> f64 {
        pair.claims.iter().map(|claim| of(claim)).sum::<f64>() / pair.claims.len() as f64
    };
    let (prompt, blanks) = without_blanks(&pair.prompt);
    let answer = |text: &str| [blanks, text].concat();
    let ids: Vec<String> =
        pair.claims.iter().map(|claim| labels.example(claim).id.clone()).collect();
    Row {
        id: ids[0].clone(),
        prompt: prompt.to_owned(),
        learnt: Learnt::Preference {
            chosen: answer(pair.texts[0]),
            rejected: answer(pair.texts[1]),
            margin: has_margin.then(|| mean(&|claim| claim.margin.unwrap_or_default())),
            claims: ids,
        },
        weight: mean(&|claim| claim.weight),
        // A pair is never on both sides.
        validation: pair.claims.iter().any(|claim| claim.validation),
    }
}

fn no_preference(task: &Task) -> Error {
    let known: Vec<&str> = Task::builtin()
        .map(|(name, _)| name)
        .filter(|name| Task::load(name).is_ok_and(|task| task.preference.is_some()))
        .collect();
    Error::new(
        ErrorKind::Usage,
        format!("task `{}` does not ask which of two answers is the better one", task.name),
    )
    .hint(format!(
        "built-in tasks that do are {}; another says so under [preference] of its task file; `--format trl` writes labels",
        known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ")
    ))
}
