//! When a search has given nearly every example the same label and stays there.

use super::state::Labels;

/// Waits for one label to hold more than a share of a fully labelled batch for a whole sweep, which
/// is as many iterations as there are examples. The alarm of `w2s eval` counts sweeps likewise.
#[derive(Debug)]
pub(super) struct CollapseWatch {
    share: f64,
    since: Option<u64>,
}

impl CollapseWatch {
    pub(super) fn new(share: f64) -> Self {
        Self { share, since: None }
    }

    /// Returns whether the labels held after `iteration` end such a sweep.
    pub(super) fn look(&mut self, iteration: u64, labels: &Labels) -> bool {
        let mut counts: Vec<usize> = Vec::new();
        let mut num_labelled = 0;
        for label in labels.iter().flatten() {
            if *label >= counts.len() {
                counts.resize(label + 1, 0);
            }
            counts[*label] += 1;
            num_labelled += 1;
        }
        let most = counts.into_iter().max().unwrap_or(0) as f64;
        if num_labelled < labels.len() || most <= self.share * labels.len() as f64 {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(iteration);
        iteration + 1 - since >= labels.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_sweep_above_the_share_is_a_collapse() {
        let labels = |text: &str| -> Labels {
            text.chars().map(|c| c.to_digit(10).map(|d| d as usize)).collect()
        };
        let mut watch = CollapseWatch::new(0.7);
        // Three of four are more than .7, but one is unlabelled.
        assert!(!watch.look(0, &labels("111?")));
        // Since iteration 1: a sweep of four ends with iteration 4.
        for iteration in 1..4 {
            assert!(!watch.look(iteration, &labels("1110")));
        }
        assert!(watch.look(4, &labels("1111")));
        // Half is not above .7 and begins the count anew.
        assert!(!watch.look(5, &labels("1100")));
        for iteration in 6..9 {
            assert!(!watch.look(iteration, &labels("0001")));
        }
        assert!(watch.look(9, &labels("0001")));
        // The share itself is not above it.
        let mut watch = CollapseWatch::new(0.75);
        assert!((0..20).all(|iteration| !watch.look(iteration, &labels("1110"))));
    }
}
