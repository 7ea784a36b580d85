//! `w2s compare`: several methods, each with its seeds, against gold and against each other.

mod runs;

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::note::Note;
use super::observer::Event;
use super::session::Session;
use crate::error::{Error, ErrorKind, Result};
use crate::eval::{Comparison, Resampling, Role, compare};
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
/// comparison.json with all of it, and comparison.svg, .pdf and .png. The runs are not changed.
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

pub(super) fn run(args: CompareJob, session: &Session<'_>) -> Result<Comparison> {
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
        let stem = match index {
            0 => "comparison".to_owned(),
            _ => format!("comparison-{}", safe(&column.gold_column)),
        };
        write_figure(&args.out, &stem, &comparison_bars(&comparison, column), None)?;
        session.voice.event(&Event::Compared {
            comparison: &comparison,
            column,
            is_first: index == 0,
        })?;
    }
    session.voice.note(&Note::ComparisonWritten { path });
    Ok(comparison)
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
