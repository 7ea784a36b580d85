//! What the answers prove.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::record::{
    AuditCertified, AuditedLabel, Certificate, Sheet, by_confidence, id_of, name_of, sheets,
};
use crate::data::{AuditAnswer, AuditAnswers, json_lines, read_json_lines};
use crate::error::{Error, ErrorKind, Result};
use crate::eval::{Audited, Guarantee};
use crate::pipeline::observer::Event;
use crate::pipeline::run_labels::{Labelled, RunLabels};
use crate::pipeline::session::Session;
use crate::run::files::{AUDIT_GOLD, AUDIT_PLAN, CERTIFICATE};

/// Say what the answers of an audit prove
///
/// Reads the answers to the last sheet of `w2s audit draw` and prints how many of the labels in the
/// set may be wrong at most: the exact bound of the hypergeometric distribution. Writes
/// certificate.json and gold.jsonl (the labels that you gave) beside the sheet. A row that cannot
/// be told (`?`) counts as wrong and is not exported. gold.jsonl serves `w2s label --method few-
/// shot --demonstrations FILE` and `--init golden --gold FILE --gold-column label`; such a run is
/// marked as one that used gold.
///
/// Example:
///   w2s audit certify runs/mine --answers answers.csv
#[derive(Clone, Debug, Args, Serialize)]
#[command(verbatim_doc_comment)]
pub struct CertifyJob {
    /// Run folder of the audit
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// The sheet with its answers: what the page saved, or the spreadsheet as CSV
    #[arg(long, value_name = "FILE")]
    pub answers: PathBuf,
    /// Data of the run [default: where the run read them]
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
}

pub(in crate::pipeline) fn certify(args: &CertifyJob, session: &Session) -> Result<AuditCertified> {
    let labels = RunLabels::read(&args.run, args.data.as_deref())?;
    let (last_number, mut sheets) = sheets(&labels)?;
    let Some(sheet) = sheets.pop() else {
        let error = Error::new(ErrorKind::Run, "no audit was drawn of these labels").at(&args.run);
        return Err(error.hint(match last_number {
            0 => format!("draw one with `w2s audit draw {}`", args.run.display()),
            _ => "the run's labels changed since its audit was drawn; an audit holds for the labels that \
                  were fixed, so draw another"
                .to_owned(),
        }));
    };
    let answers = AuditAnswers::read(&args.answers, &labels.task)?;
    if let Some(done) = &sheet.certificate {
        if done.answers_sha256 != answers.sha256 {
            return Err(Error::new(
                ErrorKind::Run,
                format!("sheet {} is judged already, by other answers", sheet.number),
            )
            .at(&sheet.folder)
            .hint("a sheet is judged once: answers that are changed afterwards prove nothing"));
        }
        return tell(args, session, done.clone(), sheet);
    }
    let judged = judge(&labels, &sheet, &sheets, &answers)?;
    let certificate = certificate(&labels, &sheet, &answers, &judged)?;
    let write = |file: &str, bytes: &[u8]| labels.folder.write(&name_of(sheet.number, file), bytes);
    write(AUDIT_GOLD, &json_lines(&judged.gold)?)?;
    labels.folder.write_json(&name_of(sheet.number, CERTIFICATE), &certificate)?;
    tell(args, session, certificate, sheet)
}

fn tell(
    args: &CertifyJob,
    session: &Session,
    certificate: Certificate,
    sheet: Sheet,
) -> Result<AuditCertified> {
    let Sheet { folder, plan, .. } = sheet;
    let certified = AuditCertified { plan, certificate, folder, run: args.run.clone() };
    session.voice.event(&Event::AuditCertified(&certified))?;
    Ok(certified)
}

/// What the answers say of the rows drawn.
#[derive(Default)]
struct Judged {
    gold: Vec<AuditedLabel>,
    wrong: Vec<String>,
    unknown: Vec<String>,
}

