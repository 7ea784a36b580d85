//! Task files: every built-in one, the form a user writes, and what is refused.

use std::path::Path;

use serde_json::json;
use w2s::data::{Dataset, GoldLabels, Rule, Task};
use w2s::error::{Error, ErrorKind};
use w2s::prompt::PromptFormat;

/// A whole task, line 1 first; tests change one thing of it.
const WHOLE: &str = r#"name = "urgency"
description = "does a ticket need an answer today"
source = "here"
positive = "urgent"
[fields]
body = ["body", "text"]
[prompt]
instruction = "Read.\n"
template = "Ticket: {body}\nPriority: "
[[labels]]
name = "normal"
accept = ["0"]
[[labels]]
name = "urgent"
word = "high"
accept = ["1"]
[gold]
columns = ["label"]
forbidden = ["hours"]
[consistency]
group = ["thread"]
key = { from = "text", field = "body" }
rules = ["contradiction", "implication", "asymmetry"]
"#;

fn load(toml: &str) -> Result<Task, Error> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("t.toml");
    std::fs::write(&path, toml).expect("a file is written");
    Task::load(path.to_str().expect("a UTF-8 path"))
}

#[test]
fn every_built_in_task_loads_under_its_name() {
    let mut num_tasks = 0;
    for (name, description) in Task::builtin() {
        let task = Task::load(name).unwrap();
        assert_eq!((task.name.as_str(), task.description.as_str()), (name, description));
        assert!(!description.is_empty() && !task.source.is_empty(), "{name}");
        assert!(task.prompt.template.ends_with(' '), "{name}: a label word follows a blank");
        assert!(PromptFormat::new(&task).is_ok(), "{name}");
        num_tasks += 1;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/tasks");
    let files = std::fs::read_dir(folder).unwrap();
    let tomls = files.filter(|file| {
        file.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "toml")
    });
    assert_eq!(tomls.count(), num_tasks, "a task file is not built in");
}

/// The example of the guide is a task, and reads the file it speaks of.
#[test]
fn the_guide_is_right() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/tasks/README.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let toml = guide.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let task = load(toml).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tickets.csv");
    let table = "id,subject,body,label\n7,Down,\"All is\ndown\",high\n8,Hi,Thanks,\n";
    std::fs::write(&path, table).unwrap();
    let data = Dataset::read(&path, &task).unwrap();
    let gold = GoldLabels::read(&path, &task).unwrap();
    assert_eq!((gold.get("7"), gold.get("8")), (Some(1), None));
    let format = PromptFormat::new(&task).unwrap();
    assert_eq!(
        format.demonstration(&data.examples[0], 1).unwrap(),
        "Subject: Down\nTicket: All is down\nPriority: urgent\n\n"
    );
}

#[test]
fn a_task_file_is_read_as_written() {
    let task = load(WHOLE).unwrap();
    assert_eq!((task.name.as_str(), task.positive, task.num_labels()), ("urgency", 1, 2));
    assert_eq!(task.rules, [Rule::Contradiction, Rule::Implication, Rule::Asymmetry]);
    assert_eq!(task.toml, WHOLE);
    assert_eq!(task.prompt.separator, "\n\n");
    let format = PromptFormat::new(&task).unwrap();
    assert_eq!((format.instruction(), format.label_words()), ("Read.\n", vec!["normal", "high"]));
    for (value, expected) in [
        (json!("URGENT"), Some(1)),
        (json!(1), Some(1)),
        (json!(1.0), Some(1)),
        (json!(0), Some(0)),
        (json!("high"), None),
        (json!(null), None),
        (json!(true), None),
        (json!(["0"]), None),
    ] {
        assert_eq!(task.label_index(&value), expected, "{value}");
    }
    let last =
        load(&WHOLE.replace("positive = \"urgent\"\n", "").replace("\"contradiction\", ", ""));
    assert_eq!(last.unwrap().positive, 1);
}

