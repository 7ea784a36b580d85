//! The page that needs no other file: its parts, what runs may put on it, and what stays off it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use w2s::error::ErrorKind;
use w2s::eval::{Flip, flips_from_trace};
use w2s::report::{ReportInputs, ReportSummary, report_on};

use crate::report::run_folder;

/// What would end a script, begin an element, or break a line of JavaScript.
const HOSTILE: &str =
    "<b>x</b></script><script>alert(1)</script><!-- & \" ' \u{2028}\u{2029} \u{7}";

/// A run folder whose examples can be shown: four texts, a search that flips one of them.
fn shown_run(root: &Path) -> PathBuf {
    let dir = run_folder(root, "mine", "icm", 9);
    let data = root.join("reviews.jsonl");
    let records: Vec<String> = ["fine", HOSTILE, "dull", "good"]
        .iter()
        .enumerate()
        .map(|(index, text)| {
            json!({"id": format!("r{index}"), "text": text, "label": "positive"}).to_string()
        })
        .collect();
    fs::write(&data, records.join("\n")).expect("written");
    let labels: String = (0..4)
        .map(|index| {
            let label = if index < 3 { "positive" } else { "negative" };
            format!(
                "{{\"id\":\"r{index}\",\"label\":\"{label}\",\"logprobs\":{{\"negative\":-1.6094379,\
                 \"positive\":-0.2231436}},\"margin\":{},\"last_flip\":null}}\n",
                if index < 3 { 1.3863 } else { -1.3863 }
            )
        })
        .collect();
    fs::write(dir.join("labels.jsonl"), labels).expect("written");
    let trace = [
        json!({"event": "start", "batch": 0, "iteration": 0, "score": -9.0,
            "labels": [["r0", "negative"], ["r1", "positive"]]}),
        json!({"event": "proposal", "batch": 0, "iteration": 1, "id": "r0", "accepted": false,
            "score": -9.0, "proposed_score": -10.0, "changes": [["r0", "negative", null]]}),
        json!({"event": "proposal", "batch": 0, "iteration": 7, "id": "r0", "accepted": true,
            "score": -9.0, "proposed_score": -8.0, "changes": [["r0", "negative", "positive"]]}),
    ];
    let lines: String = trace.iter().map(|event| format!("{event}\n")).collect();
    fs::write(dir.join("trace.jsonl"), lines).expect("written");
    let task = w2s::data::Task::load("sentiment").expect("a built-in task");
    let dataset = w2s::data::Dataset::read(&data, &task).expect("data");
    let manifest = json!({
        "command": "label",
        "command_line": ["w2s", "label", "--task", "it's"],
        "settings": {"method": "icm", "task": "sentiment", "model": "models/<i>tiny",
            "data": data, "search": {"alpha": 50.0}},
        "seed": 3,
        "inputs": [{"role": "data", "path": data, "sha256": dataset.sha256},
            {"role": "task", "path": "sentiment", "sha256": task.sha256}],
        "gold_used": false,
        "versions": {"w2s": "0.1.0", "libtorch": "2.11.0"},
    });
    fs::write(dir.join("manifest.json"), manifest.to_string()).expect("written");
    fs::write(
        dir.join("timing.json"),
        "{\"session_seconds\": 90.5, \"peak_memory_bytes\": 2147483648}",
    )
    .expect("written");
    dir
}

fn write_report(inputs: &ReportInputs, out: &Path) -> (ReportSummary, String) {
    let summary = report_on(inputs, out).expect("a report");
    let page = fs::read_to_string(out.join("report.html")).expect("the page");
    (summary, page)
}

fn inputs(runs: &[&Path]) -> ReportInputs {
    let runs = runs.iter().map(|run| run.to_path_buf()).collect();
    ReportInputs { runs, ..ReportInputs::default() }
}

/// The data of the table of examples.
fn data(page: &str) -> Value {
    let (_, rest) = page.split_once("id=\"example-data\">").expect("data");
    let (text, _) = rest.split_once("</script>").expect("an end");
    serde_json::from_str(text).expect("JSON")
}

