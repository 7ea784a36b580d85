//! `w2s tasks new`: a task file for the user's own data, from options or from answers at a terminal.

use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};

use clap::Args;

use super::terminal;
use w2s::data::{Column, NewTask, did_you_mean, read_columns};
use w2s::error::{Error, ErrorKind, Result};
use w2s::prompt::PromptFormat;
use w2s::run::write_atomic;

/// Write a commented task file for a data file of your own, and check it on that file
///
/// Asks at a terminal for what is left out. Elsewhere, options that are missing are an error that lists
/// the columns of the file.
///
/// Example:
///   w2s tasks new --data tickets.csv --out tickets.toml --field text=body --id ticket_no \
///       --labels normal,urgent --question 'Is this ticket normal or urgent?'
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct NewArgs {
    /// The data: JSON, JSON lines, CSV, TSV or Parquet
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Task file to write
    #[arg(long, value_name = "FILE.toml")]
    out: PathBuf,
    /// A column that the prompt shows, under a name of your choice, as in text=body; repeat it for
    /// further columns
    #[arg(long = "field", value_name = "NAME=COLUMN")]
    fields: Vec<String>,
    /// Column of the ids [default: rows are numbered]
    #[arg(long, value_name = "COLUMN")]
    id: Option<String>,
    /// Names of the labels, which are the words that the model is to say; the last is the positive one
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    labels: Vec<String>,
    /// What is asked about the text; the label follows it
    #[arg(long, value_name = "TEXT")]
    question: Option<String>,
    /// Column of gold labels, which only `w2s eval` reads [default: label]
    #[arg(long, value_name = "COLUMN")]
    gold_column: Option<String>,
    /// Replace the file
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: NewArgs) -> Result<()> {
    if args.out.extension().is_none_or(|extension| extension != "toml") {
        return Err(usage("a task file's name ends in .toml").at(&args.out));
    }
    if args.out.exists() && !args.force {
        return Err(Error::new(ErrorKind::Run, "the file is there already")
            .at(&args.out)
            .hint("choose another name for `--out`, or replace it with `--force`"));
    }
    let columns = read_columns(&args.data)?;
    let asks = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let new = match asks {
        true => asked(&args, &columns)?,
        false => given(&args, &columns)?,
    };
    let (toml, task, dataset) = new.checked(&args.out)?;
    write_atomic(&args.out, toml.as_bytes())?;
    terminal::complain(format_args!(
        "wrote {}: it reads {} examples of {}",
        args.out.display(),
        dataset.examples.len(),
        args.data.display()
    ));
    if let Some(first) = dataset.examples.first() {
        let question = PromptFormat::new(&task)?.question(first)?;
        let lines: Vec<String> = question.lines().map(|line| format!("  | {line}")).collect();
        let words: Vec<&str> = task.labels.iter().map(|label| label.word.as_str()).collect();
        terminal::complain(format_args!(
            "the first question, which the model is to answer with {}:\n{}",
            words.join(" or "),
            lines.join("\n")
        ));
    }
    terminal::complain(format_args!(
        "next: w2s label --model MODEL --task {} --data {} --out runs/{}",
        args.out.display(),
        args.data.display(),
        new.name
    ));
    Ok(())
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, message)
}

/// The task's name: that of its file.
fn name_of(out: &Path) -> String {
    let stem = out.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    stem.chars().map(plain).collect()
}

/// The columns as a list for people.
fn listing(columns: &[Column]) -> String {
    let widest = columns.iter().map(|column| column.name.chars().count()).max().unwrap_or(0);
    let line = |column: &Column| format!("\n  {:<widest$}  {}", column.name, column.sample);
    columns.iter().map(line).collect()
}

/// The column that most likely holds the text: that of the longest.
fn text_column(columns: &[Column]) -> Option<&Column> {
    columns.iter().max_by(|a, b| a.mean_chars.total_cmp(&b.mean_chars))
}

/// The column that most likely holds the ids.
fn id_column(columns: &[Column]) -> Option<&Column> {
    let is_named = |column: &&Column| {
        let name = column.name.to_lowercase();
        let ends = ["id", "no", "nr", "number", "key", "index"];
        ends.iter().any(|end| name.split(['_', '-', ' ', '.']).any(|part| part == *end))
    };
    columns.iter().filter(|column| column.is_distinct && column.mean_chars <= 40.0).find(is_named)
}

