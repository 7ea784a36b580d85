//! What the parts of the check report: rows, written one by one so that a part that is stopped
//! leaves what it has measured, and the table made of them.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use w2s::error::{Error, ErrorKind, Result};

use super::Part;

/// One line of the table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub part: String,
    pub what: String,
    pub result: String,
    /// What the result is held against: a limit, or another program's result.
    #[serde(default)]
    pub against: String,
    /// Whether it passed; `None` where nothing is demanded.
    #[serde(default)]
    pub ok: Option<bool>,
    /// The numbers behind the text.
    #[serde(default)]
    pub facts: Map<String, Value>,
}

impl Row {
    pub fn new(part: &str, what: impl Into<String>, result: impl Into<String>) -> Self {
        Self {
            part: part.to_owned(),
            what: what.into(),
            result: result.into(),
            against: String::new(),
            ok: None,
            facts: Map::new(),
        }
    }

    pub fn against(mut self, text: impl Into<String>) -> Self {
        self.against = text.into();
        self
    }

    pub fn passed(mut self, ok: bool) -> Self {
        self.ok = Some(ok);
        self
    }

    pub fn fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }

    fn number(&self, name: &str) -> Option<f64> {
        self.facts.get(name)?.as_f64()
    }

    fn text(&self, name: &str) -> &str {
        self.facts.get(name).and_then(Value::as_str).unwrap_or_default()
    }
}

/// The file that rows are added to.
pub struct Rows {
    path: PathBuf,
}

impl Rows {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn add(&self, row: &Row) -> Result<()> {
        let fail = |e: &std::io::Error| Error::io("write", &self.path, e);
        let mut line = serde_json::to_string(row)
            .map_err(|e| Error::new(ErrorKind::Internal, format!("cannot write: {e}")))?;
        line.push('\n');
        let mut file =
            OpenOptions::new().create(true).append(true).open(&self.path).map_err(|e| fail(&e))?;
        file.write_all(line.as_bytes()).map_err(|e| fail(&e))
    }

    /// Runs one measurement; an error or a panic in it becomes a failed row, and the next can go on.
    pub fn attempt(
        &self,
        part: &str,
        what: &str,
        measure: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(measure));
        let reason = match caught {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("panicked")
                .to_owned(),
        };
        // libtorch appends a C++ stack trace.
        let first = reason.lines().next().unwrap_or_default();
        let short: String = first.chars().take(300).collect();
        self.add(&Row::new(part, what, short).passed(false))
    }

    /// Returns all rows; a line cut short by the end of its writer is left out.
    pub fn read(&self) -> Vec<Row> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// Writes into each row of a leave-one-out tree how it compares with the fastest transformers
/// row of the same size and number type.
pub fn compare(rows: &mut [Row]) {
    let others: Vec<Row> =
        rows.iter().filter(|row| row.part == Part::Transformers.title()).cloned().collect();
    for row in rows.iter_mut().filter(|row| row.part == Part::Tree.title()) {
        let seconds = |other: &Row| other.number("seconds").unwrap_or(f64::INFINITY);
        let best = others
            .iter()
            .filter(|other| other.number("n") == row.number("n"))
            .filter(|other| other.text("dtype") == row.text("dtype"))
            .min_by(|a, b| seconds(a).total_cmp(&seconds(b)));
        let (Some(best), Some(ours), Some(tokens)) =
            (best, row.number("seconds"), row.number("tokens"))
        else {
            continue;
        };
        let (theirs, all) = (seconds(best), best.number("tokens").unwrap_or(f64::NAN));
        row.against = format!(
            "transformers {theirs:.2} s ({}, batch {}): {:.1}x; of tokens {:.1}x",
            best.text("timed"),
            best.number("batch").unwrap_or(f64::NAN),
            theirs / ours,
            all / tokens,
        );
        row.facts.insert("ratio".into(), (theirs / ours).into());
        row.facts.insert("ratio_of_tokens".into(), (all / tokens).into());
    }
}

/// Writes into each row of a training how it compares with peft's of the same work.
pub fn compare_training(rows: &mut [Row]) {
    let others: Vec<Row> =
        rows.iter().filter(|row| row.part == Part::Peft.title()).cloned().collect();
    for row in rows.iter_mut().filter(|row| row.part == Part::TrainLarge.title()) {
        let same =
            |other: &&Row| !row.text("work").is_empty() && other.text("work") == row.text("work");
        let Some(other) = others.iter().find(same) else { continue };
        let (Some(ours), Some(theirs)) = (row.number("seconds"), other.number("seconds")) else {
            continue;
        };
        row.against += &format!("; peft {:.0} ms: {:.2}x", 1e3 * theirs, theirs / ours);
        row.facts.insert("ratio".into(), (theirs / ours).into());
    }
}

/// Returns the rows as a Markdown table.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from("| part | what | result | against | |\n|---|---|---|---|---|\n");
    let cell = |text: &str| text.replace('|', "/").replace('\n', " ");
    for row in rows {
        let verdict = match row.ok {
            Some(true) => "pass",
            Some(false) => "**FAIL**",
            None => "",
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {verdict} |",
            cell(&row.part),
            cell(&row.what),
            cell(&row.result),
            cell(&row.against),
        );
    }
    text
}