/// The values of an attribute anywhere in the page.
fn values<'a>(page: &'a str, attribute: &str) -> Vec<&'a str> {
    let mark = format!(" {attribute}=\"");
    page.split(&mark).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn the_page_has_every_part_and_asks_for_nothing() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let run = shown_run(root.path());
    let (summary, page) = write_report(&inputs(&[&run]), &root.path().join("out"));
    assert!(summary.files.iter().any(|file| file.ends_with("report.html")));
    assert!(page.starts_with("<!DOCTYPE html>\n<html lang=\"en\">\n"));
    assert!(page.ends_with("</body>\n</html>\n"));
    for (id, name) in [
        ("runs", "Runs"),
        ("notes", "Notes"),
        ("figures", "Figures"),
        ("tables", "Measurements"),
        ("examples", "Examples"),
        ("provenance", "How the runs were made"),
    ] {
        assert!(page.contains(&format!("<section id=\"{id}\"")), "{id}");
        assert!(page.contains(&format!("<a href=\"#{id}\">{name}</a>")), "{id}");
        assert!(page.contains(&format!("<h2 id=\"{id}-title\">{name}</h2>")), "{id}");
    }
    for text in [
        "90.0% [59.6, 98.2]",
        "\u{2212}3.50",
        "12,345",
        "99% saved",
        "90 s",
        "2.0 GiB",
        "search.alpha",
        "Gold had no part in this run.",
        "w2s label --task &#39;it&#39;\\&#39;&#39;s&#39;",
    ] {
        assert!(page.contains(text), "`{text}` is missing");
    }
    assert_eq!(page.matches("<figure ").count(), 2);
    assert_eq!(page.matches("<svg ").count(), page.matches("aria-label=\"").count() - 2);

    // Addresses lead within the page or carry what they name.
    assert!(values(&page, "src").is_empty());
    for address in values(&page, "href") {
        assert!(address.starts_with('#') || address.starts_with("data:"), "{address}");
    }
    for (part, _) in page.match_indices("url(") {
        assert!(page[part..].starts_with("url(#"), "{}", &page[part..part + 40]);
    }
    for word in ["@import", "<link rel=\"stylesheet", "<iframe", "fetch(", "XMLHttpRequest"] {
        assert!(!page.contains(word), "{word}");
    }
    let ids = values(&page, "id");
    let once: std::collections::HashSet<&&str> = ids.iter().collect();
    assert_eq!(once.len(), ids.len(), "{ids:?}");
}

#[test]
fn what_runs_say_is_text() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let run = shown_run(root.path());
    let (_, page) = write_report(&inputs(&[&run]), &root.path().join("out"));
    assert!(!page.contains("<i>tiny") && page.contains("&lt;i&gt;tiny"));
    assert!(!page.contains("<b>x</b>") && !page.contains("alert(1)</script>"));
    // The data and the page's own script.
    assert_eq!(page.matches("</script>").count(), 2);
    assert!(!page.contains('\u{2028}') && !page.contains('\u{2029}'));
    let shown = data(&page)["texts"].clone();
    assert!(
        shown
            .as_array()
            .expect("texts")
            .iter()
            .any(|text| { text.as_str().expect("a text").contains(HOSTILE.trim()) })
    );
}

#[test]
fn examples_have_what_the_run_knows_of_them() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let run = shown_run(root.path());
    let flips = flips_from_trace(&run.join("trace.jsonl")).expect("a trace");
    let flip = |iteration, label: &str| Flip { iteration, label: Some(label.to_owned()) };
    assert_eq!(flips["r0"], [flip(0, "negative"), flip(7, "positive")]);
    assert_eq!(flips["r1"], [flip(0, "positive")]);
    assert_eq!(flips.len(), 2);

    let (_, page) = write_report(&inputs(&[&run]), &root.path().join("out"));
    let data = data(&page);
    let table = &data["tables"][0];
    assert_eq!(table["labels"], json!(["negative", "positive"]));
    // Probabilities .2 and .8: exp(-1.6094379), exp(-.2231436).
    assert_eq!(
        table["rows"][0],
        json!({"i": "r0", "t": 0, "l": 1, "p": [0.2, 0.8], "m": 1.3863, "f": [[0, 0], [7, 1]]})
    );
    assert_eq!(table["rows"][3], json!({"i": "r3", "t": 3, "l": 0, "p": [0.2, 0.8], "m": -1.3863}));
    assert!(data["texts"][0].as_str().expect("a text").contains("fine"));
}

