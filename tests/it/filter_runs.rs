//! `w2s filter` as its users run it, on a tiny random model.

use serde_json::Value;

use crate::cli::{Place, good, strs, text, w2s};
use crate::common::tiny;

pub const QUESTIONS: &str = r#"{"id": "q1", "question": "Which?", "choices": ["wool", "silk", "jute"], "answer": 0}
{"id": "q2", "question": "What?", "choices": ["red", "green", "blue", "white"], "answer": 3}
{"id": "q3", "question": "Who?", "choices": ["oak", "elm"], "answer": "B"}
{"id": "q4", "question": "Where?", "choices": ["one", "two", "three", "four"], "answer": 1}
"#;

/// A filter command on the questions, with more arguments.
pub fn filter(place: &Place, out: &str, more: &[&str]) -> Vec<String> {
    let model = tiny("llama").display().to_string();
    let data = place.write("q.jsonl", QUESTIONS);
    let out = place.path(out);
    [
        "filter",
        "--entropy",
        "--model",
        &model,
        "--task",
        "multiple-choice",
        "--data",
        &data,
        "--out",
        &out,
    ]
    .iter()
    .chain(more)
    .map(|s| (*s).to_owned())
    .collect()
}

fn rows(place: &Place, file: &str) -> Vec<Value> {
    place.read(file).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const FILES: [&str; 5] =
    ["answers.jsonl", "kept.jsonl", "dropped.jsonl", "weights.jsonl", "summary.json"];

#[test]
fn a_run_writes_what_it_says_and_the_same_again() {
    let place = Place::new();
    let output = w2s(&strs(&filter(&place, "a", &[])));
    let told = text(&output.stderr);
    assert!(output.status.success(), "{told}");
    for part in [
        "questions (",
        "over 17 variants",
        "answers that could not be read: 0 of 17 (0.0 %)",
        "within the variants",
        "next: w2s eval",
    ] {
        assert!(told.contains(part), "`{part}` is not in:\n{told}");
    }
    good(&strs(&filter(&place, "b", &[])));
    good(&strs(&filter(&place, "c", &["--seed", "1"])));
    for file in FILES {
        assert_eq!(place.read(&format!("a/{file}")), place.read(&format!("b/{file}")), "{file}");
    }
    assert_ne!(place.read("a/answers.jsonl"), place.read("c/answers.jsonl"));
    // 5 orders of three and of four options, both orders of two.
    let answers = rows(&place, "a/answers.jsonl");
    assert_eq!(answers.len(), 17);
    assert_eq!(rows(&place, "a/weights.jsonl").len(), 17);
    let num = rows(&place, "a/kept.jsonl").len() + rows(&place, "a/dropped.jsonl").len();
    assert_eq!(num, 4);
    let manifest: Value = serde_json::from_str(&place.read("a/manifest.json")).unwrap();
    assert_eq!(manifest["gold_used"], false);
    assert_eq!(manifest["settings"]["num_labels"], 4);
    assert_eq!(manifest["settings"]["answers"], "soft");
    assert_eq!(manifest["settings"]["filter"]["value"], 0.5);
    let summary: Value = serde_json::from_str(&place.read("a/summary.json")).unwrap();
    assert!(summary["tokens_computed"].as_u64() < summary["tokens_full_prompts"].as_u64());
    assert_eq!(summary["num_prompts"], 17);
}

/// The tree changes nothing: each variant's distribution is that of its own prompt, by `w2s score`.
#[test]
fn distributions_are_those_of_each_prompt_by_itself() {
    let place = Place::new();
    good(&strs(&filter(&place, "a", &["--calibrate", "none"])));
    let answers = rows(&place, "a/answers.jsonl");
    let asked: String = answers
        .iter()
        .enumerate()
        .map(|(i, row)| {
            let num = row["distribution"].as_object().unwrap().len();
            let line = serde_json::json!({
                "id": i.to_string(), "prompt": row["prompt"], "labels": &["A", "B", "C", "D"][..num]
            });
            format!("{line}\n")
        })
        .collect();
    let input = place.write("prompts.jsonl", asked);
    let model = tiny("llama").display().to_string();
    let scored = good(&["score", "--model", &model, "--input", &input]);
    for (row, line) in answers.iter().zip(scored.lines()) {
        let line: Value = serde_json::from_str(line).unwrap();
        let order: Vec<usize> = row["option_order"]
            .as_array()
            .unwrap()
            .iter()
            .map(|i| i.as_u64().unwrap() as usize)
            .collect();
        let shown: Vec<f64> = (0..order.len())
            .map(|i| line["logprobs"][&["A", "B", "C", "D"][i]].as_f64().unwrap().exp())
            .collect();
        let total: f64 = shown.iter().sum();
        for (place, option) in order.iter().enumerate() {
            let given = row["distribution"][["A", "B", "C", "D"][*option]].as_f64().unwrap();
            assert!((given - shown[place] / total).abs() < 1e-6, "{row}\n{line}");
        }
    }
}

#[test]
fn gold_has_no_part_in_it() {
    let place = Place::new();
    good(&strs(&filter(&place, "a", &[])));
    let before: Vec<String> = FILES.iter().map(|file| place.read(&format!("a/{file}"))).collect();
    let model = tiny("llama").display().to_string();
    let others = [
        QUESTIONS
            .replace("\"answer\": 0", "\"answer\": 2")
            .replace("\"answer\": 3", "\"answer\": 0"),
        QUESTIONS
            .lines()
            .map(|line| format!("{}}}\n", line.split(", \"answer\"").next().unwrap()))
            .collect(),
    ];
    for (i, data) in others.iter().enumerate() {
        let data = place.write(&format!("other{i}.jsonl"), data);
        let out = place.path(&format!("other{i}"));
        good(&[
            "filter",
            "--entropy",
            "--model",
            &model,
            "--task",
            "multiple-choice",
            "--data",
            &data,
            "--out",
            &out,
        ]);
        for (file, before) in FILES.iter().zip(&before) {
            assert_eq!(&place.read(&format!("other{i}/{file}")), before, "{file}");
        }
    }
}

/// A filter of answers that a model trained on gold gave says so, though it asks no model itself.
#[test]
fn the_mark_of_gold_is_carried_on() {
    let place = Place::new();
    good(&strs(&filter(&place, "a", &[])));
    let marked =
        place.read("a/manifest.json").replace("\"gold_used\": false", "\"gold_used\": \"taught\"");
    assert!(marked.contains("taught"));
    place.write("a/manifest.json", marked);
    let (from, data, out) = (place.path("a/answers.jsonl"), place.path("q.jsonl"), place.path("b"));
    good(&[
        "filter",
        "--entropy",
        "--task",
        "multiple-choice",
        "--data",
        &data,
        "--from",
        &from,
        "--out",
        &out,
    ]);
    let manifest: Value = serde_json::from_str(&place.read("b/manifest.json")).unwrap();
    assert_eq!(manifest["gold_used"], "the answers were made with it: taught");
}

#[test]
fn a_killed_run_goes_on_to_the_same_bytes() {
    // More questions than one call of the scorer takes, so that there is something to go on from.
    let place = Place::new();
    let many: String = (0..40)
        .map(|i| format!("{{\"id\": \"m{i}\", \"question\": \"Is {i}?\", \"choices\": [\"yes {i}\", \"no\", \"well\"]}}\n"))
        .collect();
    let data = place.write("many.jsonl", many);
    let model = tiny("llama").display().to_string();
    for answers in ["soft", "votes"] {
        let (whole, cut) = (format!("{answers}-whole"), format!("{answers}-cut"));
        let run = |out: &str, more: &[&str]| {
            let out = place.path(out);
            let mut args =
                vec!["filter", "--entropy", "--model", &model, "--task", "multiple-choice"];
            args.extend(["--data", &data, "--answers", answers, "--out", &out]);
            if answers == "votes" {
                args.extend(["--max-new-tokens", "4"]);
            }
            args.extend(more);
            good(&args);
        };
        run(&whole, &[]);
        let journal = place.read(&format!("{whole}/journal.jsonl"));
        assert!(journal.lines().count() > 2, "{answers}");
        let first = journal.lines().next().unwrap();
        std::fs::create_dir(place.path(&cut)).unwrap();
        place.write(&format!("{cut}/manifest.json"), place.read(&format!("{whole}/manifest.json")));
        // What a kill leaves: one whole entry and half of the next.
        place.write(
            &format!("{cut}/journal.jsonl"),
            format!("{first}\n{}", &first[..first.len() / 2]),
        );
        run(&cut, &["--resume"]);
        for file in FILES.iter().chain(&["journal.jsonl"]) {
            assert_eq!(
                place.read(&format!("{whole}/{file}")),
                place.read(&format!("{cut}/{file}")),
                "{answers} {file}"
            );
        }
    }
}

#[test]
fn answers_that_are_there_are_filtered_anew() {
    let place = Place::new();
    good(&strs(&filter(&place, "soft", &[])));
    let votes = ["--answers", "votes", "--max-new-tokens", "6", "--export-csv"];
    let table = place.path("votes.csv");
    good(&strs(&filter(&place, "votes", &[&votes[..], &[&table]].concat())));
    let data = place.path("q.jsonl");
    let again = |out: &str, from: &str, more: &[&str]| {
        let out = place.path(out);
        let mut args = vec!["filter", "--entropy", "--task", "multiple-choice", "--data", &data];
        args.extend(["--from", from, "--out", &out]);
        args.extend(more);
        good(&args);
    };
    again("again", &place.path("soft/answers.jsonl"), &[]);
    again("table", &table, &[]);
    for (run, from) in [("again", "soft"), ("table", "votes")] {
        for file in ["answers.jsonl", "kept.jsonl", "dropped.jsonl", "weights.jsonl"] {
            let same = |run: &str| place.read(&format!("{run}/{file}"));
            // The table knows the text before `Answer:` as it was put.
            assert_eq!(same(run), same(from), "{run} {file}");
        }
    }
    again(
        "strict",
        &place.path("soft/answers.jsonl"),
        &["--keep-fraction", "0.25", "--weight-by", "margin"],
    );
    assert_eq!(rows(&place, "strict/kept.jsonl").len(), 1);
    // Kept labels are labels: they can be compared with those of another run.
    let diff = w2s(&["diff", &place.path("again"), &place.path("strict")]);
    let said = text(&diff.stdout);
    assert!(said.contains("filter.rule") && said.contains("kept.jsonl"), "{said}");
}

#[test]
fn the_evaluated_table_has_gold_as_its_target() {
    let place = Place::new();
    good(&strs(&filter(&place, "a", &["--num-variants", "2"])));
    let (run, gold, table) = (place.path("a"), place.path("q.jsonl"), place.path("t.csv"));
    good(&["eval", &run, "--gold", &gold, "--export-csv", &table]);
    let answers = rows(&place, "a/answers.jsonl");
    let mut reader = csv::Reader::from_path(&table).unwrap();
    let golds = [("q1", 0), ("q2", 3), ("q3", 1), ("q4", 1)];
    for (row, answer) in reader.records().map(Result::unwrap).zip(&answers) {
        assert_eq!(&row[0], answer["id"].as_str().unwrap());
        let gold = golds.iter().find(|(id, _)| *id == &row[0]).unwrap().1;
        let order = answer["option_order"].as_array().unwrap();
        let place = order.iter().position(|option| *option == gold).unwrap();
        assert_eq!(row[1], place.to_string(), "{answer}");
    }
    let again = w2s(&["eval", &run, "--gold", &gold, "--export-csv", &table]);
    assert!(text(&again.stderr).contains("the file is there already"));
}

/// How a test file of open answers is answered.
#[test]
fn one_answer_will_do_where_nothing_is_dropped() {
    let place = Place::new();
    good(&strs(&filter(&place, "one", &["--num-variants", "1", "--keep-fraction", "1"])));
    let answers = rows(&place, "one/answers.jsonl");
    let ids: Vec<&str> = answers.iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["q1", "q2", "q3", "q4"]);
    assert_eq!(rows(&place, "one/kept.jsonl").len(), 4);
}

