//! What makes a found labelling doubtful: collapse, a frozen search, examples never looked at again.
//!
//! Computed from the trace and the labels alone, without gold, so that a user without gold sees it
//! too. A *sweep* is as many iterations as the batch has examples that the trace names.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::trace::{Event, broken, for_each_event, index_of};
use crate::error::{Error, Result};
use crate::stats::{entropy_of_counts, median_of_sorted};

/// The collapse alarm: label entropy below this share of ln C (for two labels, one of them has 89 %).
pub const COLLAPSE_ENTROPY_SHARE: f64 = 0.5;
/// Fewer labels than this are too few for the collapse alarm.
pub const COLLAPSE_MIN_LABELLED: usize = 8;

/// The labels held after a stretch of a search, and what happened in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// The batch, counted from 0.
    pub batch: usize,
    /// The first iteration; 0 stands for the start, which is a stretch of its own.
    pub first_iteration: usize,
    /// The last iteration.
    pub last_iteration: usize,
    /// Changes that were proposed.
    pub num_proposals: usize,
    /// Changes that were accepted.
    pub num_accepted: usize,
    /// Labels that became other labels.
    pub num_flips: usize,
    /// Examples labelled at the end.
    pub num_labelled: usize,
    /// Each label's share at the end, in the task's order.
    pub share: Vec<f64>,
    /// The entropy of the shares, in nats.
    pub entropy_nats: f64,
}

/// Proposals made at a temperature in `[low, high)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TemperatureBin {
    /// The lower end, a power of two.
    pub low: f64,
    /// The upper end, twice the lower.
    pub high: f64,
    /// Changes that were proposed.
    pub num_proposals: usize,
    /// Those accepted.
    pub num_accepted: usize,
    /// Proposals that did not raise the score.
    pub num_downhill: usize,
    /// Those of them that were accepted: what the temperature lets through.
    pub num_downhill_accepted: usize,
}

/// The alarm that nearly all examples of a batch got the same label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Collapse {
    /// The batch, counted from 0.
    pub batch: usize,
    /// The iteration from which on the entropy was low.
    pub since_iteration: usize,
    /// The iteration at which it had been low for a whole sweep, or at which the batch ended.
    pub iteration: usize,
    /// The label that most examples had then.
    pub label: String,
    /// Its share then.
    pub share: f64,
    /// The entropy of the labels then, in nats.
    pub entropy_nats: f64,
    /// Whether the batch ended with an entropy above the threshold.
    pub recovered: bool,
}

/// What the trace of a search says about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchDiagnostics {
    /// The task's labels, in the order of all shares.
    pub labels: Vec<String>,
    /// The entropy in nats below which a batch counts as collapsed.
    pub collapse_below_nats: f64,
    /// The first alarm of every batch that gave one.
    pub collapses: Vec<Collapse>,
    /// The course of the search, by sweeps.
    pub sweeps: Vec<Sweep>,
    /// Acceptance against temperature, hottest first; proposals whose temperature the trace does not
    /// tell are left out.
    pub acceptance: Vec<TemperatureBin>,
    /// Examples that the trace names.
    pub num_examples: usize,
    /// Those that held a label at some time.
    pub num_ever_labelled: usize,
    /// Those of them that were never drawn again after they got their first label.
    pub num_never_revisited: usize,
}

/// How clearly labels were given; in nats, by the log-probability of the label less that of the best
/// other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Margins {
    /// Labels counted.
    pub num_labels: usize,
    /// The mean.
    pub mean_nats: f64,
    /// The median; of an even number, the mean of the two in the middle.
    pub median_nats: f64,
    /// Labels that were given against the odds (a margin below 0).
    pub num_negative: usize,
}

/// The content of `diagnostics.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diagnostics {
    /// How clearly labels were given; none for no labels.
    pub margins: Option<Margins>,
    /// The search; none for methods that do not search.
    pub search: Option<SearchDiagnostics>,
}

/// Returns mean, median and sign of the margins; none for no margins.
pub fn margins(margins: &[f64]) -> Option<Margins> {
    let mut sorted = margins.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median_nats = median_of_sorted(&sorted)?;
    Some(Margins {
        num_labels: sorted.len(),
        mean_nats: sorted.iter().sum::<f64>() / sorted.len() as f64,
        median_nats,
        num_negative: sorted.iter().filter(|margin| **margin < 0.0).count(),
    })
}

/// Returns the diagnostics of the trace in `path`; see [`diagnose_reader`].
///
/// # Errors
/// When the file cannot be read or a line of it is broken.
pub fn diagnose_trace(path: &Path, label_names: &[String]) -> Result<SearchDiagnostics> {
    let file = File::open(path).map_err(|source| Error::io("open the trace", path, &source))?;
    diagnose_reader(BufReader::new(file), path, label_names)
}

