//! `w2s eval` and `w2s report` on runs of `w2s filter`.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Value, json};
use w2s::data::{WeakRecord, json_lines};
use w2s::eval::WeakEvaluation;

use crate::cli::{Place, good, strs, text, w2s};
use crate::report::run_folder;
use crate::weak_eval::{NAMES, Run, record, rows, small_run};

/// Writes a filter run's folder.
fn write_run(dir: &Path, task: &str, answers: &str, run: &Run) {
    std::fs::create_dir_all(dir).unwrap();
    let settings = json!({"task": task, "model": "models/tiny/", "answers": answers,
        "num_variants": 5});
    let manifest = json!({"command": "filter", "command_line": ["w2s", "filter"],
        "settings": settings, "seed": 0, "versions": {}, "inputs": [], "gold_used": false});
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.join(name), bytes).unwrap();
    write("manifest.json", manifest.to_string().as_bytes());
    write("kept.jsonl", &json_lines(&run.kept).unwrap());
    write("dropped.jsonl", &json_lines(&run.dropped).unwrap());
    write("weights.jsonl", &json_lines(&run.rows).unwrap());
    let kind = json!({"by": "weak label", "kind": "posi|tive", "num": 4, "num_kept": 3});
    write("summary.json", json!({"num_examples": 8, "coverage": [kind]}).to_string().as_bytes());
    write("timing.json", b"{}");
}

fn gold_file(dir: &Path, gold: &HashMap<String, String>) -> String {
    let line = |(id, label): (&String, &String)| json!({"id": id, "label": label}).to_string();
    let lines: Vec<String> = gold.iter().map(line).collect();
    let path = dir.join("gold.jsonl");
    std::fs::write(&path, lines.join("\n")).unwrap();
    path.display().to_string()
}

#[test]
fn eval_and_report_read_filter_runs() {
    let place = tempfile::tempdir().unwrap();
    let run = small_run();
    let (votes, soft) = (place.path().join("votes"), place.path().join("soft"));
    write_run(&votes, "sentiment", "votes", &run);
    write_run(&soft, "sentiment", "soft", &run);
    let gold = gold_file(place.path(), &run.gold);
    let [votes_path, soft_path] = [&votes, &soft].map(|path| path.display().to_string());
    let output = w2s(&["eval", &votes_path, &soft_path, "--gold", &gold]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    let table = text(&output.stdout);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 8);
    // Wilson's formula by hand; 3 of 4: 0.3006 to 0.9544, 4 of 7: 0.2505 to 0.8418.
    for part in [
        "before   accuracy 57.1 % [25.0, 84.2] (4 of 7)  unparsed 14.3 %",
        "kept     accuracy 75.0 % [30.1, 95.4] (3 of 4)  retained 50.0 %",
        "dropped  accuracy 33.3 % [6.1, 79.2] (1 of 3)  unparsed 33.3 %",
        "gain     +17.9 points [",
        "AUROC of low entropy 0.458 [",
    ] {
        assert!(table.contains(part), "`{part}` is missing in:\n{table}");
    }
    assert!(said.contains("gold knows 7 of 8 questions"), "{said}");
    assert!(said.contains("entropy hardly tells right labels from wrong ones"), "{said}");
    let written: WeakEvaluation =
        serde_json::from_slice(&std::fs::read(votes.join("eval.json")).unwrap()).unwrap();
    assert_eq!((written.answers.as_str(), written.gold_column.as_str()), ("votes", "label"));
    assert_eq!(written.labels, NAMES);
    let again: Value =
        serde_json::from_slice(&std::fs::read(votes.join("eval.json")).unwrap()).unwrap();
    assert_eq!(again["bins"][0]["num_questions"], 4);

    let out = place.path().join("report");
    let out_path = out.display().to_string();
    let files = good(&["report", &votes_path, &soft_path, "--out", &out_path]);
    for stem in ["accuracy", "entropy-bins-votes", "reliability-votes", "entropy-bins-soft"] {
        assert!(files.contains(&format!("{stem}.svg")) && files.contains(&format!("{stem}.png")));
    }
    let page = std::fs::read_to_string(out.join("report.md")).unwrap();
    for line in [
        "| 0 | 4 | 2 | 1 | 1 | 50.0% [15.0, 85.0] | 75.0% |",
        "| 0.673 | 2 | 1 | 1 | 0 | 50.0% [9.5, 90.5] | 0.0% |",
        "| negative | 6 | 50.0% | 3 | 66.7% |",
        "| weak label | posi\\|tive | 4 | 75.0% |",
    ] {
        assert!(page.lines().any(|other| other == line), "`{line}` is missing in:\n{page}");
    }
    for part in [
        "| weak labels (votes) | 7 | 57.1% [25.0, 84.2] | 75.0% [30.1, 95.4] | 33.3% [6.1, 79.2] | +17.9 [",
        " | 50.0% | 14.3% | 0.458 [",
        "Kept of weak labels (votes): 75.0% of the right labels, 33.3% of the wrong ones",
        "accuracy does not fall everywhere as entropy rises: 50.0% at 0, 100.0% at 0.500 nats (the intervals overlap)",
    ] {
        assert!(page.contains(part), "`{part}` is missing in:\n{page}");
    }

    // Alone, its figures have plain names; a run that did not end is not evaluated.
    good(&["report", &votes_path, "--out", &out_path]);
    assert!(out.join("entropy-bins.svg").exists() && out.join("reliability.png").exists());
    std::fs::remove_file(votes.join("timing.json")).unwrap();
    let output = w2s(&["eval", &votes_path, "--gold", &gold]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("not complete"));
}

