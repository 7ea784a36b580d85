//! `w2s compare`: several methods, each with its seeds, against gold and against each other.

mod runs;

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::observer::Voice;
use super::session::Session;
use super::words;
use super::words::percent;
use crate::error::{Error, ErrorKind, Result};
use crate::eval::{
    ColumnComparison, Comparison, Estimate, MethodComparison, Resampling, Role, compare,
};
use crate::report::{aligned, or_dash};
use crate::report::{comparison_bars, write_figure};
use crate::run::write_atomic;

use runs::Named;

/// Compare methods with gold and with each other: intervals over items and seeds, p, PGR
///
/// A method is a name and its runs, one for each seed. A run is a folder of `w2s label`, of `w2s eval
/// --test` or of `w2s filter` (its weak labels before the filter), or a file with the columns `id` and
/// `label` and, if it likes, `logprobs` or `probabilities`: an object with a number for each label.
/// Runs are joined by id; what not every run answered is left out, and said.
///
/// Prints for each gold column: accuracy, balanced accuracy, AUROC, Brier and ECE of each method, each
/// run and each label; the difference in accuracy of every two methods; and the performance gap
/// recovered, PGR = (method - weak) / (ceiling - weak), refused unless the gap's interval lies above 0. Writes
/// comparison.json with all of it, and comparison.svg and .png. The runs are not changed.
///
/// Intervals (95 %) are over items and seeds. The accuracy of one run has Wilson's; that of several runs
/// has Wilson's for the variance of items and runs as crossed effects, with Student's quantile for the
/// part between runs: two runs that differ say little, three or more are better. Differences and PGR are
/// paired by item, and run j of one method goes with run j of another that has as many. Balanced
/// accuracy, AUROC and Brier score get their variance from the bootstrap. With one run an interval says
/// nothing of how runs differ.
///
/// Examples:
///   w2s compare --gold gold.jsonl --method icm=runs/icm-0,runs/icm-1 --method chat=runs/chat \
///       --out comparison
///   w2s compare --gold gold.jsonl --weak weak=runs/weak --ceiling ceiling=runs/ceiling-0,runs/ceiling-1 \
///       --method naive=runs/naive-0,runs/naive-1 --method filter=runs/filter-0,runs/filter-1 \
///       --published naive=78.4 --out comparison
///   w2s compare --task sentiment --gold gold.csv --gold-column label,is_long --method a=a.csv \
///       --method b=b.jsonl --out comparison
#[derive(Clone, Debug, Args, Serialize)]
#[command(verbatim_doc_comment)]
pub struct CompareJob {
    /// A method and its runs; give it once for each method
    #[arg(long, required_unless_present_all = ["weak", "ceiling"], value_name = "NAME=RUN,...")]
    pub method: Vec<String>,
    /// The weak supervisor's runs, for PGR
    #[arg(long, value_name = "[NAME=]RUN,...")]
    pub weak: Option<String>,
    /// The ceiling's runs, for PGR
    #[arg(long, value_name = "[NAME=]RUN,...")]
    pub ceiling: Option<String>,
    /// Gold labels: any data file with `id` and the task's gold column
    #[arg(long, value_name = "FILE")]
    pub gold: PathBuf,
    /// Columns of the gold file to compare with, the main one first [default: the task's]
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    pub gold_column: Vec<String>,
    /// Task of gold and of label files [default: that of the run folders]
    #[arg(long, value_name = "TASK")]
    pub task: Option<String>,
    /// An accuracy that was published for a method, in percent, for the figure
    #[arg(long, value_name = "NAME=PERCENT")]
    pub published: Vec<String>,
    /// Resamples for the intervals of balanced accuracy, AUROC and Brier score
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub resamples: u32,
    /// Seed of the resamples
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub seed: u64,
    /// Folder for comparison.json and the figures
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Replace a comparison that is there
    #[arg(long)]
    pub force: bool,
}

const JSON: &str = "comparison.json";

