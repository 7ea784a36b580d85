//! What became of each label along a search, from its trace.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use super::trace::{Event, for_each_event};
use crate::error::{Error, Result};

/// One change of an example's label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flip {
    /// The iteration within the example's batch; 0 for the first labels.
    pub iteration: usize,
    /// The label from then on; none when it was taken away.
    pub label: Option<String>,
}

/// Returns the history of each example's label in `trace.jsonl`, in order of time.
///
/// Changes that were refused are not in it.
///
/// # Errors
/// When the trace cannot be read or a line is not an event.
pub fn flips_from_trace(path: &Path) -> Result<HashMap<String, Vec<Flip>>> {
    let file = File::open(path).map_err(|source| Error::io("read the trace", path, &source))?;
    let mut flips: HashMap<String, Vec<Flip>> = HashMap::new();
    let mut note = |id: &str, iteration: usize, label: Option<&String>| {
        let flip = Flip { iteration, label: label.cloned() };
        flips.entry(id.to_owned()).or_default().push(flip);
    };
    for_each_event(BufReader::new(file), path, |event| {
        match event {
            Event::Start { iteration, labels, .. } => {
                labels.iter().for_each(|(id, label)| note(id, *iteration, Some(label)));
            }
            Event::Proposal { iteration, changes, accepted: true, .. } => {
                changes.iter().for_each(|(id, _, to)| note(id, *iteration, to.as_ref()));
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(flips)
}
