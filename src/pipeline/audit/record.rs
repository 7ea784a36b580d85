//! What audits leave in a run's folder, and what is read of it again.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::eval::{Audited, Guarantee, Stratum};
use crate::pipeline::run_labels::RunLabels;
use crate::run::files::{AUDIT_PLAN, CERTIFICATE};

/// What was fixed before rows were drawn: `audit/N/plan.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditPlan {
    /// Version of this program.
    pub w2s: String,
    /// SHA-256 of the labels.
    pub labels_sha256: String,
    /// Labels in the run.
    pub num_all: usize,
    /// What is to be proved.
    pub guarantee: Guarantee,
    /// The set that rows are drawn from: so many labels of the highest margins, those of equal margins in
    /// the order of the data; and what is expected of the audit.
    pub stratum: Stratum,
    /// The share of wrong labels among all that the expectation supposes.
    pub supposed_error: f64,
    /// Seed of the draw.
    pub seed: u64,
    /// Whether the model's label is shown before a row is answered.
    pub shows_labels: bool,
    /// The rows drawn, in the order in which they are asked.
    pub rows: Vec<String>,
    /// Those of them that were answered in an earlier sheet.
    pub known: Vec<String>,
}

/// What the answers prove: `audit/N/certificate.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// Version of this program.
    pub w2s: String,
    /// SHA-256 of the labels.
    pub labels_sha256: String,
    /// SHA-256 of `plan.json`.
    pub plan_sha256: String,
    /// SHA-256 of the answers.
    pub answers_sha256: String,
    /// What was to be proved.
    pub guarantee: Guarantee,
    /// Whether it is.
    pub is_kept: bool,
    /// The set, the rows drawn, and how many labels of these are wrong.
    pub audited: Audited,
    /// Labels that are exported: the set without the rows whose right label is not known.
    pub num_exported: usize,
    /// The most wrong labels among these as they were labelled, at the guarantee's confidence.
    pub most_wrong: usize,
    /// The most wrong labels that are left among them once the auditor's answers stand in for the labels of
    /// the rows drawn.
    pub most_left: usize,
    /// What may be said of the exported labels; none if the guarantee is not kept.
    pub statement: Option<String>,
    /// The rows whose label is wrong, or cannot be told.
    pub wrong: Vec<String>,
    /// Those of them whose right label is not known.
    pub unknown: Vec<String>,
}

impl Certificate {
    /// Returns the most wrong labels among those exported, as they were labelled, at a confidence: those of
    /// the set without the rows that count as wrong and are left out.
    pub(super) fn most_wrong_at(&self, confidence: f64) -> usize {
        self.audited.most_wrong(confidence) - self.unknown.len()
    }

    /// Returns the smallest share of wrong exported labels that is proved at the guarantee's confidence.
    pub fn proved_error(&self) -> f64 {
        self.most_wrong as f64 / self.num_exported.max(1) as f64
    }

    /// Returns the guarantee that is proved, in few digits: what was to be proved, or else the smallest
    /// share at the same confidence.
    pub fn proved(&self) -> Guarantee {
        if self.is_kept {
            return self.guarantee;
        }
        let max_error = ((self.proved_error() * 1000.0 - 1e-9).ceil().max(1.0) / 1000.0).min(0.999);
        Guarantee { max_error, ..self.guarantee }
    }
}

/// A label that the auditor gave: a line of `audit/N/gold.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::pipeline) struct AuditedLabel {
    pub(in crate::pipeline) id: String,
    pub(in crate::pipeline) label: String,
    /// Where it comes from; no model.
    pub(in crate::pipeline) source: String,
}

/// A sheet that was drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditDrawn {
    /// What was fixed.
    pub plan: AuditPlan,
    /// The folder with the sheet.
    pub folder: PathBuf,
    /// The run.
    pub run: PathBuf,
    /// The fewest rows that would be enough if none of them is wrong.
    pub fewest_rows: usize,
}

/// An audit that was judged.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditCertified {
    /// What was fixed.
    pub plan: AuditPlan,
    /// What the answers prove.
    pub certificate: Certificate,
    /// The folder with the sheet.
    pub folder: PathBuf,
    /// The run.
    pub run: PathBuf,
}

/// A sheet of the labels as they are now.
pub(super) struct Sheet {
    pub(super) number: usize,
    pub(super) folder: PathBuf,
    pub(super) plan: AuditPlan,
    pub(super) certificate: Option<Certificate>,
}

/// The path of a file of a sheet, from the run's folder.
pub(super) fn name_of(number: usize, file: &str) -> String {
    format!("audit/{number}/{file}")
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, &e))?;
    serde_json::from_slice(&bytes).map_err(|e| {
        Error::new(ErrorKind::Data, format!("not what `w2s audit` wrote: {e}"))
            .at(path)
            .hint("the file was changed or is damaged; put back what was there")
    })
}

/// Returns the number of the last sheet of the run, 0 for none, and the sheets of its labels, the first
/// one first.
pub(super) fn sheets(labels: &RunLabels) -> Result<(usize, Vec<Sheet>)> {
    let folder = labels.folder.file("audit");
    let mut numbers: Vec<usize> = std::fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    let sha256 = labels.sha256()?;
    let mut sheets = Vec::new();
    for &number in &numbers {
        let folder = folder.join(number.to_string());
        if !folder.join(AUDIT_PLAN).exists() {
            continue;
        }
        let plan: AuditPlan = read(&folder.join(AUDIT_PLAN))?;
        if plan.labels_sha256 != sha256 {
            continue;
        }
        let certificate = folder.join(CERTIFICATE);
        let certificate = certificate.exists().then(|| read(&certificate)).transpose()?;
        sheets.push(Sheet { number, folder, plan, certificate });
    }
    Ok((numbers.last().copied().unwrap_or(0), sheets))
}

/// Returns the places of the labels, the most confident first; those that are equally confident in the order
/// of the data.
pub(super) fn by_confidence(labels: &RunLabels) -> Vec<usize> {
    let mut order: Vec<usize> = (0..labels.labels.len()).collect();
    let of = |i: usize| labels.labels[i].sureness;
    order.sort_by(|a, b| of(*b).total_cmp(&of(*a)));
    order
}

pub(super) fn id_of(labels: &RunLabels, index: usize) -> &str {
    &labels.example(&labels.labels[index]).id
}
