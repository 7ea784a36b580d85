//! The prequential objective: the chain rule, what it costs, and the search under it.

use crate::common::sentiment_items;
use crate::search::{binary, examples, icm, ising, names_to_labels, parse, plain, signs};
use w2s::label::{
    Aggregate, ChainPlan, Epoch, IcmSettings, Objective, ScoreForm, TraceEvent, label,
};
use w2s::run::SeedStream;
use w2s::score::{Calibration, Question, Scorer, TableScorer};

/// Laplace's rule of succession: after p positive and q negative demonstrations the next is positive
/// with probability (p + 1) / (p + q + 2), whatever the text.
fn laplace(prompt: &str, _: &Question) -> Vec<f64> {
    let (demonstrations, _) = parse(prompt);
    let num = demonstrations.len() as f64;
    let positive = demonstrations.iter().filter(|(_, label)| *label == 1).count() as f64;
    [num - positive, positive].map(|count| ((count + 1.0) / (num + 2.0)).ln()).to_vec()
}

/// The probability of a whole labelling under that rule: p! q! / (p + q + 1)!.
fn ln_probability(labels: &[usize]) -> f64 {
    let ln_factorial = |n: usize| (1..=n).map(|k| (k as f64).ln()).sum::<f64>();
    let positive = labels.iter().sum::<usize>();
    ln_factorial(positive) + ln_factorial(labels.len() - positive) - ln_factorial(labels.len() + 1)
}

#[test]
fn along_a_chain_log_probabilities_add_up_to_that_of_the_labelling() {
    let items = sentiment_items(5);
    let plan = ChainPlan::new(3, 5, &SeedStream::new(2), Epoch::default());
    let labels = [1, 0, 1, 1, 0];
    let given = labels.map(Some);
    let asked = plan.ask(&items, &given, false);
    let (scores, cost) = TableScorer::new(laplace).score(&asked.tree).unwrap();
    assert_eq!(asked.chains.len(), 3);
    // 3! 2! / 6! = 1 / 60
    assert!((ln_probability(&labels) - (1.0_f64 / 60.0).ln()).abs() < 1e-12);
    for chain in &asked.chains {
        let each = chain.iter().map(|(i, q)| scores[q.index()].logprobs[labels[*i]]);
        assert!((each.sum::<f64>() - ln_probability(&labels)).abs() < 1e-12);
        for (place, (i, question)) in chain.iter().enumerate() {
            let node = asked.tree.questions()[question.index()].node;
            let (demonstrations, text) = parse(&asked.tree.text(node));
            assert_eq!(text, format!("text {i}"));
            let earlier: Vec<(String, usize)> =
                chain[..place].iter().map(|(j, _)| (format!("text {j}"), labels[*j])).collect();
            assert_eq!(demonstrations, earlier);
        }
    }
    let orders: Vec<Vec<usize>> =
        asked.chains.iter().map(|chain| chain.iter().map(|(i, _)| *i).collect()).collect();
    assert!(orders[0] != orders[1] && orders[1] != orders[2]);
    // Each order holds every demonstration once, but for the last, which nothing stands behind.
    let texts = asked.tree.segments().map(|(_, _, text)| text.matches("Sentiment: ").count());
    assert_eq!(texts.sum::<usize>(), 3 * 4 + 3 * 5);
    // `Review: text 0 Sentiment: positive` is 5 words, so a chain's prompts are 4, 9, 14, 19 and 24;
    // one order is what full prompts would have cost.
    let usage = asked.usage(cost, &scores);
    assert_eq!((usage.tokens_full_prompts, cost.tokens_full_prompts), (70, 210));
    // Unlabelled examples have no part.
    let fewer = plan.ask(&items, &[Some(1), None, Some(0), None, None], true);
    assert!(fewer.chains.iter().all(|chain| chain.len() == 2));
    assert_eq!(fewer.content_free.len(), 3 * items.content_free.len());
    let behind = fewer.tree.questions()[fewer.content_free[0].index()].node;
    assert_eq!(fewer.tree.text(behind).matches("text ").count(), 2);
}

