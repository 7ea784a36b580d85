//! The orders of demonstrations: who stands behind whom, and how many demonstrations are computed.

use std::collections::{BTreeMap, BTreeSet};

use crate::search::{examples, parse};
use w2s::data::{Example, Task};
use w2s::label::{Epoch, Items, OrderOptions, OrderPlan};
use w2s::prompt::PromptFormat;
use w2s::run::SeedStream;
use w2s::score::{Question, Scorer, TableScorer};

pub fn halving(num_anchors: usize, leaf_block: usize) -> OrderOptions {
    OrderOptions { num_anchors, leaf_block, ..OrderOptions::PURE_HALVING }
}

/// What each question of a leave-one-out tree is asked behind.
fn contexts(order: OrderOptions, labels: &[Option<usize>]) -> Vec<(usize, Vec<usize>)> {
    let task = Task::load("sentiment").unwrap();
    let format = PromptFormat::new(&task).unwrap();
    let data = examples(labels.len());
    let refs: Vec<&Example> = data.iter().collect();
    let items = Items::new(&format, &refs).unwrap();
    let plan = OrderPlan::new(order, &items, labels, &SeedStream::new(7), Epoch::default());
    let targets: Vec<usize> = (0..labels.len()).collect();
    let asked = plan.ask(&items, labels, &targets, false);
    asked
        .items
        .iter()
        .inspect(|(_, questions)| assert_eq!(questions.len(), order.num_trees))
        .flat_map(|(i, questions)| questions.iter().map(move |question| (i, question)))
        .map(|(i, question)| {
            let node = asked.tree.questions()[question.index()].node;
            let (demonstrations, text) = parse(&asked.tree.text(node));
            assert_eq!(text, format!("text {i}"));
            let number = |t: &String| t.strip_prefix("text ").unwrap().parse::<usize>().unwrap();
            for (t, label) in &demonstrations {
                assert_eq!(labels[number(t)], Some(*label), "a demonstration has another's label");
            }
            (*i, demonstrations.iter().map(|(t, _)| number(t)).collect())
        })
        .collect()
}

#[test]
fn every_example_is_scored_behind_exactly_the_others() {
    for num in [2, 3, 8, 13] {
        let mut labels: Vec<Option<usize>> = (0..num).map(|i| Some(i % 2)).collect();
        for unlabelled in [0, num / 3] {
            for label in labels.iter_mut().take(unlabelled) {
                *label = None;
            }
            for order in [
                OrderOptions::DATASET,
                halving(0, 1),
                halving(2, 1),
                halving(4, 1),
                halving(0, 3),
                halving(0, 8),
                halving(2, 4),
                halving(0, 99),
                OrderOptions { num_trees: 2, ..halving(0, 1) },
                OrderOptions { num_trees: 3, ..halving(2, 4) },
            ] {
                let contexts = contexts(order, &labels);
                let asked: BTreeSet<usize> = contexts.iter().map(|(i, _)| *i).collect();
                assert_eq!((asked.len(), contexts.len()), (num, num * order.num_trees));
                for (i, context) in contexts {
                    let mut sorted = context.clone();
                    sorted.sort_unstable();
                    let others: Vec<usize> =
                        (0..num).filter(|&j| j != i && labels[j].is_some()).collect();
                    assert_eq!(sorted, others, "{order:?}, example {i}");
                    if order == OrderOptions::DATASET {
                        assert_eq!(context, others, "dataset order is the data's");
                    }
                }
            }
        }
    }
}

#[test]
fn under_a_cap_everyone_sees_exactly_that_many_others() {
    for (num, cap) in [(9, 1), (9, 3), (13, 6), (20, 6), (20, 18)] {
        for unlabelled in [0, num / 4] {
            let mut labels: Vec<Option<usize>> = (0..num).map(|i| Some(i % 2)).collect();
            labels.iter_mut().skip(2).take(unlabelled).for_each(|label| *label = None);
            let num_labelled = num - unlabelled;
            for order in [
                OrderOptions::DATASET,
                halving(0, 1),
                halving(0, 3),
                OrderOptions { num_trees: 2, ..halving(0, 1) },
            ] {
                let capped = OrderOptions { num_demonstrations: Some(cap), ..order };
                let contexts = contexts(capped, &labels);
                assert_eq!(contexts.len(), num * order.num_trees);
                for (i, context) in contexts {
                    let distinct: BTreeSet<usize> = context.iter().copied().collect();
                    let others = num_labelled - usize::from(labels[i].is_some());
                    assert_eq!((distinct.len(), context.len()), (cap.min(others), cap.min(others)));
                    assert!(
                        !distinct.contains(&i) && distinct.iter().all(|&j| labels[j].is_some())
                    );
                    if order.order == OrderOptions::DATASET.order {
                        assert!(context.is_sorted(), "the data's order: {context:?}");
                    }
                }
            }
        }
    }
}