/// Refuses a column that the file does not have. A column with a dot may reach into another.
fn check(columns: &[Column], name: &str) -> Result<()> {
    if name.contains('.') || columns.iter().any(|column| column.name == name) {
        return Ok(());
    }
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    Err(Error::new(ErrorKind::Data, format!("the file has no column `{name}`")).hint(format!(
        "{}the columns are:{}",
        did_you_mean(name, &names),
        listing(columns)
    )))
}

fn pair(text: &str) -> (String, String) {
    match text.split_once('=') {
        Some((name, column)) => (name.trim().to_owned(), column.to_owned()),
        // A column alone is a field of its own name.
        None => {
            let plain =
                |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
            (text.chars().map(plain).collect(), text.to_owned())
        }
    }
}

/// The task as the options say it.
fn given(args: &NewArgs, columns: &[Column]) -> Result<NewTask> {
    let missing = [("--field", args.fields.is_empty()), ("--labels", args.labels.is_empty())];
    let missing: Vec<&str> =
        missing.iter().filter(|(_, is)| *is).map(|(option, _)| *option).collect();
    if !missing.is_empty() {
        let text = text_column(columns).map_or("COLUMN", |column| column.name.as_str());
        return Err(usage(format!("{} must be given where nobody can be asked", missing.join(" and ")))
            .at(&args.data)
            .hint(format!(
                "for example `--field 'text={text}' --labels no,yes --question 'Is it so?'`; the columns are:{}",
                listing(columns)
            )));
    }
    let new = NewTask {
        name: name_of(&args.out),
        data: args.data.clone(),
        fields: args.fields.iter().map(|text| pair(text)).collect(),
        id: args.id.clone(),
        labels: args.labels.clone(),
        question: args.question.clone(),
        gold: args.gold_column.clone(),
    };
    let names = new.fields.iter().map(|(_, column)| column);
    names.chain(&new.id).chain(&new.gold).try_for_each(|name| check(columns, name))?;
    Ok(new)
}

/// The task as the options say it, and answers where they say nothing.
fn asked(args: &NewArgs, columns: &[Column]) -> Result<NewTask> {
    terminal::complain(format_args!("the columns of {}:{}", args.data.display(), listing(columns)));
    let mut args = NewArgs {
        data: args.data.clone(),
        out: args.out.clone(),
        fields: args.fields.clone(),
        id: args.id.clone(),
        labels: args.labels.clone(),
        question: args.question.clone(),
        gold_column: args.gold_column.clone(),
        force: args.force,
    };
    let is_any = |name: &str| name.is_empty() || check(columns, name).is_ok();
    if args.fields.is_empty() {
        let likely = text_column(columns).map_or("", |column| column.name.as_str());
        let name = ask("which column holds the text?", likely, is_any)?;
        args.fields = vec![format!("text={name}")];
    }
    if args.id.is_none() {
        let likely = id_column(columns).map_or("", |column| column.name.as_str());
        let name = ask("which column holds the ids? (none: rows are numbered)", likely, |name| {
            name == "none" || is_any(name)
        })?;
        args.id = Some(name).filter(|name| !name.is_empty() && name != "none");
    }
    if args.labels.is_empty() {
        let is_list = |text: &str| text.split(',').filter(|one| !one.trim().is_empty()).count() > 1;
        let labels = ask("which labels are there? (with commas)", "no,yes", is_list)?;
        args.labels = labels.split(',').map(|label| label.trim().to_owned()).collect();
    }
    if args.question.is_none() {
        let question = ask("what is asked about the text? (the label follows)", "", |_| true)?;
        args.question = Some(question).filter(|question| !question.is_empty());
    }
    if args.gold_column.is_none() {
        let name = ask("does a column hold the right answers? (none: no)", "", |name| {
            name == "none" || is_any(name)
        })?;
        args.gold_column = Some(name).filter(|name| !name.is_empty() && name != "none");
    }
    given(&args, columns)
}

/// An answer from the terminal; an empty one is the likely one.
fn ask(question: &str, likely: &str, is_good: impl Fn(&str) -> bool) -> Result<String> {
    let shown = if likely.is_empty() { String::new() } else { format!(" [{likely}]") };
    let stdin = std::io::stdin();
    loop {
        terminal::complain(format_args!("{question}{shown}"));
        let mut line = String::new();
        let num = stdin
            .lock()
            .read_line(&mut line)
            .map_err(|e| Error::io("read", Path::new("stdin"), &e))?;
        if num == 0 {
            return Err(usage("the answers end here; nothing was written"));
        }
        let answer = match line.trim() {
            "" => likely,
            answer => answer,
        };
        if is_good(answer) {
            return Ok(answer.to_owned());
        }
        terminal::complain(format_args!("that cannot be; once more"));
    }
}
