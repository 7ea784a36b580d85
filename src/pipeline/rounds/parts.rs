//! The parts of a loop's data: batches, and what is set aside.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::settings::LoopSettings;
use crate::data::{Dataset, batch_ids, json_lines, split_ids};
use crate::error::{Error, ErrorKind, Result};
use crate::run::{SeedStream, write_atomic};

/// Which examples are in which batch, and which are set aside.
pub(super) struct Parts {
    pub(super) batches: Vec<Vec<String>>,
    pub(super) held_out: Vec<String>,
}

impl Parts {
    pub(super) fn split(settings: &LoopSettings, dataset: &Dataset) -> Result<Self> {
        let streams = SeedStream::new(settings.seed);
        let rows: Vec<(String, Option<String>)> =
            dataset.examples.iter().map(|e| (e.id.clone(), e.group.clone())).collect();
        let aside = match settings.held_out {
            0.0 => vec![false; rows.len()],
            share => split_ids(&rows, share, &streams),
        };
        let (held_out, rest): (Vec<_>, Vec<_>) =
            rows.into_iter().zip(aside).partition(|(_, aside)| *aside);
        let ids = |rows: Vec<((String, Option<String>), bool)>| -> Vec<(String, Option<String>)> {
            rows.into_iter().map(|(row, _)| row).collect()
        };
        let (held_out, rest) = (ids(held_out), ids(rest));
        let mut batches = vec![Vec::new(); settings.num_batches];
        let places = batch_ids(&rest, settings.num_batches, &streams);
        for ((id, _), batch) in rest.into_iter().zip(places) {
            batches[batch].push(id);
        }
        if let Some(empty) = batches.iter().position(|batch| batch.len() < 2) {
            return Err(Error::new(
                ErrorKind::Data,
                format!(
                    "batch {} of {} would have {} examples, expected 2 or more",
                    empty + 1,
                    settings.num_batches,
                    batches[empty].len()
                ),
            )
            .at(&settings.data)
            .hint("give more data, or ask for fewer batches; groups stay whole"));
        }
        Ok(Self { batches, held_out: held_out.into_iter().map(|(id, _)| id).collect() })
    }

    pub(super) fn write(&self, settings: &LoopSettings) -> Result<()> {
        let folder = settings.folder("data");
        fs::create_dir_all(&folder).map_err(|e| Error::io("make the folder", &folder, &e))?;
        for (index, batch) in self.batches.iter().enumerate() {
            write_ids(&settings.ids_file(&format!("batch-{}", index + 1)), batch)?;
        }
        if !self.held_out.is_empty() {
            write_ids(&settings.ids_file("held-out"), &self.held_out)?;
        }
        Ok(())
    }
}

pub(super) fn write_ids<'a>(path: &Path, ids: impl IntoIterator<Item = &'a String>) -> Result<()> {
    let lines: Vec<Value> = ids.into_iter().map(|id| json!({ "id": id })).collect();
    write_atomic(path, &json_lines(&lines)?)
}
