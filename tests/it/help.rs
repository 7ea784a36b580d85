//! The help of every command: its text, byte for byte, and that what texts call an option is one.
//!
//! To change a text on purpose, run the test once with `W2S_RENEW_HELP=1` and look at what git shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use crate::cli::text;
use crate::common::project;

/// Options of other programs that our texts name.
const FOREIGN: [(&str, &str); 23] = [
    ("--example", "cargo"),
    ("--open", "cargo"),
    ("--alias", "llama.cpp"),
    ("--context-length", "SGLang"),
    ("--ctx-size", "llama.cpp"),
    ("--enable-lora", "vLLM"),
    ("--enable-metrics", "SGLang"),
    ("--enable-prefix-caching", "vLLM"),
    ("--enable-prompt-tokens-details", "vLLM"),
    ("--logits_all", "llama-cpp-python"),
    ("--logprobs-mode", "vLLM"),
    ("--lora-modules", "vLLM"),
    ("--max-logprobs", "vLLM"),
    ("--max-lora-rank", "vLLM"),
    ("--max-model-len", "vLLM"),
    ("--metrics", "llama.cpp"),
    ("--model-path", "SGLang"),
    ("--no-python", "torchrun"),
    ("--nproc-per-node", "torchrun"),
    ("--parallel", "llama.cpp"),
    ("--served-model-name", "vLLM"),
    ("--tensor-parallel-size", "vLLM"),
    ("--tp", "SGLang"),
];

fn w2s(args: &[&str]) -> std::process::Output {
    // Where no terminal tells its width, this does.
    Command::new(env!("CARGO_BIN_EXE_w2s")).args(args).env("COLUMNS", "100").output().unwrap()
}

/// The help of every command by its words, that of the program by none.
static HELP: LazyLock<BTreeMap<Vec<String>, String>> = LazyLock::new(|| {
    let mut all = BTreeMap::new();
    let mut next: Vec<Vec<String>> = vec![Vec::new()];
    while let Some(words) = next.pop() {
        let mut args: Vec<&str> = words.iter().map(String::as_str).collect();
        args.push("--help");
        let output = w2s(&args);
        assert!(output.status.success() && output.stderr.is_empty(), "{args:?}");
        let help = text(&output.stdout);
        next.extend(below(&help).into_iter().map(|name| [&words[..], &[name]].concat()));
        all.insert(words, help);
    }
    all
});

/// The commands that a help lists.
fn below(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines
        .take_while(|line| !line.is_empty())
        // A description that goes on stands further in.
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// The options that a help explains: `      --out <RUN>` or `  -h, --help`, after the usage.
fn explained(help: &str) -> impl Iterator<Item = String> + '_ {
    let lines = help.lines().skip_while(|line| !line.starts_with("Usage: "));
    lines.filter_map(|line| {
        let rest = line.trim_start();
        if line.len() - rest.len() > 6 {
            return None;
        }
        let rest = match rest.as_bytes() {
            [b'-', _, b',', b' ', ..] => &rest[4..],
            _ => rest,
        };
        options(rest).next().filter(|option| rest.starts_with(option.as_str()))
    })
}

/// What in a text looks like a long option: neither a rule, nor a variable of a style sheet.
fn options(text: &str) -> impl Iterator<Item = String> + '_ {
    text.match_indices("--").filter_map(|(at, _)| {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '-')
            || text[..at].ends_with("var(")
        {
            return None;
        }
        let rest = &text[at + 2..];
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let name = rest[..end].trim_end_matches(['-', '_']);
        let is_style = rest[end..].starts_with(':') && !rest[end..].starts_with(": ");
        (name.starts_with(|c: char| c.is_ascii_alphabetic()) && !is_style)
            .then(|| format!("--{name}"))
    })
}

#[test]
fn help_is_what_it_was() {
    let folder = project().join("tests/data/help");
    let file = |words: &Vec<String>| match words.as_slice() {
        [] => "w2s.txt".to_owned(),
        words => format!("{}.txt", words.join("-")),
    };
    assert!(HELP.len() > 20, "{:?}", HELP.keys());
    if std::env::var_os("W2S_RENEW_HELP").is_some() {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        for (words, help) in HELP.iter() {
            fs::write(folder.join(file(words)), help).unwrap();
        }
    }
    let mut stored: BTreeSet<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for (words, help) in HELP.iter() {
        let name = file(words);
        let before = fs::read_to_string(folder.join(&name)).unwrap_or_default();
        let line = before.lines().zip(help.lines()).take_while(|(a, b)| a == b).count();
        assert!(
            before == *help,
            "tests/data/help/{name} says otherwise from line {}:\n- {}\n+ {}\n(W2S_RENEW_HELP=1 renews it)",
            line + 1,
            before.lines().nth(line).unwrap_or("(its end)"),
            help.lines().nth(line).unwrap_or("(its end)")
        );
        stored.remove(&name);
    }
    assert!(stored.is_empty(), "there is no command of {stored:?}");
}