/// One change each, the line the error names and words of its message.
#[test]
fn wrong_task_files_are_refused_with_their_line() {
    let cases: Vec<(String, usize, &str)> = vec![
        (WHOLE.replace("source =", "sauce ="), 3, "unknown field `sauce`"),
        (WHOLE.replace("accept = [\"1\"]", "acept = [\"1\"]"), 16, "unknown field `acept`"),
        (WHOLE.replace("group = [\"thread\"]", "group = \"thread\""), 21, "invalid type"),
        (WHOLE.replace("forbidden = [", "forbidden = "), 19, ""),
        (WHOLE.replace("\"asymmetry\"", "\"symmetry\""), 23, "unknown variant `symmetry`"),
        (WHOLE.replace("\"urgency\"", "\"my task\""), 1, "task name `my task` cannot be used"),
        (WHOLE.replace("positive = \"urgent\"", "positive = \"hot\""), 4, "`hot` is no label"),
        (WHOLE.replace("positive = \"urgent\"\n", ""), 22, "without a positive label"),
        (WHOLE.replace("{body}", "{title}"), 9, "names the field `title`, which is not declared"),
        (WHOLE.replace("{body}", "{body"), 9, "template has a `{` that is not closed"),
        (WHOLE.replace("{body}", "body"), 9, "template names no field"),
        (WHOLE.replace("word = \"high\"", "word = \" high\""), 13, "is empty or has blanks"),
        (WHOLE.replace("word = \"high\"", "word = \"\""), 13, "is empty or has blanks"),
        (WHOLE.replace("word = \"high\"", "word = \"normal\""), 13, "have one word"),
        (WHOLE.replace("accept = [\"1\"]", "accept = [\"Normal\"]"), 13, "spelling `normal`"),
        (WHOLE.replace("accept = [\"1\"]", "accept = [\"0.0\"]"), 13, "spelling `0` stands"),
        (WHOLE.replace("name = \"normal\"", "name = \"urgent\""), 13, "`urgent` is there twice"),
        (
            WHOLE.replace("[\"body\", \"text\"]", "[\"body\", \"hours\"]"),
            6,
            "`hours`, which holds gold",
        ),
        (WHOLE.replace("[\"body\", \"text\"]", "[\"label\"]"), 6, "`label`, which holds gold"),
        // `label` is closed even where gold is in another column.
        (
            WHOLE
                .replace("columns = [\"label\"]", "columns = [\"truth\"]")
                .replace("[\"body\", \"text\"]", "[\"label\"]"),
            6,
            "`label`, which holds gold",
        ),
        (WHOLE.replace("[\"body\", \"text\"]", "[]"), 6, "field `body` has no columns"),
        (WHOLE.replace("[\"thread\"]", "[\"hours\"]"), 21, "the consistency group comes from"),
        (
            WHOLE.replace("\"text\", field = \"body\"", "\"column\", column = \"hours\""),
            22,
            "the key comes from column `hours`",
        ),
        (WHOLE.replace("field = \"body\"", "field = \"title\""), 22, "the field `title`"),
        (WHOLE.replace("from = \"text\"", "from = \"order\""), 22, "`fields` with two names"),
        (
            WHOLE.replace("\"text\", field = \"body\"", "\"order\", fields = [\"body\"]"),
            22,
            "`fields` with two names",
        ),
        (WHOLE.replace("from = \"text\"", "from = \"column\""), 22, "takes `column` and nothing"),
        (WHOLE.replace("group = [\"thread\"]\n", ""), 22, "rules without a group"),
        (
            WHOLE.replace("key = { from = \"text\", field = \"body\" }\n", ""),
            22,
            "rules without a key",
        ),
        (WHOLE.replace("\"implication\"", "\"contradiction\""), 23, "a rule is listed twice"),
        (
            WHOLE.replace("[gold]", "[[labels]]\nname = \"never\"\n[gold]"),
            25,
            "more than two labels",
        ),
    ];
    for (toml, expected_line, words) in cases {
        let error = load(&toml).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Task, "{error}");
        assert!(error.message().contains(words), "expected {words}: {error}");
        let line = error.place().and_then(|(_, line)| line);
        assert_eq!(line, Some(expected_line), "{error}");
    }
}

#[test]
fn a_task_without_labels_is_refused() {
    let begin = WHOLE.split("[[labels]]").next().unwrap().replace("positive = \"urgent\"\n", "");
    for labels in ["", "labels = []\n", "[[labels]]\nname = \"a\"\n"] {
        let toml = format!("{begin}{labels}");
        let toml = if labels.starts_with("labels") { format!("{labels}{begin}") } else { toml };
        let error = load(&toml).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Task);
        let missing = error.message().contains("missing field `labels`");
        assert!(missing || error.message().contains("expected two or more"), "{error}");
    }
}

#[test]
fn an_unknown_task_lists_those_there_are() {
    let error = Task::load("sentimental").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Task);
    assert_eq!(error.message(), "unknown task `sentimental`");
    let shown = error.to_string();
    for (name, _) in Task::builtin() {
        assert!(shown.contains(&format!("`{name}`")), "{shown}");
    }
    assert_eq!(Task::load("no/such/task.toml").unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn a_table_without_a_header_is_read_by_the_columns_of_the_task() {
    let task =
        load(&WHOLE.replace("[fields]", "columns = [\"label\", \"body\"]\n[fields]")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.csv");
    std::fs::write(&path, "1,fire\n0,thanks\n").unwrap();
    let data = Dataset::read(&path, &task).unwrap();
    assert_eq!(data.examples[0].fields["body"], "fire");
    assert_eq!(GoldLabels::read(&path, &task).unwrap().get("row-1"), Some(1));
}