/// Holds the answers to a sheet, and earlier ones to rows that were drawn again, against the labels.
fn judge(
    labels: &RunLabels,
    sheet: &Sheet,
    before: &[Sheet],
    answers: &AuditAnswers,
) -> Result<Judged> {
    let mut known: HashMap<String, AuditAnswer> = HashMap::new();
    for earlier in before {
        let gold: Vec<AuditedLabel> = read_json_lines(&earlier.folder.join(AUDIT_GOLD))?;
        known.extend(gold.into_iter().map(|line| (line.id, AuditAnswer::Label(line.label))));
    }
    known.retain(|id, _| sheet.plan.known.contains(id));
    let is_asked = |id: &str| {
        sheet.plan.rows.iter().any(|row| row == id) && !sheet.plan.known.iter().any(|row| row == id)
    };
    let strange: Vec<&str> = answers
        .answers()
        .iter()
        .map(|(id, _)| id.as_str())
        .chain(answers.unanswered().iter().map(|(id, _)| id.as_str()))
        .filter(|id| !is_asked(id))
        .collect();
    if let Some(first) = strange.first() {
        return Err(Error::new(
            ErrorKind::Data,
            format!("{} answers are to rows that were not drawn, such as `{first}`", strange.len()),
        )
        .at(&answers.path)
        .hint(format!("expected the answers to sheet {} and no others", sheet.number)));
    }
    known.extend(answers.answers().iter().cloned());
    let missing: Vec<&str> =
        sheet.plan.rows.iter().map(String::as_str).filter(|id| !known.contains_key(*id)).collect();
    if let Some(first) = missing.first() {
        let error = Error::new(
            ErrorKind::Data,
            format!("{} of {} rows have no answer, such as `{first}`", missing.len(), sheet.plan.rows.len()),
        )
        .hint("answer every row that was drawn; write `?` where it cannot be told, which counts as wrong");
        return Err(match answers.unanswered().iter().find(|(id, _)| id == first) {
            Some((_, line)) => error.at_line(&answers.path, *line),
            None => error.at(&answers.path),
        });
    }
    let by_id: HashMap<&str, &Labelled> =
        labels.labels.iter().map(|l| (labels.example(l).id.as_str(), l)).collect();
    let mut judged = Judged::default();
    for id in &sheet.plan.rows {
        let Some(labelled) = by_id.get(id.as_str()) else {
            return Err(damaged(&sheet.folder, format!("the run has no label of row `{id}`")));
        };
        let right = right_label(&known[id], labelled, labels);
        if right.as_ref() != Some(&labelled.label) {
            judged.wrong.push(id.clone());
        }
        match right {
            Some(label) => {
                judged.gold.push(AuditedLabel { id: id.clone(), label, source: "audit".to_owned() })
            }
            None => judged.unknown.push(id.clone()),
        }
    }
    Ok(judged)
}

/// The label that is right, where the answer tells it.
fn right_label(answer: &AuditAnswer, labelled: &Labelled, labels: &RunLabels) -> Option<String> {
    match answer {
        AuditAnswer::Label(label) => Some(label.clone()),
        AuditAnswer::Right => Some(labelled.label.clone()),
        AuditAnswer::Unsure => None,
        // Of two labels the other one.
        AuditAnswer::Wrong => match labels.task.labels.as_slice() {
            [one, other] if one.name == labelled.label => Some(other.name.clone()),
            [one, other] if other.name == labelled.label => Some(one.name.clone()),
            _ => None,
        },
    }
}

fn damaged(folder: &Path, message: String) -> Error {
    Error::new(ErrorKind::Run, message)
        .at(folder)
        .hint("plan.json was changed since the sheet was drawn")
}

fn certificate(
    labels: &RunLabels,
    sheet: &Sheet,
    answers: &AuditAnswers,
    judged: &Judged,
) -> Result<Certificate> {
    let plan = &sheet.plan;
    let num_labels = plan.stratum.num_labels;
    let order = by_confidence(labels);
    let set: Vec<&str> = order.iter().take(num_labels).map(|i| id_of(labels, *i)).collect();
    if set.len() < num_labels || !plan.rows.iter().all(|id| set.contains(&id.as_str())) {
        return Err(damaged(&sheet.folder, "rows of the sheet are not of its set".to_owned()));
    }
    let audited = Audited { num_labels, num_drawn: plan.rows.len(), num_wrong: judged.wrong.len() };
    let confidence = plan.guarantee.confidence;
    let num_exported = num_labels - judged.unknown.len();
    // What is left out counts as wrong in the set, and is not among what is exported.
    let most_wrong = audited.most_wrong(confidence) - judged.unknown.len();
    let is_kept = most_wrong <= plan.guarantee.errors_of(num_exported);
    Ok(Certificate {
        w2s: env!("CARGO_PKG_VERSION").to_owned(),
        labels_sha256: plan.labels_sha256.clone(),
        plan_sha256: sha256_of(&sheet.folder.join(AUDIT_PLAN))?,
        answers_sha256: answers.sha256.clone(),
        guarantee: plan.guarantee,
        is_kept,
        audited,
        num_exported,
        most_wrong,
        most_left: audited.most_left(confidence),
        statement: is_kept.then(|| statement(&plan.labels_sha256, num_exported, plan.guarantee)),
        wrong: judged.wrong.clone(),
        unknown: judged.unknown.clone(),
    })
}

/// What may be said of labels that are exported under a guarantee.
///
/// # Source
/// METHODS, section 8, word for word.
pub(super) fn statement(labels_sha256: &str, num_exported: usize, guarantee: Guarantee) -> String {
    let percent = |share: f64| Value::from((share * 1e6).round() / 1e4).to_string();
    let percent = |share: f64| percent(share).trim_end_matches(".0").to_owned();
    format!(
        "The labels of file {labels_sha256} were fixed before rows were drawn. With probability at least \
         {} % over that draw, at most {} % of the {num_exported} exported labels differ from what the \
         auditor would say. Nothing is assumed of model or data; it holds for this file only.",
        percent(guarantee.confidence),
        percent(guarantee.max_error)
    )
}

fn sha256_of(path: &Path) -> Result<String> {
    crate::run::Input::of_file("plan", path).map(|input| input.sha256)
}