#[test]
fn what_cannot_be_done_is_said() {
    let place = Place::new();
    good(&strs(&filter(&place, "a", &[])));
    for (more, parts) in [
        (
            vec!["--num-variants", "9"],
            vec![
                "question `q1` has 6 variants by `option-orders`, expected 9",
                "lower `--num-variants` to 6",
            ],
        ),
        (vec!["--num-variants", "1"], vec!["`--num-variants` is 1, expected 2 or more"]),
        (vec!["--limit", "0"], vec!["invalid value '0' for '--limit <N>'"]),
        (vec!["--variants", "word-orders"], vec!["cannot make variants by `word-orders`"]),
        (vec!["--parser", "option-letter"], vec!["`--parser` has no effect with `--answers soft`"]),
        (vec!["--answers", "votes", "--calibrate", "none"], vec!["`--calibrate` has no effect"]),
        (
            vec!["--answers", "votes", "--parser", "final-number"],
            vec!["parser `final-number` reads no answers"],
        ),
        (vec!["--quantile", "1.5"], vec!["`--quantile` is 1.5, expected 0 to 1"]),
        (vec!["--temperature", "0"], vec!["`--temperature` is 0, expected a number above 0"]),
        (vec!["--weight-by", "icm-margin"], vec!["needs `--labels FILE`"]),
        (vec!["--labels", "x"], vec!["`--labels` has no effect"]),
        (vec!["--validation-fraction", "1"], vec!["expected 0 or more and less than 1"]),
        (vec!["--quantile", "0.5", "--keep-fraction", "0.5"], vec!["cannot be used with"]),
        (vec!["--from", "x"], vec!["cannot be used with"]),
    ] {
        let output = w2s(&strs(&filter(&place, "new", &more)));
        let message = text(&output.stderr);
        assert!(!output.status.success(), "{more:?}");
        for part in parts {
            assert!(message.contains(part), "`{part}` is not in:\n{message}");
        }
        assert!(!std::path::Path::new(&place.path("new/journal.jsonl")).exists(), "{more:?}");
    }
    let none = w2s(&["filter", "--task", "mmlu", "--data", "x", "--out", "y", "--model", "z"]);
    assert!(text(&none.stderr).contains("--entropy"));
    let again = w2s(&strs(&filter(&place, "a", &[])));
    assert!(text(&again.stderr).contains("already holds a run"));
    let table = place.write("mine.csv", "mine");
    let kept = w2s(&strs(&filter(&place, "new", &["--export-csv", &table])));
    assert!(text(&kept.stderr).contains("the file is there already"));
    assert_eq!(place.read("mine.csv"), "mine");
}

