//! The guide and the README: every command that they print is one, every link leads somewhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{Command, Subcommand};
use regex::Regex;
use w2s::guide::{TOPICS, topic};
use w2s::pipeline::Job;

use crate::cli::{bad_usage, good, has};
use crate::common::project;

/// Commands of the binary that are no jobs; their options are looked up in their help.
const OTHERS: [&str; 10] = [
    "runs",
    "diff",
    "tasks",
    "serve-check",
    "cache",
    "guide",
    "show",
    "rerun",
    "completions",
    "man",
];

fn pages() -> Vec<(String, String)> {
    let read =
        |name: &str| (name.to_owned(), std::fs::read_to_string(project().join(name)).unwrap());
    let mut all: Vec<(String, String)> = TOPICS
        .iter()
        .map(|topic| (format!("guide {}", topic.name), topic.text.to_owned()))
        .collect();
    all.extend(["README.md", "data/measured/README.md", "models/README.md"].map(read));
    all
}

/// The commands in shell blocks, continued lines joined.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_shell = false;
    let mut open = String::new();
    for line in text.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            is_shell = !is_shell && language == "sh";
            continue;
        }
        if !is_shell {
            continue;
        }
        let line = line.trim();
        match line.strip_suffix('\\') {
            Some(begin) => open.push_str(begin),
            None => {
                open.push_str(line);
                found.push(std::mem::take(&mut open));
            }
        }
    }
    found.retain(|line| line.starts_with("w2s ") || line.contains("/w2s "));
    found
}

/// The words of a command, without a comment and what it is piped into.
fn words(command: &str) -> Vec<String> {
    let code = command.split(" #").next().unwrap().split(" | ").next().unwrap();
    let mut words = shell_words::split(code).unwrap_or_else(|e| panic!("{command}: {e}"));
    words[0] = "w2s".to_owned();
    words
}

#[test]
fn every_command_of_the_guide_is_one() {
    let mut num = 0;
    let mut strange = Vec::new();
    for (page, text) in pages() {
        for command in commands(&text) {
            let words = words(&command);
            num += 1;
            let Some(verb) = words.get(1) else { continue };
            if OTHERS.contains(&verb.as_str()) {
                let inner = words.get(2).filter(|word| verb == "tasks" && *word == "new");
                let help: Vec<&str> =
                    [verb.as_str()].into_iter().chain(inner.map(String::as_str)).collect();
                let help = good(&[&help[..], &["--help"]].concat());
                let options = words.iter().filter(|word| word.starts_with("--"));
                strange.extend(
                    options
                        .filter(|option| !help.contains(option.split('=').next().unwrap()))
                        .map(|option| format!("{page}: {command}: {option}")),
                );
                continue;
            }
            // What a reader fills in.
            let is_cut = words.iter().any(|word| word == "...");
            let words: Vec<&String> = words.iter().filter(|word| *word != "...").collect();
            let parser = Job::augment_subcommands(Command::new("w2s"));
            if let Err(error) = parser.try_get_matches_from(words) {
                let is_missing = error.kind() == clap::error::ErrorKind::MissingRequiredArgument;
                if !(is_cut && is_missing) && error.use_stderr() {
                    strange.push(format!("{page}: {command}: {error}"));
                }
            }
        }
    }
    assert!(strange.is_empty(), "{}", strange.join("\n"));
    assert!(num > 25, "{num} commands");
}

#[test]
fn every_link_of_a_page_leads_to_a_file() {
    let link = Regex::new(r"\]\(([^)#]+)(#[^)]*)?\)").unwrap();
    for name in ["README.md", "data/measured/README.md", "models/README.md", "data/tasks/README.md"]
    {
        let path = project().join(name);
        let folder: &Path = path.parent().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        for found in link.captures_iter(&text) {
            let target = &found[1];
            if target.starts_with("http") {
                continue;
            }
            let place: PathBuf = folder.join(target);
            assert!(place.exists(), "{name}: {target}");
        }
    }
    // Pages of the guide are read in a terminal and by rustdoc: a path of the clone leads nowhere there.
    for topic in TOPICS.iter().filter(|topic| topic.name != "tasks") {
        for found in link.captures_iter(topic.text) {
            let target = &found[1];
            assert!(
                target.starts_with("http") || target.starts_with("crate::"),
                "{}: {target}",
                topic.name
            );
        }
    }
}

#[test]
fn the_readme_is_short_and_names_every_topic() {
    let text = std::fs::read_to_string(project().join("README.md")).unwrap();
    assert!(text.lines().count() <= 150, "{} lines", text.lines().count());
    for topic in TOPICS {
        let name = topic.name.trim_end_matches('_');
        assert!(text.contains(&format!("`w2s guide {name}`")), "{name}");
    }
}

#[test]
fn the_guide_is_shown_page_by_page() {
    let listed = good(&["guide"]);
    let names: BTreeSet<&str> =
        listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names.len(), TOPICS.len());
    for name in &names {
        assert_eq!(good(&["guide", name]).trim_end(), topic(name).unwrap().text.trim_end());
    }
    let message = bad_usage(&["guide", "cooking"]);
    has(&message, &["the guide has no topic `cooking`", "audit"]);
}
