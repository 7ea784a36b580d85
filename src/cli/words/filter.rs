//! What `w2s filter` says of what it kept.

use w2s::filter::Coverage;
use w2s::pipeline::FilterSummary;
use w2s::run::RunDir;

use super::numbers::{count, duration};

/// Kinds of questions that are named because little of them was kept.
const SHOWN_KINDS: usize = 4;
/// Fewer questions of a kind say nothing of it.
const LEAST_OF_KIND: usize = 5;

/// What was kept, and what should make its reader doubt it.
pub(in crate::cli) fn filtered(
    s: &FilterSummary,
    is_open: bool,
    seconds: f64,
    folder: &RunDir,
) -> Vec<String> {
    let mut out = Vec::new();
    let percent = |x: f64| 100.0 * x;
    out.push(format!(
        "kept {} of {} questions ({:.1} %) by the entropy over {} variants, in {}",
        s.num_kept,
        s.num_examples,
        percent(s.retained_share),
        s.num_prompts,
        duration(seconds)
    ));
    let limit = s.threshold_nats.map_or(String::new(), |nats| format!("; kept up to {nats:.3}"));
    let [first, middle, third] = s.entropy_quartiles_nats;
    out.push(format!("  entropy in nats: quartiles {first:.3}, {middle:.3}, {third:.3}{limit}"));
    out.push(format!(
        "  mean {:.3}: {:.3} within the variants, {:.3} between them; {:.0} % of the variants agree with the label",
        s.mean_entropy_nats,
        s.mean_aleatoric_nats,
        s.mean_epistemic_nats,
        percent(s.mean_agreement)
    ));
    out.push(format!(
        "  answers that could not be read: {} of {} ({:.1} %)",
        s.num_unparsed,
        s.num_prompts,
        percent(s.unparsed_share)
    ));
    coverage(s, &mut out);
    if s.num_sampled > 0 {
        out.push(format!("  drew {} rows of the kept ones, with replacement", s.num_sampled));
    }
    if s.tokens_computed >= s.tokens_full_prompts && s.tokens_computed > 0 {
        out.push(format!("  {} tokens in prompts and answers", count(s.tokens_computed)));
    } else if s.tokens_computed > 0 {
        let saved = 1.0 - s.tokens_computed as f64 / s.tokens_full_prompts.max(1) as f64;
        out.push(format!(
            "  {} tokens computed; full prompts would have been {} (saved {:.0} %)",
            count(s.tokens_computed),
            count(s.tokens_full_prompts),
            percent(saved)
        ));
    }
    if s.num_kept == 0 {
        out.push("warning: nothing was kept\nhint: raise the quantile or the entropy that may be kept, or look at answers.jsonl".to_owned());
    } else if s.retained_share > 0.95 && s.num_examples >= 8 {
        out.push("warning: nearly everything was kept; the entropies are mostly equal\nhint: `--keep-fraction` keeps a share whatever the ties".to_owned());
    }
    if s.unparsed_share > 0.2 {
        let other = if is_open { "another `--parser`" } else { "`--answers soft`" };
        out.push(format!(
            "warning: many answers could not be read\nhint: see `output` in answers.jsonl; try {other}"
        ));
    }
    out.push(format!("  wrote {}", folder.file("kept.jsonl").display()));
    out
}

/// Names the kinds of questions of which the filter left least.
fn coverage(s: &FilterSummary, out: &mut Vec<String>) {
    let share = |kind: &Coverage| kind.num_kept as f64 / kind.num.max(1) as f64;
    let mut by: Vec<&str> = Vec::new();
    for kind in &s.coverage {
        if !by.contains(&kind.by.as_str()) {
            by.push(&kind.by);
        }
    }
    for by in by {
        let mut kinds: Vec<&Coverage> =
            s.coverage.iter().filter(|kind| kind.by == by && kind.num >= LEAST_OF_KIND).collect();
        if kinds.len() < 2 {
            continue;
        }
        kinds.sort_by(|a, b| share(a).total_cmp(&share(b)));
        let all = kinds.len();
        let shown: Vec<String> = kinds
            .iter()
            .take(SHOWN_KINDS)
            .map(|kind| format!("{} {:.0} % of {}", kind.kind, 100.0 * share(kind), kind.num))
            .collect();
        let more = if all > SHOWN_KINDS { format!(", ... ({all} kinds)") } else { String::new() };
        out.push(format!("  kept by {by}, least first: {}{more}", shown.join(", ")));
    }
}