/// A prompt that leaves no room in the context asked for is refused by its question's name, before
/// anything is written after it.
#[test]
fn written_answers_keep_to_the_context_and_name_the_question() {
    let place = Place::new();
    let long = QUESTIONS.replace("\"Who?\"", &format!("\"{}\"", "who ".repeat(150)));
    let args = filter(&place, "a", &["--answers", "votes", "--max-context", "200"]);
    place.write("q.jsonl", &long);
    let output = w2s(&strs(&args));
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    for part in ["example `q3`, variant 0", "in a context of 200", "hint: shorten the example"] {
        assert!(told.contains(part), "`{part}` is not in:\n{told}");
    }
    // With the room it takes the same run ends well.
    let all = filter(&place, "b", &["--answers", "votes", "--max-new-tokens", "3"]);
    good(&strs(&all));
    // And a text ends where the context does: 3 tokens may follow a prompt, but only one has room.
    let longest = rows(&place, "b/answers.jsonl");
    assert_eq!(longest.len(), 17);
}

/// HellaSwag's variants are put in the words of the published filter, "and provide", not in those of
/// the published evaluation, "and then provide".
/// Source: Irenehere/ReliableAlignment, Hellaswag/our_method_uncertainty_filtering.py and evaluation.py.
#[test]
fn variants_are_put_in_the_words_of_the_published_filter() {
    let place = Place::new();
    let model = tiny("llama").display().to_string();
    let data = place.write(
        "h.jsonl",
        r#"{"id": "h", "ctx": "A man sits. he", "endings": ["is up.", "is down.", "eats.", "sleeps."], "label": 0}"#,
    );
    let out = place.path("f");
    let args = ["filter", "--entropy", "--model", &model, "--task", "hellaswag", "--data", &data];
    good(&[&args[..], &["--out", &out]].concat());
    let prompt = rows(&place, "f/answers.jsonl")[0]["prompt"].as_str().unwrap().to_owned();
    let head = "### Instruction: Choose an appropriate ending for the provided sentence based on your commonsense knowledge.In your response, choose an answer from A,B,C,D, and provide a brief explanation. Sentence: A man sits. he. Choices: A. ";
    assert!(prompt.starts_with(head) && prompt.ends_with(". ### Answer: "), "{prompt}");
    let out = place.path("typed");
    good(&[&args[..], &["--out", &out, "--prompt-variant", "published"]].concat());
    let prompt = rows(&place, "typed/answers.jsonl")[0]["prompt"].as_str().unwrap().to_owned();
    assert!(prompt.contains("and then provide a brief explanation"), "{prompt}");
}
