//! The rows of an audit as a spreadsheet and as a page.

use serde_json::{Value, json};

use super::record::{AuditPlan, id_of};
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::run_labels::RunLabels;
use crate::prompt::PromptFormat;
use crate::report::inert_json;

const PAGE: &str = include_str!("sheet.html");
/// Where the rows stand in the page.
const PLACE: &str = "/*ROWS*/";

/// Returns the spreadsheet: `id`, the question, the label where it is shown, and a blank column for answers.
pub(super) fn csv(labels: &RunLabels, rows: &[usize], shows_labels: bool) -> Result<Vec<u8>> {
    let format = PromptFormat::new(&labels.task)?;
    let fail = |e: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Internal, format!("cannot write the sheet: {e}"))
    };
    let mut writer = csv::Writer::from_writer(Vec::new());
    let columns: &[&str] = if shows_labels {
        &["id", "question", "label", "right"]
    } else {
        &["id", "question", "answer"]
    };
    writer.write_record(columns).map_err(|e| fail(&e))?;
    for &index in rows {
        let labelled = &labels.labels[index];
        let question = inert_cell(format.question(labels.example(labelled))?.trim());
        let id = id_of(labels, index).to_owned();
        let record = match shows_labels {
            true => vec![id, question, labelled.label.clone(), String::new()],
            false => vec![id, question, String::new()],
        };
        writer.write_record(record).map_err(|e| fail(&e))?;
    }
    writer.into_inner().map_err(|e| fail(&e))
}

/// A text that no spreadsheet takes for a formula.
fn inert_cell(text: &str) -> String {
    match text.chars().next() {
        Some('=' | '+' | '-' | '@' | '\t' | '\r') => format!("'{text}"),
        _ => text.to_owned(),
    }
}

/// Returns the page: the rows one by one, a key for each answer, and a file that it saves.
pub(super) fn page(labels: &RunLabels, rows: &[usize], plan: &AuditPlan) -> Result<String> {
    let format = PromptFormat::new(&labels.task)?;
    let one = |&index: &usize| -> Result<Value> {
        let labelled = &labels.labels[index];
        let example = labels.example(labelled);
        let num_labels =
            if labels.task.answers.is_open { 0 } else { format.words_of(example).len() };
        let names = labels.task.labels.iter().take(num_labels).map(|label| label.name.as_str());
        Ok(json!({
            "id": example.id,
            "question": format.question(example)?.trim(),
            "label": labelled.label,
            "choices": names.collect::<Vec<_>>(),
        }))
    };
    let rows = rows.iter().map(one).collect::<Result<Vec<_>>>()?;
    let data = json!({
        "task": labels.task.name,
        "labels": plan.labels_sha256,
        "seed": plan.seed,
        "shows": plan.shows_labels,
        "rows": rows,
    });
    Ok(PAGE.replacen(PLACE, &inert_json(&data.to_string()), 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        assert_eq!(inert_cell("=1+1"), "'=1+1");
        assert_eq!(inert_cell("1 = 1"), "1 = 1");
        assert_eq!(inert_cell(""), "");
    }

    #[test]
    fn the_page_has_one_place_for_rows() {
        assert_eq!(PAGE.matches(PLACE).count(), 1);
    }
}