/// Returns what a trace says about its search; `path` is named in errors.
///
/// The collapse alarm is raised when the label entropy of a batch stays below
/// [`COLLAPSE_ENTROPY_SHARE`] of ln C for a whole sweep, or is below it when the batch ends, counted
/// from [`COLLAPSE_MIN_LABELLED`] labels on (or all of a smaller batch).
///
/// # Errors
/// When the trace cannot be read, a line is not an event, or a label is not the task's.
pub fn diagnose_reader(
    trace: impl BufRead,
    path: &Path,
    label_names: &[String],
) -> Result<SearchDiagnostics> {
    // A batch's sweep is known once all of it was seen.
    let mut batches: Vec<Batch> = Vec::new();
    let index = |word: &str| label_names.iter().position(|name| name == word);
    let index = |word: &str| index_of(word, &index);
    for_each_event(trace, path, |event| {
        let (number, iteration) = event.clock();
        if let Event::Start { labels, .. } = event {
            let mut start = Vec::with_capacity(labels.len());
            for (id, word) in labels {
                start.push((id.clone(), index(word)?));
            }
            batches.push(Batch { number, start, steps: Vec::new() });
            return Ok(());
        }
        let Some(batch) = batches.last_mut().filter(|batch| batch.number == number) else {
            return Err(broken(format!("batch {number} goes on without having started")));
        };
        if let Event::Proposal {
            id,
            from,
            changes,
            score,
            proposed_score,
            temperature,
            accepted,
            ..
        } = event
        {
            let change = |(id, _, to): &super::trace::Change| {
                Ok((id.clone(), to.as_deref().map(index).transpose()?))
            };
            batch.steps.push(Step {
                iteration,
                id: id.clone(),
                was_labelled: from.is_some(),
                delta: proposed_score.zip(*score).map(|(proposed, held)| proposed - held),
                is_proposal: proposed_score.is_some(),
                temperature: *temperature,
                changes: if *accepted {
                    Some(changes.iter().map(change).collect::<Result<_>>()?)
                } else {
                    None
                },
            });
        }
        Ok(())
    })?;
    let collapse_below_nats = COLLAPSE_ENTROPY_SHARE * (label_names.len() as f64).ln();
    let mut found = SearchDiagnostics {
        labels: label_names.to_vec(),
        collapse_below_nats,
        collapses: Vec::new(),
        sweeps: Vec::new(),
        acceptance: Vec::new(),
        num_examples: 0,
        num_ever_labelled: 0,
        num_never_revisited: 0,
    };
    let mut bins: BTreeMap<i32, TemperatureBin> = BTreeMap::new();
    for batch in &batches {
        batch.diagnose(&mut found);
        batch.count_acceptance(&mut bins);
    }
    found.acceptance = bins.into_values().rev().collect();
    Ok(found)
}

/// One iteration.
struct Step {
    iteration: usize,
    id: String,
    was_labelled: bool,
    is_proposal: bool,
    delta: Option<f64>,
    temperature: Option<f64>,
    /// What an accepted proposal changed.
    changes: Option<Vec<(String, Option<usize>)>>,
}

struct Batch {
    number: usize,
    start: Vec<(String, usize)>,
    steps: Vec<Step>,
}

impl Batch {
    fn ids(&self) -> HashSet<&str> {
        let start = self.start.iter().map(|(id, _)| id.as_str());
        let drawn = self.steps.iter().map(|step| step.id.as_str());
        let changed = self.steps.iter().filter_map(|step| step.changes.as_ref()).flatten();
        start.chain(drawn).chain(changed.map(|(id, _)| id.as_str())).collect()
    }

    fn ever_labelled(&self) -> HashSet<&str> {
        let start = self.start.iter().map(|(id, _)| id.as_str());
        let changed = self.steps.iter().filter_map(|step| step.changes.as_ref()).flatten();
        start.chain(changed.filter(|(_, to)| to.is_some()).map(|(id, _)| id.as_str())).collect()
    }

    fn diagnose(&self, found: &mut SearchDiagnostics) {
        let ids = self.ids();
        let sweep = ids.len().max(1);
        let mut held = Held::new(found.labels.len());
        for (id, label) in &self.start {
            held.set(id, Some(*label));
        }
        let mut watch = Watch::new(self.number, sweep, found.collapse_below_nats);
        watch.look(0, &held, &found.labels);
        found.sweeps.push(held.sweep(self.number, 0));
        let mut revisited: HashSet<&str> = HashSet::new();
        let mut current: Option<Sweep> = None;
        for step in &self.steps {
            if step.was_labelled {
                revisited.insert(&step.id);
            }
            let mut num_flips = 0;
            for (id, label) in step.changes.iter().flatten() {
                num_flips += usize::from(held.set(id, *label));
            }
            watch.look(step.iteration, &held, &found.labels);
            let (before, now) = (current.take(), held.sweep(self.number, step.iteration));
            let (proposed, accepted) = (step.is_proposal, step.changes.is_some());
            let mut sum = Sweep {
                first_iteration: before.as_ref().map_or(now.first_iteration, |s| s.first_iteration),
                num_proposals: usize::from(proposed),
                num_accepted: usize::from(accepted),
                num_flips,
                ..now
            };
            if let Some(before) = before {
                sum.num_proposals += before.num_proposals;
                sum.num_accepted += before.num_accepted;
                sum.num_flips += before.num_flips;
            }
            if step.iteration.is_multiple_of(sweep) {
                found.sweeps.push(sum);
            } else {
                current = Some(sum);
            }
        }
        found.sweeps.extend(current);
        found.collapses.extend(watch.finish(&held, &found.labels));
        found.num_examples += ids.len();
        let labelled = self.ever_labelled();
        found.num_ever_labelled += labelled.len();
        found.num_never_revisited += labelled.difference(&revisited).count();
    }