pub(super) fn run(args: CompareJob, session: &Session<'_>) -> Result<()> {
    let path = args.out.join(JSON);
    if path.exists() && !args.force {
        return Err(Error::new(ErrorKind::Run, "the folder already holds a comparison")
            .at(&path)
            .hint("replace it with `--force`, or choose a new folder for `--out`"));
    }
    let mut methods = Vec::new();
    methods.extend(args.weak.as_deref().map(|text| Named::parse(text, Role::Weak)).transpose()?);
    for text in &args.method {
        methods.push(Named::parse(text, Role::Method)?);
    }
    methods
        .extend(args.ceiling.as_deref().map(|text| Named::parse(text, Role::Ceiling)).transpose()?);
    publish(&mut methods, &args.published)?;
    let read = runs::read(&methods, args.task.as_deref(), &args.gold, &args.gold_column)?;
    let resampling = Resampling {
        num_resamples: args.resamples as usize,
        seed: args.seed,
        ..Resampling::default()
    };
    let found = compare(
        &read.task.name,
        &read.labels,
        read.positive,
        &read.methods,
        &read.gold,
        resampling,
    )?;
    let comparison = Comparison { gold_sha256: read.gold_sha256, ..found };
    std::fs::create_dir_all(&args.out).map_err(|e| Error::io("make the folder", &args.out, &e))?;
    let mut text = serde_json::to_string_pretty(&comparison)
        .map_err(|e| Error::new(ErrorKind::Internal, format!("cannot write: {e}")))?;
    text.push('\n');
    write_atomic(&path, text.as_bytes())?;
    for (index, column) in comparison.columns.iter().enumerate() {
        if index > 0 {
            session.voice.print(format_args!(""))?;
        }
        for line in lines(&comparison, column) {
            session.voice.print(format_args!("{line}"))?;
        }
        let stem = match index {
            0 => "comparison".to_owned(),
            _ => format!("comparison-{}", safe(&column.gold_column)),
        };
        write_figure(&args.out, &stem, &comparison_bars(&comparison, column))?;
        tell_doubts(&comparison, column, &session.voice);
    }
    session.voice.say(format_args!("wrote `{}` and its figures", path.display()));
    Ok(())
}

fn publish(methods: &mut [Named], published: &[String]) -> Result<()> {
    let usage = |message: String| Error::new(ErrorKind::Usage, message);
    for text in published {
        let parsed = text.rsplit_once('=').and_then(|(name, number)| {
            let number = number.trim().trim_end_matches('%').trim_end().parse::<f64>().ok()?;
            (0.0..=100.0).contains(&number).then_some((name, number))
        });
        let Some((name, number)) = parsed else {
            return Err(usage(format!("`--published {text}` is no name and percentage"))
                .hint("expected such as `--published naive=78.4`, a number from 0 to 100"));
        };
        let Some(method) = methods.iter_mut().find(|method| method.name == name) else {
            return Err(usage(format!("`--published` names `{name}`, which is no method here")));
        };
        method.published = Some(number / 100.0);
    }
    Ok(())
}

fn safe(name: &str) -> String {
    let keep = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    name.chars().map(keep).collect()
}

/// More than this many pairs are in the file only, save those with the first method.
const MAX_PAIRS: usize = 15;

