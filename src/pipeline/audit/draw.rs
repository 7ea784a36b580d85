//! Which rows are asked.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use clap::Args;
use rand::seq::SliceRandom;
use serde::Serialize;

use super::record::{
    AuditDrawn, AuditPlan, AuditedLabel, Sheet, by_confidence, id_of, name_of, sheets,
};
use super::sheet::{csv, page};
use crate::data::read_json_lines;
use crate::error::{Error, ErrorKind, Result};
use crate::eval::{
    Guarantee, Stratum, choose_stratum, coverable_share, error_by_confidence, fewest_drawn,
    stratum_of,
};
use crate::pipeline::observer::Event;
use crate::pipeline::run_labels::RunLabels;
use crate::pipeline::session::Session;
use crate::pipeline::usage::{usage, wrong};
use crate::run::SeedStream;
use crate::run::files::{AUDIT_GOLD, AUDIT_PAGE, AUDIT_PLAN, AUDIT_SHEET};

/// The confidence and the error rate of a guarantee when nothing is said.
const GUARANTEE: Guarantee = Guarantee { max_error: 0.05, confidence: 0.95 };

/// Draw the rows of an audit and write them as a page and a spreadsheet
///
/// Fixes the labels of the run by their SHA-256, takes the most confident of them as the set to be
/// covered (by the model's margins; no answer is known yet), draws rows of the set at random
/// without replacement, and writes RUN/audit/N with plan.json, sheet.html (a page that works
/// offline and saves a file) and sheet.csv. The model's label is not shown before a row is
/// answered, unless --show-labels is given.
///
/// The guarantee ERROR@CONFIDENCE means: with that probability over the draw, at most that share of
/// the exported labels differs from what you would say. Nothing is assumed of the model or the
/// data. How large the set is only decides how likely the audit is to succeed: it is chosen so that
/// the audit is expected to cover the most labels, or taken from --share.
///
/// After a sheet was certified, the next one is drawn for a larger set, with rows of its own; rows
/// that were answered before are not asked again. After a sheet that failed there is no other for
/// the same labels: trying until one succeeds would prove nothing.
///
/// Examples:
///   w2s audit draw runs/mine --budget 100 --guarantee 0.10@0.95
///   w2s audit draw runs/mine --budget 60 --share 0.5
#[derive(Clone, Debug, Args, Serialize)]
#[command(verbatim_doc_comment)]
pub struct AuditDrawJob {
    /// Run folder of `w2s label`, `relabel` or `filter`
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// What is to be proved: largest share of wrong labels, and confidence
    #[arg(long, value_name = "ERROR@CONFIDENCE", default_value_t = GUARANTEE)]
    pub guarantee: Guarantee,
    /// Rows that you are going to answer
    #[arg(long, value_name = "ROWS", default_value_t = 100)]
    pub budget: usize,
    /// Share of the labels that is to be covered, the most confident ones [default: by their confidence]
    #[arg(long, value_name = "X")]
    pub share: Option<f64>,
    /// Share of all labels that you think is wrong, for choosing and planning alone [default: by the
    /// model's confidence]
    #[arg(long, value_name = "X")]
    pub error_rate: Option<f64>,
    /// Show the model's label and ask whether it is right; people agree with what they are shown
    #[arg(long)]
    pub show_labels: bool,
    /// Seed of the draw
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub seed: u64,
    /// Data of the run [default: where the run read them]
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
}

pub(in crate::pipeline) fn draw(args: &AuditDrawJob, session: &Session) -> Result<AuditDrawn> {
    check(args)?;
    let labels = RunLabels::read(&args.run, args.data.as_deref())?;
    let (last_number, sheets) = sheets(&labels)?;
    let order = by_confidence(&labels);
    let probabilities: Vec<f64> =
        order.iter().map(|i| labels.labels[*i].probability.unwrap_or(0.5)).collect();
    let supposed = args.error_rate.unwrap_or_else(|| error_by_confidence(&probabilities));
    let least = least_size(&sheets, order.len(), &args.run)?;
    let stratum = choose(args, &probabilities, supposed, least)?;
    let mut rows: Vec<usize> = order[..stratum.num_labels].to_vec();
    let number = last_number + 1;
    rows.shuffle(&mut SeedStream::new(args.seed).rng("audit", &[number as u64]));
    rows.truncate(stratum.num_drawn);
    let before = answered(&sheets)?;
    let (known, asked): (Vec<usize>, Vec<usize>) =
        rows.iter().partition(|index| before.contains(id_of(&labels, **index)));
    let ids = |of: &[usize]| of.iter().map(|i| id_of(&labels, *i).to_owned()).collect::<Vec<_>>();
    let plan = AuditPlan {
        w2s: env!("CARGO_PKG_VERSION").to_owned(),
        labels_sha256: labels.sha256()?,
        num_all: order.len(),
        guarantee: args.guarantee,
        stratum,
        supposed_error: supposed,
        seed: args.seed,
        shows_labels: args.show_labels,
        rows: ids(&rows),
        known: ids(&known),
    };
    let folder = labels.folder.file(&name_of(number, ""));
    std::fs::create_dir_all(&folder).map_err(|e| Error::io("make the folder", &folder, &e))?;
    let write = |file: &str, bytes: &[u8]| labels.folder.write(&name_of(number, file), bytes);
    write(AUDIT_SHEET, &csv(&labels, &asked, args.show_labels)?)?;
    write(AUDIT_PAGE, page(&labels, &asked, &plan)?.as_bytes())?;
    // Last: without the plan there is no sheet.
    labels.folder.write_json(&name_of(number, AUDIT_PLAN), &plan)?;
    let fewest_rows = fewest_drawn(plan.stratum.num_labels, 0, &plan.guarantee);
    let drawn = AuditDrawn {
        folder,
        run: args.run.clone(),
        fewest_rows: fewest_rows.unwrap_or(plan.stratum.num_labels),
        plan,
    };
    session.voice.event(&Event::AuditDrawn(&drawn))?;
    Ok(drawn)
}

