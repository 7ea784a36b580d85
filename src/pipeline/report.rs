//! `w2s report`: figures and pages from runs, comparisons and recipes.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use serde::{Serialize, Serializer};

use super::observer::Event;
use super::session::Session;
use crate::error::Result;
use crate::report::{ReportInputs, ReportSummary, report_on};

/// Show runs: figures as SVG, PDF and PNG, a page in Markdown, and a page in HTML that needs no other file
///
/// A run is a folder that `w2s label`, `filter`, `train`, `loop`, `compare` or `reproduce` has written.
/// report.html opens in any browser without a network: accuracy bars, search curves, entropy,
/// reliability and calibration, losses, rounds, all tables, the settings and digests of every run, and
/// a table of examples to sort, search and filter. A run that was not compared with gold (`w2s eval`)
/// has no accuracy. Nothing is computed here.
///
/// Gold stays off the page: only --gold puts it beside the examples.
///
/// Examples:
///   w2s report runs/mine --out runs/mine-report
///   w2s report runs/zero-shot runs/mine --gold gold.jsonl --out both
///   w2s report runs/classic-small --out classic
///   w2s report --comparison comparison.json --width 3.25in --out figure
#[derive(Clone, Debug, Args, Serialize)]
#[command(verbatim_doc_comment)]
pub struct ReportJob {
    /// Run folders, in the order of the bars
    #[arg(required_unless_present = "comparison", value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Basins of several searches, from `w2s eval --basins FILE`
    #[arg(long, value_name = "FILE")]
    pub basins: Option<PathBuf>,
    /// Methods against each other, from `w2s compare`
    #[arg(long, value_name = "FILE")]
    pub comparison: Option<PathBuf>,
    /// Gold labels to show beside the examples [default: none are shown]
    #[arg(long, value_name = "FILE")]
    pub gold: Option<PathBuf>,
    /// Column of the gold file [default: the task's]
    #[arg(long, value_name = "COLUMN", requires = "gold")]
    pub gold_column: Option<String>,
    /// Width of the figures as PDF, such as 3.25in or 8cm [default: 72 units of the drawing to an inch]
    #[arg(long, value_name = "LENGTH")]
    pub width: Option<Length>,
    /// Folder for figures and pages; those of an earlier report there are replaced
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// A length on paper, such as `3.25in`, `8cm` or `82mm`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Length {
    /// In inches.
    pub inches: f64,
}

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let units = [("in", 1.0), ("cm", 1.0 / 2.54), ("mm", 1.0 / 25.4), ("pt", 1.0 / 72.0)];
        let found = units.iter().find_map(|(unit, inches)| {
            let number: f64 = text.strip_suffix(unit)?.trim().parse().ok()?;
            Some(number * inches)
        });
        match found {
            Some(inches) if (0.5..=100.0).contains(&inches) => Ok(Self { inches }),
            Some(_) => Err("expected between 0.5in and 100in".into()),
            None => Err("expected a number with in, cm, mm or pt, such as 3.25in".into()),
        }
    }
}

impl Serialize for Length {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}in", self.inches))
    }
}

pub(super) fn run(args: ReportJob, session: &Session<'_>) -> Result<ReportSummary> {
    let ReportJob { runs, basins, comparison, gold, gold_column, width, out } = args;
    let width_inches = width.map(|width| width.inches);
    let inputs = ReportInputs { runs, basins, comparison, gold, gold_column, width_inches };
    let summary = report_on(&inputs, &out)?;
    session.voice.event(&Event::Reported(&summary))?;
    Ok(summary)
}
