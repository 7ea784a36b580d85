//! What warnings say, and what to do. The match has no arm for the rest: a warning without words does
//! not build.

use w2s::pipeline::{IgnoredFlag, Warning};

use super::numbers::{count, percent};

/// Returns what is said of a warning.
pub(in crate::cli) fn text(warning: &Warning) -> String {
    let text = match warning {
        Warning::BegunWord { word, longer, lines } => {
            let of_lines = lines.map_or_else(String::new, |part| {
                format!("\n  {} of {} lines have such labels", part.num, part.of)
            });
            begun(word, longer) + &of_lines
        }
        Warning::GoldInSearch { reason } => format!(
            "gold is used: {reason}\nhint: the labels are not found without supervision; do not report them as such"
        ),
        Warning::NoEffect(IgnoredFlag::TensorParallelSize) => {
            "`--tensor_parallel_size` has no effect: one device is used\nhint: choose it with `--device`".to_owned()
        }
        Warning::NoEffect(IgnoredFlag::GpuMemoryUtilization) => {
            "`--gpu_memory_utilization` has no effect\nhint: limit working memory with `--memory`".to_owned()
        }
        Warning::SharedTexts { num_demonstrations } => format!(
            "{num_demonstrations} demonstrations have the text of a test example and are left out"
        ),
        Warning::OtherEntropy { num_questions } => format!(
            "{num_questions} questions of the table have another entropy than their answers; it is computed anew"
        ),
        Warning::SmallPart { part, records } => {
            format!("part `{part}` has {} records, fewer than {}", records.num, records.of)
        }
        Warning::Model { folder, remark } => format!("{remark}\n  in: `{}`", folder.display()),
        Warning::OtherModel { address, change } => format!(
            "another model than before stands behind {address}: {change}\n  the answers that were kept of it are not used"
        ),
        Warning::AdapterStays { name, reason } => {
            format!("the server still has the adapter {name}: {reason}")
        }
        Warning::Missed(misses) => format!(
            "{} of {} labels ({:.1} %) were not among the most likely tokens; each was given the most that it can have\nhint: raise `--top-k`, or use a server with an exact route",
            count(misses.num_missed),
            count(misses.num_labels),
            percent(misses.num_missed as f64 / misses.num_labels.max(1) as f64)
        ),
        Warning::DroppedLearnt { questions } => format!(
            "{} of the {} questions that are learnt were dropped by the filter\nhint: to learn the kept ones only, add `--labels` with the filter's run folder or its kept.jsonl",
            questions.num, questions.of
        ),
        Warning::Truncated { num_prompts } => {
            format!("{num_prompts} prompts are longer than `--max-tokens` and lose their beginning")
        }
        Warning::NoBetterThanBlind { run, interval, guess, constant } => {
            let (low, high) = (percent(interval.0), percent(interval.1));
            let than = match constant {
                Some((label, share)) if *share > *guess => {
                    format!("giving every example `{label}` ({:.1} %)", percent(*share))
                }
                _ => format!("chance ({:.1} %)", percent(*guess)),
            };
            format!(
                "{}: the labels cannot be told from {than}: the 95 % interval of the accuracy is {low:.1} to {high:.1} %\nhint: more examples with gold make the interval narrower; a larger model, another prompt or question may make the labels better",
                run.display()
            )
        }
        Warning::LittleTrained { num_steps, first_loss, last_loss } => {
            let what = match first_loss - last_loss > 0.02 * first_loss.abs() {
                true => "the training made few steps",
                false => "the training changed little",
            };
            format!(
                "{what}: {num_steps} steps, loss {first_loss:.4} at first and {last_loss:.4} at last\nhint: more `--epochs` or a smaller `--batch-size` make more steps; which `--lr` fits few of them differs by model (2e-4 to 1e-3 for small ones), so try it on examples that were held out"
            )
        }
        Warning::FewHeldOut { num } => format!(
            "only {num} examples are held out: the brakes of the loop see differences of {:.0} points or more\nhint: use more data or a larger `--held-out`; 30 or more examples should be held out",
            100.0 / f64::from(u32::try_from(*num).unwrap_or(u32::MAX)).sqrt()
        ),
        Warning::Collapsed { run, collapse, below_nats } => {
            let end = if collapse.recovered { "; it recovered later" } else { " and stayed so" };
            format!(
                "{}: batch {} collapsed from iteration {} on: {:.0} % are `{}` at iteration {} (entropy {:.3} nats, alarm below {below_nats:.3}){end}",
                run.display(),
                collapse.batch,
                collapse.since_iteration,
                percent(collapse.share),
                collapse.label,
                collapse.iteration,
                collapse.entropy_nats
            )
        }
        Warning::KeptAll { run } => format!("{}: the filter kept every question", run.display()),
        Warning::PassHalved(halved) => format!(
            "a pass of {} tokens ran out of memory; passes were cut to at most {} tokens\nhint: `--pack-tokens {}` begins with that size; the last digits of numbers depend on it",
            count(halved.from as u64),
            count(halved.to as u64),
            halved.to
        ),
        Warning::EntropyDoubted { run, doubt } => format!("{}: {doubt}", run.display()),
    };
    format!("warning: {text}")
}

/// Returns the warning of a label word that begins another.
pub(in crate::cli) fn begun_word(word: &str, longer: &str) -> String {
    format!("warning: {}", begun(word, longer))
}

fn begun(word: &str, longer: &str) -> String {
    format!(
        "label word `{word}` begins `{longer}`: it is scored with whatever may follow it, `{longer}` included\nhint: choose words of which none begins another"
    )
}
