//! Task files: every built-in one, the form a user writes, and what is refused.

use std::path::Path;

use serde_json::json;
use w2s::data::{Dataset, GoldLabels, Rule, Task, VariantKind};
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
        assert!(PromptFormat::new(&task).is_ok(), "{name}");
        let variants: Vec<&str> = task.variants.iter().map(|v| v.name.as_str()).collect();
        let published = ["published", "default"].contains(&variants[0]);
        assert!(published || name == "daily-dilemmas", "{name}: {variants:?}");
        for variant in &task.variants {
            let end = variant.template.chars().last().unwrap();
            assert!(end == ' ' || end == '\n', "{name}: a label word follows a blank");
            assert_eq!(variant.words.len(), task.num_labels());
            let chosen = task.clone().with_variant(&variant.name).unwrap();
            assert_eq!(&chosen.prompt, variant);
            let words: Vec<&str> = chosen.labels.iter().map(|label| label.word.as_str()).collect();
            assert_eq!(words, variant.words);
        }
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

/// What the guide adds to its example can be added to it.
#[test]
fn the_guides_additions_are_right() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/tasks/README.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let blocks: Vec<&str> =
        guide.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let other_tasks = ["{story}", "key = ", "[options]"];
    let is_addition = |block: &&&str| !other_tasks.iter().any(|part| block.contains(part));
    let mut toml = blocks[0].to_owned();
    blocks[1..].iter().filter(is_addition).for_each(|block| toml.push_str(block));
    let task = load(&toml).unwrap();
    let names: Vec<&str> = task.gold_names().collect();
    assert_eq!(names, ["label", "rated", "security", "topic"]);
    assert!(task.clone().with_variant("neutral").is_ok());
    assert_eq!(task.variant_kind(None).unwrap(), VariantKind::Templates);
    assert_eq!(task.hub.unwrap().files.len(), 2);
    let options = blocks.iter().find(|block| block.contains("[options]")).unwrap();
    let begin = "name = \"t\"\ndescription = \"d\"\n[fields]\nquestion = [\"question\"]\n";
    let task = load(&format!("{begin}{options}")).unwrap();
    assert_eq!(task.variant_kind(None).unwrap(), VariantKind::OptionOrders);
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
        (
            format!(
                "{WHOLE}reference = {{ columns = [\"v\"], by_label = {{ urgent = \"A\" }} }}\n"
            ),
            24,
            "one key for each label",
        ),
        (
            format!(
                "{WHOLE}reference = {{ columns = [\"v\"], by_label = {{ normal = \"B\", urgent = \"A\", \
                 hot = \"C\" }} }}\n"
            ),
            24,
            "one key for each label",
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

/// A task with variants, cases and several gold columns; tests change one thing of it.
const MORE: &str = r#"name = "more"
description = "a task with everything"
[fields]
text = ["text"]
kind = { columns = ["kind"], default = "short" }
[prompt]
template = "T: {text}\nA: "
[[prompt.cases]]
field = "kind"
is = ["Long", "1.0"]
template = "Long T: {text}\nA: "
words = { no = "wrong", yes = "right" }
[variants.neutral]
instruction = "Go on.\n"
template = "{text}\n"
words = { no = "B", yes = "A" }
[variants.tight]
separator = "\n"
[[labels]]
name = "no"
[[labels]]
name = "yes"
[gold.concepts.big]
columns = ["size"]
above = 2
then = "yes"
otherwise = "no"
[hub]
repo = "owner/name"
split = "test"
files = { test = "t.csv" }
"#;

#[test]
fn a_prompt_is_asked_in_the_words_of_its_variant_and_case() {
    let task = load(MORE).unwrap();
    let (_folder, path) = {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.jsonl");
        let records = [
            json!({"text": "a", "kind": "LONG"}),
            json!({"text": "b", "kind": 1}),
            json!({"text": "c", "kind": "short"}),
            json!({"text": "d"}),
        ];
        let lines: Vec<String> = records.iter().map(ToString::to_string).collect();
        std::fs::write(&path, lines.join("\n")).unwrap();
        (folder, path)
    };
    let shown = |task: &Task| -> Vec<String> {
        let format = PromptFormat::new(task).unwrap();
        let data = Dataset::read(&path, task).unwrap();
        let shown = |e| format.demonstration(e, 1).unwrap();
        data.examples.iter().map(shown).collect()
    };
    let long = ["Long T: a\nA: right", "Long T: b\nA: right"];
    let short = ["T: c\nA: yes", "T: d\nA: yes"];
    let ended =
        |end: &str| long.iter().chain(&short).map(|t| format!("{t}{end}")).collect::<Vec<_>>();
    assert_eq!(shown(&task), ended("\n\n"));
    // A variant of the same words keeps the cases, one with a template of its own does not.
    assert_eq!(shown(&task.clone().with_variant("tight").unwrap()), ended("\n"));
    let neutral = task.clone().with_variant("neutral").unwrap();
    assert_eq!(shown(&neutral), ["a\nA\n\n", "b\nA\n\n", "c\nA\n\n", "d\nA\n\n"]);
    assert_eq!(PromptFormat::new(&neutral).unwrap().instruction(), "Go on.\n");
    assert_eq!(PromptFormat::new(&neutral).unwrap().label_words(), ["B", "A"]);
    let data = Dataset::read(&path, &task).unwrap();
    let format = PromptFormat::new(&task).unwrap();
    assert_eq!(format.words_of(&data.examples[0]), ["wrong", "right"]);
    assert_eq!(format.words_of(&data.examples[3]), ["no", "yes"]);

    let message = |task: &Task, i: usize| {
        PromptFormat::new(task).unwrap().chat_message(&data.examples[i]).unwrap()
    };
    assert_eq!(message(&task, 0), "Long T: a\nA:\n\nAnswer with wrong or right only.");
    assert_eq!(message(&neutral, 3), "Go on.\nd\n\nAnswer with B or A only.");
    let asked = MORE
        .replace("[[prompt.cases]]", "chat_request = \"One word: {words}.\\n\"\n[[prompt.cases]]")
        .replace("[variants.tight]", "[variants.tight]\nchat_request = \"{{yes}}?\"");
    let asked = load(&asked).unwrap();
    assert_eq!(message(&asked, 0), "Long T: a\nA:\n\nOne word: wrong or right.");
    assert_eq!(message(&asked.with_variant("tight").unwrap(), 2), "T: c\nA:\n\n{yes}?");

    let error = task.with_variant("neutrel").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(
        error.to_string(),
        "task `more` has no prompt variant `neutrel`\nhint: it has `default`, `neutral`, `tight`"
    );
}

#[test]
fn wrong_variants_and_gold_are_refused_with_their_line() {
    let cases: Vec<(String, usize, &str)> = vec![
        (
            MORE.replace("separator = \"\\n\"", "separator = \"\\n\\n\""),
            17,
            "no other than `default`",
        ),
        (MORE.replace("words = { no = \"B\", yes", "words = { yes"), 16, "none for label `no`"),
        (
            MORE.replace("{ no = \"B\"", "{ maybe = \"C\", no = \"B\""),
            16,
            "`maybe`, which is no label",
        ),
        (MORE.replace("yes = \"A\"", "yes = \"B\""), 16, "have one word"),
        (MORE.replace("\"{text}\\n\"", "\"{txt}\\n\""), 15, "the field `txt`"),
        (MORE.replace("[variants.tight]", "[variants.default]"), 17, "cannot have this name"),
        (MORE.replace("field = \"kind\"", "field = \"sort\""), 8, "the field `sort`"),
        (MORE.replace("is = [\"Long\", \"1.0\"]", "is = []"), 8, "never change anything"),
        (
            MORE.replace("[\"text\"]", "{ columns = [\"text\"], default = \"\" }"),
            3,
            "every field has",
        ),
        (MORE.replace("[\"text\"]", "\"text\""), 4, "expected a list of columns"),
        (MORE.replace("[\"text\"]", "[\"size\"]"), 4, "`size`, which holds gold"),
        (MORE.replace("[\"text\"]", "[\"size.0\"]"), 4, "`size.0`, which holds gold"),
        (
            MORE.replace("[fields]", "id = [\"size\"]\n[fields]"),
            3,
            "the id comes from column `size`",
        ),
        (MORE.replace("then = \"yes\"", "then = \"y\""), 23, "`y` is no label"),
        (MORE.replace("otherwise = \"no\"\n", ""), 23, "know one label only"),
        (MORE.replace("above = 2\n", ""), 23, "takes `labels`, or `above`"),
        (MORE.replace("above = 2", "contains = []"), 23, "takes `labels`, or `above`"),
        (MORE.replace("split = \"test\"", "split = \"train\""), 28, "split `train` has no file"),
        (
            MORE.replace("[variants.tight]", "[variants.tight]\nchat_request = \"{word}\""),
            18,
            "chat_request names `word`",
        ),
        (
            MORE.replace("[variants.tight]", "[variants.tight]\nchat_request = \" \""),
            18,
            "chat_request is empty",
        ),
        (MORE.replace("[fields]", "reader = \"magic\"\n[fields]"), 3, "unknown variant `magic`"),
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
        let missing = error.message().contains("task has no labels");
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
