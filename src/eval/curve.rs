//! The search's course: score and accuracy after every iteration, replayed from `trace.jsonl`.
//!
//! The search writes the trace without knowing gold; here the two meet. Only the trace's own
//! numbers are used, nothing is scored again. Each batch of a search is a curve of its own, for its
//! score speaks of its own examples only.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::trace::{Event, broken, for_each_event, index_of};
use crate::error::{Error, Result};

/// The labelled set of one batch after one iteration; a line of `curve.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// The batch, counted from 0.
    pub batch: usize,
    /// The iteration inside the batch; 0 is its start.
    pub iteration: usize,
    /// The iterations of all batches up to here.
    pub step: usize,
    /// The score U of the batch's labelled set, in the trace's unit.
    pub score: f64,
    /// The share of right labels among the labelled examples that have gold; none without such.
    pub accuracy: Option<f64>,
    /// How many examples of the batch hold a label.
    pub num_labelled: usize,
    /// Each label's share of the labels held, by label index.
    #[serde(default)]
    pub share: Vec<f64>,
}

/// Returns the curve of the trace in `path`; see [`curve_from_reader`].
///
/// # Errors
/// When the file cannot be read or a line of it is broken.
pub fn curve_from_trace(
    path: &Path,
    gold: &dyn Fn(&str) -> Option<usize>,
    label_index: &dyn Fn(&str) -> Option<usize>,
) -> Result<Vec<CurvePoint>> {
    let file = File::open(path).map_err(|source| Error::io("open the trace", path, &source))?;
    curve_from_reader(BufReader::new(file), path, gold, label_index)
}

/// Returns one point for the start of every batch and one for every iteration after it.
///
/// `gold` maps an example's id to the index of its gold label, `label_index` a label word to its
/// index; `path` is named in errors. A renewed demonstration order changes the score of the
/// iteration it follows. `share` is as long as the highest label index the trace names asks for,
/// and at least two. A last line that was cut short, as a killed run leaves it, is left out.
///
/// # Errors
/// When the trace cannot be read, a line is not an event, events are out of order, a change does
/// not fit the labels held, or a label is not the task's.
pub fn curve_from_reader(
    trace: impl BufRead,
    path: &Path,
    gold: &dyn Fn(&str) -> Option<usize>,
    label_index: &dyn Fn(&str) -> Option<usize>,
) -> Result<Vec<CurvePoint>> {
    let mut replay = Replay::new(gold, label_index);
    let mut points: Vec<CurvePoint> = Vec::new();
    for_each_event(trace, path, |event| replay.apply(event, &mut points))?;
    let width = points.iter().map(|point| point.share.len()).max().unwrap_or(0).max(2);
    for point in &mut points {
        point.share.resize(width, 0.0);
    }
    Ok(points)
}

/// The labelled set of the batch under way.
struct Replay<'a> {
    gold: &'a dyn Fn(&str) -> Option<usize>,
    label_index: &'a dyn Fn(&str) -> Option<usize>,
    started: bool,
    batch: usize,
    iteration: usize,
    /// The iterations of the batches before this one.
    steps_before: usize,
    score: f64,
    held: HashMap<String, usize>,
    counts: Vec<usize>,
    num_with_gold: usize,
    num_correct: usize,
}

impl<'a> Replay<'a> {
    fn new(
        gold: &'a dyn Fn(&str) -> Option<usize>,
        label_index: &'a dyn Fn(&str) -> Option<usize>,
    ) -> Self {
        Self {
            gold,
            label_index,
            started: false,
            batch: 0,
            iteration: 0,
            steps_before: 0,
            score: 0.0,
            held: HashMap::new(),
            counts: Vec::new(),
            num_with_gold: 0,
            num_correct: 0,
        }
    }

    fn apply(&mut self, event: &Event, points: &mut Vec<CurvePoint>) -> Result<()> {
        let (batch, iteration) = event.clock();
        if let Event::Start { labels, score, .. } = event {
            self.start(batch, iteration, labels, *score)?;
        } else {
            if !self.started || batch != self.batch {
                return Err(broken(format!("batch {batch} goes on without having started")));
            }
            if iteration < self.iteration {
                return Err(broken(format!(
                    "iteration {iteration} comes after iteration {}",
                    self.iteration
                )));
            }
            self.iteration = iteration;
        }
        match event {
            Event::Proposal { accepted: true, changes, proposed_score, .. } => {
                self.score = proposed_score.ok_or_else(|| {
                    broken("the proposal was accepted and has no `proposed_score`".to_owned())
                })?;
                for (id, from, to) in changes {
                    self.change(id, from.as_deref(), to.as_deref())?;
                }
            }
            Event::Renew { score, .. } | Event::Alpha { score, .. } => self.score = *score,
            Event::Start { .. } | Event::Proposal { .. } | Event::End { .. } => {}
        }
        let point = self.point();
        match points.last_mut() {
            Some(last) if (last.batch, last.iteration) == (batch, iteration) => *last = point,
            _ => points.push(point),
        }
        Ok(())
    }

    fn start(
        &mut self,
        batch: usize,
        iteration: usize,
        labels: &[(String, String)],
        score: f64,
    ) -> Result<()> {
        if self.started && batch <= self.batch {
            return Err(broken(format!("batch {batch} starts after batch {}", self.batch)));
        }
        self.steps_before += self.iteration;
        (self.started, self.batch, self.iteration, self.score) = (true, batch, iteration, score);
        self.held.clear();
        self.counts.fill(0);
        (self.num_with_gold, self.num_correct) = (0, 0);
        labels.iter().try_for_each(|(id, label)| self.change(id, None, Some(label)))
    }

    fn change(&mut self, id: &str, from: Option<&str>, to: Option<&str>) -> Result<()> {
        let from = from.map(|word| self.index(word)).transpose()?;
        let to = to.map(|word| self.index(word)).transpose()?;
        if self.held.get(id).copied() != from {
            return Err(broken(format!(
                "the change of `{id}` does not start at the label it holds"
            )));
        }
        if let Some(label) = from {
            self.held.remove(id);
            self.count(id, label, -1);
        }
        if let Some(label) = to {
            self.held.insert(id.to_owned(), label);
            self.count(id, label, 1);
        }
        Ok(())
    }

    fn count(&mut self, id: &str, label: usize, by: isize) {
        self.counts[label] = self.counts[label].saturating_add_signed(by);
        if let Some(gold) = (self.gold)(id) {
            self.num_with_gold = self.num_with_gold.saturating_add_signed(by);
            if gold == label {
                self.num_correct = self.num_correct.saturating_add_signed(by);
            }
        }
    }

    fn index(&mut self, word: &str) -> Result<usize> {
        let index = index_of(word, self.label_index)?;
        if index >= self.counts.len() {
            self.counts.resize(index + 1, 0);
        }
        Ok(index)
    }

    fn point(&self) -> CurvePoint {
        let total = self.held.len().max(1) as f64;
        CurvePoint {
            batch: self.batch,
            iteration: self.iteration,
            step: self.steps_before + self.iteration,
            score: self.score,
            accuracy: (self.num_with_gold > 0)
                .then(|| self.num_correct as f64 / self.num_with_gold as f64),
            num_labelled: self.held.len(),
            share: self.counts.iter().map(|&count| count as f64 / total).collect(),
        }
    }
}
