//! Folders that `w2s compare` and `w2s reproduce` wrote: comparisons of methods, and what a recipe made
//! of them.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::document::Document;
use super::files::{folder_name, read_json};
use super::methods::Methods;
use super::words::{interval, or_dash, percent};
use crate::error::{Error, Result};

const COMPARISON: &str = "comparison.json";
const RESULTS: &str = "results.json";
/// Folders below a recipe's that a comparison may stand in; deeper ones are runs.
const MAX_DEPTH: usize = 6;

/// What a folder that is no run holds.
#[derive(Debug, Default)]
pub(super) struct Results {
    pub methods: Vec<Methods>,
    /// The folder's name and the lines of a recipe; empty for a comparison.
    recipe: Option<(String, Vec<RecipeResult>)>,
}

/// One method on one data set of a recipe: ours and the published number. A line of `results.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecipeResult {
    /// The data set, and what sets the comparison apart from others of it.
    pub set: String,
    /// The gold column.
    pub gold_column: String,
    /// The method.
    pub method: String,
    /// Its accuracy.
    pub accuracy: f64,
    /// The accuracy's 95 % interval, over items and seeds.
    pub interval: [f64; 2],
    /// Items that all methods answered.
    pub num_items: usize,
    /// Runs of the method.
    pub num_runs: usize,
    /// Share of the gap between supervisor and ceiling; none where it is refused or has no meaning.
    pub pgr: Option<f64>,
    /// Its 95 % interval.
    pub pgr_interval: Option<[f64; 2]>,
    /// Why there is none.
    pub pgr_refused: Option<String>,
    /// The published accuracy, from 0 to 1.
    pub published: Option<f64>,
    /// The model that it was measured with.
    pub published_model: Option<String>,
    /// The data set that it was measured on.
    pub published_set: Option<String>,
}

impl RecipeResult {
    /// The heads of [`cells`](Self::cells).
    pub const COLUMNS: [&str; 6] = ["set", "gold", "method", "accuracy", "PGR", "published"];

    /// Returns the result as a row of a table, rates in percent.
    pub fn cells(&self) -> Vec<String> {
        let pgr = match (self.pgr, self.pgr_interval) {
            (Some(pgr), Some([low, high])) => Some(format!("{pgr:.2} [{low:.2}, {high:.2}]")),
            _ => self.pgr_refused.as_ref().map(|_| "undefined".to_owned()),
        };
        let [low, high] = self.interval.map(percent);
        let published = self.published.zip(self.published_model.as_ref());
        vec![
            self.set.clone(),
            self.gold_column.clone(),
            self.method.clone(),
            format!("{} [{low}, {high}]", percent(self.accuracy)),
            or_dash(pgr),
            or_dash(published.map(|(number, model)| format!("{} ({model})", percent(number)))),
        ]
    }
}

impl Results {
    /// Returns what the folder holds; none where it holds neither a comparison nor a recipe's results.
    ///
    /// # Errors
    /// When a file is broken.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>> {
        if dir.join("manifest.json").exists() {
            return Ok(None);
        }
        let (comparison, results) = (dir.join(COMPARISON), dir.join(RESULTS));
        if results.is_file() {
            let lines: Vec<RecipeResult> = read_json(&results, "")?;
            let methods = comparisons(dir, &lines)?;
            return Ok(Some(Self { methods, recipe: Some((folder_name(dir), lines)) }));
        }
        if comparison.is_file() {
            let methods = vec![Methods::read(&comparison, Some(folder_name(dir)))?];
            return Ok(Some(Self { methods, recipe: None }));
        }
        Ok(None)
    }

    /// Returns the recipe's folder, if it is one.
    pub(super) fn recipe(&self) -> Option<&str> {
        self.recipe.as_ref().map(|(name, _)| name.as_str())
    }

    /// Returns the table of the recipe's results beside published numbers; empty for a comparison.
    pub(super) fn table(&self) -> Document {
        let mut page = Document::default();
        let Some((name, lines)) = &self.recipe else { return page };
        page.heading(2, &format!("Results of {name}"));
        let columns = [
            "set",
            "gold column",
            "method",
            "runs",
            "n",
            "accuracy, 95% interval",
            "PGR",
            "published",
            "published of",
        ];
        page.table_with_words(&columns, &[0, 1, 2, 8]);
        for line in lines {
            let pgr = match (line.pgr, line.pgr_interval) {
                (Some(pgr), Some([low, high])) => Some(format!("{pgr:.3} [{low:.3}, {high:.3}]")),
                _ => line.pgr_refused.as_ref().map(|_| "undefined".to_owned()),
            };
            page.row(&[
                line.set.clone(),
                line.gold_column.clone(),
                line.method.clone(),
                line.num_runs.to_string(),
                line.num_items.to_string(),
                interval(line.accuracy, line.interval[0], line.interval[1]),
                or_dash(pgr),
                or_dash(line.published.map(|rate| format!("{}%", percent(rate)))),
                or_dash(line.published_model.clone()),
            ]);
        }
        if lines.iter().any(|line| line.published.is_some()) {
            page.say("Published numbers are of other models and sizes.");
        }
        page
    }
}

/// Returns the comparisons below a recipe's folder, in the order of its results.
fn comparisons(dir: &Path, lines: &[RecipeResult]) -> Result<Vec<Methods>> {
    let mut found = Vec::new();
    find(dir, 0, &mut found)?;
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (place, line) in lines.iter().enumerate() {
        places.entry(&line.set).or_insert(place);
    }
    let mut named: Vec<(usize, String, String, PathBuf)> = found
        .into_iter()
        .map(|path| {
            let folder = path.parent().unwrap_or(dir);
            let inside = folder.strip_prefix(dir).unwrap_or(folder);
            let set = inside.parent().unwrap_or(inside).display().to_string();
            let place = places.get(set.as_str()).copied().unwrap_or(usize::MAX);
            (place, set, inside.display().to_string(), path)
        })
        .collect();
    named.sort();
    let mut num: HashMap<String, usize> = HashMap::new();
    named.iter().for_each(|(_, set, ..)| *num.entry(set.clone()).or_default() += 1);
    let read = |(_, set, folder, path): (usize, String, String, PathBuf)| {
        let name = if num[&set] == 1 && !set.is_empty() { set } else { folder };
        Methods::read(&path, Some(name))
    };
    named.into_iter().map(read).collect()
}

fn find(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    let path = dir.join(COMPARISON);
    if path.is_file() {
        found.push(path);
    }
    if depth == MAX_DEPTH || dir.join("manifest.json").exists() {
        return Ok(());
    }
    let fail = |source| Error::io("read the folder", dir, &source);
    for entry in fs::read_dir(dir).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        // A link may lead back.
        if entry.file_type().map_err(fail)?.is_dir() {
            find(&entry.path(), depth + 1, found)?;
        }
    }
    Ok(())
}
