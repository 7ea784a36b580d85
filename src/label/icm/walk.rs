//! What a search holds while it goes from labelling to labelling.

use super::collapse::CollapseWatch;
use super::state::{Labels, Scored};
use crate::score::best_label;

/// The labels held, and what happened to them.
pub(super) struct Walk {
    pub(super) labels: Labels,
    pub(super) current: Scored,
    pub(super) last_flip: Vec<Option<u64>>,
    /// Examples whose change was refused since the last accepted one.
    pub(super) refused: Vec<bool>,
    /// Examples that were looked at again after their first label.
    pub(super) revisited: Vec<bool>,
    pub(super) iteration: u64,
    pub(super) num_accepted: u64,
    pub(super) num_proposals: u64,
    pub(super) watch: Option<CollapseWatch>,
}

impl Walk {
    pub(super) fn new(labels: Labels, current: Scored, most_of_one: Option<f64>) -> Self {
        let num = labels.len();
        Self {
            last_flip: labels.iter().map(|label| label.map(|_| 0)).collect(),
            labels,
            current,
            refused: vec![false; num],
            revisited: vec![false; num],
            iteration: 0,
            num_accepted: 0,
            num_proposals: 0,
            watch: most_of_one.map(CollapseWatch::new),
        }
    }

    pub(super) fn num_labelled(&self) -> usize {
        self.labels.iter().flatten().count()
    }

    /// Goes to other labels.
    pub(super) fn go(&mut self, labels: Labels, scored: Scored) {
        self.refused.fill(false);
        for ((flip, old), new) in self.last_flip.iter_mut().zip(&self.labels).zip(&labels) {
            if old != new {
                *flip = Some(self.iteration);
            }
        }
        (self.labels, self.current) = (labels, scored);
    }

    /// Whether every example is labelled and none can change: its label is the predicted one, or the
    /// change was refused since the last accepted one.
    pub(super) fn is_stable(&self) -> bool {
        (0..self.labels.len()).all(|i| match (&self.labels[i], &self.current.rows[i]) {
            (Some(label), Some(row)) => best_label(row) == *label || self.refused[i],
            _ => false,
        })
    }

    pub(super) fn has_collapsed(&mut self, clock: u64) -> bool {
        self.watch.as_mut().is_some_and(|watch| watch.look(clock, &self.labels))
    }

    pub(super) fn num_never_revisited(&self) -> usize {
        let is_left_alone = |&i: &usize| self.labels[i].is_some() && !self.revisited[i];
        (0..self.labels.len()).filter(is_left_alone).count()
    }
}