fn lines(comparison: &Comparison, column: &ColumnComparison) -> Vec<String> {
    let count = |n: usize| words::count(n as u64);
    let mut lines = vec![format!(
        "{}, gold column {}: {} items ({} not in every run, {} without gold left out)",
        comparison.task,
        column.gold_column,
        count(column.num_items),
        count(column.num_not_in_every_run),
        count(column.num_without_gold)
    )];
    let head = ["method", "run", "accuracy", "sd", "balanced", "AUROC", "Brier", "ECE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for method in &column.methods {
        rows.extend(method_rows(method));
    }
    lines.extend(indented(aligned(&rows, &[2, 3, 4, 5, 6, 7])));
    if !comparison.labels.is_empty() {
        lines.push("labels, all runs of a method together:".to_owned());
        lines.extend(indented(label_lines(column)));
    }
    if !column.pairs.is_empty() {
        lines.push("difference in accuracy, points:".to_owned());
        let all = column.pairs.len() <= MAX_PAIRS;
        let first = &column.methods[0].name;
        let head = ["methods", "difference", "p", "alone right"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for pair in column.pairs.iter().filter(|pair| all || pair.a == *first) {
            rows.push(vec![
                format!("{} - {}", pair.b, pair.a),
                points(pair.difference),
                p_value(pair.p),
                format!("{} : {}", count(pair.num_only_b_right), count(pair.num_only_a_right)),
            ]);
        }
        lines.extend(indented(aligned(&rows, &[1, 2, 3])));
        if !all {
            lines.push(format!("  all {} pairs are in {JSON}", column.pairs.len()));
        }
    }
    if !column.pgr.is_empty() {
        lines.push("performance gap recovered:".to_owned());
        let rows: Vec<Vec<String>> = column
            .pgr
            .iter()
            .map(|of| {
                let value = match of.pgr {
                    Some(Estimate { value, low, high }) => {
                        format!("{value:.2} [{low:.2}, {high:.2}]")
                    }
                    None => "undefined".to_owned(),
                };
                vec![of.method.clone(), value]
            })
            .collect();
        lines.extend(indented(aligned(&rows, &[])));
    }
    lines
}

fn indented(lines: Vec<String>) -> impl Iterator<Item = String> {
    lines.into_iter().map(|line| format!("  {line}"))
}

fn interval(estimate: Estimate) -> String {
    let [value, low, high] = [estimate.value, estimate.low, estimate.high].map(percent);
    format!("{value:.1} % [{low:.1}, {high:.1}]")
}

fn points(estimate: Estimate) -> String {
    let [value, low, high] = [estimate.value, estimate.low, estimate.high].map(percent);
    format!("{value:+.1} [{low:+.1}, {high:+.1}]")
}

fn p_value(p: f64) -> String {
    if p < 0.0001 { "<0.0001".to_owned() } else { format!("{p:.4}") }
}

fn method_rows(method: &MethodComparison) -> Vec<Vec<String>> {
    let rate = |rate: Option<f64>| or_dash(rate.map(|rate| format!("{:.1} %", percent(rate))));
    let number = |value: Option<f64>| or_dash(value.map(|value| format!("{value:.3}")));
    let value = |estimate: Option<Estimate>| estimate.map(|estimate| estimate.value);
    let mut rows = vec![vec![
        method.name.clone(),
        match method.runs.len() {
            1 => method.runs[0].path.clone(),
            num => format!("{num} runs"),
        },
        interval(method.accuracy),
        or_dash(method.accuracy_sd.map(|sd| format!("{:.1}", percent(sd)))),
        rate(value(method.balanced_accuracy)),
        number(value(method.auroc)),
        number(value(method.brier)),
        number(method.ece),
    ]];
    if method.runs.len() > 1 {
        rows.extend(method.runs.iter().map(|run| {
            let accuracy =
                Estimate { value: run.accuracy, low: run.wilson_low, high: run.wilson_high };
            vec![
                String::new(),
                run.path.clone(),
                interval(accuracy),
                String::new(),
                rate(run.balanced_accuracy),
                number(run.auroc),
                number(run.brier),
                number(run.ece),
            ]
        }));
    }
    rows
}

fn label_lines(column: &ColumnComparison) -> Vec<String> {
    let head = ["method", "label", "in gold", "given", "precision", "recall", "F1"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for method in &column.methods {
        for (index, label) in method.per_label.iter().enumerate() {
            let name = if index == 0 { method.name.clone() } else { String::new() };
            rows.push([vec![name], super::evaluate::label_cells(label)].concat());
        }
    }
    aligned(&rows, &[2, 3, 4, 5, 6])
}

/// Says what should make a reader doubt the numbers.
fn tell_doubts(comparison: &Comparison, column: &ColumnComparison, voice: &Voice<'_>) {
    let name = &column.gold_column;
    let num_all = column.num_items + column.num_without_gold + column.num_not_in_every_run;
    if column.num_not_in_every_run > 0 {
        voice.say(format_args!(
            "warning: {name}: {} of {num_all} items were not answered by every run and are left out",
            column.num_not_in_every_run
        ));
        let most = num_all - column.num_not_in_every_run;
        for run in column.methods.iter().flat_map(|method| &method.runs) {
            if run.num_answered > most {
                voice.say(format_args!(
                    "  {} answered {}, of which {} are left out",
                    run.path,
                    run.num_answered,
                    run.num_answered - most
                ));
            }
        }
    }
    let unparsed = column.methods.iter().flat_map(|method| &method.runs);
    for run in unparsed.filter(|run| run.num_unparsed > 0) {
        voice.say(format_args!(
            "{}: {} of {} answers could not be read and count as wrong",
            run.path, run.num_unparsed, column.num_items
        ));
    }
    if column.methods.iter().any(|method| method.runs.len() == 1) && !comparison.columns.is_empty()
    {
        let single: Vec<&str> = column
            .methods
            .iter()
            .filter(|method| method.runs.len() == 1)
            .map(|method| method.name.as_str())
            .collect();
        voice.say(format_args!(
            "{name}: one run of {}: intervals there say nothing of how seeds differ",
            single.join(", ")
        ));
    }
    let mut remarks: Vec<&str> = column.pgr.iter().filter_map(|of| of.remark.as_deref()).collect();
    remarks.dedup();
    for remark in remarks {
        voice.say(format_args!("{name}: {remark}"));
    }
    if column.pairs.len() > 1 {
        voice.say(format_args!(
            "p is not corrected for the number of pairs ({})",
            column.pairs.len()
        ));
    }
}
