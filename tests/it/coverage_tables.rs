//! The tables of coverage, data/measured/coverage*.txt, which are written on demand.

use crate::coverage::{FILTERS, Filter, WORLDS, World, coverage, of_probabilities, true_brier};

fn percent(num: usize, of: usize) -> f64 {
    100.0 * num as f64 / of.max(1) as f64
}

fn table_of_accuracies(num_draws: usize) -> String {
    let mut text = format!(
        "One seed cannot tell how seeds differ: with it the interval speaks of that run alone, and covers \
         the truth over all seeds only where these do not differ.\n\n\
         {:<22} {:>5} {:>5} {:>9} {:>11} {:>9} {:>13} {:>15}\n",
        "world",
        "items",
        "seeds",
        "accuracy",
        "difference",
        "PGR told",
        "PGR or refused",
        "no gap: refused"
    );
    let settings: Vec<(World, usize, usize)> = WORLDS
        .iter()
        .flat_map(|world| [30, 100, 300].map(|n| (*world, n)))
        .flat_map(|(world, n)| [1, 3, 5].map(|s| (world, n, s)))
        .collect();
    let line = |&(world, n, s): &(World, usize, usize)| {
        let found = coverage(world, n, s, num_draws);
        format!(
            "{:<22} {n:>5} {s:>5} {:>9.1} {:>11.1} {:>9.1} {:>13.1} {:>15.1}\n",
            world.name,
            percent(found.accuracy, num_draws),
            percent(found.difference, num_draws),
            percent(found.reported, num_draws),
            percent(found.pgr + num_draws - found.reported, num_draws),
            percent(found.refused_without_gap, num_draws)
        )
    };
    text.extend(in_two_threads(&settings, line));
    text
}

fn table_of_probabilities(num_draws: usize) -> String {
    let mut text = format!(
        "200 resamples.\n\n{:>5} {:>5} {:>9} {:>11} {:>9}\n",
        "items", "seeds", "balanced", "AUROC", "Brier"
    );
    let brier = true_brier();
    let settings: Vec<(usize, usize)> =
        [30, 100, 300].into_iter().flat_map(|n| [1, 3, 5].map(|s| (n, s))).collect();
    let line = |&(n, s): &(usize, usize)| {
        let found = of_probabilities(n, s, num_draws, brier).map(|num| percent(num, num_draws));
        format!("{n:>5} {s:>5} {:>9.1} {:>11.1} {:>9.1}\n", found[0], found[1], found[2])
    };
    text.extend(in_two_threads(&settings, line));
    text
}

fn settings_of_filters() -> Vec<(Filter, usize)> {
    FILTERS.iter().flat_map(|filter| [30, 100, 300].map(|n| (*filter, n))).collect()
}

fn table_of_gains(num_draws: usize) -> String {
    let mut text = format!("\n{:<22} {:>5} {:>9}\n", "filter", "items", "gain");
    let line = |&(filter, n): &(Filter, usize)| {
        let gain = percent(filter.gain(n, num_draws), num_draws);
        format!("{:<22} {n:>5} {gain:>9.1}\n", filter.name)
    };
    text.extend(in_two_threads(&settings_of_filters(), line));
    text
}

fn table_of_entropies(num_draws: usize) -> String {
    let mut text = format!("2000 resamples.\n\n{:<22} {:>5} {:>9}\n", "filter", "items", "AUROC");
    let line = |&(filter, n): &(Filter, usize)| {
        let auroc = percent(filter.auroc(n, num_draws), num_draws);
        format!("{:<22} {n:>5} {auroc:>9.1}\n", filter.name)
    };
    text.extend(in_two_threads(&settings_of_filters(), line));
    text
}

fn in_two_threads<T: Sync>(settings: &[T], line: impl Fn(&T) -> String + Sync) -> Vec<String> {
    let mut lines = vec![String::new(); settings.len()];
    let line = &line;
    std::thread::scope(|scope| {
        let mut odd = Vec::new();
        let mut even = Vec::new();
        for (index, place) in lines.iter_mut().enumerate() {
            if index % 2 == 0 { even.push((index, place)) } else { odd.push((index, place)) }
        }
        for part in [odd, even] {
            scope.spawn(move || {
                for (index, place) in part {
                    *place = line(&settings[index]);
                }
            });
        }
    });
    lines
}

/// Writes one of the tables, of `COVERAGE_DRAWS` draws.
fn write_table(name: &str, file: &str, table: impl Fn(usize) -> String) {
    let draws = std::env::var("COVERAGE_DRAWS").ok().and_then(|text| text.parse().ok());
    let draws = draws.unwrap_or(10_000);
    let text = format!(
        "Coverage of 95 % intervals in percent, {draws} draws; see tests/it/coverage.rs. The truth is over \
         all items and seeds.\n\
         COVERAGE_DRAWS={draws} cargo test --test it -- --ignored coverage_of_{name}\n{}",
        table(draws)
    );
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/data/measured");
    std::fs::write(format!("{folder}/{file}"), text).expect("writable");
}

#[test]
#[ignore = "a measurement of many minutes; it writes data/measured/coverage.txt"]
fn coverage_of_accuracies() {
    write_table("accuracies", "coverage.txt", table_of_accuracies);
}

#[test]
#[ignore = "a measurement of many minutes; it writes data/measured/coverage-probabilities.txt"]
fn coverage_of_probabilities() {
    write_table("probabilities", "coverage-probabilities.txt", table_of_probabilities);
}

#[test]
#[ignore = "a measurement; it writes data/measured/coverage-gains.txt"]
fn coverage_of_gains() {
    write_table("gains", "coverage-gains.txt", table_of_gains);
}

#[test]
#[ignore = "a measurement of many minutes; it writes data/measured/coverage-entropies.txt"]
fn coverage_of_entropies() {
    write_table("entropies", "coverage-entropies.txt", table_of_entropies);
}