fn prequential(num_prequential_orders: usize) -> IcmSettings {
    let form =
        ScoreForm { objective: Objective::Prequential, aggregate: Aggregate::Sum, alpha: 1.0 };
    IcmSettings { form, num_prequential_orders, ..plain() }
}

#[test]
fn the_score_is_the_log_probability_of_the_labels_in_any_order() {
    let task = w2s::data::Task::load("sentiment").unwrap();
    let data = examples(9);
    for num_orders in [1, 4] {
        let mut scorer = TableScorer::new(laplace);
        let mut held = std::collections::BTreeMap::new();
        let method = icm(prequential(num_orders), vec![]);
        let streams = SeedStream::new(11);
        let result = label(&task, &data, &method, streams, &mut scorer, &mut |event| {
            // Every score that the search reports is that of the labels then held.
            let score = match event {
                TraceEvent::Start { labels, score, .. } => {
                    held.extend(labels.iter().cloned());
                    *score
                }
                TraceEvent::Proposal { changes, accepted: true, proposed_score, .. } => {
                    let now = changes.iter().map(|(id, _, to)| (id.clone(), to.clone().unwrap()));
                    held.extend(now);
                    proposed_score.unwrap()
                }
                _ => return Ok(()),
            };
            let labels: Vec<usize> = held.values().map(|l| usize::from(l == "positive")).collect();
            assert!((score - ln_probability(&labels)).abs() < 1e-9);
            Ok(())
        })
        .unwrap();
        let labels = names_to_labels(&result.records);
        assert_eq!(labels.len(), 9);
        let summary = &result.summary;
        assert!((summary.score.unwrap() - ln_probability(&labels)).abs() < 1e-9);
        // All alike is the most probable: 9! / 10! = 1 / 10.
        for constant in summary.constant_scores.as_ref().unwrap().values() {
            assert!((constant.as_f64().unwrap() - 0.1_f64.ln()).abs() < 1e-9);
        }
        // Nor at the texts: labels permuted over them are as probable.
        let permuted = summary.permuted_scores.as_ref().unwrap();
        assert!(permuted.iter().all(|u| (u - ln_probability(&labels)).abs() < 1e-9));
        // The rule looks at no order, so a new one changes nothing.
        let check = summary.order_check.unwrap();
        assert!(check.score_change.abs() < 1e-9 && check.mean_margin_change_nats < 1e-9);
        // The log-probabilities given out are those behind all eight others.
        for record in &result.records {
            let same = labels.iter().filter(|&&l| (l == 1) == (record.label == "positive")).count();
            let own = record.logprobs.iter().find(|(name, _)| *name == record.label).unwrap().1;
            assert!((own - (same as f64 / 10.0).ln()).abs() < 1e-9);
        }
    }
}

#[test]
fn the_search_under_it_finds_what_examples_share() {
    let task = w2s::data::Task::load("sentiment").unwrap();
    let values = [1.0, -1.0, 1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, -1.0];
    let world = signs(&values);
    let data = examples(values.len());
    let truth: Vec<usize> = values.iter().map(|&v| usize::from(v > 0.0)).collect();
    let mut found = 0;
    for seed in 0..20 {
        let form = ScoreForm { objective: Objective::Prequential, ..ScoreForm::default() };
        let settings = IcmSettings { form, calibration: Calibration::Batch, ..plain() };
        let mut scorer =
            TableScorer::new(|prompt: &str, _: &Question| binary(ising(&world, prompt)));
        let method = icm(settings, vec![]);
        let streams = SeedStream::new(seed);
        let result = label(&task, &data, &method, streams, &mut scorer, &mut |_| Ok(())).unwrap();
        let labels = names_to_labels(&result.records);
        let equal = labels.iter().zip(&truth).filter(|(a, b)| a == b).count();
        // The truth or its mirror image.
        found += usize::from(equal == 0 || equal == truth.len());
    }
    assert!(found >= 16, "{found} of 20");
}
