//! The command that a user may want to type after a run.

use std::path::Path;

use w2s::pipeline::{Shown, typed};
use w2s::run::RunDir;

/// Returns the commands that may come after a complete run.
pub(in crate::cli) fn after(shown: &Shown) -> Vec<String> {
    let run = shown.path.as_path();
    match shown.manifest.command.as_str() {
        "label" | "relabel" => after_labels(run),
        "loop" => vec![
            evaluate(run),
            command(&["export", &text(run), "--format", "csv", "--out"], "FILE.csv"),
        ],
        "filter" => vec![evaluate(run), train(run, &["--reweight"])],
        "train" => after_training(run, shown),
        "merge" => vec![command(
            &["label", "--model", &text(run), "--method", "zero-shot"],
            "--task TASK --data FILE --out RUN",
        )],
        _ => Vec::new(),
    }
}

/// What is said of them when a run has ended.
pub(super) fn lines(folder: &RunDir) -> Option<String> {
    // Who cannot read what was just written will hear of it from the next command.
    let commands = after(&Shown::read(folder.path()).ok()?);
    (!commands.is_empty()).then(|| format!("next: {}", commands.join("\n  or: ")))
}

/// The commands that may come after labels were found.
fn after_labels(run: &Path) -> Vec<String> {
    vec![evaluate(run), train(run, &[])]
}

fn after_training(run: &Path, shown: &Shown) -> Vec<String> {
    let (task, data) = (shown.setting("task"), shown.setting("data"));
    let is_adapter = run.join("adapter_config.json").is_file();
    let option = if is_adapter { "--adapter" } else { "--model" };
    let out = format!("{}-labels", text(run));
    let mut words = vec!["label", option];
    let run = text(run);
    words.push(&run);
    words.extend(["--method", "zero-shot", "--task", task.unwrap_or("TASK")]);
    words.extend(["--data", data.unwrap_or("FILE"), "--out", &out]);
    // Columns of the user's own belong to the data.
    let fields = shown.manifest.settings.get("fields").and_then(serde_json::Value::as_object);
    let fields: Vec<String> = fields
        .into_iter()
        .flatten()
        .map(|(name, column)| format!("{name}={}", column.as_str().unwrap_or_default()))
        .collect();
    words.extend(fields.iter().flat_map(|field| ["--field", field.as_str()]));
    words.extend(shown.setting("id_column").into_iter().flat_map(|id| ["--id", id]));
    vec![command(&words, "")]
}

fn evaluate(run: &Path) -> String {
    command(&["eval", &text(run), "--gold"], "FILE")
}

fn train(run: &Path, more: &[&str]) -> String {
    let out = format!("{}-student", text(run));
    let run = text(run);
    let words = [&["train", run.as_str()][..], more, &["--out", &out, "--model"]].concat();
    command(&words, "MODEL")
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A command as it is typed, with what the user must say at its end.
fn command(words: &[&str], open: &str) -> String {
    let words: Vec<String> = ["w2s"].iter().chain(words).map(|&word| word.to_owned()).collect();
    format!("{} {open}", typed(&words)).trim_end().to_owned()
}
