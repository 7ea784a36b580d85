//! `w2s data`: data sets from the Hugging Face hub, and parts of data files.

mod draw;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::note::Note;
use super::observer::Event;
use super::session::Session;
use crate::data::{Task, join_records};
use crate::error::{Error, ErrorKind, Result};
use crate::hub::{HubDataset, HubSettings};
use crate::run::write_atomic;

pub use draw::DrawJob;
pub(super) use draw::draw;

/// Fetch data sets, draw parts of data files
#[derive(Clone, Debug, Args)]
pub struct DataJob {
    /// What is done.
    #[command(subcommand)]
    pub command: DataCommand,
}

/// What is done with data sets; the help of each is that of its options.
#[derive(Clone, Debug, Subcommand)]
#[expect(missing_docs, reason = "a command's help is that of its options")]
pub enum DataCommand {
    Pull(PullJob),
    Draw(DrawJob),
}

/// Fetch a task's data set, or any other, from the Hugging Face hub
///
/// Prints the path of each file in the hub's cache, or of the copy that `--out` asks for. A token is
/// taken from HF_TOKEN or from `hf auth login`; HF_ENDPOINT, HF_HOME, HF_HUB_CACHE and HF_HUB_OFFLINE
/// are respected. A data set's licence is its own: see its page.
#[derive(Clone, Debug, Args, Serialize)]
pub struct PullJob {
    /// A task (`w2s tasks` lists them), a task file, or a data set as owner/dataset
    pub name: String,
    /// Split to fetch [default: the task's]
    #[arg(long, value_name = "SPLIT")]
    pub split: Option<String>,
    /// Configuration (folder) of the data set; not for tasks
    #[arg(long, value_name = "NAME")]
    pub config: Option<String>,
    /// Path of the file in the repository, instead of a split
    #[arg(long, value_name = "PATH", conflicts_with_all = ["split", "config"])]
    pub file: Option<String>,
    /// Branch, tag or commit
    #[arg(long, value_name = "REVISION", default_value = "main")]
    pub revision: String,
    /// Write a copy here; a name in .jsonl turns any format into JSON lines
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Ask the hub even if the file is in the cache
    #[arg(long)]
    pub refresh: bool,
}

pub(super) fn run(args: DataJob, session: &Session) -> Result<()> {
    match args.command {
        DataCommand::Pull(args) => pull(&args, session).map(drop),
        DataCommand::Draw(args) => draw(&args, session).map(drop),
    }
}

fn usage(message: String) -> Error {
    Error::new(ErrorKind::Usage, message)
}

pub(super) fn pull(args: &PullJob, session: &Session) -> Result<Vec<PathBuf>> {
    if let Some(out) = args.out.as_ref().filter(|out| out.exists()) {
        return Err(usage("the file is there already".to_owned())
            .at(out)
            .hint("remove it, or choose another name"));
    }
    let is_dataset = args.name.contains('/') && !args.name.ends_with(".toml");
    let (task, dataset, files) = if is_dataset {
        let dataset = open(&args.name, args)?;
        let files = match &args.file {
            Some(file) => vec![file.clone()],
            None => choose(dataset.files()?, args)?,
        };
        (None, dataset, files)
    } else {
        let task = Task::load(&args.name)?;
        let (dataset, file) = of_task(&task, args)?;
        (Some(task), dataset, vec![file])
    };
    let mut paths = Vec::new();
    for file in &files {
        let found = dataset.file(file, args.refresh)?;
        if found.was_cached {
            session.voice.note(&Note::FromCache { file: file.clone() });
        }
        paths.push(found.path);
    }
    let Some(out) = &args.out else {
        session.voice.event(&Event::Pulled(&paths))?;
        return Ok(paths);
    };
    let extension = |path: &PathBuf| path.extension().map(|e| e.to_ascii_lowercase());
    let bytes = match paths.as_slice() {
        [path] if extension(path) == extension(out) => {
            std::fs::read(path).map_err(|source| Error::io("read", path, &source))?
        }
        _ if out.extension().is_some_and(|e| e == "jsonl") => join_records(&paths, task.as_ref())?,
        _ => {
            return Err(usage(format!(
                "{} cannot be written in the format asked for",
                files.join(", ")
            ))
            .at(out)
            .hint("name the file as the data set's, or end it in .jsonl"));
        }
    };
    write_atomic(out, &bytes)?;
    let paths = vec![out.clone()];
    session.voice.event(&Event::Pulled(&paths))?;
    Ok(paths)
}

fn open(name: &str, args: &PullJob) -> Result<HubDataset> {
    HubDataset::new(HubSettings::from_env()?, name, &args.revision)
}

