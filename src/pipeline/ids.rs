//! `--ids`: a part of the data, named by its ids.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::session::Session;
use crate::data::Dataset;
use crate::error::{Error, ErrorKind, Result};
use crate::run::Input;

/// Which examples of the data are taken.
#[derive(Clone, Debug, Default, Args, Serialize)]
pub struct IdsOptions {
    /// Take the examples with these ids only: a file with an id a line, or JSON lines with `id`, such as
    /// labels.jsonl or kept.jsonl of a run; given more than once, those of all files
    #[arg(long = "ids", value_name = "FILE", help_heading = "Data")]
    pub files: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Line {
    id: Value,
}

impl IdsOptions {
    /// Returns the ids that are named, or `None` if all are meant.
    pub(super) fn read(&self, dataset: &Dataset) -> Result<Option<HashSet<String>>> {
        if self.files.is_empty() {
            return Ok(None);
        }
        let known: HashSet<&str> = dataset.examples.iter().map(|e| e.id.as_str()).collect();
        let mut ids = HashSet::new();
        for path in &self.files {
            let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, &e))?;
            for (index, line) in text.lines().enumerate() {
                let line = line.trim();
                if line.is_empty() {
                    continue;
                }
                let fail =
                    |message: String| Error::new(ErrorKind::Data, message).at_line(path, index + 1);
                let id = if line.starts_with('{') {
                    let line: Line = serde_json::from_str(line)
                        .map_err(|e| fail(format!("not a line with an id: {e}")))?;
                    line.id.as_str().map_or_else(|| line.id.to_string(), str::to_owned)
                } else {
                    line.to_owned()
                };
                if !known.contains(id.as_str()) {
                    return Err(fail(format!("`{id}` is not in `{}`", dataset.path.display()))
                        .hint("give the ids of examples of the data"));
                }
                ids.insert(id);
            }
        }
        if ids.is_empty() {
            return Err(Error::new(ErrorKind::Data, "there is no id").at(&self.files[0]));
        }
        Ok(Some(ids))
    }

    /// Leaves the named examples in the data, in its order.
    pub(super) fn select(&self, dataset: &mut Dataset) -> Result<()> {
        if let Some(ids) = self.read(dataset)? {
            dataset.examples.retain(|example| ids.contains(&example.id));
        }
        Ok(())
    }

    /// The files with their digests.
    pub(super) fn inputs(&self, session: &Session) -> Result<Vec<Input>> {
        numbered("ids", &self.files, session)
    }
}

/// The records of files of one role, which is numbered where there are several.
pub(super) fn numbered(
    role: &str,
    files: &[impl AsRef<Path>],
    session: &Session,
) -> Result<Vec<Input>> {
    let role = |index: usize| match files.len() {
        1 => role.to_owned(),
        _ => format!("{role} {}", index + 1),
    };
    let all = files.iter().enumerate();
    all.map(|(index, path)| session.digests.input(&role(index), path.as_ref())).collect()
}
