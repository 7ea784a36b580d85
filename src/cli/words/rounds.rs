//! What `w2s loop` says of its rounds.

use w2s::run::{LoopRecord, Round, RunDir};

use super::next;
use super::numbers::{count, duration};

/// What the rounds of a loop came to.
pub(in crate::cli) fn looped(
    record: &LoopRecord,
    rounds: &[Round],
    folder: &RunDir,
) -> Vec<String> {
    let mut out = Vec::new();
    let seconds: f64 = rounds.iter().map(|round| round.seconds).sum();
    out.push(format!(
        "\nlabelled {} examples in {} rounds of {}, {} of work ({} tokens)",
        record.num_labels,
        record.num_rounds,
        record.num_batches,
        duration(seconds),
        count(record.tokens)
    ));
    let percent = |x: f64| format!("{:.0} %", 100.0 * x);
    for round in rounds {
        let mut text = format!(
            "  round {}: {} new labels by {}, class entropy {:.2}",
            round.round, round.num_labelled, round.method, round.class_entropy
        );
        if let Some(score) = round.score {
            text += &format!(", U {score:.2}");
        }
        if let Some(rate) = round.flip_rate {
            text += &format!(", the model contradicts {} of all", percent(rate));
        }
        if round.num_flipped + round.num_dropped > 0 {
            text += &format!(" ({} flipped, {} dropped)", round.num_flipped, round.num_dropped);
        }
        if let Some(agreement) = round.agreement {
            text += &format!(", {} of the held-out answers as before", percent(agreement));
        }
        out.push(text);
    }
    if let Some(reason) = &record.stopped {
        let kept = match record.last_good_round {
            0 => "no round is kept".to_owned(),
            round => format!("round {round} is the last that is kept"),
        };
        out.push(format!("stopped: {reason}; {kept}"));
    }
    if let Some(adapter) = &record.adapter {
        out.push(format!("  adapter: {}", folder.file(adapter).display()));
    }
    out.push(format!("  wrote {}", folder.file("labels.jsonl").display()));
    out.extend(next::lines(folder));
    out
}
