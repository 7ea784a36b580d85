//! The events of `trace.jsonl`, as far as evaluation reads them.

use std::io::BufRead;
use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, ErrorKind, Result};

/// An example's label before and after, none for unlabelled: id, from, to.
pub(super) type Change = (String, Option<String>, Option<String>);

/// One line of the trace.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(super) enum Event {
    Start {
        batch: usize,
        #[serde(default)]
        iteration: usize,
        labels: Vec<(String, String)>,
        score: f64,
    },
    Proposal {
        batch: usize,
        iteration: usize,
        #[serde(default)]
        id: String,
        #[serde(default)]
        from: Option<String>,
        #[serde(default)]
        changes: Vec<Change>,
        #[serde(default)]
        score: Option<f64>,
        proposed_score: Option<f64>,
        #[serde(default)]
        temperature: Option<f64>,
        accepted: bool,
    },
    Renew {
        batch: usize,
        iteration: usize,
        score: f64,
    },
    Alpha {
        batch: usize,
        iteration: usize,
        score: f64,
    },
    End {
        batch: usize,
        iteration: usize,
    },
}

impl Event {
    /// Batch and iteration.
    pub(super) fn clock(&self) -> (usize, usize) {
        match self {
            Self::Start { batch, iteration, .. }
            | Self::Proposal { batch, iteration, .. }
            | Self::Renew { batch, iteration, .. }
            | Self::Alpha { batch, iteration, .. }
            | Self::End { batch, iteration } => (*batch, *iteration),
        }
    }
}

/// Calls `apply` with every event; a last line that was cut short, as a killed run leaves it, is left
/// out.
///
/// # Errors
/// When the trace cannot be read or a line is not an event, and what `apply` gives, with its line.
pub(super) fn for_each_event(
    mut trace: impl BufRead,
    path: &Path,
    mut apply: impl FnMut(&Event) -> Result<()>,
) -> Result<()> {
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        let length = trace
            .read_until(b'\n', &mut line)
            .map_err(|source| Error::io("read the trace", path, &source))?;
        if length == 0 {
            return Ok(());
        }
        number += 1;
        let event: Event = match serde_json::from_slice(&line) {
            Ok(event) => event,
            Err(source) if source.is_eof() && line.last() != Some(&b'\n') => return Ok(()),
            Err(source) => {
                // serde_json counts lines from the start of this one line; only its prose helps.
                let text = source.to_string();
                let reason = text.split(" at line ").next().unwrap_or(&text);
                return Err(Error::new(
                    ErrorKind::Run,
                    format!("the trace line is not an event: {reason}"),
                )
                .at_line(path, number)
                .hint("the trace is damaged; run the search again, or resume it"));
            }
        };
        apply(&event).map_err(|error| error.at_line(path, number))?;
    }
}

/// Returns the index of a label the trace names.
///
/// # Errors
/// [`ErrorKind::Run`] when it is not one of the task's.
pub(super) fn index_of(word: &str, label_index: &dyn Fn(&str) -> Option<usize>) -> Result<usize> {
    label_index(word).ok_or_else(|| {
        Error::new(ErrorKind::Run, format!("label `{word}` is not one of the task's"))
            .hint("the trace belongs to another task; name the task the run was made with")
    })
}

/// Returns the error for a trace that contradicts itself.
pub(super) fn broken(message: String) -> Error {
    Error::new(ErrorKind::Run, message)
        .hint("the trace is damaged or edited; run the search again, or resume it")
}