#[test]
fn gold_is_on_the_page_only_where_it_is_asked_for() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let run = shown_run(root.path());
    let gold = root.path().join("gold.jsonl");
    let line = |index: usize| format!("{{\"id\":\"r{index}\",\"label\":\"negative\"}}\n");
    fs::write(&gold, (2..4).map(line).collect::<String>()).expect("written");
    let out = root.path().join("out");
    let (_, sealed) = write_report(&inputs(&[&run]), &out);
    assert!(!sealed.contains("\"g\":") && sealed.contains("Gold is not on this page"));
    let asked = ReportInputs { gold: Some(gold.clone()), ..inputs(&[&run]) };
    let (_, open) = write_report(&asked, &out);
    assert!(open.contains("Gold was read for this table"));
    let rows = data(&open)["tables"][0]["rows"].clone();
    let golds: Vec<&Value> = (0..4).map(|row| &rows[row]["g"]).collect();
    assert_eq!(golds, [&Value::Null, &Value::Null, &json!(0), &json!(0)]);

    fs::write(&gold, "{\"id\":\"other\",\"label\":\"negative\"}\n").expect("written");
    let error = report_on(&asked, &out).expect_err("gold of other examples");
    assert_eq!((error.kind(), error.place()), (ErrorKind::Data, Some((gold.as_path(), None))));
}

#[test]
fn the_same_files_give_the_same_bytes() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let run = shown_run(root.path());
    let (summary, page) = write_report(&inputs(&[&run]), &root.path().join("a"));
    let (again, other) = write_report(&inputs(&[&run]), &root.path().join("b"));
    assert_eq!(page, other);
    assert_eq!(summary.notes, again.notes);
}

#[test]
fn texts_are_left_out_where_the_data_are_gone_or_changed() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let run = shown_run(root.path());
    let path = root.path().join("reviews.jsonl");
    let text = fs::read_to_string(&path).expect("the data");
    fs::write(&path, text.replace("dull", "bright")).expect("written");
    let (summary, page) = write_report(&inputs(&[&run]), &root.path().join("out"));
    assert!(summary.notes.iter().any(|note| note.contains("changed since the run")), "{summary:?}");
    let read = data(&page);
    assert_eq!((read["texts"].clone(), read["tables"][0]["rows"][0].get("t")), (json!([]), None));
    fs::remove_file(&path).expect("removed");
    let (summary, _) = write_report(&inputs(&[&run]), &root.path().join("out"));
    let noted = |text: &str| summary.notes.iter().any(|note| note.contains(text));
    assert!(noted("ICM: the table shows no texts") && noted("cannot be read"), "{summary:?}");
}

#[test]
fn a_run_without_gold_is_shown_without_an_accuracy() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let run = shown_run(root.path());
    for name in ["eval.json", "curve.jsonl"] {
        fs::remove_file(run.join(name)).expect("removed");
    }
    let (summary, page) = write_report(&inputs(&[&run]), &root.path().join("out"));
    assert_eq!(summary.files.len(), 2, "{summary:?}");
    assert!(summary.notes[0].contains("ICM was not compared with gold"), "{summary:?}");
    assert!(page.contains("not compared with gold") && page.contains("\u{2212}3.50"));
    assert!(!page.contains("<figure ") && page.contains("id=\"example-data\""));
}

