//! What the steps of a plan would ask of servers, by route.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::Result;
use crate::pipeline::observer::Voice;
use crate::pipeline::words::count;
use crate::report::aligned;
use crate::score::Asked;

/// What the runs of one step would ask by one route.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Served {
    pub(super) step: String,
    #[serde(flatten)]
    asked: Asked,
}

/// Joins what the runs of each step ask by each route.
pub(super) fn joined(all: Vec<(String, Asked)>) -> Vec<Served> {
    let mut lines: Vec<Served> = Vec::new();
    let mut places: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (step, asked) in all {
        let key = (step.clone(), route(&asked));
        match places.get(&key) {
            Some(&place) => lines[place].asked = lines[place].asked.plus(&asked),
            None => {
                places.insert(key, lines.len());
                lines.push(Served { step, asked });
            }
        }
    }
    lines
}

/// What a route is called.
fn route(asked: &Asked) -> String {
    match (asked.route, asked.named_by) {
        (Some(route), Some(way)) => format!("{route} by {way}"),
        (Some(route), None) => route.to_string(),
        (None, _) => "texts".to_owned(),
    }
}

pub(super) fn tell(lines: &[Served], voice: &Voice<'_>) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let has_cost = lines.iter().any(|line| line.asked.spent.cost.is_some());
    let mut head = vec!["step", "route", "requests", "tokens sent", "unique", "written"];
    if has_cost {
        head.extend(["cost", "with cache"]);
    }
    let mut rows = vec![head.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()];
    for line in lines {
        let Asked { spent, at_least, is_guess, tokens_unique, cost_remembered, .. } = &line.asked;
        let least = if *at_least { ">= " } else { "" };
        let about = if *is_guess { "~" } else { least };
        let mut row = vec![
            line.step.clone(),
            route(&line.asked),
            format!("{least}{}", count(spent.num_requests)),
            format!("{about}{}", count(spent.tokens_in)),
            format!("{about}{}", count(*tokens_unique)),
            format!("{least}{}", count(spent.tokens_out)),
        ];
        let currency = spent.currency.clone().unwrap_or_default();
        for cost in [spent.cost, *cost_remembered].into_iter().filter(|_| has_cost) {
            row.push(cost.map_or_else(|| "-".to_owned(), |cost| format!("{cost:.4} {currency}")));
        }
        rows.push(row);
    }
    for line in aligned(&rows, &[2, 3, 4, 5, 6, 7]) {
        voice.print(format_args!("{line}"))?;
    }
    voice.print(format_args!(
        "unique: tokens of prompts with shared beginnings counted once, which is what a server computes whose prefix cache holds them all"
    ))?;
    if lines.iter().any(|line| line.asked.at_least) {
        voice.print(format_args!(
            ">=: where a label is not among the most likely tokens, more are asked for"
        ))?;
    }
    if lines.iter().any(|line| line.asked.is_guess) {
        voice.print(format_args!("~: without the words of the server's chat template"))?;
    }
    Ok(())
}
