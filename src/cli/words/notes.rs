//! What notes say. The match has no arm for the rest: a note without words does not build.

use w2s::pipeline::{LeftOut, Note, ServedRoute};
use w2s::score::RouteKind;

use super::numbers::percent;

/// Returns what is said of a note.
pub(in crate::cli) fn text(note: &Note) -> String {
    match note {
        Note::RunComplete { folder } => {
            format!("the run in {} is complete; nothing to do", folder.display())
        }
        Note::LoopComplete { folder } => {
            format!("the loop in {} is complete; nothing to do", folder.display())
        }
        Note::HeldOutComplete { folder } => {
            format!("the run in {} is complete; its labels are evaluated", folder.display())
        }
        Note::RunCopied { from } => {
            format!("the run in {} is the same; it was copied", from.display())
        }
        Note::PassesContinued { num_passes } => {
            format!("continuing after {num_passes} recorded passes")
        }
        Note::StepsContinued { step } => format!("continuing after step {step}"),
        Note::GoldUsed { reason } => gold_used(reason),
        Note::OtherKind { num_records } => {
            format!("{num_records} records of the data are not of the task's kind and are left out")
        }
        Note::ModelFollows { adapter, model } => {
            format!("model {}, as {} was trained on it", model.display(), adapter.display())
        }
        Note::RunFollowed { run, task, data, files } => {
            let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
            format!(
                "from {}: task {task}, data {}, {}",
                run.display(),
                data.display(),
                files.join(" and ")
            )
        }
        Note::Separator { data, separator } => {
            let name = match separator {
                ';' => "semicolons".to_owned(),
                '\t' => "tabs".to_owned(),
                ',' => "commas".to_owned(),
                other => format!("`{other}`"),
            };
            format!("{}: columns are separated by {name}", data.display())
        }
        Note::PresetImplied { flag, preset } => format!(
            "`{flag}` is a flag of the published code, so its settings are taken: preset {preset}\nhint: name another with `--preset`; the flags of `w2s label --help` alone take the defaults of w2s"
        ),
        Note::ProcessesJoined { num_processes } => {
            format!("{num_processes} processes train together")
        }
        Note::SummedOnCpu { reason } => {
            format!("gradients are summed on the CPU, as NCCL cannot be used: {reason}")
        }
        Note::EngineBegan { num_processes } => {
            format!("the engine trains in {num_processes} processes")
        }
        Note::AdapterLoaded { server, name } => format!("{server} takes the adapter {name}"),
        Note::LeftOut { num, what } => format!("skipping {num} {}", left_out(*what)),
        Note::FromCache { file } => format!("{file}: from the cache"),
        Note::Route(route) => served(route),
        Note::ClosestColumn { run, closest } => {
            let inverted = if closest.inverted { ", with the two labels exchanged" } else { "" };
            format!(
                "{}: the labels come closest to column `{}` (balanced accuracy {:.1} %{inverted})",
                run.display(),
                closest.column,
                percent(closest.balanced_accuracy)
            )
        }
        Note::PartOfGold { run, num_with_gold, num_questions } => format!(
            "{}: gold knows {num_with_gold} of {num_questions} questions; the accuracies speak of those",
            run.display()
        ),
        Note::ComparisonWritten { path } => format!("wrote `{}` and its figures", path.display()),
        Note::Recipe { title, source, num_steps } => {
            format!("{title}\n{source}\n{num_steps} steps")
        }
    }
}

/// That gold has a part.
pub(super) fn gold_used(reason: &str) -> String {
    format!("gold is used: {reason}")
}

fn left_out(what: LeftOut) -> &'static str {
    match what {
        LeftOut::Unlabelled => "unlabelled examples",
        LeftOut::Unread => "answers that could not be read",
        LeftOut::Weightless => "items of weight 0",
        LeftOut::TooLong => "items longer than `--max-tokens`",
    }
}

fn served(found: &ServedRoute) -> String {
    let how = match found.route {
        Some(route @ RouteKind::TokenIds) => {
            let by = found.named_by.map_or_else(String::new, |way| format!(", by {way}"));
            format!("route {route} (exact{by})")
        }
        Some(route) if route.is_exact() => format!("route {route} (exact)"),
        Some(RouteKind::Chat) => format!("route chat-top-k, {} tokens", found.num_most_likely),
        Some(route) => format!("route {route}, {} tokens or more", found.num_most_likely),
        None => "texts only".to_owned(),
    };
    let name = found.software.as_deref().unwrap_or("an unknown server");
    format!("{} by {name}: {how}", found.address)
}
