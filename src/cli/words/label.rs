//! What `w2s label` says of the labels it found.

use serde_json::Value;
use w2s::eval::Basins;
use w2s::label::{Labelling, RestartSummary, Summary};
use w2s::pipeline::Verdict;
use w2s::run::RunDir;
use w2s::score::{Calibration, Prior};

use super::numbers::{count, duration};
use super::verdict;

/// Share of the examples to which calibration must give another label before it is warned of.
const MUCH_MOVED: f64 = 0.1;

/// What was found, and what should make its reader doubt it.
pub(in crate::cli) fn labelled(
    labelling: &Labelling,
    calibration: Calibration,
    prior: &Prior,
    seconds: f64,
    folder: &RunDir,
) -> Vec<String> {
    let mut out = Vec::new();
    let s = &labelling.summary;
    out.push(format!(
        "labelled {} examples by {} in {}",
        labelling.records.len(),
        s.method,
        duration(seconds)
    ));
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let shares: Vec<String> =
        s.share.iter().map(|(l, x)| format!("{l} {:.0} %", 100.0 * number(x))).collect();
    out.push(format!("  labels: {}", shares.join(", ")));
    if let Some(raw) = &s.uncalibrated_share {
        let shown: Vec<String> =
            raw.iter().map(|(l, x)| format!("{l} {:.0} %", 100.0 * number(x))).collect();
        out.push(format!("  as the model answers, without calibration: {}", shown.join(", ")));
        let moved = s.share.iter().map(|(l, x)| (number(x) - number(&raw[l])).max(0.0));
        let moved: f64 = moved.sum();
        if moved > MUCH_MOVED && labelling.records.len() >= 8 {
            let (assumes, rare) = match (calibration, prior) {
                (Calibration::Batch | Calibration::BatchMeanProb, Prior::Equal) => (
                    "; it assumes that the labels are about equally frequent",
                    format!(
                        "if one of them is rare in your data, say how rare, as in `--prior {}=0.1`, or use `--calibrate content-free`; ",
                        s.share.keys().next().map_or("LABEL", String::as_str)
                    ),
                ),
                _ => ("", "compare with `--calibrate none`; ".to_owned()),
            };
            out.push(format!(
                "warning: calibration gives {:.0} % of the examples another label{assumes}\nhint: {rare}where a model says one word to everything, calibration is what helps",
                100.0 * moved
            ));
        }
    }
    if let Some(score) = s.score {
        score_words(s, score, &mut out);
    }
    if let Some(many) = &s.many_shot {
        let rounds: Vec<String> = many.changed_by_round.iter().map(usize::to_string).collect();
        let changed = match rounds.as_slice() {
            [] => String::new(),
            all => format!("; labels changed by round: {}", all.join(", ")),
        };
        out.push(format!(
            "  batches: {}; demonstrations in the longest prompt: {}{changed}",
            many.num_batches, many.num_demonstrations
        ));
    }
    if let (Some(accepted), Some(proposals), Some(passes)) =
        (s.num_accepted, s.num_proposals, s.num_passes)
    {
        out.push(format!(
            "  {accepted} of {proposals} proposals accepted, {passes} passes over the labels"
        ));
    }
    if let Some(alphas) = &s.alphas {
        let all: Vec<String> = alphas.iter().map(|alpha| format!("{alpha:.2}")).collect();
        out.push(format!("  alpha chosen: {}", all.join(", ")));
    }
    if let Some(num @ 1..) = s.num_collapsed {
        let or_calibrate = match calibration {
            Calibration::None => " or `--calibrate batch`",
            _ => "",
        };
        out.push(format!(
            "warning: {num} of {} batches collapsed and were not searched further: nearly all examples got the same label\nhint: use a consistency rule{or_calibrate}, or try another seed",
            s.num_batches.unwrap_or(num)
        ));
    }
    let saved = 1.0 - s.tokens_computed as f64 / s.tokens_full_prompts.max(1) as f64;
    if saved < 0.0 {
        // A server is sent a prompt once for each label.
        out.push(format!("  {} tokens in prompts and answers", count(s.tokens_computed)));
    } else {
        out.push(format!(
            "  {} tokens computed; full prompts would have been {} (saved {:.0} %)",
            count(s.tokens_computed),
            count(s.tokens_full_prompts),
            100.0 * saved
        ));
    }
    if s.num_unlabelled > 0 {
        out.push(format!(
            "warning: {} examples got no label\nhint: raise `--iterations`",
            s.num_unlabelled
        ));
    }
    if s.share.values().any(|x| number(x) > 0.95) && labelling.records.len() >= 8 {
        let remedy = match calibration {
            Calibration::None => {
                "the model prefers its word: try `--calibrate batch`, a consistency rule, or other label words"
            }
            // That preference is taken off already.
            _ => "try a consistency rule, other label words, or a larger model",
        };
        out.push(format!(
            "warning: nearly all examples got the same label\nhint: right if one label is that frequent in your data; if not, {remedy}"
        ));
    }
    out.push(format!("  wrote {}", folder.file("labels.jsonl").display()));
    out.push(verdict::text(&Verdict::of(s)));
    out
}

