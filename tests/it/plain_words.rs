//! How much is said, and by which help: what a user meets on the first evening.

use std::fs;
use std::path::Path;

use crate::cli::{Place, bad, good, has, strs, text, w2s};
use crate::loop_runs;

#[test]
fn quiet_says_warnings_only_and_verbose_says_all() {
    let place = Place::new();
    let label = |out: &str, more: &[&str]| {
        let words =
            place.label(out, &[&["--method", "zero-shot", "--calibrate", "none"], more].concat());
        let output = w2s(&strs(&words));
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let quiet = label("quiet", &["--quiet"]);
    assert!(
        quiet.lines().all(|line| line.starts_with("warning: ") || line.starts_with("hint: ")),
        "{quiet}"
    );
    let plain = label("plain", &[]);
    has(
        &plain,
        &["--calibrate none; all else by default", "verdict: not checked", "next: w2s eval "],
    );
    assert!(!plain.contains("max context"), "{plain}");
    has(&label("verbose", &["-v"]), &["max context none", "calibration none"]);
    // How much is said is no part of the run.
    assert!(!place.read("quiet/manifest.json").contains("--quiet"));
    let digest = |run: &str| good(&["runs", &place.path(run), "--digest"])[..64].to_owned();
    assert_eq!(digest("quiet"), digest("verbose"));
    // A series says a verdict for each step, and the next command once.
    let place = Place::new();
    let words = loop_runs::args(&place, "l", &["--batches", "1"]);
    let said = text(&w2s(&strs(&words)).stderr);
    has(&said, &["verdict: ", "held out: the brakes"]);
    assert_eq!(said.matches("next: ").count(), 1, "{said}");
}

#[test]
fn short_help_shows_what_matters_and_long_help_all() {
    for command in ["label", "train", "filter", "loop", "eval"] {
        let (short, long) = (good(&[command, "-h"]), good(&[command, "--help"]));
        let options = |help: &str| {
            let is_option = |line: &&str| line.trim_start().starts_with('-');
            help.lines().filter(is_option).count()
        };
        // Those of the table, and the three of every command.
        assert!((9..=16).contains(&options(&short)), "{command}: {}\n{short}", options(&short));
        assert!(options(&long) > options(&short) + 8, "{command}");
        let at = |heading: &str| long.find(&format!("\n{heading}")).unwrap_or(usize::MAX);
        assert!(at("Model:") < at("Server ("), "{long}");
    }
}

#[test]
fn shells_and_man_know_the_commands() {
    for (shell, part) in [("bash", "_w2s()"), ("zsh", "#compdef w2s"), ("fish", "complete -c w2s")]
    {
        has(&good(&["completions", shell]), &[part, "relabel"]);
    }
    let place = Place::new();
    let out = place.path("man1");
    has(&good(&["man", "--out", &out]), &["w2s-label.1", "w2s-data-draw.1"]);
    let page = fs::read_to_string(Path::new(&out).join("w2s-label.1")).unwrap();
    has(&page, &[".TH w2s-label 1", "\\-\\-field"]);
    has(&good(&["man"]), &[".TH w2s 1"]);
}

#[test]
fn gold_in_a_column_of_another_name_is_pointed_at() {
    let place = Place::new();
    good(&strs(&place.label("zs", &["--method", "zero-shot"])));
    let gold =
        "id,checked by,is it\na,bo,true\nb,bo,false\nc,al,1\nd,al,0\ne,bo,True\nf,bo,False\n";
    let gold = place.write("gold.csv", gold);
    let run = place.path("zs");
    let said = bad(&["eval", &run, "--gold", &gold]);
    has(&said, &["no record has a gold label", "`checked by`", "--gold-column 'is it'"]);
    has(&good(&["eval", &run, "--gold", &gold, "--gold-column", "is it"]), &["of 6)"]);
    // Its ids may lie in another column than the data's.
    let other = place.write("other.csv", "key,label\na,1\nb,0\nc,1\nd,0\ne,1\nf,0\n");
    has(&good(&["eval", &run, "--gold", &other, "--id", "key"]), &["of 6)"]);
}
