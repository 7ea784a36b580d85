//! Which order of demonstrations is good enough: leave-one-out scores of real sets in several
//! orders, under gold labels and under labels of which a fifth is flipped.
//!
//! ```text
//! cargo bench --bench orders -- --rows orders.jsonl --set NAME:TASK:FILE [--set ...]
//! cargo bench --bench orders -- --rows orders.jsonl --summarise
//! ```
//!
//! Every finished row is in the file at once; started again, the program goes on behind the last.
//! Permutations are the outermost loop, so that an early stop leaves whole ones.

#[path = "orders/summary.rs"]
mod summary;

use std::fs::OpenOptions;
use std::io::{ErrorKind as IoErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Instant;

use clap::Parser;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use w2s::data::{Dataset, Example, GoldLabels, Task};
use w2s::error::{Error, ErrorKind, Result};
use w2s::eval::auroc;
use w2s::label::{Items, OrderOptions, OrderPlan};
use w2s::lm::{DeviceChoice, DtypeChoice};
use w2s::prompt::PromptFormat;
use w2s::run::SeedStream;
use w2s::score::{
    LmScorer, LmScorerOptions, Scorer, Usage, best_label, distribution, log_odds, mean_logprobs,
};

/// Compare orders of demonstrations by leave-one-out scores on labelled sets
#[derive(Debug, Parser)]
struct Args {
    /// JSON lines of results: written to, and read for what is done already
    #[arg(long, value_name = "FILE.jsonl")]
    rows: PathBuf,
    /// Print tables of the rows as Markdown instead of making more
    #[arg(long)]
    summarise: bool,
    /// A set: its name, a built-in task or a task file, and a file with gold; two labels only
    #[arg(long = "set", value_name = "NAME:TASK:FILE")]
    sets: Vec<SetName>,
    /// Examples scored together, half of each label
    #[arg(long, num_args = 1.., default_values_t = [32, 64])]
    sizes: Vec<usize>,
    /// Draws of examples, each in one random order
    #[arg(long, value_name = "N", default_value_t = 5)]
    permutations: u64,
    /// dataset, halving, anchors-K, leaf-B, or two-trees (the mean of two halving passes)
    #[arg(long, num_args = 1.., default_values = ["dataset", "halving", "anchors-2", "anchors-4", "leaf-8", "two-trees"])]
    orders: Vec<OrderName>,
    /// Longest text that is drawn, all fields together
    #[arg(long, value_name = "CHARS", default_value_t = 120)]
    max_chars: usize,
    /// Model folder
    #[arg(long, value_name = "DIR", default_value = "models/gemma-3-270m")]
    model: PathBuf,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value_t = DeviceChoice::Auto)]
    device: DeviceChoice,
    /// auto, f32, bf16 or f16
    #[arg(long, default_value_t = DtypeChoice::Auto)]
    dtype: DtypeChoice,
    /// Seed of draws, orders, flips and the bootstrap
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Debug)]
struct SetName {
    name: String,
    task: String,
    file: PathBuf,
}

impl FromStr for SetName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.splitn(3, ':').collect::<Vec<_>>()[..] {
            [name, task, file] => {
                Ok(Self { name: name.into(), task: task.into(), file: file.into() })
            }
            _ => Err("expected NAME:TASK:FILE".into()),
        }
    }
}

#[derive(Clone, Debug)]
struct OrderName {
    name: String,
    options: OrderOptions,
}

impl FromStr for OrderName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pure = OrderOptions::PURE_HALVING;
        let number = |prefix: &str| text.strip_prefix(prefix)?.parse::<usize>().ok();
        let options = match text {
            "dataset" => OrderOptions::DATASET,
            "halving" => pure,
            "two-trees" => OrderOptions { num_trees: 2, ..pure },
            _ => match (number("anchors-"), number("leaf-")) {
                (Some(num_anchors), _) => OrderOptions { num_anchors, ..pure },
                (_, Some(leaf_block)) => OrderOptions { leaf_block, ..pure },
                _ => {
                    return Err(
                        "expected dataset, halving, anchors-K, leaf-B or two-trees".to_owned()
                    );
                }
            },
        };
        Ok(Self { name: text.to_owned(), options })
    }
}

/// What all rows of a file have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Setting {
    model: String,
    dtype: String,
    max_chars: usize,
    seed: u64,
}

/// Which pass a row is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Cell {
    set: String,
    num_examples: usize,
    permutation: u64,
    labels: Labelling,
    order: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Labelling {
    Gold,
    Flipped,
}

/// One line of the results; log-probabilities are means over the examples, in nats, of the labels
/// that stand in the contexts.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    #[serde(flatten)]
    cell: Cell,
    #[serde(flatten)]
    setting: Setting,
    auroc: f64,
    accuracy: f64,
    accuracy_raw: f64,
    logprob: f64,
    logprob_raw: f64,
    tokens_computed: u64,
    tokens_full_prompts: u64,
    seconds: f64,
}

