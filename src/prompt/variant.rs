//! Variants of one question: the same question put in other words or in another order.

use rand::Rng;
use rand::seq::SliceRandom;

use crate::data::{Example, Task, VariantKind};
use crate::error::{Error, ErrorKind, Result};
use crate::run::SeedStream;

/// In what a question differs from the way the task asks it; the default in nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variant {
    /// The options in the order shown, by their place in the record; empty for the record's order.
    pub option_order: Vec<usize>,
    /// The label words in the order the question lists them; empty for the task's order.
    pub word_order: Vec<usize>,
    /// Place of the wording among the task's further templates; `None` for the prompt's own.
    pub template: Option<usize>,
    /// Place of the wording among the record's paraphrases; `None` for the record's own.
    pub paraphrase: Option<usize>,
}

/// Returns how many variants of `kind` there are of a question; `usize::MAX` where they are beyond
/// counting.
pub fn num_variants(task: &Task, example: &Example, kind: VariantKind) -> usize {
    match kind {
        VariantKind::OptionOrders => factorial(example.options.len()),
        VariantKind::WordOrders => factorial(task.num_labels()),
        VariantKind::Templates => 1 + task.answers.templates.len(),
        VariantKind::Paraphrases => 1 + example.paraphrases.len(),
    }
}

/// Returns `num` different variants of a question.
///
/// Orders are drawn from the stream `prompt/variants` by the question's id: they do not depend on the
/// other questions. Two or more orders of two things are both of them, the given one first; templates
/// and paraphrases are taken in turn, the task's and the record's own first.
///
/// # Errors
/// [`ErrorKind::Data`] if the question has fewer.
pub fn variants(
    task: &Task,
    example: &Example,
    kind: VariantKind,
    num: usize,
    streams: &SeedStream,
) -> Result<Vec<Variant>> {
    let there = num_variants(task, example, kind);
    if there < num {
        return Err(Error::new(
            ErrorKind::Data,
            format!(
                "question `{}` has {there} variants by `{}`, expected {num}",
                example.id,
                kind.name()
            ),
        )
        .hint(format!(
            "lower `--num-variants` to {there}, or vary something else with `--variants`"
        )));
    }
    let orders = |length: usize| {
        draw_orders(length, num, &mut streams.rng_of("prompt/variants", &example.id))
    };
    Ok(match kind {
        VariantKind::OptionOrders => orders(example.options.len())
            .into_iter()
            .map(|option_order| Variant { option_order, ..Variant::default() })
            .collect(),
        VariantKind::WordOrders => orders(task.num_labels())
            .into_iter()
            .map(|word_order| Variant { word_order, ..Variant::default() })
            .collect(),
        VariantKind::Templates => {
            (0..num).map(|i| Variant { template: i.checked_sub(1), ..Variant::default() }).collect()
        }
        VariantKind::Paraphrases => (0..num)
            .map(|i| Variant { paraphrase: i.checked_sub(1), ..Variant::default() })
            .collect(),
    })
}

/// Different orders of `length` things.
fn draw_orders(length: usize, num: usize, rng: &mut impl Rng) -> Vec<Vec<usize>> {
    let given: Vec<usize> = (0..length).collect();
    if length == 2 {
        return [given.clone(), vec![1, 0]].into_iter().take(num).collect();
    }
    let mut drawn: Vec<Vec<usize>> = Vec::with_capacity(num);
    // Even when all orders are wanted this ends after some n ln n draws.
    while drawn.len() < num {
        let mut order = given.clone();
        order.shuffle(rng);
        if !drawn.contains(&order) {
            drawn.push(order);
        }
    }
    drawn
}

fn factorial(n: usize) -> usize {
    (1..=n).try_fold(1_usize, usize::checked_mul).unwrap_or(usize::MAX)
}
