//! What a run is: what made it, from what, where, and what it came to. Only reads.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::command_line::typed;
use crate::error::{Error, ErrorKind, Result};
use crate::run::files::{LOOP, SUMMARY, TIMING};
use crate::run::{GoldUse, Input, Manifest, Origin, RunDir, RunState, read_run};

/// What is known of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// Its folder.
    pub path: PathBuf,
    /// How far it came.
    #[serde(flatten)]
    pub state: RunState,
    /// What it is, as its manifest says.
    pub manifest: Manifest,
    /// When and where it was begun; none for runs of earlier versions.
    pub origin: Option<Origin>,
    /// How it was typed.
    pub typed: String,
    /// What it came to, as its `summary.json` or `loop.json` says.
    pub summary: Option<Value>,
    /// What `w2s eval` found, if it was run.
    pub evaluation: Option<Value>,
    /// How long it took, and its memory.
    pub timing: Option<Value>,
    /// What tells it from every other run: [`Manifest::digest`].
    pub digest: String,
}

impl Shown {
    /// Returns what is known of the run in a folder, complete or not.
    ///
    /// # Errors
    /// [`ErrorKind::Run`] where there is no run, or its manifest cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let (_, manifest) = RunDir::existing(path)
            .map_err(|error| error.hint("`w2s runs DIR` lists the runs below a folder"))?;
        let Some(found) = read_run(path) else {
            return Err(Error::new(ErrorKind::Run, "there is no run in this folder").at(path));
        };
        let read = |name: &str| {
            let text = std::fs::read_to_string(path.join(name)).ok()?;
            serde_json::from_str::<Value>(&text).ok()
        };
        Ok(Self {
            path: path.to_path_buf(),
            state: found.state,
            origin: Origin::of_run(path),
            typed: typed(&named_w2s(&manifest.command_line)),
            summary: read(SUMMARY).or_else(|| read(LOOP)),
            evaluation: read("eval.json"),
            timing: read(TIMING),
            digest: manifest.digest(),
            manifest,
        })
    }

    /// A setting of the run that is a text.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.manifest.settings.get(name).and_then(Value::as_str)
    }

    /// The file of a role among what the run read.
    pub fn input(&self, role: &str) -> Option<&Input> {
        self.manifest.inputs.iter().find(|input| input.role == role)
    }

    /// Why gold had a part in the run; none where it had not.
    pub fn gold(&self) -> Option<&str> {
        match &self.manifest.gold_used {
            GoldUse::No(_) => None,
            GoldUse::Because(reason) => Some(reason),
        }
    }
}

/// A command line that begins with the program's name, wherever it lay.
fn named_w2s(words: &[String]) -> Vec<String> {
    let begin = words.first().map(|_| "w2s".to_owned());
    begin.into_iter().chain(words.iter().skip(1).cloned()).collect()
}
