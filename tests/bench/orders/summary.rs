//! The rows as Markdown tables. The unit of the intervals is a draw of examples: its rows under
//! gold and under flipped labels belong together and are averaged first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use w2s::eval::{MeanInterval, bootstrap_mean};
use w2s::run::SeedStream;

use super::{Labelling, Row};

const BASE: &str = "dataset";
const NUM_RESAMPLES: usize = 10_000;
const LEVEL: f64 = 0.95;
/// How far the mean AUROC of an order may lie below that of `dataset`.
const MAX_LOSS: f64 = 0.01;

type Draw<'r> = (&'r str, usize, u64);

/// The rows of the draws that are complete.
struct Table<'r> {
    seed: u64,
    orders: Vec<&'r str>,
    /// For each draw and order the rows, one for each labelling.
    draws: BTreeMap<Draw<'r>, BTreeMap<&'r str, Vec<&'r Row>>>,
}

/// Which rows a mean is about; all where nothing is said.
#[derive(Clone, Copy, Default)]
struct Part<'r> {
    set: Option<&'r str>,
    labels: Option<Labelling>,
    num_examples: Option<usize>,
}

/// Returns all tables.
pub(super) fn markdown(rows: &[Row], seed: u64) -> String {
    let table = Table::new(rows, seed);
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{} complete draws of examples, {} rows\n",
        table.draws.len(),
        table.rows().count()
    );
    if let Some(Row { setting, .. }) = table.rows().next() {
        let _ = writeln!(text, "Model `{}`, {}\n", setting.model, setting.dtype);
    }
    let whole = Part::default();
    table.write_part("all", whole, &mut text);
    let of = |labels| Part { labels: Some(labels), ..whole };
    table.write_part("gold labels", of(Labelling::Gold), &mut text);
    table.write_part("a fifth flipped", of(Labelling::Flipped), &mut text);
    let sizes: BTreeSet<usize> = table.rows().map(|row| row.cell.num_examples).collect();
    for num in sizes {
        let part = Part { num_examples: Some(num), ..whole };
        table.write_part(&format!("N = {num}"), part, &mut text);
    }
    table.write_sets(&mut text);
    table.write_choice(&mut text);
    text
}

impl<'r> Table<'r> {
    fn new(rows: &'r [Row], seed: u64) -> Self {
        let mut orders: Vec<&str> = Vec::new();
        let mut draws: BTreeMap<Draw<'r>, BTreeMap<&str, Vec<&Row>>> = BTreeMap::new();
        let mut num_labellings = 0;
        for row in rows {
            let order = row.cell.order.as_str();
            if !orders.contains(&order) {
                orders.push(order);
            }
            let draw = (row.cell.set.as_str(), row.cell.num_examples, row.cell.permutation);
            let mine = draws.entry(draw).or_default().entry(order).or_default();
            mine.push(row);
            num_labellings = num_labellings.max(mine.len());
        }
        draws.retain(|_, by_order| {
            by_order.len() == orders.len() && by_order.values().all(|r| r.len() == num_labellings)
        });
        Self { seed, orders, draws }
    }

