//! Every file of a run folder: who writes it, when, and what follows from that.
//!
//! What `--force` deletes, what is copied when a run is taken over, what shows a sign of life and
//! what may still be written after the end mark are all made from this table. A file that is not in
//! it cannot be written by [`RunDir::write`](super::RunDir::write).

use serde_json::Value;

use super::manifest::Manifest;

/// `manifest.json`: what the run is.
pub const MANIFEST: &str = "manifest.json";
/// `journal.jsonl`: every answer of the model; its lock is that of the run.
pub const JOURNAL: &str = "journal.jsonl";
/// `timing.json`: the end mark.
pub const TIMING: &str = "timing.json";
/// `labels.jsonl`: the labels that the run made.
pub const LABELS: &str = "labels.jsonl";
/// `trace.jsonl`: every step of a search.
pub const TRACE: &str = "trace.jsonl";
/// `summary.json`: what the run came to.
pub const SUMMARY: &str = "summary.json";
/// `server.json`: of a model behind a server, the route, misses, requests and cost.
pub const SERVER: &str = "server.json";
/// `metrics.jsonl`: a line a training step.
pub const METRICS: &str = "metrics.jsonl";
/// `README.md`: a model card.
pub const CARD: &str = "README.md";
/// `checkpoint.safetensors`: where a training stands.
pub const CHECKPOINT: &str = "checkpoint.safetensors";
/// `engine.json`: of a training by another engine, how it was started, and what it is.
pub const ENGINE: &str = "engine.json";
/// `best.safetensors`: what the lowest validation loss was seen with, while a training goes on.
pub const BEST: &str = "best.safetensors";
/// `rounds.jsonl`: of a loop, a line a round.
pub const ROUNDS: &str = "rounds.jsonl";
/// `loop.json`: of a loop, what the rounds came to.
pub const LOOP: &str = "loop.json";
/// `explanation.json`: what a chat model made of a run's labels.
pub const EXPLANATION: &str = "explanation.json";

/// `audit/N/plan.json`: what was fixed before rows of an audit were drawn.
pub const AUDIT_PLAN: &str = "plan.json";
/// `audit/N/sheet.csv`: the rows that an auditor answers.
pub const AUDIT_SHEET: &str = "sheet.csv";
/// `audit/N/sheet.html`: the same as a page.
pub const AUDIT_PAGE: &str = "sheet.html";
/// `audit/N/certificate.json`: what the answers prove.
pub const CERTIFICATE: &str = "certificate.json";
/// `audit/N/gold.jsonl`: the labels that the auditor gave.
pub const AUDIT_GOLD: &str = "gold.jsonl";

/// Files of a model's folder that a merged or wholly trained model keeps.
pub const MODEL_FILES: [&str; 12] = [
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "LICENSE",
    "merges.txt",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
];

/// When a file of a run is written, in the order of a run's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Held from before anything else is written.
    Lock,
    /// Under the lock, before the work begins.
    Manifest,
    /// While the work goes on, for going on after a kill; deleted when the run has ended.
    Scratch,
    /// By the work, and complete before the end mark is set.
    Result,
    /// The end mark: with it the run is complete.
    End,
    /// Of a complete run, by other commands (`w2s eval`, `w2s explain`).
    Finding,
    /// Of a complete run, with a person's work in it (`w2s audit`); the program never deletes it.
    Kept,
}

/// One kind of file of run folders.
#[derive(Clone, Copy, Debug)]
pub struct RunFile {
    /// Its path in the run folder; `*` stands for a part of a name.
    pub name: &'static str,
    /// When it is written.
    pub stage: Stage,
    /// The commands that write it; empty for all.
    pub by: &'static [&'static str],
}

const LABELLING: &[&str] = &["label", "relabel", "eval", "loop"];
const ASKING: &[&str] = &["label", "relabel", "eval", "filter"];
const LABELLED: &[&str] = &["label", "relabel", "filter"];
const MODELS: &[&str] = &["train", "merge"];