/// The texts in string literals of a Rust file, without those of its tests.
fn literals(code: &str) -> Vec<String> {
    let code = code.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let bytes = code.as_bytes();
    let mut all = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &code[at..];
        let is_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            at += rest.find("*/").map_or(rest.len(), |end| end + 2);
        } else if let Some(hashes) = raw(rest).filter(|_| !is_word) {
            let begin = rest.find('"').unwrap() + 1;
            let close = format!("\"{}", "#".repeat(hashes));
            let end = rest[begin..].find(&close).unwrap();
            all.push(rest[begin..begin + end].to_owned());
            at += begin + end + close.len();
        } else if bytes[at] == b'"' {
            let mut end = at + 1;
            while bytes[end] != b'"' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            all.push(code[at + 1..end].to_owned());
            at = end + 1;
        } else if rest.starts_with("'\\") {
            // '\'' and '\u{7f}'.
            at += 3 + rest[3..].find('\'').unwrap() + 1;
        } else if bytes[at] == b'\'' && rest.chars().nth(2) == Some('\'') {
            at += 2 + rest.chars().nth(1).unwrap().len_utf8();
        } else {
            at += rest.chars().next().unwrap().len_utf8();
        }
    }
    all
}

/// The number of hashes of a raw string that begins here.
fn raw(rest: &str) -> Option<usize> {
    let rest = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('r')?;
    let text = rest.trim_start_matches('#');
    text.starts_with('"').then_some(rest.len() - text.len())
}

fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, out) } else { out.push(path) }
    }
}

#[test]
fn literals_are_found() {
    let code = r####"
        // "--a"
        let x = '"'; let y: &'static str = "--b \" --c"; /* "--d" */
        let z = r#"--e " --f"#; let u = ['\'', '\u{7f}', 'é']; br"--g"; for"--h"
    "####;
    assert_eq!(literals(code), ["--b \\\" --c", "--e \" --f", "--g", "--h"]);
    let text = "a --x=1, `--y-z` --- --[no] x--y var(--w) --v:#fff, {--u: 3} --t_s.";
    assert_eq!(options(text).collect::<Vec<_>>(), ["--x", "--y-z", "--u", "--t_s"]);
}

/// Messages, hints, help and recipes are read by people who then type what they say.
#[test]
fn what_texts_call_an_option_is_one() {
    let mut named: BTreeMap<String, String> = BTreeMap::new();
    let mut take = |text: &str, place: &str| {
        for option in options(text) {
            named.entry(option).or_insert_with(|| place.to_owned());
        }
    };
    let mut all = Vec::new();
    for folder in ["src", "data/tasks", "data/recipes"] {
        files(&project().join(folder), &mut all);
    }
    let mut num_literals = 0;
    for path in &all {
        let place = path.strip_prefix(project()).unwrap().display().to_string();
        match path.extension().and_then(|end| end.to_str()) {
            Some("rs") => {
                let texts = literals(&fs::read_to_string(path).unwrap());
                num_literals += texts.len();
                texts.iter().for_each(|text| take(text, &place));
            }
            Some("toml" | "md") => take(&fs::read_to_string(path).unwrap(), &place),
            _ => {}
        }
    }
    assert!(num_literals > 5000, "{num_literals} literals");
    for (words, help) in HELP.iter() {
        take(help, &format!("the help of `w2s {}`", words.join(" ")));
    }
    assert!(named.len() > 100, "{named:?}");
    for (option, program) in FOREIGN {
        assert!(named.remove(option).is_some(), "no text names {option} of {program} any more");
    }
    let real: BTreeSet<String> = HELP.values().flat_map(|help| explained(help)).collect();
    assert!(real.len() > 100, "{real:?}");
    // What no help explains may be the name of an option in a published code: the parser knows.
    let is_understood = |option: &str| {
        ["label", "filter"].into_iter().any(|command| {
            let said = text(&w2s(&[command, option]).stderr);
            !said.contains(&format!("unexpected argument '{option}'"))
        })
    };
    named.retain(|option, _| !real.contains(option) && !is_understood(option));
    assert!(named.is_empty(), "no command has these options: {named:#?}");
}

/// What runs tell are values; errors have their own words, and the terminal those of all else.
#[test]
fn only_the_terminal_words_what_runs_tell() {
    let mut all = Vec::new();
    files(&project().join("src"), &mut all);
    let words = ["warning: ", "note: ", "gold is used: ", "; nothing to do"];
    let mut worded = BTreeSet::new();
    for path in all.iter().filter(|path| path.extension().is_some_and(|end| end == "rs")) {
        let place = path.strip_prefix(project()).unwrap().display().to_string();
        for literal in literals(&fs::read_to_string(path).unwrap()) {
            worded.extend(
                words.iter().filter(|w| literal.contains(**w)).map(|w| (place.clone(), *w)),
            );
        }
    }
    let (cli, library): (Vec<_>, Vec<_>) =
        worded.into_iter().partition(|(place, _)| place.starts_with("src/cli/"));
    assert!(library.is_empty(), "{library:?} belong into src/cli/words");
    for word in words {
        assert!(cli.iter().any(|(_, found)| *found == word), "nothing says `{word}` any more");
    }
}
