//! Setting examples aside: what belongs together stays together.

use std::collections::HashMap;

use rand::seq::SliceRandom;

use crate::run::SeedStream;

/// Returns for each row whether it is set aside: about `fraction` of all rows, always whole questions.
///
/// Rows of one id are variants of one question, and examples of one consistency group say what the
/// others are; none of these are ever on both sides. `rows` are ids with their groups. Units are drawn
/// from the stream `data/split` until the share is reached as nearly as whole units allow; of two or
/// more units neither side is left empty.
pub fn split_ids(
    rows: &[(String, Option<String>)],
    fraction: f64,
    streams: &SeedStream,
) -> Vec<bool> {
    let (units, sizes) = units(rows);
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.shuffle(&mut streams.rng("data/split", &[]));
    let wanted = fraction.clamp(0.0, 1.0) * rows.len() as f64;
    let mut aside = vec![false; sizes.len()];
    let mut num = 0;
    let mut num_units = 0;
    for unit in order {
        let with = num + sizes[unit];
        let nearer = (with as f64 - wanted).abs() < (num as f64 - wanted).abs();
        let must = num_units == 0 && fraction > 0.0;
        if (nearer || must) && num_units + 1 < sizes.len() {
            aside[unit] = true;
            num = with;
            num_units += 1;
        }
    }
    units.into_iter().map(|unit| aside[unit]).collect()
}

/// Returns for each row the batch it is in, of `num`: nearly as many rows in each, whole questions and
/// groups as in [`split_ids`]. Units are drawn from the stream `data/batches`, each into the batch with
/// the fewest rows.
pub fn batch_ids(
    rows: &[(String, Option<String>)],
    num: usize,
    streams: &SeedStream,
) -> Vec<usize> {
    let (units, sizes) = units(rows);
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.shuffle(&mut streams.rng("data/batches", &[]));
    let mut filled = vec![0; num.max(1)];
    let mut batch_of = vec![0; sizes.len()];
    for unit in order {
        let least = (0..filled.len()).min_by_key(|&batch| filled[batch]).unwrap_or(0);
        filled[least] += sizes[unit];
        batch_of[unit] = least;
    }
    units.into_iter().map(|unit| batch_of[unit]).collect()
}

/// The unit that each row is part of, and how many rows each has.
fn units(rows: &[(String, Option<String>)]) -> (Vec<usize>, Vec<usize>) {
    let mut places: HashMap<(bool, &str), usize> = HashMap::new();
    let mut sizes: Vec<usize> = Vec::new();
    let units = rows
        .iter()
        .map(|(id, group)| {
            let key = match group {
                Some(group) => (true, group.as_str()),
                None => (false, id.as_str()),
            };
            let unit = *places.entry(key).or_insert(sizes.len());
            if unit == sizes.len() {
                sizes.push(0);
            }
            sizes[unit] += 1;
            unit
        })
        .collect();
    (units, sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(ids: &[(&str, Option<&str>)]) -> Vec<(String, Option<String>)> {
        ids.iter().map(|(id, group)| ((*id).to_owned(), group.map(str::to_owned))).collect()
    }

    #[test]
    fn questions_and_groups_are_never_torn() {
        let ids: Vec<String> = (0..40).map(|i| format!("q{}", i / 5)).collect();
        let mut all: Vec<(&str, Option<&str>)> = ids.iter().map(|id| (id.as_str(), None)).collect();
        all.extend([("a", Some("g")), ("b", Some("g")), ("a", Some("g"))]);
        for seed in 0..50 {
            let aside = split_ids(&rows(&all), 0.2, &SeedStream::new(seed));
            for question in aside[..40].chunks(5) {
                assert!(question.iter().all(|side| *side == question[0]), "seed {seed}");
            }
            assert!(aside[40..].iter().all(|side| *side == aside[40]), "seed {seed}");
            let num = aside.iter().filter(|side| **side).count();
            assert!((5..=13).contains(&num), "seed {seed}: {num}");
        }
    }

    #[test]
    fn batches_are_even_and_hold_whole_groups() {
        let ids: Vec<String> = (0..41).map(|i| i.to_string()).collect();
        let groups: Vec<String> = (0..41).map(|i| format!("g{}", i / 2)).collect();
        let all: Vec<(&str, Option<&str>)> =
            ids.iter().zip(&groups).map(|(id, g)| (id.as_str(), Some(g.as_str()))).collect();
        for seed in 0..20 {
            let batches = batch_ids(&rows(&all), 4, &SeedStream::new(seed));
            assert!(batches.chunks(2).all(|pair| pair.iter().all(|batch| *batch == pair[0])));
            for batch in 0..4 {
                let num = batches.iter().filter(|other| **other == batch).count();
                assert!((9..=12).contains(&num), "seed {seed}: {num}");
            }
        }
        let of = |seed| batch_ids(&rows(&all), 4, &SeedStream::new(seed));
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn shares_are_near_and_neither_side_is_empty() {
        let ids: Vec<String> = (0..100).map(|i| i.to_string()).collect();
        let all: Vec<(&str, Option<&str>)> = ids.iter().map(|id| (id.as_str(), None)).collect();
        let num = |fraction, n: usize| {
            let aside = split_ids(&rows(&all[..n]), fraction, &SeedStream::new(7));
            aside.iter().filter(|side| **side).count()
        };
        assert_eq!((num(0.2, 100), num(0.25, 10), num(0.0, 100)), (20, 2, 0));
        assert_eq!((num(0.01, 3), num(0.99, 2), num(0.5, 1)), (1, 1, 0));
        let of = |seed| split_ids(&rows(&all), 0.5, &SeedStream::new(seed));
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }
}