const fn file(name: &'static str, stage: Stage, by: &'static [&'static str]) -> RunFile {
    RunFile { name, stage, by }
}

/// All files of run folders. Those that say that a run has ended, or how to go on with it, come
/// first, so that a folder whose files were deleted in this order in part is an unfinished run.
const FILES: &[RunFile] = &[
    file(TIMING, Stage::End, &[]),
    file(CHECKPOINT, Stage::Scratch, &["train"]),
    file(BEST, Stage::Scratch, &["train"]),
    file("engine/checkpoint.*", Stage::Scratch, &["train"]),
    file("engine/*.json", Stage::Scratch, &["train"]),
    file("engine/*.jsonl", Stage::Scratch, &["train"]),
    file("engine/*.py", Stage::Scratch, &["train"]),
    file("engine/*.txt", Stage::Scratch, &["train"]),
    file("engine/*/adapter_config.json", Stage::Scratch, &["train"]),
    file("engine/*/*.safetensors", Stage::Scratch, &["train"]),
    file("eval.json", Stage::Finding, &[]),
    file("curve.jsonl", Stage::Finding, &[]),
    file("diagnostics.json", Stage::Finding, &[]),
    file("basins.json", Stage::Finding, &[]),
    file(EXPLANATION, Stage::Finding, &[]),
    file("audit/*/plan.json", Stage::Kept, LABELLED),
    file("audit/*/sheet.csv", Stage::Kept, LABELLED),
    file("audit/*/sheet.html", Stage::Kept, LABELLED),
    file("audit/*/certificate.json", Stage::Kept, LABELLED),
    file("audit/*/gold.jsonl", Stage::Kept, LABELLED),
    file(SUMMARY, Stage::Result, &[]),
    file(SERVER, Stage::Result, ASKING),
    file(LABELS, Stage::Result, LABELLING),
    file(TRACE, Stage::Result, &["label"]),
    file("restarts/*/labels.jsonl", Stage::Result, &["label"]),
    file("restarts/*/trace.jsonl", Stage::Result, &["label"]),
    file("history.jsonl", Stage::Result, &["relabel"]),
    file("answers.jsonl", Stage::Result, &["filter"]),
    file("kept.jsonl", Stage::Result, &["filter"]),
    file("dropped.jsonl", Stage::Result, &["filter"]),
    file("weights.jsonl", Stage::Result, &["filter"]),
    file("sample.jsonl", Stage::Result, &["filter"]),
    file(ENGINE, Stage::Result, &["train"]),
    file(METRICS, Stage::Result, &["train"]),
    file("events.out.tfevents.*.w2s.*", Stage::Result, &["train"]),
    file("adapter_config.json", Stage::Result, &["train"]),
    file("adapter_model.safetensors", Stage::Result, &["train"]),
    file("config.json", Stage::Result, MODELS),
    file("model.safetensors", Stage::Result, MODELS),
    file(CARD, Stage::Result, MODELS),
    file(ROUNDS, Stage::Result, &["loop"]),
    file(LOOP, Stage::Result, &["loop"]),
    file("data/*.jsonl", Stage::Result, &["loop"]),
    file(JOURNAL, Stage::Lock, &[]),
    file(MANIFEST, Stage::Manifest, &[]),
];

/// Files whose time is the time of a run's last sign of life.
pub(super) const SIGNS: [&str; 6] = [TIMING, CHECKPOINT, METRICS, TRACE, JOURNAL, MANIFEST];

/// Returns the files of the runs of a manifest, those first that are to be deleted first.
pub fn files_of(manifest: &Manifest) -> Vec<(String, Stage)> {
    let command = manifest.command.as_str();
    let is_by = |file: &&RunFile| file.by.is_empty() || file.by.contains(&command);
    let table = FILES.iter().filter(is_by);
    let mut all: Vec<(String, Stage)> =
        table.map(|file| (file.name.to_owned(), file.stage)).collect();
    // The last two say that there is a run at all.
    let place = all.len() - 2;
    let more = parts_of(manifest).chain(model_files_of(manifest));
    all.splice(place..place, more.map(|name| (name, Stage::Result)));
    all
}

/// Returns when a file is written in a run of a manifest; none where it is no file of such a run.
pub fn stage_of(manifest: &Manifest, name: &str) -> Option<Stage> {
    let all = files_of(manifest);
    all.into_iter().find(|(pattern, _)| matches(pattern, name)).map(|(_, stage)| stage)
}

/// The parts that `w2s data draw` made, whose names are the user's.
fn parts_of(manifest: &Manifest) -> impl Iterator<Item = String> {
    let parts = (manifest.command == "data draw").then(|| manifest.settings.get("parts")).flatten();
    let names = parts.and_then(Value::as_array).into_iter().flatten();
    let is_name = |name: &&str| !name.contains('/') && !name.is_empty();
    names
        .filter_map(|part| part.get(0).and_then(Value::as_str))
        .filter(is_name)
        .map(|name| format!("{name}.jsonl"))
        .collect::<Vec<_>>()
        .into_iter()
}

/// What lies beside the weights of a whole model.
fn model_files_of(manifest: &Manifest) -> impl Iterator<Item = String> {
    let is_whole = match manifest.command.as_str() {
        "merge" => true,
        "train" => !manifest.settings.get("lora").is_some_and(Value::is_object),
        _ => false,
    };
    MODEL_FILES.iter().filter(move |_| is_whole).map(|name| (*name).to_owned())
}

/// Returns whether a path in a folder is meant by a pattern of the table.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (mut a, mut b) = (pattern.split('/'), name.split('/'));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(pattern), Some(name)) if part_matches(pattern, name) => {}
            _ => return false,
        }
    }
}