fn of_task(task: &Task, args: &PullJob) -> Result<(HubDataset, String)> {
    let Some(hub) = &task.hub else {
        return Err(usage(format!("task `{}` names no data set on the hub", task.name))
            .hint("give a data set as owner/dataset, or add [hub] to the task file"));
    };
    if args.config.is_some() {
        return Err(usage("`--config` has no effect on a task".to_owned())
            .hint("the task file names the file of each split"));
    }
    let split = args.split.as_ref().unwrap_or(&hub.split);
    let file = match (&args.file, hub.files.get(split)) {
        (Some(file), _) | (None, Some(file)) => file.clone(),
        (None, None) => {
            let splits: Vec<String> = hub.files.keys().map(|name| format!("`{name}`")).collect();
            return Err(usage(format!("task `{}` has no split `{split}`", task.name))
                .hint(format!("it has {}", splits.join(", "))));
        }
    };
    Ok((open(&hub.repo, args)?, file))
}

/// Endings of files that hold records.
const ENDINGS: [&str; 6] = [".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv"];

/// Most files that a message lists.
const MAX_LISTED: usize = 20;

/// Returns the one file, or the shards of the one file, that the arguments mean.
fn choose(files: Vec<String>, args: &PullJob) -> Result<Vec<String>> {
    let holds_records = |file: &String| {
        ENDINGS.iter().any(|ending| file.to_ascii_lowercase().ends_with(ending))
            && !file.ends_with("dataset_infos.json")
    };
    let all: Vec<String> = files.into_iter().filter(holds_records).collect();
    // A split or configuration is a whole word of the path: `test` is not in `test_hard.csv`.
    let has_word = |file: &str, word: &str| {
        let folders = file.split('/').any(|part| part == word);
        let name = file.rsplit('/').next().unwrap_or(file);
        let stem = without_shard(name.split('.').next().unwrap_or(name)).0;
        folders || stem == word
    };
    let matching: Vec<String> = all
        .iter()
        .filter(|file| [&args.split, &args.config].into_iter().flatten().all(|w| has_word(file, w)))
        .cloned()
        .collect();
    let mut whole: Vec<String> = matching.iter().map(|file| without_shard(file).0).collect();
    whole.dedup();
    if whole.len() == 1 {
        return Ok(matching);
    }
    let listed = if matching.is_empty() { &all } else { &matching };
    let names: Vec<&str> = listed.iter().take(MAX_LISTED).map(String::as_str).collect();
    let more = listed.len().saturating_sub(MAX_LISTED);
    let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
    Err(usage(if matching.is_empty() {
        "no file of the data set is the one asked for".to_owned()
    } else {
        format!("{} files of the data set could be meant", matching.len())
    })
    .hint(format!("choose by --split, --config or --file:\n  {}{more}", names.join("\n  "))))
}

/// Returns a path without `-00000-of-00002`, and whether it had it.
fn without_shard(path: &str) -> (String, bool) {
    let Some(at) = path.find("-of-") else { return (path.to_owned(), false) };
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let after = &path[at + 4..];
    let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    match path[..at].rsplit_once('-') {
        Some((stem, shard)) if is_digits(shard) && end > 0 => {
            (format!("{stem}{}", &after[end..]), true)
        }
        _ => (path.to_owned(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(files: &[&str], split: Option<&str>, config: Option<&str>) -> Result<Vec<String>> {
        let args = PullJob {
            name: "a/b".to_owned(),
            split: split.map(str::to_owned),
            config: config.map(str::to_owned),
            file: None,
            revision: "main".to_owned(),
            out: None,
            refresh: false,
        };
        choose(files.iter().map(|&file| file.to_owned()).collect(), &args)
    }

    #[test]
    fn one_file_or_the_shards_of_one_are_chosen() {
        let files = [
            "README.md",
            "dataset_infos.json",
            "main/test-00000-of-00001.parquet",
            "main/train-00000-of-00002.parquet",
            "main/train-00001-of-00002.parquet",
            "socratic/test-00000-of-00001.parquet",
        ];
        assert_eq!(chosen(&files, Some("test"), Some("main")).unwrap(), [files[2]]);
        assert_eq!(chosen(&files, Some("train"), None).unwrap(), [files[3], files[4]]);
        assert_eq!(chosen(&["data.csv", "README.md"], None, None).unwrap(), ["data.csv"]);
        assert_eq!(
            chosen(&["c/test.csv", "c/test_hard.csv"], Some("test"), None).unwrap(),
            ["c/test.csv"]
        );
        for (split, words) in
            [(Some("test"), "2 files"), (Some("dev"), "no file"), (None, "4 files")]
        {
            let error = chosen(&files, split, None).unwrap_err();
            assert!(error.message().starts_with(words), "{error}");
            assert!(error.to_string().contains("main/test-00000-of-00001.parquet"), "{error}");
        }
    }
}
