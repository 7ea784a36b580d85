//! What `w2s audit` says and prints.

use w2s::eval::Guarantee;
use w2s::pipeline::{AuditCertified, AuditDrawn};

use super::line::Line;
use super::numbers::{count, percent};

fn promised(guarantee: &Guarantee) -> String {
    format!(
        "at most {} % wrong, with a confidence of {} %",
        short(percent(guarantee.max_error)),
        short(percent(guarantee.confidence))
    )
}

fn short(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// What `draw` says; it prints the page.
pub(in crate::cli) fn drawn(drawn: &AuditDrawn) -> Vec<Line> {
    let AuditDrawn { plan, folder, run, fewest_rows } = drawn;
    let stratum = &plan.stratum;
    let share = stratum.num_labels as f64 / plan.num_all as f64;
    let asked = plan.rows.len() - plan.known.len();
    let mut said = vec![
        format!(
            "to be proved: of the {} most confident of {} labels ({:.0} %), {}",
            count(stratum.num_labels as u64),
            count(plan.num_all as u64),
            percent(share),
            promised(&plan.guarantee)
        ),
        format!(
            "{} rows were drawn; the guarantee holds if at most {} of them are wrong ({fewest_rows} rows would be \
             enough if none is)",
            plan.rows.len(),
            stratum.most_wrong
        ),
        format!(
            "expected by the model's confidence, which may be off: {:.1} % of these labels wrong, and a chance of \
             {:.0} % that the audit succeeds; more rows or a smaller --share raise it",
            percent(stratum.expected_error),
            percent(stratum.expected_success)
        ),
    ];
    if !plan.known.is_empty() {
        said.push(format!(
            "{} of the rows were answered before and are not asked again",
            plan.known.len()
        ));
    }
    said.push(format!(
        "answer {asked} rows: open {} in a browser, or fill in {}",
        folder.join("sheet.html").display(),
        folder.join("sheet.csv").display()
    ));
    said.push(format!("then: w2s audit certify {} --answers answers.csv", run.display()));
    let mut lines: Vec<Line> = said.into_iter().map(Line::Said).collect();
    lines.push(Line::Printed(folder.join("sheet.html").display().to_string()));
    lines
}

/// What `certify` says and prints.
pub(in crate::cli) fn certified(judged: &AuditCertified) -> Vec<Line> {
    let AuditCertified { plan, certificate, folder, run } = judged;
    let audited = &certificate.audited;
    let printed = |text: String| Line::Printed(text);
    let mut lines = vec![printed(format!(
        "{}: {} of {} audited labels are wrong; {} was to be proved",
        if certificate.is_kept { "proved" } else { "NOT proved" },
        audited.num_wrong,
        audited.num_drawn,
        plan.guarantee
    ))];
    if !certificate.unknown.is_empty() {
        lines.push(Line::Said(format!(
            "{} rows without a known right label count as wrong and are not exported",
            certificate.unknown.len()
        )));
    }
    lines.push(printed(format!(
        "with a confidence of {} %, at most {} of {} labels are wrong ({:.1} %); with your answers in \
         place of the model's labels, as they are exported, at most {}",
        short(percent(plan.guarantee.confidence)),
        count(certificate.most_wrong as u64),
        count(certificate.num_exported as u64),
        percent(certificate.proved_error()),
        count(certificate.most_left as u64)
    )));
    if let Some(statement) = &certificate.statement {
        lines.push(printed(statement.clone()));
    }
    lines.push(Line::Said(format!("wrote {}", folder.display())));
    lines.push(Line::Said(format!(
        "next: w2s export {} --guarantee {} --format csv --out labelled.csv",
        run.display(),
        certificate.proved()
    )));
    if certificate.is_kept && audited.num_labels < plan.num_all {
        lines.push(Line::Said(format!(
            "or cover more labels, with rows of their own: w2s audit draw {}",
            run.display()
        )));
    }
    lines
}
