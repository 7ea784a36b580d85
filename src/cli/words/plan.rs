//! What `w2s plan` prints: a table of steps, and what to change where they take too long.

use w2s::error::{Error, ErrorKind, Result};
use w2s::pipeline::{Plan, PlannedRequests, PlannedStep, Speed};
use w2s::report::aligned;
use w2s::score::{Asked, MemorySize, Work};

use super::numbers::{count, duration};

/// Steps of which is said how to make them smaller.
const MOST_ADVISED: usize = 3;

/// The plan as JSON.
pub(in crate::cli) fn json(plan: &Plan) -> Result<String> {
    serde_json::to_string_pretty(plan)
        .map_err(|e| Error::new(ErrorKind::Internal, format!("cannot write: {e}")))
}

/// The plan, with advice if it takes longer than `most_hours`.
pub(in crate::cli) fn planned(plan: &Plan, most_hours: Option<f64>) -> Vec<String> {
    let head = ["step", "runs", "tokens scored", "trained", "written", "time"];
    let time = |seconds: Option<f64>| seconds.map_or_else(|| "-".to_owned(), duration);
    let row = |name: &str, runs: String, work: &Work, seconds: Option<f64>| {
        vec![
            name.to_owned(),
            runs,
            count(work.num_tokens),
            count(work.num_trained),
            count(work.num_written),
            time(seconds),
        ]
    };
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for step in &plan.steps {
        rows.push(row(&step.step, count(step.num_runs as u64), &step.work, step.seconds));
    }
    rows.push(row("all", String::new(), &plan.total, plan.seconds));
    let mut out = Vec::new();
    if !plan.steps.is_empty() || plan.served.is_empty() {
        out = aligned(&rows, &[1, 2, 3, 4, 5]);
    }
    out.extend(served(&plan.served));
    if plan.total.longest > 0 || plan.served.is_empty() {
        out.push(format!(
            "longest prompt: {} tokens; forward passes: {}",
            count(plan.total.longest as u64),
            count(plan.total.num_passes)
        ));
    }
    for (model, of) in &plan.speeds {
        out.push(format!("{model}: {}", speed(of)));
    }
    if plan.peak_bytes > 0 {
        out.push(format!(
            "memory: about {} (weights and working memory of the largest step)",
            MemorySize(plan.peak_bytes)
        ));
    }
    for width in &plan.intervals {
        out.push(format!(
            "{}: {} items, so an accuracy of 80 % of one run stands within +-{:.1} points",
            width.step,
            count(width.num_items as u64),
            100.0 * width.half_width
        ));
    }
    let too_long = most_hours.zip(plan.seconds).filter(|(most, s)| *s > most * 3600.0);
    if let Some((most, seconds)) = too_long {
        out.extend(advice(plan, most * 3600.0, seconds));
    }
    out
}

/// What servers would be asked.
fn served(lines: &[PlannedRequests]) -> Vec<String> {
    if lines.is_empty() {
        return Vec::new();
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
    let mut out = aligned(&rows, &[2, 3, 4, 5, 6, 7]);
    out.push(
        "unique: tokens of prompts with shared beginnings counted once, which is what a server computes whose prefix cache holds them all"
            .to_owned(),
    );
    if lines.iter().any(|line| line.asked.at_least) {
        out.push(
            ">=: where a label is not among the most likely tokens, more are asked for".to_owned(),
        );
    }
    if lines.iter().any(|line| line.asked.is_guess) {
        out.push("~: without the words of the server's chat template".to_owned());
    }
    out
}

/// What a route is called.
fn route(asked: &Asked) -> String {
    match (asked.route, asked.named_by) {
        (Some(route), Some(way)) => format!("{route} by {way}"),
        (Some(route), None) => route.to_string(),
        (None, _) => "texts".to_owned(),
    }
}

fn speed(of: &Speed) -> String {
    let mut text = format!("weights {}", MemorySize(of.weight_bytes));
    if let Some(rate) = of.score_tokens() {
        text += &format!("; scores {rate:.0} tokens/s");
    }
    if let Some(rate) = of.train_tokens {
        text += &format!(", trains {rate:.0}");
    }
    if let Some(rate) = of.write_tokens {
        text += &format!(", writes {rate:.0}");
    }
    text
}

/// Which steps to make smaller, and how.
fn advice(plan: &Plan, most: f64, seconds: f64) -> Vec<String> {
    let mut out =
        vec![format!("{:.1} times the time that there is; what takes most of it:", seconds / most)];
    let mut steps: Vec<&PlannedStep> = plan.steps.iter().collect();
    steps.sort_by(|a, b| b.seconds.unwrap_or(0.0).total_cmp(&a.seconds.unwrap_or(0.0)));
    for step in steps.into_iter().take(MOST_ADVISED) {
        let share = 100.0 * step.seconds.unwrap_or(0.0) / seconds;
        let how = if step.work.num_trained > 0 {
            "fewer epochs or questions; time is as their product"
        } else if step.work.num_written > 0 {
            "fewer questions or variants, a smaller `--max-new-tokens`, or `--answers soft`"
        } else if step.work.longest > 512 {
            "fewer demonstrations: a smaller `--batch-size`, or fewer examples"
        } else {
            "fewer questions or variants"
        };
        out.push(format!("  {} ({share:.0} %): {how}", step.step));
    }
    out.push("  all: fewer seeds (`--set seed=0`), a smaller model, or a GPU".to_owned());
    out
}