fn main() -> ExitCode {
    w2s::lm::settle_environment();
    let args = Args::parse();
    let done = if args.summarise { summarise(&args) } else { work(&args) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn say(line: &str) {
    // A closed stderr is no reason to stop working.
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn summarise(args: &Args) -> Result<()> {
    let text = summary::markdown(&read_rows(&args.rows)?, args.seed);
    let write = std::io::stdout().write_all(text.as_bytes());
    write.map_err(|e| Error::io("write", Path::new("stdout"), &e))
}

fn read_rows(path: &Path) -> Result<Vec<Row>> {
    let text = match std::fs::read_to_string(path) {
        Err(e) if e.kind() == IoErrorKind::NotFound => String::new(),
        text => text.map_err(|e| Error::io("read", path, &e))?,
    };
    let mut rows: Vec<Row> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let fail = |message| Error::new(ErrorKind::Data, message).at_line(path, i + 1);
        let row: Row = serde_json::from_str(line)
            .map_err(|e| fail(format!("not a row: {e}")).hint("remove the line"))?;
        if rows.first().is_some_and(|first| first.setting != row.setting) {
            return Err(fail("the row has another model, dtype, max_chars or seed".into())
                .hint("use one file for each setting"));
        }
        rows.push(row);
    }
    Ok(rows)
}

/// A set with the examples that may be drawn, by gold label.
struct Set {
    name: String,
    task: Task,
    by_label: [Vec<Example>; 2],
}

impl Set {
    fn read(set: &SetName, max_chars: usize) -> Result<Self> {
        let task = Task::load(&set.task)?;
        if task.num_labels() != 2 {
            return Err(Error::new(ErrorKind::Usage, "expected a task with two labels")
                .hint("AUROC is of two labels"));
        }
        let gold = GoldLabels::read(&set.file, &task)?;
        let mut by_label = [Vec::new(), Vec::new()];
        for example in Dataset::read(&set.file, &task)?.examples {
            let num_chars: usize = example.fields.values().map(|text| text.chars().count()).sum();
            if let (Some(label), true) = (gold.get(&example.id), num_chars <= max_chars) {
                by_label[label].push(example);
            }
        }
        Ok(Self { name: set.name.clone(), task, by_label })
    }

    /// Returns `num` examples with their gold labels, half of each, in a random order.
    fn draw(
        &self,
        num: usize,
        permutation: u64,
        streams: SeedStream,
    ) -> Result<Vec<(&Example, usize)>> {
        let mut rng = streams.rng(&format!("orders/{}", self.name), &[num as u64, permutation]);
        let mut drawn = Vec::with_capacity(num);
        for (label, examples) in self.by_label.iter().enumerate() {
            if !num.is_multiple_of(2) || examples.len() < num / 2 {
                return Err(Error::new(
                    ErrorKind::Usage,
                    format!("cannot draw {} of {} examples of a label", num / 2, examples.len()),
                )
                .hint("use even sizes, or raise `--max-chars`"));
            }
            let mut mine: Vec<&Example> = examples.iter().collect();
            mine.shuffle(&mut rng);
            drawn.extend(mine.into_iter().take(num / 2).map(|example| (example, label)));
        }
        drawn.shuffle(&mut rng);
        Ok(drawn)
    }
}

/// Returns `gold` with a fifth of each label's examples given the other label.
fn flip(gold: &[usize], rng: &mut impl rand::Rng) -> Vec<usize> {
    let mut labels = gold.to_vec();
    for label in 0..2 {
        let mut mine: Vec<usize> = (0..gold.len()).filter(|&i| gold[i] == label).collect();
        mine.shuffle(rng);
        mine.truncate((mine.len() + 2) / 5);
        for i in mine {
            labels[i] = 1 - label;
        }
    }
    labels
}

/// Raw log-probabilities of every example's labels, and what they cost.
struct Pass {
    logprobs: Vec<Vec<f64>>,
    usage: Usage,
    seconds: f64,
}

fn pass(
    scorer: &mut LmScorer,
    options: OrderOptions,
    sequences: Vec<Vec<usize>>,
    items: &Items,
    labels: &[usize],
) -> Result<Pass> {
    let began = Instant::now();
    let labels: Vec<Option<usize>> = labels.iter().map(|&label| Some(label)).collect();
    let plan = OrderPlan::with_sequences(options, sequences, items, &labels);
    let all: Vec<usize> = (0..items.len()).collect();
    let asked = plan.ask(items, &labels, &all, false);
    let (scores, cost) = scorer.score(&asked.tree)?;
    let mut logprobs = vec![Vec::new(); items.len()];
    for (i, row) in asked.rows(&scores) {
        logprobs[i] = row;
    }
    let usage = asked.usage(cost, &scores);
    Ok(Pass { logprobs, usage, seconds: began.elapsed().as_secs_f64() })
}

fn row(cell: Cell, setting: &Setting, gold: &[usize], labels: &[usize], pass: &Pass) -> Row {
    let num = gold.len() as f64;
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / num;
    let normalise = |offset: &[f64]| -> Vec<Vec<f64>> {
        pass.logprobs.iter().map(|row| distribution(row, offset)).collect()
    };
    let accuracy = |rows: &[Vec<f64>]| {
        mean(&mut rows.iter().zip(gold).map(|(row, &y)| f64::from(best_label(row) == y)))
    };
    let logprob = |rows: &[Vec<f64>]| mean(&mut rows.iter().zip(labels).map(|(row, &y)| row[y]));
    let raw = normalise(&[0.0, 0.0]);
    let calibrated = normalise(&mean_logprobs(pass.logprobs.iter().map(Vec::as_slice), 2));
    let scored: Vec<(f64, bool)> =
        calibrated.iter().zip(gold).map(|(row, &y)| (log_odds(row, 1), y == 1)).collect();
    Row {
        cell,
        setting: setting.clone(),
        auroc: auroc(&scored).unwrap_or(f64::NAN),
        accuracy: accuracy(&calibrated),
        accuracy_raw: accuracy(&raw),
        logprob: logprob(&calibrated),
        logprob_raw: logprob(&raw),
        tokens_computed: pass.usage.tokens_computed,
        tokens_full_prompts: pass.usage.tokens_full_prompts,
        seconds: pass.seconds,
    }
}

fn work(args: &Args) -> Result<()> {
    let rows = read_rows(&args.rows)?;
    let sets: Vec<Set> =
        args.sets.iter().map(|set| Set::read(set, args.max_chars)).collect::<Result<_>>()?;
    let options = LmScorerOptions {
        device: args.device.clone(),
        dtype: args.dtype,
        ..LmScorerOptions::default()
    };
    let mut scorer = LmScorer::open(&args.model, options)?;
    let setting = Setting {
        model: args.model.display().to_string(),
        dtype: format!("{:?}", scorer.decoder().kind()).to_lowercase(),
        max_chars: args.max_chars,
        seed: args.seed,
    };
    if let Some(row) = rows.iter().find(|row| row.setting != setting) {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("the rows were made with {:?}, and this is {setting:?}", row.setting),
        )
        .at(&args.rows)
        .hint("use one file for each setting"));
    }
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&args.rows)
        .map_err(|e| Error::io("open", &args.rows, &e))?;
    let mut keep = |row: &Row| -> Result<()> {
        let line = serde_json::to_string(row)
            .map_err(|e| Error::new(ErrorKind::Internal, format!("cannot write: {e}")))?;
        file.write_all(format!("{line}\n").as_bytes())
            .map_err(|e| Error::io("write", &args.rows, &e))?;
        let Cell { set, num_examples, permutation, labels, order } = &row.cell;
        say(&format!(
            "{set} N {num_examples} permutation {permutation} {labels:?} {order}: AUROC {:.3}, accuracy {:.3}, {} tokens, {:.0} s",
            row.auroc, row.accuracy, row.tokens_computed, row.seconds
        ));
        Ok(())
    };
    let streams = SeedStream::new(args.seed);
    for permutation in 0..args.permutations {
        for set in &sets {
            for &num in &args.sizes {
                for labels in [Labelling::Gold, Labelling::Flipped] {
                    let cell = Cell {
                        set: set.name.clone(),
                        num_examples: num,
                        permutation,
                        labels,
                        order: String::new(),
                    };
                    let todo = args.orders.iter().filter(|order| {
                        let cell = Cell { order: order.name.clone(), ..cell.clone() };
                        !rows.iter().any(|row| row.cell == cell)
                    });
                    let todo: Vec<&OrderName> = todo.collect();
                    if !todo.is_empty() {
                        score(set, &cell, &todo, &setting, streams, &mut scorer, &mut keep)?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Scores one draw of examples under one labelling in every order of `todo`.
fn score(
    set: &Set,
    cell: &Cell,
    todo: &[&OrderName],
    setting: &Setting,
    streams: SeedStream,
    scorer: &mut LmScorer,
    keep: &mut dyn FnMut(&Row) -> Result<()>,
) -> Result<()> {
    let (num, permutation) = (cell.num_examples, cell.permutation);
    let drawn = set.draw(num, permutation, streams)?;
    let examples: Vec<&Example> = drawn.iter().map(|(example, _)| *example).collect();
    let gold: Vec<usize> = drawn.iter().map(|(_, label)| *label).collect();
    let rng = |purpose: &str| {
        streams.rng(&format!("orders/{}/{purpose}", set.name), &[num as u64, permutation])
    };
    let labels = match cell.labels {
        Labelling::Gold => gold.clone(),
        Labelling::Flipped => flip(&gold, &mut rng("flip")),
    };
    let items = Items::new(&PromptFormat::new(&set.task)?, &examples)?;
    for OrderName { name, options } in todo {
        // The first tree takes the examples as they were drawn, every further one is shuffled.
        let mut sequences: Vec<Vec<usize>> = vec![(0..num).collect()];
        let mut again = rng("second tree");
        while sequences.len() < options.num_trees {
            let mut sequence = sequences[0].clone();
            sequence.shuffle(&mut again);
            sequences.push(sequence);
        }
        let pass = pass(scorer, *options, sequences, &items, &labels)?;
        let cell = Cell { order: name.clone(), ..cell.clone() };
        keep(&row(cell, setting, &gold, &labels, &pass))?;
    }
    Ok(())
}