#[test]
fn filter_runs_stand_among_label_runs() {
    let place = Place::new();
    good(&strs(&place.label("zs", &["--method", "zero-shot"])));
    let claims = ["a", "b", "c", "d"];
    let kept = claims.map(|id| record(id, Some("True"), 0.0)).to_vec();
    let run = Run { kept, dropped: vec![], rows: vec![], gold: HashMap::new() };
    let weak = place.folder.path().join("weak");
    write_run(&weak, "gsm8k-verification", "votes", &run);
    let [zs, weak, claims] = ["zs", "weak", "claims.jsonl"].map(|name| place.path(name));
    let table = good(&["eval", &weak, &zs, "--gold", &claims]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 5, "{table}");
    assert!(lines[0].contains("zero-shot accuracy") && lines[0].contains("of 6)"), "{table}");
    // a and c are true; without rows there is no accuracy of rows.
    assert!(lines[1].contains("before   accuracy 50.0 % [15.0, 85.0] (2 of 4)"), "{table}");
    assert!(lines[3].ends_with("dropped  no question with gold"), "{table}");
    assert!(lines[4].contains("gain     none (nothing was dropped)"), "{table}");

    let other = run_folder(place.folder.path(), "other", "few-shot", 8).display().to_string();
    let out = place.path("report");
    good(&["report", &other, &weak, &zs, "--out", &out]);
    let svg = place.read("report/accuracy.svg");
    let document = resvg::usvg::roxmltree::Document::parse(&svg).unwrap();
    let description = document.descendants().find(|node| node.has_tag_name("desc")).unwrap();
    let said = description.text().unwrap();
    // The bars are in the order of the arguments.
    let places: Vec<usize> =
        ["few-shot gold, polarity", "weak labels, gsm8k", ", kept: 50.0%", "zero-shot, gsm8k"]
            .iter()
            .map(|name| said.find(name).unwrap_or_else(|| panic!("`{name}` is missing in {said}")))
            .collect();
    assert!(places.is_sorted(), "{said}");
    let page = place.read("report/report.md");
    assert!(page.contains("| few-shot gold, polarity, tiny |"), "{page}");
    assert!(page.contains("## Weak labels and their filter"), "{page}");
    assert!(page.contains("the filter kept every question"), "{page}");
    assert!(!page.contains("## Single answers"), "{page}");
}

#[test]
fn options_and_open_answers_are_held_against_their_gold() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("run");
    let path = dir.display().to_string();
    let gold = place.path().join("gold.jsonl");
    let gold_path = gold.display().to_string();
    let evaluated = || -> WeakEvaluation {
        good(&["eval", &path, "--gold", &gold_path]);
        serde_json::from_slice(&std::fs::read(dir.join("eval.json")).unwrap()).unwrap()
    };
    let weak = |kept: &[(&str, &str)], dropped: &[(&str, &str)]| {
        let records = |all: &[(&str, &str)]| -> Vec<WeakRecord> {
            all.iter().map(|(id, label)| record(id, Some(label), 0.5)).collect()
        };
        let all = kept.iter().chain(dropped);
        let rows = all.flat_map(|(id, label)| rows(id, &[(2, Some(*label), 0.5)])).collect();
        Run { kept: records(kept), dropped: records(dropped), rows, gold: HashMap::new() }
    };
    // Gold by place or by letter.
    write_run(&dir, "hellaswag", "votes", &weak(&[("1", "B"), ("2", "D")], &[("3", "A")]));
    std::fs::write(&gold, "{\"id\": 1, \"label\": 1}\n{\"id\": 2, \"label\": \"C\"}\n").unwrap();
    let got = evaluated();
    assert_eq!(got.labels, ["A", "B", "C", "D"]);
    assert_eq!((got.num_with_gold, got.before.num_right, got.dropped.num_questions), (2, 1, 0));
    let map = got.reliability_map.expect("labels");
    let filled: usize = map.cells.iter().flatten().filter(|cell| cell.num_rows == 2).count();
    assert_eq!((filled, map.cells[1][1].mean_weight, map.cells[2][3].num_rows), (2, Some(0.5), 2));

    // A solution ends on its answer.
    write_run(&dir, "gsm8k", "votes", &weak(&[("1", "1200")], &[("2", "7")]));
    std::fs::write(
        &gold,
        "{\"id\": 1, \"answer\": \"So 6 * 200. #### 1,200\"}\n{\"id\": 2, \"answer\": \"#### 8\"}\n",
    )
    .unwrap();
    let got = evaluated();
    assert!(got.labels.is_empty() && got.reliability_map.is_none());
    assert_eq!((got.kept.num_right, got.dropped.num_right), (1, 0));
    let out = place.path().join("report");
    good(&["report", &path, "--out", &out.display().to_string()]);
    assert!(out.join("entropy-bins.png").exists() && !out.join("reliability.png").exists());
    let page = std::fs::read_to_string(out.join("report.md")).unwrap();
    assert!(
        page.contains("Kept of weak labels: 100.0% of the right labels, 0.0% of the wrong ones.")
    );
}

#[test]
fn broken_filter_runs_are_named() {
    let place = tempfile::tempdir().unwrap();
    let run = small_run();
    let dir = place.path().join("run");
    let path = dir.display().to_string();
    let gold = gold_file(place.path(), &run.gold);
    let fails = |parts: &[&str]| {
        let output = w2s(&["eval", &path, "--gold", &gold]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        for part in parts {
            assert!(said.contains(part), "`{part}` is missing in:\n{said}");
        }
    };
    write_run(&dir, "sentiment", "votes", &run);
    std::fs::write(dir.join("kept.jsonl"), "{\"id\": \"a\"}\n").unwrap();
    fails(&["kept.jsonl", "line 1", "missing field"]);
    std::fs::remove_file(dir.join("kept.jsonl")).unwrap();
    fails(&["kept.jsonl"]);
}