#[test]
fn a_comparison_is_shown_with_and_without_runs() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let path = root.path().join("comparison.json");
    let estimate = |value: f64| json!({"value": value, "low": value - 0.1, "high": value + 0.1});
    let method = |name: &str, role: &str, accuracy: f64, published: Value| {
        json!({"name": name, "role": role, "accuracy": estimate(accuracy),
            "balanced_accuracy": null, "auroc": null, "brier": null, "ece": null, "per_label": [],
            "published": published, "runs": [{"path": format!("runs/{name}"), "num_answered": 40,
            "num_unparsed": 0, "num_correct": 20, "accuracy": accuracy, "wilson_low": 0.4,
            "wilson_high": 0.6, "balanced_accuracy": null, "auroc": null, "brier": null,
            "ece": null}]})
    };
    let column = json!({"gold_column": "label", "num_items": 40, "num_not_in_every_run": 0,
        "num_without_gold": 0, "gold_counts": [20, 20],
        "methods": [method("<weak>", "weak", 0.5, Value::Null), method("icm", "method", 0.7, json!(0.77)),
            method("ceiling", "ceiling", 0.9, Value::Null)],
        "pairs": [{"a": "<weak>", "b": "icm", "difference": estimate(0.2), "p": 0.0123,
            "seeds_paired": true, "num_only_b_right": 12, "num_only_a_right": 4}],
        "pgr": [{"method": "icm", "weak": "<weak>", "ceiling": "ceiling", "gap": estimate(0.4),
            "pgr": estimate(0.5), "remark": null}]});
    let comparison = json!({"task": "polarity", "labels": ["a", "b"], "num_resamples": 1000,
        "seed": 0, "level": 0.95, "columns": [column]});
    fs::write(&path, comparison.to_string()).expect("written");
    let alone = ReportInputs { comparison: Some(path.clone()), ..ReportInputs::default() };
    let out = root.path().join("out");
    let (summary, page) = write_report(&alone, &out);
    assert_eq!(summary.files.len(), 5, "{summary:?}");
    for text in [
        "<h1>polarity</h1>",
        "&lt;weak&gt;",
        "70.0% [60.0, 80.0]",
        "77.0%",
        "0.012",
        "+20.0 [+10.0, +30.0]",
        "0.500 [0.400, 0.600]",
    ] {
        assert!(page.contains(text), "`{text}` is missing");
    }
    let markdown = fs::read_to_string(out.join("report.md")).expect("the page");
    assert!(
        markdown.contains("| icm | \\<weak\\> | +20.0 [+10.0, +30.0] | 0.012 | 12 | 4 |"),
        "{markdown}"
    );

    // The same by the folder, and one that a recipe wrote.
    let folder = root.path().join("compared");
    fs::create_dir(&folder).expect("made");
    fs::copy(&path, folder.join("comparison.json")).expect("copied");
    let (_, again) = write_report(&inputs(&[&folder]), &root.path().join("again"));
    assert_eq!(again, page);
    let recipe = root.path().join("classic");
    for (set, dir) in [("one", "one/compare"), ("two", "two/compare")] {
        fs::create_dir_all(recipe.join(dir)).expect("made");
        let text = comparison.to_string().replace("polarity", set);
        fs::write(recipe.join(dir).join("comparison.json"), text).expect("written");
    }
    let line = |set: &str| {
        json!({"set": set, "gold_column": "label", "method": "icm", "accuracy": 0.7,
            "interval": [0.6, 0.8], "num_items": 40, "num_runs": 1, "pgr": null, "pgr_interval": null,
            "pgr_refused": "no gap", "published": 0.77, "published_model": "Llama <70B>",
            "published_set": set})
    };
    let results = recipe.join("results.json");
    fs::write(&results, json!([line("two"), line("one")]).to_string()).expect("written");
    let (summary, shown) = write_report(&inputs(&[&recipe]), &root.path().join("recipe"));
    assert_eq!(summary.files.len(), 8, "{summary:?}");
    for text in [
        "<h1>classic</h1>",
        "2 comparisons of methods.",
        "Llama &lt;70B&gt;",
        "undefined",
        "<h3>Results of classic</h3>",
    ] {
        assert!(shown.contains(text), "`{text}` is missing");
    }
    let place = |text: &str| shown.find(text).unwrap_or_else(|| panic!("`{text}` is missing"));
    assert!(place("Comparison, two<") < place("Comparison, one<"));
    fs::write(&results, "[{}]").expect("written");
    let error = report_on(&inputs(&[&recipe]), &out).expect_err("a broken file");
    assert_eq!(error.place().map(|(place, _)| place), Some(results.as_path()));

    let run = shown_run(root.path());
    let both = ReportInputs { comparison: Some(path.clone()), ..inputs(&[&run]) };
    let (summary, page) = write_report(&both, &root.path().join("both"));
    assert_eq!(summary.files.len(), 11, "{summary:?}");
    assert_eq!(page.matches("<figure ").count(), 3);

    fs::write(&path, "{\"task\": 1}").expect("written");
    let error = report_on(&alone, &out).expect_err("a broken file");
    assert_eq!(error.place().map(|(place, _)| place), Some(path.as_path()));
    assert_eq!(
        report_on(&ReportInputs::default(), &out).expect_err("nothing").kind(),
        ErrorKind::Usage
    );
}
