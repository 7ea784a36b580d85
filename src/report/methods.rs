//! The pages' part on a comparison of methods: methods, pairs, and the gap recovered.

use std::path::Path;

use super::comparison::comparison_bars;
use super::document::Document;
use super::files::read_json;
use super::text;
use super::words::{or_dash, percent};
use crate::error::Result;
use crate::eval::{
    ColumnComparison, Comparison, Estimate, MethodComparison, PairComparison, PgrComparison, Role,
};

/// A comparison under a name.
#[derive(Debug)]
pub(super) struct Methods {
    /// What tells it from the others of the page; none where it is the only one.
    pub name: Option<String>,
    pub comparison: Comparison,
}

/// Takes the name from a comparison that is alone.
pub(super) fn tell_apart(all: &mut [Methods]) {
    if let [one] = all {
        one.name = None;
    }
}

impl Methods {
    /// Returns the comparison in a file.
    ///
    /// # Errors
    /// When the file cannot be read or is broken.
    pub(super) fn read(path: &Path, name: Option<String>) -> Result<Self> {
        Ok(Self { name, comparison: read_json(path, "`w2s compare` writes it")? })
    }

    /// Returns caption and drawing of each gold column.
    pub(super) fn figures(&self) -> Vec<(String, String)> {
        let drawn = |column| {
            let svg = comparison_bars(&self.comparison, column);
            (self.titled("Accuracy of each method", column), svg)
        };
        self.comparison.columns.iter().map(drawn).collect()
    }

    /// Returns its tables.
    pub(super) fn tables(&self) -> Document {
        let mut page = Document::default();
        for column in &self.comparison.columns {
            page.heading(2, &self.titled("Comparison", column));
            methods(&column.methods, &mut page);
            let runs: Vec<String> = column
                .methods
                .iter()
                .map(|method| {
                    let paths: Vec<&str> =
                        method.runs.iter().map(|run| run.path.as_str()).collect();
                    format!("{} from {}", method.name, paths.join(", "))
                })
                .collect();
            page.say(&format!(
                "{} items; means over the runs, with 95% intervals over items and runs (those of balanced \
                 accuracy and AUROC from {} resamples, seed {}). Runs: {}.",
                text::grouped(column.num_items as u64),
                text::grouped(self.comparison.num_resamples as u64),
                self.comparison.seed,
                runs.join("; ")
            ));
            pairs(&column.pairs, &mut page);
            gaps(&column.pgr, &mut page);
        }
        page
    }

    /// Returns what a part of one gold column is called.
    fn titled(&self, what: &str, column: &ColumnComparison) -> String {
        let mut title = what.to_owned();
        if let Some(name) = &self.name {
            title += &format!(", {name}");
        }
        if self.comparison.columns.len() > 1 {
            title += &format!(", gold column {}", column.gold_column);
        }
        title
    }
}

fn methods(methods: &[MethodComparison], page: &mut Document) {
    let columns =
        ["method", "role", "runs", "accuracy", "balanced accuracy", "AUROC", "ECE", "published"];
    page.table_with_words(&columns, &[0, 1]);
    for method in methods {
        let role = match method.role {
            Role::Weak => "weak supervisor",
            Role::Method => "method",
            Role::Ceiling => "ceiling",
        };
        page.row(&[
            method.name.clone(),
            role.to_owned(),
            method.runs.len().to_string(),
            rate(&method.accuracy),
            or_dash(method.balanced_accuracy.as_ref().map(rate)),
            or_dash(method.auroc.as_ref().map(number)),
            or_dash(method.ece.map(|ece| format!("{ece:.3}"))),
            or_dash(method.published.map(|rate| format!("{}%", percent(rate)))),
        ]);
    }
}

fn pairs(pairs: &[PairComparison], page: &mut Document) {
    if pairs.is_empty() {
        return;
    }
    page.say("Differences in accuracy, in points:");
    let columns = ["method", "less", "difference", "p", "it alone is right", "the other alone"];
    page.table_with_words(&columns, &[0, 1]);
    for pair in pairs {
        page.row(&[
            pair.b.clone(),
            pair.a.clone(),
            points(&pair.difference),
            if pair.p < 0.0005 { "<0.001".to_owned() } else { format!("{:.3}", pair.p) },
            text::grouped(pair.num_only_b_right as u64),
            text::grouped(pair.num_only_a_right as u64),
        ]);
    }
    page.say("p is two-sided, paired by item, and not corrected for several pairs.");
}

fn gaps(found: &[PgrComparison], page: &mut Document) {
    if found.is_empty() {
        return;
    }
    page.say("Performance gap recovered (PGR):");
    let columns = ["method", "weak", "ceiling", "gap in points", "PGR", "remark"];
    page.table_with_words(&columns, &[0, 1, 2, 5]);
    for one in found {
        page.row(&[
            one.method.clone(),
            one.weak.clone(),
            one.ceiling.clone(),
            points(&one.gap),
            one.pgr.as_ref().map_or_else(|| "undefined".to_owned(), number),
            or_dash(one.remark.clone()),
        ]);
    }
}

fn rate(Estimate { value, low, high }: &Estimate) -> String {
    format!("{}% [{}, {}]", percent(*value), percent(*low), percent(*high))
}

fn number(Estimate { value, low, high }: &Estimate) -> String {
    format!("{value:.3} [{low:.3}, {high:.3}]")
}

fn points(Estimate { value, low, high }: &Estimate) -> String {
    let [value, low, high] = [value, low, high].map(|x| 100.0 * x);
    format!("{value:+.1} [{low:+.1}, {high:+.1}]")
}