fn check(args: &AuditDrawJob) -> Result<()> {
    if args.budget == 0 {
        return Err(wrong("`--budget` is 0", "say how many rows you are going to answer"));
    }
    for (name, value) in [("share", args.share), ("error-rate", args.error_rate)] {
        if value.is_some_and(|x| !(x > 0.0 && x <= 1.0)) {
            let value = value.unwrap_or_default();
            return Err(usage(format!(
                "`--{name}` is {value}, expected more than 0 and at most 1"
            )));
        }
    }
    Ok(())
}

/// Returns the fewest labels that the next set must have: more than the last one that was certified.
fn least_size(sheets: &[Sheet], num_labels: usize, run: &Path) -> Result<usize> {
    let Some(last) = sheets.last() else { return Ok(1) };
    let error = |message: String| Error::new(ErrorKind::Run, message).at(&last.folder);
    match &last.certificate {
        None => Err(error(format!("sheet {} waits for its answers", last.number)).hint(format!(
            "answer it and run `w2s audit certify {} --answers FILE`; if nobody has looked at a row yet, \
             delete the folder and draw again",
            run.display()
        ))),
        Some(certificate) if !certificate.is_kept => Err(error(format!(
            "sheet {} did not prove {}, and a second try on the same labels would prove nothing",
            last.number, last.plan.guarantee
        ))
        .hint(format!(
            "what it did prove holds: `w2s export --guarantee {}`; or label again and audit the new labels",
            certificate.proved()
        ))),
        Some(_) if last.plan.stratum.num_labels >= num_labels => {
            Err(error("all labels are covered already".to_owned()))
        }
        Some(_) => Ok(last.plan.stratum.num_labels + 1),
    }
}

/// Returns the set to be covered, or says why the guarantee cannot be reached.
fn choose(
    args: &AuditDrawJob,
    probabilities: &[f64],
    supposed: f64,
    least: usize,
) -> Result<Stratum> {
    let (num, guarantee) = (probabilities.len(), &args.guarantee);
    let refused = |message: String| Error::new(ErrorKind::Data, message).at(&args.run);
    let Some(share) = args.share else {
        let found = choose_stratum(probabilities, guarantee, args.budget, least, args.error_rate);
        return found.ok_or_else(|| too_few(args, num.max(least), num));
    };
    let size = (share * num as f64).round() as usize;
    if size < least {
        return Err(usage(format!(
            "`--share {share}` is {size} labels; expected {least} or more of {num}"
        ))
        .hint("the sets of later sheets hold those before them"));
    }
    let coverable = coverable_share(supposed, guarantee.max_error);
    if share > coverable {
        let (by, percent) = match args.error_rate {
            Some(_) => ("`--error-rate` says", 100.0 * supposed),
            None => ("by the model's own confidence", 100.0 * supposed),
        };
        return Err(refused(format!(
            "{:.0} % of the labels cannot be covered with at most {} % wrong: {by} {percent:.1} % of all are \
             wrong, so that no choice covers more than {:.0} %",
            100.0 * share,
            100.0 * guarantee.max_error,
            100.0 * coverable
        ))
        .hint("lower `--share`, allow more errors in `--guarantee`, or state `--error-rate` if you know better"));
    }
    stratum_of(probabilities, guarantee, args.budget, size, args.error_rate)
        .ok_or_else(|| too_few(args, size, num))
}

/// The error of a budget that is not enough even if no row is wrong.
fn too_few(args: &AuditDrawJob, size: usize, num: usize) -> Error {
    let rows = |wrong| fewest_drawn(size, wrong, &args.guarantee);
    let known = |wrong: usize| Some(format!("{} with {wrong} wrong", rows(wrong)?));
    let table: Vec<String> = (1..=2).filter_map(known).collect();
    Error::new(
        ErrorKind::Data,
        format!(
            "{} rows cannot prove {} for {size} of {num} labels, even if none is wrong",
            args.budget, args.guarantee
        ),
    )
    .at(&args.run)
    .hint(format!(
        "raise `--budget` to {} or more ({}), or allow more errors",
        rows(0).unwrap_or(size),
        table.join(", ")
    ))
}

/// The ids whose right label is known from earlier sheets.
fn answered(sheets: &[Sheet]) -> Result<HashSet<String>> {
    let mut ids = HashSet::new();
    for sheet in sheets {
        let gold: Vec<AuditedLabel> = read_json_lines(&sheet.folder.join(AUDIT_GOLD))?;
        ids.extend(gold.into_iter().map(|line| line.id));
    }
    Ok(ids)
}
