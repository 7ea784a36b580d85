//! What the steps of a plan would ask of servers, joined by step and route.

use super::summary::PlannedRequests;
use crate::score::Asked;

/// Joins what the runs of each step ask by each route.
pub(super) fn joined(all: Vec<(String, Asked)>) -> Vec<PlannedRequests> {
    let mut lines: Vec<PlannedRequests> = Vec::new();
    for (step, asked) in all {
        let is_same = |line: &&mut PlannedRequests| {
            line.step == step
                && (line.asked.route, line.asked.named_by) == (asked.route, asked.named_by)
        };
        match lines.iter_mut().find(is_same) {
            Some(line) => line.asked = line.asked.plus(&asked),
            None => lines.push(PlannedRequests { step, asked }),
        }
    }
    lines
}