fn part_matches(pattern: &str, name: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == name };
    let Some(rest) = name.strip_prefix(head) else { return false };
    let ends = (0..=rest.len()).filter(|end| rest.is_char_boundary(*end));
    ends.into_iter().any(|end| part_matches(tail, &rest[end..]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::manifest::GoldUse;
    use super::*;

    fn manifest(command: &str, settings: Value) -> Manifest {
        Manifest {
            command: command.into(),
            command_line: Vec::new(),
            settings: settings.as_object().unwrap().clone(),
            seed: 0,
            inputs: Vec::new(),
            gold_used: GoldUse::no(),
            versions: serde_json::Map::new(),
        }
    }

    #[test]
    fn patterns_mean_what_a_shell_means() {
        for (pattern, name, expected) in [
            ("a.json", "a.json", true),
            ("a.json", "b/a.json", false),
            ("restarts/*/labels.jsonl", "restarts/12/labels.jsonl", true),
            ("restarts/*/labels.jsonl", "restarts/1/2/labels.jsonl", false),
            ("events.out.tfevents.*.w2s.*", "events.out.tfevents.17.w2s.4", true),
            ("events.out.tfevents.*.w2s.*", "events.out.tfevents.17.host", false),
            ("data/*.jsonl", "data/\u{e9}.jsonl", true),
            ("data/*.jsonl", "data/x.json", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn files_are_those_of_the_command() {
        let stage = |command: &str, settings: Value, name: &str| {
            stage_of(&manifest(command, settings), name)
        };
        assert_eq!(stage("label", json!({}), SERVER), Some(Stage::Result));
        assert_eq!(stage("train", json!({}), SERVER), None);
        assert_eq!(stage("label", json!({}), "tokenizer.json"), None);
        assert_eq!(stage("merge", json!({}), "tokenizer.json"), Some(Stage::Result));
        let adapter = json!({ "lora": { "r": 4 } });
        assert_eq!(stage("train", adapter, "tokenizer.json"), None);
        let whole = json!({ "lora": "none, all weights train" });
        assert_eq!(stage("train", whole, "tokenizer.json"), Some(Stage::Result));
        let parts = json!({ "parts": [["rest", 4], ["../x", 1]] });
        assert_eq!(stage("data draw", parts.clone(), "rest.jsonl"), Some(Stage::Result));
        assert_eq!(stage("data draw", parts, "../x.jsonl"), None);
        assert_eq!(stage("label", json!({}), "eval.json"), Some(Stage::Finding));
    }

    /// A kill while files are deleted leaves an unfinished run, never a complete one without files.
    #[test]
    fn the_end_mark_goes_first_and_the_manifest_last() {
        for command in ["label", "filter", "train", "merge", "loop", "data draw"] {
            let all = files_of(&manifest(command, json!({ "parts": [["a", 1]] })));
            assert_eq!(all[0].0, TIMING);
            assert_eq!(all[all.len() - 2].0, JOURNAL);
            assert_eq!(all[all.len() - 1].0, MANIFEST);
        }
    }
}
