//! Prompt variants and tasks from the command line.

use serde_json::Value;

use w2s::data::{Dataset, Task};
use w2s::label::{Epoch, Items, OrderOptions, OrderPlan};
use w2s::prompt::PromptFormat;
use w2s::run::SeedStream;

use crate::cli::{Place, good, text, w2s};

#[test]
fn a_task_is_shown_with_its_variants() {
    let shown = good(&["tasks", "truthfulqa"]);
    for part in [
        "prompt variant published (used unless --prompt-variant names another)",
        "prompt variant neutral\n",
        "prompt variant vllm-fork\n",
        "Question: {question}\\nClaim: {choice}\\nI think this claim is ",
        "labels       False, True (positive: True)",
        "truthfulqa/truthful_qa",
    ] {
        assert!(shown.contains(part), "`{part}` is not in:\n{shown}");
    }
    assert!(good(&["tasks", "--show", "truthfulqa"]).contains("[variants.neutral]"));
    assert!(good(&["tasks"]).lines().count() >= 20);
}

#[test]
fn the_variant_changes_the_prompt_and_stands_in_the_manifest() {
    let place = Place::new();
    let model = crate::common::tiny("llama").display().to_string();
    let run = |out: &str, more: &[&str]| {
        let (data, out) = (place.path("claims.jsonl"), place.path(out));
        let mut args = vec!["label", "--method", "zero-shot", "--model", &model];
        args.extend(["--task", "truthfulqa", "--data", &data, "--out", &out]);
        args.extend(more);
        w2s(&args)
    };
    let json = |file: &str| -> Value { serde_json::from_str(&place.read(file)).unwrap() };
    assert!(run("own", &[]).status.success());
    assert!(run("published", &["--prompt-variant", "published"]).status.success());
    assert!(run("neutral", &["--prompt-variant", "neutral"]).status.success());
    for (out, variant) in [("own", "published"), ("published", "published"), ("neutral", "neutral")]
    {
        let manifest = json(&format!("{out}/manifest.json"));
        assert_eq!(manifest["settings"]["prompt_variant"], variant, "{out}");
    }
    let labels = |out: &str| place.read(&format!("{out}/labels.jsonl"));
    assert_eq!(labels("own"), labels("published"));
    assert_ne!(labels("own"), labels("neutral"));
    // The labels are called the same whatever their words.
    assert!(labels("neutral").contains("\"True\"") && !labels("neutral").contains("\"A\""));

    let unknown = run("x", &["--prompt-variant", "natural"]);
    let message = text(&unknown.stderr);
    assert_eq!(unknown.status.code(), Some(2), "{message}");
    assert!(message.contains("hint: it has `published`, `neutral`, `vllm-fork`"), "{message}");
    // A run goes on with the prompt it began with.
    let changed = run("own", &["--prompt-variant", "neutral", "--resume"]);
    let message = text(&changed.stderr);
    assert!(!changed.status.success() && message.contains("prompt_variant"), "{message}");
}

/// ETHICS: a long story is answered right or wrong, and its neighbours' demonstrations are too.
#[test]
fn records_of_a_case_are_scored_in_its_words() {
    let task = Task::load("ethics-commonsense").unwrap();
    let place = Place::new();
    let story = "{\"id\": \"a\", \"input\": \"I fed a cat.\", \"is_short\": true}\n\
                 {\"id\": \"b\", \"input\": \"I lost a dog.\", \"is_short\": \"False\"}\n";
    let data = Dataset::read(place.write("t.jsonl", story), &task).unwrap();
    let format = PromptFormat::new(&task).unwrap();
    let examples: Vec<_> = data.examples.iter().collect();
    let items = Items::new(&format, &examples).unwrap();
    let labels = [Some(0), Some(1)];
    let streams = SeedStream::new(1);
    let plan = OrderPlan::new(OrderOptions::DATASET, &items, &labels, &streams, Epoch::default());
    let asked = plan.ask(&items, &labels, &[0, 1], false);
    let shown: Vec<(&str, Vec<&str>)> = asked
        .tree
        .questions()
        .iter()
        .map(|q| (q.id.as_str(), q.labels.iter().map(String::as_str).collect()))
        .collect();
    assert_eq!(shown, [("a", vec!["acceptable", "unacceptable"]), ("b", vec!["right", "wrong"])]);
    let before_a = asked.tree.text(asked.tree.questions()[0].node);
    assert!(before_a.contains("I lost a dog.  ### Answer: wrong\n\n"), "{before_a}");
}