/// What U is worth: what is left of it under a new order of demonstrations, and what labels score
/// that are not to be believed.
fn score_words(s: &Summary, score: f64, out: &mut Vec<String>) {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    match &s.order_check {
        Some(check) => {
            let num = check.share_predicted_otherwise * check.num_labels as f64;
            out.push(format!(
                "  score U {score:.2}; under a new demonstration order U {:.2}, and {num:.0} of {} labels would change",
                check.score, check.num_labels
            ));
        }
        None => out.push(format!("  score U {score:.2}")),
    }
    let least = s.order_check.map_or(score, |check| check.score.min(score));
    if let Some(permuted) = &s.permuted_scores {
        let (low, high) = permuted
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(*x), b.max(*x)));
        out.push(format!(
            "  the same labels permuted over the texts: U {low:.2} to {high:.2} ({} permutations)",
            permuted.len()
        ));
        if high >= least {
            out.push("warning: labels that say nothing of the texts score as high; these labels are not to be trusted\nhint: use more or shorter examples, a larger model, or `--restarts`, and see which labels return".to_owned());
        }
    }
    if let Some(constants) = &s.constant_scores {
        let all: Vec<String> =
            constants.iter().map(|(l, x)| format!("all {l} {:.2}", number(x))).collect();
        out.push(format!("  one label for all examples: U {}", all.join(", ")));
        if constants.values().map(number).fold(f64::NEG_INFINITY, f64::max) >= least {
            out.push("warning: giving every example the same label scores as high; these labels are not to be trusted\nhint: use a consistency rule or `--calibrate batch`, which make such labellings score low".to_owned());
        }
    }
    if let Some(restarts) = &s.restarts {
        let others: Vec<String> = restarts
            .iter()
            .filter(|restart| !restart.kept)
            .map(|restart| format!("{:.2}", restart.score))
            .collect();
        out.push(format!("  searches from other starts: U {}", others.join(", ")));
    }
}

/// Which search was kept, and how many found the same.
pub(in crate::cli) fn restarted(summaries: &[RestartSummary], found: &Basins) -> Vec<String> {
    let mut out = Vec::new();
    for kept in summaries.iter().filter(|restart| restart.kept) {
        let name = format!("restart {}", kept.restart);
        let same = found.basins.iter().find(|basin| basin.runs.contains(&name));
        let why = kept.score_under_common_order.map_or_else(
            || format!("U {:.2}, the highest", kept.score),
            |score| format!("U {score:.2} under the order common to all, the highest"),
        );
        out.push(format!("  kept {name} of {} ({why})", summaries.len()));
        out.push(format!(
            "  {} of {} searches found its labels or nearly so, up to a renaming; {} basins in all",
            same.map_or(1, |basin| basin.runs.len()),
            summaries.len(),
            found.basins.len()
        ));
    }
    out
}

/// What was made of a test file.
pub(in crate::cli) fn labelled_test(
    labelling: &Labelling,
    num_demonstrations: usize,
    seconds: f64,
) -> String {
    format!(
        "labelled {} test examples behind {num_demonstrations} demonstrations in {} ({} tokens computed)",
        labelling.records.len(),
        duration(seconds),
        count(labelling.summary.tokens_computed)
    )
}