    fn rows(&self) -> impl Iterator<Item = &'r Row> {
        self.draws.values().flat_map(|by_order| by_order.values().flatten().copied())
    }

    /// The mean of `value` over all draws of `part`, resampled within sets.
    fn mean(
        &self,
        part: Part<'_>,
        order: &str,
        value: &dyn Fn(&Row, &Row) -> f64,
    ) -> Option<MeanInterval> {
        let mut strata: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for ((set, num, _), by_order) in &self.draws {
            if part.num_examples.is_some_and(|n| n != *num) || part.set.is_some_and(|s| s != *set) {
                continue;
            }
            let (mine, base) = (by_order.get(order)?, by_order.get(BASE)?);
            let of_labels = |row: &&Row| part.labels.is_none_or(|l| l == row.cell.labels);
            let values: Vec<f64> = mine
                .iter()
                .copied()
                .filter(of_labels)
                .filter_map(|row| {
                    let paired = base.iter().find(|other| other.cell.labels == row.cell.labels)?;
                    Some(value(row, paired))
                })
                .collect();
            let sum: f64 = values.iter().sum();
            strata.entry(*set).or_default().push(sum / values.len() as f64);
        }
        let strata: Vec<Vec<f64>> = strata.into_values().collect();
        let mut rng = SeedStream::new(self.seed).rng("orders/bootstrap", &[]);
        bootstrap_mean(&strata, NUM_RESAMPLES, LEVEL, &mut rng)
    }

    fn write_part(&self, title: &str, part: Part<'_>, text: &mut String) {
        let _ = writeln!(text, "### {title}\n");
        text.push_str(
            "| order | AUROC less that of dataset, 95 % | AUROC | accuracy | uncalibrated | logprob | uncalibrated | tokens of full prompts | tokens of dataset |\n|---|---|---|---|---|---|---|---|---|\n",
        );
        for order in &self.orders {
            let mean = |value: &dyn Fn(&Row, &Row) -> f64| {
                self.mean(part, order, value).map_or(f64::NAN, |interval| interval.mean)
            };
            let difference = match self.mean(part, order, &|row, base| row.auroc - base.auroc) {
                Some(i) if *order != BASE => {
                    format!("{:+.4} [{:+.4}, {:+.4}]", i.mean, i.low, i.high)
                }
                _ => String::new(),
            };
            let _ = writeln!(
                text,
                "| {order} | {difference} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} |",
                mean(&|row, _| row.auroc),
                mean(&|row, _| row.accuracy),
                mean(&|row, _| row.accuracy_raw),
                mean(&|row, _| row.logprob),
                mean(&|row, _| row.logprob_raw),
                mean(&|row, _| row.tokens_computed as f64 / row.tokens_full_prompts as f64),
                mean(&|row, base| row.tokens_computed as f64 / base.tokens_computed as f64),
            );
        }
        text.push('\n');
    }

    /// Mean AUROC of each set under gold labels: whether many-shot is above chance there.
    fn write_sets(&self, text: &mut String) {
        text.push_str("### gold labels, AUROC by set\n\n| set | dataset, 95 % |");
        let others: Vec<&str> = self.orders.iter().copied().filter(|o| *o != BASE).collect();
        for order in &others {
            let _ = write!(text, " {order} |");
        }
        let _ = writeln!(text, "\n|---|---|{}", "---|".repeat(others.len()));
        let sets: BTreeSet<&str> = self.draws.keys().map(|(set, ..)| *set).collect();
        for set in sets {
            let gold = Part { set: Some(set), labels: Some(Labelling::Gold), ..Part::default() };
            let auroc = |order| self.mean(gold, order, &|row, _| row.auroc);
            if let Some(i) = auroc(BASE) {
                let _ = write!(text, "| {set} | {:.3} [{:.3}, {:.3}] |", i.mean, i.low, i.high);
            }
            for order in &others {
                let mean = auroc(order).map_or(f64::NAN, |interval| interval.mean);
                let _ = write!(text, " {mean:.3} |");
            }
            text.push('\n');
        }
        text.push('\n');
    }

    fn write_choice(&self, text: &mut String) {
        let whole = Part::default();
        let loss = |order: &str| self.mean(whole, order, &|row, base| base.auroc - row.auroc);
        let cost = |order: &str| {
            let ratio =
                |row: &Row, base: &Row| row.tokens_computed as f64 / base.tokens_computed as f64;
            self.mean(whole, order, &ratio).map_or(f64::INFINITY, |interval| interval.mean)
        };
        let near = self.orders.iter().filter(|o| loss(o).is_some_and(|i| i.mean <= MAX_LOSS));
        let best = near.min_by(|a, b| cost(a).total_cmp(&cost(b)));
        if let Some(order) = best {
            let _ = writeln!(
                text,
                "Cheapest order whose mean AUROC is at most {MAX_LOSS} below that of `{BASE}`: `{order}`"
            );
        }
    }
}
