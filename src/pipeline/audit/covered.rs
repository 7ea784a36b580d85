//! Which labels of a run may be exported under a guarantee.

use std::collections::{HashMap, HashSet};

use super::certify::statement;
use super::record::{AuditedLabel, Certificate, Sheet, by_confidence, id_of, sheets};
use crate::data::read_json_lines;
use crate::error::{Error, ErrorKind, Result};
use crate::eval::Guarantee;
use crate::pipeline::run_labels::RunLabels;
use crate::run::files::AUDIT_GOLD;

/// The labels that an audit covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::pipeline) struct Covered {
    /// What may be said of them.
    pub(in crate::pipeline) statement: String,
    /// How many labels are left out.
    pub(in crate::pipeline) num_left_out: usize,
    /// Labels that the auditor's answers stand in for.
    pub(in crate::pipeline) num_audited: usize,
}

/// Leaves in `labels` what is covered by a guarantee, the auditor's answers in place of the labels of audited
/// rows.
///
/// Of several sheets the largest set counts whose certificate promises enough. What the last one proves
/// counts also where it is not what was to be proved; of those before it only that.
///
/// # Errors
/// [`ErrorKind::Run`] where no audit of these labels proves the guarantee, with what is proved.
pub(in crate::pipeline) fn covered(labels: &mut RunLabels, wanted: &Guarantee) -> Result<Covered> {
    let (_, sheets) = sheets(labels)?;
    let last = sheets.len();
    let found = sheets.iter().enumerate().rev().find_map(|(i, sheet)| {
        let certificate = sheet.certificate.as_ref()?;
        let rest = if i + 1 < last {
            Rest::More
        } else if i > 0 {
            Rest::Before
        } else {
            Rest::None
        };
        promises(certificate, wanted, rest).then_some((sheet, certificate))
    });
    let Some((sheet, certificate)) = found else {
        return Err(nothing_covers(labels, &sheets, wanted));
    };
    let order = by_confidence(labels);
    let set: HashSet<String> = order[..certificate.audited.num_labels]
        .iter()
        .map(|i| id_of(labels, *i).to_owned())
        .collect();
    let unknown: HashSet<&String> = certificate.unknown.iter().collect();
    let gold: Vec<AuditedLabel> = read_json_lines(&sheet.folder.join(AUDIT_GOLD))?;
    let gold: HashMap<String, String> =
        gold.into_iter().map(|line| (line.id, line.label)).collect();
    let num_before = labels.labels.len();
    let all = std::mem::take(&mut labels.labels);
    for mut labelled in all {
        let id = &labels.dataset.examples[labelled.place].id;
        if !set.contains(id) || unknown.contains(id) {
            continue;
        }
        if let Some(label) = gold.get(id) {
            if *label != labelled.label {
                labelled.margin = None;
                labelled.probability = None;
            }
            labelled.label.clone_from(label);
        }
        labels.labels.push(labelled);
    }
    Ok(Covered {
        statement: statement(&certificate.labels_sha256, labels.labels.len(), *wanted),
        num_left_out: num_before - labels.labels.len(),
        num_audited: gold.len(),
    })
}

/// Which sheets there are beside one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    None,
    /// Ones before it, and none behind it.
    Before,
    /// Ones behind it.
    More,
}

/// Whether a certificate promises what is wanted.
fn promises(certificate: &Certificate, wanted: &Guarantee, rest: Rest) -> bool {
    if certificate.is_kept && certificate.guarantee.implies(wanted) {
        return true;
    }
    // The bound of the last audit holds for every share, not that alone which was to be proved; at another
    // confidence it is another bound. A sequence has the confidence of its steps.
    let is_as_sure = wanted.confidence <= certificate.guarantee.confidence;
    let may = rest == Rest::None || (rest == Rest::Before && is_as_sure);
    may && certificate.most_wrong_at(wanted.confidence)
        <= wanted.errors_of(certificate.num_exported)
}

fn nothing_covers(labels: &RunLabels, sheets: &[Sheet], wanted: &Guarantee) -> Error {
    let run = labels.folder.path();
    let error =
        Error::new(ErrorKind::Run, format!("no audit of these labels proves {wanted}")).at(run);
    let last = sheets.last();
    match last.and_then(|sheet| sheet.certificate.as_ref()) {
        Some(done) => error.hint(format!(
            "{} is proved for {} labels; ask for that, or label again and audit the new labels",
            done.proved(),
            done.num_exported
        )),
        None if last.is_some() => error.hint(format!(
            "the sheet that was drawn waits for its answers: `w2s audit certify {} --answers FILE`",
            run.display()
        )),
        None => error.hint(format!(
            "draw rows to answer with `w2s audit draw {} --guarantee {wanted}`",
            run.display()
        )),
    }
}