/// So that an example is scored as it was predicted, and a new label disturbs few.
#[test]
fn under_a_cap_a_new_label_stands_behind_what_it_was_predicted_from() {
    let (num, cap) = (20, 4);
    let order = OrderOptions { num_demonstrations: Some(cap), ..halving(0, 1) };
    let set = |contexts: Vec<(usize, Vec<usize>)>| -> BTreeMap<usize, BTreeSet<usize>> {
        contexts.into_iter().map(|(i, context)| (i, context.into_iter().collect())).collect()
    };
    let all: Vec<Option<usize>> = vec![Some(0); num];
    let after = set(contexts(order, &all));
    for i in 0..num {
        let mut labels = all.clone();
        labels[i] = None;
        let before = set(contexts(order, &labels));
        assert_eq!(before[&i], after[&i]);
        let changed = (0..num).filter(|j| before[j] != after[j]).count();
        // The others of its block of 5 see it now; no other block borrows, as 20 are 4 blocks.
        assert_eq!(changed, cap, "example {i}");
    }
    let flipped: Vec<Option<usize>> = (0..num).map(|i| Some(i % 2)).collect();
    assert_eq!(contexts(order, &flipped), contexts(order, &all), "labels do not choose");
}

#[test]
fn anchors_stand_last_everywhere_and_hold_every_label() {
    let labels: Vec<Option<usize>> = (0..12).map(|i| Some(i % 2)).collect();
    let contexts = contexts(halving(4, 1), &labels);
    let ends: BTreeSet<Vec<usize>> = contexts
        .iter()
        .filter(|(_, context)| context.len() == 11)
        .map(|(i, context)| {
            let mut end = context[11 - 3..].to_vec();
            end.retain(|j| j != i);
            end
        })
        .collect();
    // Targets that are no anchors share one ending; the four anchors miss themselves.
    assert!(ends.len() <= 5, "{ends:?}");
    let common = contexts.iter().map(|(_, c)| c[9..].to_vec()).fold(BTreeMap::new(), |mut m, e| {
        *m.entry(e).or_insert(0) += 1;
        m
    });
    let (end, count) = common.into_iter().max_by_key(|(_, n)| *n).unwrap();
    assert!(count >= 8, "{count} contexts end in {end:?}");
    assert_eq!(end.iter().map(|&i| i % 2).collect::<BTreeSet<_>>().len(), 2);
}

/// Demonstrations that a tree over `num` labelled examples holds.
fn num_demonstrations(order: OrderOptions, num: usize) -> usize {
    let labels: Vec<Option<usize>> = (0..num).map(|i| Some(i % 2)).collect();
    let task = Task::load("sentiment").unwrap();
    let format = PromptFormat::new(&task).unwrap();
    let data = examples(num);
    let refs: Vec<&Example> = data.iter().collect();
    let items = Items::new(&format, &refs).unwrap();
    let plan = OrderPlan::new(order, &items, &labels, &SeedStream::new(1), Epoch::default());
    let targets: Vec<usize> = (0..num).collect();
    let asked = plan.ask(&items, &labels, &targets, false);
    let texts = asked.tree.segments().map(|(_, _, text)| text.matches("Sentiment: ").count());
    texts.sum::<usize>() - num
}

#[test]
fn halving_computes_n_log_n_demonstrations() {
    for num in [16_usize, 64, 256] {
        // num is a power of two: each of log2(num) levels holds every example once.
        assert_eq!(num_demonstrations(halving(0, 1), num), num * num.ilog2() as usize);
    }
}

#[test]
fn leaf_blocks_compute_what_counting_by_hand_gives() {
    // A block of B runs B - 1 demonstrations once and, behind each, those that come later:
    // 3 + (3 + 2 + 1) = 9 for 4, 7 + 28 = 35 for 8; each level above it runs all 8.
    for (leaf_block, expected) in
        [(1, 3 * 8), (2, 2 * 8 + 4 * 2), (3, 2 * 8 + 4 * 2), (4, 8 + 2 * 9), (7, 26), (8, 35)]
    {
        assert_eq!(num_demonstrations(halving(0, leaf_block), 8), expected, "{leaf_block}");
    }
    assert_eq!(num_demonstrations(OrderOptions::DATASET, 8), 35);
    // Two anchors leave 6 examples, halved to 3 and 3: 6 + 2 * (2 + 3) = 16 in the tree. The two
    // anchors stand behind each of the 6 (12), and the 6 and the other one before each anchor (8).
    assert_eq!(num_demonstrations(halving(2, 3), 8), 16 + 12 + 6 + 2);
}