    fn count_acceptance(&self, bins: &mut BTreeMap<i32, TemperatureBin>) {
        for step in self.steps.iter().filter(|step| step.is_proposal) {
            let Some(temperature) = step.temperature.filter(|t| t.is_normal() && *t > 0.0) else {
                continue;
            };
            let octave = temperature.log2().floor() as i32;
            let low = 2.0_f64.powi(octave);
            let bin = bins.entry(octave).or_insert(TemperatureBin {
                low,
                high: 2.0 * low,
                num_proposals: 0,
                num_accepted: 0,
                num_downhill: 0,
                num_downhill_accepted: 0,
            });
            let accepted = usize::from(step.changes.is_some());
            bin.num_proposals += 1;
            bin.num_accepted += accepted;
            if step.delta.is_some_and(|delta| delta <= 0.0) {
                bin.num_downhill += 1;
                bin.num_downhill_accepted += accepted;
            }
        }
    }
}

/// The labels held.
struct Held {
    labels: HashMap<String, usize>,
    counts: Vec<usize>,
}

impl Held {
    fn new(num_labels: usize) -> Self {
        Self { labels: HashMap::new(), counts: vec![0; num_labels] }
    }

    /// Sets or takes a label; returns whether a label became another one.
    fn set(&mut self, id: &str, label: Option<usize>) -> bool {
        let before = match label {
            Some(label) => self.labels.insert(id.to_owned(), label),
            None => self.labels.remove(id),
        };
        if let Some(before) = before {
            self.counts[before] -= 1;
        }
        if let Some(label) = label {
            self.counts[label] += 1;
        }
        before.is_some() && label.is_some() && before != label
    }

    /// The labels held as the stretch that this one iteration is.
    fn sweep(&self, batch: usize, iteration: usize) -> Sweep {
        let total = self.labels.len().max(1) as f64;
        Sweep {
            batch,
            first_iteration: iteration,
            last_iteration: iteration,
            num_proposals: 0,
            num_accepted: 0,
            num_flips: 0,
            num_labelled: self.labels.len(),
            share: self.counts.iter().map(|&count| count as f64 / total).collect(),
            entropy_nats: entropy_of_counts(&self.counts),
        }
    }
}

/// Waits for the labels of a batch to collapse.
struct Watch {
    batch: usize,
    sweep: usize,
    threshold: f64,
    low_since: Option<usize>,
    last: usize,
    alarm: Option<Collapse>,
}

impl Watch {
    fn new(batch: usize, sweep: usize, threshold: f64) -> Self {
        Self { batch, sweep, threshold, low_since: None, last: 0, alarm: None }
    }

    fn look(&mut self, iteration: usize, held: &Held, names: &[String]) {
        self.last = iteration;
        let counted = held.labels.len() >= COLLAPSE_MIN_LABELLED.min(self.sweep);
        if !counted || entropy_of_counts(&held.counts) >= self.threshold {
            self.low_since = None;
            return;
        }
        let since = *self.low_since.get_or_insert(iteration);
        if iteration + 1 - since >= self.sweep {
            self.raise(since, held, names);
        }
    }

    fn raise(&mut self, since: usize, held: &Held, names: &[String]) {
        let most = held.counts.iter().copied().max().unwrap_or(0);
        let label = held.counts.iter().position(|&count| count == most).unwrap_or(0);
        self.alarm.get_or_insert(Collapse {
            batch: self.batch,
            since_iteration: since,
            iteration: self.last,
            label: names[label].clone(),
            share: most as f64 / held.labels.len().max(1) as f64,
            entropy_nats: entropy_of_counts(&held.counts),
            recovered: false,
        });
    }

    fn finish(mut self, held: &Held, names: &[String]) -> Option<Collapse> {
        if let Some(since) = self.low_since {
            self.raise(since, held, names);
        }
        self.alarm.map(|alarm| Collapse { recovered: self.low_since.is_none(), ..alarm })
    }
}
