//! A search over the answers of a scorer of one's own: here one that counts shared words, where a model
//! would stand.
//!
//!     cargo run --example own_scorer -- sentiment data/demo/reviews.jsonl

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to who runs it")]

use std::collections::HashSet;

use w2s::data::{Dataset, Task};
use w2s::error::Result;
use w2s::label::{BatchSize, IcmSettings, Method, label};
use w2s::run::SeedStream;
use w2s::score::{LabelScores, PromptTree, Scorer, Usage};

/// A label is the more likely the more words the question shares with demonstrations that have it.
struct SharedWords;

fn words(text: &str) -> HashSet<String> {
    text.split(|c: char| !c.is_alphabetic()).map(str::to_lowercase).collect()
}

impl Scorer for SharedWords {
    fn score(&mut self, tree: &PromptTree) -> Result<(Vec<LabelScores>, Usage)> {
        let answer = |question: &w2s::score::Question| {
            let prompt = tree.text(question.node);
            let (before, asked) = prompt.rsplit_once("\n\n").unwrap_or(("", &prompt));
            let asked = words(asked);
            let logits = question.labels.iter().map(|label| {
                let of_label = before.split("\n\n").filter(|shown| shown.ends_with(label.as_str()));
                let shared = of_label.map(|shown| words(shown).intersection(&asked).count());
                shared.sum::<usize>() as f64 / 4.0
            });
            let logits: Vec<f64> = logits.collect();
            let total = logits.iter().map(|x| x.exp()).sum::<f64>().ln();
            LabelScores {
                logprobs: logits.iter().map(|x| x - total).collect(),
                num_tokens: vec![1; question.labels.len()],
                num_prompt_tokens: prompt.split_whitespace().count(),
            }
        };
        let answers: Vec<LabelScores> = tree.questions().iter().map(answer).collect();
        let usage = Usage { num_questions: answers.len() as u64, ..Usage::default() };
        Ok((answers, usage))
    }

    fn count_tokens(&self, text: &str) -> Result<usize> {
        Ok(text.split_whitespace().count())
    }

    fn max_tokens(&self) -> usize {
        usize::MAX
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [task, data] = args.as_slice() else {
        eprintln!("usage: own_scorer TASK DATA");
        std::process::exit(2);
    };
    let task = Task::load(task)?;
    let dataset = Dataset::read(data, &task)?;
    let method = Method::Icm {
        settings: IcmSettings::default(),
        rules: task.rules.clone(),
        batch_size: BatchSize::AtMost(64),
    };
    let seed = SeedStream::new(0);
    let found = label(&task, &dataset.examples, &method, seed, &mut SharedWords, &mut |_| Ok(()))?;
    for record in &found.records {
        println!("{} {}", record.id, record.label);
    }
    eprintln!("U {:?} after {:?} proposals", found.summary.score, found.summary.num_proposals);
    Ok(())
}