#[test]
fn a_cap_costs_what_counting_by_hand_gives() {
    let capped = |cap, order| OrderOptions { num_demonstrations: Some(cap), ..order };
    // Blocks of 4, each halved twice: 4 * 2 a block. A ninth example stands behind three others.
    assert_eq!(num_demonstrations(capped(3, halving(0, 1)), 8), 2 * 8);
    assert_eq!(num_demonstrations(capped(3, halving(0, 1)), 9), 2 * 8 + 3);
    // Two more: two borrowed, then each behind the other.
    assert_eq!(num_demonstrations(capped(3, halving(0, 1)), 10), 2 * 8 + 2 + 2);
    // In the data's order a block of 4 costs 3 + (3 + 2 + 1).
    assert_eq!(num_demonstrations(capped(3, OrderOptions::DATASET), 8), 2 * 9);
    // A cap that holds all is none.
    assert_eq!(num_demonstrations(capped(8, halving(0, 1)), 8), 8 * 3);
}

#[test]
fn members_of_a_leaf_block_stand_in_one_order() {
    let labels: Vec<Option<usize>> = (0..16).map(|i| Some(i % 2)).collect();
    let contexts: BTreeMap<usize, Vec<usize>> =
        contexts(halving(0, 4), &labels).into_iter().collect();
    let ends: BTreeSet<BTreeSet<usize>> = contexts
        .iter()
        .map(|(&i, context)| context[12..].iter().copied().chain([i]).collect())
        .collect();
    assert_eq!(ends.len(), 4, "16 examples are 4 blocks of 4");
    for block in ends {
        let begins: BTreeSet<&[usize]> = block.iter().map(|i| &contexts[i][..12]).collect();
        assert_eq!(begins.len(), 1, "the beginning is shared");
        let mut orders = block.iter().map(|i| (*i, &contexts[i][12..]));
        let (first, rest) = orders.next().unwrap();
        for (i, others) in orders {
            let pick = |list: &[usize]| -> Vec<usize> {
                list.iter().copied().filter(|j| *j != first && *j != i).collect()
            };
            assert_eq!(pick(rest), pick(others));
        }
    }
}

#[test]
fn the_score_over_trees_is_the_mean_of_the_trees_scores() {
    let task = Task::load("sentiment").unwrap();
    let format = PromptFormat::new(&task).unwrap();
    let data = examples(4);
    let refs: Vec<&Example> = data.iter().collect();
    let items = Items::new(&format, &refs).unwrap();
    let labels = [Some(0), Some(1), Some(1), Some(0)];
    // The first demonstration decides: behind `text k` the log-probabilities are -k and -2 k.
    let answer = |prompt: &str, _: &Question| {
        let (demonstrations, _) = parse(prompt);
        let first: f64 = demonstrations[0].0.strip_prefix("text ").unwrap().parse().unwrap();
        vec![-first, -2.0 * first]
    };
    let mut scorer = TableScorer::new(answer);
    let options = OrderOptions { num_trees: 2, ..halving(0, 1) };
    let sequences = vec![vec![0, 1, 2, 3], vec![3, 1, 0, 2]];
    let plan = OrderPlan::with_sequences(options, sequences, &items, &labels);
    let asked = plan.ask(&items, &labels, &[0, 1, 2, 3], false);
    let (scores, cost) = scorer.score(&asked.tree).unwrap();
    // Halves 01|23 and 31|02: example 0 stands behind 2.. and behind 3.., so -2.5; 1 behind 2.. and
    // 0..; 2 behind 0.. and 3..; 3 behind 0.. and 0...
    let mut rows = asked.rows(&scores);
    rows.sort_by_key(|(i, _)| *i);
    let expected = [[-2.5, -5.0], [-1.0, -2.0], [-1.5, -3.0], [0.0, 0.0]];
    for ((i, row), wanted) in rows.iter().zip(&expected) {
        assert_eq!(row, wanted, "example {i}");
    }
    let usage = asked.usage(cost, &scores);
    assert_eq!(usage.num_questions, 8);
    // `Review: text 0 Sentiment: positive` is 5 words, without its label 4: 4 prompts of 3 * 5 + 4.
    assert_eq!((usage.tokens_full_prompts, cost.tokens_full_prompts), (76, 152));
}
