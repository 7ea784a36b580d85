//! Asking a weak supervisor every variant of every question.

use std::collections::BTreeMap;

use super::parse::{Choices, Parsed, parse};
use crate::data::{AnswerRecord, Example, ParserName, Task, VariantKind};
use crate::error::{Error, ErrorKind, Result};
use crate::prompt::{PromptFormat, Variant, Wording, num_variants, variants};
use crate::run::SeedStream;
use crate::score::{
    Calibration, Generator, Prior, PromptTree, Scorer, Usage, batch_offset, best_label,
    distribution,
};

/// Variants of a question where nobody said how many: as published.
const NUM_VARIANTS: usize = 5;
/// Questions of one call of the scorer: what a killed run loses at most.
const QUESTIONS_SCORED: usize = 16;
/// Texts written side by side.
const TEXTS_WRITTEN: usize = 64;

/// How questions are varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variation {
    /// What varies.
    pub kind: VariantKind,
    /// Variants of a question; `None`: five, or as many as it has.
    pub num: Option<usize>,
}

/// The variants of every question, worded.
#[derive(Debug)]
pub struct Asking<'a> {
    task: &'a Task,
    examples: &'a [Example],
    questions: Vec<Vec<(Variant, Wording<'a>)>>,
}

impl<'a> Asking<'a> {
    /// Returns the variants of `examples`, the same whatever other questions there are.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] for a question that has fewer variants than asked for, or only one.
    pub fn new(
        task: &'a Task,
        examples: &'a [Example],
        variation: Variation,
        streams: &SeedStream,
    ) -> Result<Self> {
        let format = PromptFormat::new(task)?;
        let mut questions = Vec::with_capacity(examples.len());
        for example in examples {
            let there = num_variants(task, example, variation.kind);
            let num = variation.num.unwrap_or(there.min(NUM_VARIANTS));
            // One that was asked for is the question as it stands.
            if num < 2 && variation.num != Some(1) {
                return Err(Error::new(
                    ErrorKind::Data,
                    format!(
                        "question `{}` has one variant by `{}`, expected two or more",
                        example.id,
                        variation.kind.name()
                    ),
                )
                .hint(match variation.kind {
                    VariantKind::Paraphrases => {
                        "give it a list of texts in the task's column of paraphrases"
                    }
                    _ => "one answer says nothing of how sure the model is; vary something else with `--variants`",
                }));
            }
            let found = variants(task, example, variation.kind, num, streams)?;
            let worded: Result<Vec<_>> = found
                .into_iter()
                .map(|variant| Ok((variant.clone(), format.wording(example, &variant)?)))
                .collect();
            questions.push(worded?);
        }
        Ok(Self { task, examples, questions })
    }

    /// Returns the number of variants of all questions.
    pub fn num_prompts(&self) -> usize {
        self.questions.iter().map(Vec::len).sum()
    }

    /// Returns the label distribution of every variant, from one pass over the variants' tree.
    ///
    /// `observe` is told how many questions are answered.
    ///
    /// # Errors
    /// As [`Scorer::score`].
    pub fn soft<S: Scorer>(
        &self,
        calibration: Calibration,
        scorer: &mut S,
        observe: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<(Vec<Vec<AnswerRecord>>, Usage)> {
        self.soft_with_prior(calibration, &Prior::Equal, scorer, observe)
    }

    /// As [`soft`](Self::soft), under shares of the labels that calibration is to suppose in each form
    /// of question.
    ///
    /// # Errors
    /// As [`Scorer::score`]; [`ErrorKind::Usage`] for a prior where the labels are a question's options.
    pub fn soft_with_prior<S: Scorer>(
        &self,
        calibration: Calibration,
        prior: &Prior,
        scorer: &mut S,
        observe: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<(Vec<Vec<AnswerRecord>>, Usage)> {
        if *prior != Prior::Equal && self.task.has_options() {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("the labels of task `{}` are the options of a question, which have no shares of their own", self.task.name),
            )
            .hint("leave out `--prior`"));
        }
        let mut usage = Usage::default();
        let mut rows: Vec<Vec<Vec<f64>>> = Vec::with_capacity(self.questions.len());
        let places: Vec<usize> = (0..self.questions.len()).collect();
        for chunk in places.chunks(QUESTIONS_SCORED) {
            let tree = self.tree(chunk);
            let (scores, cost) = scorer.score(&tree)?;
            usage = usage.plus(cost);
            let mut scores = scores.into_iter();
            for &place in chunk {
                let num = self.questions[place].len();
                rows.push(scores.by_ref().take(num).map(|score| score.logprobs).collect());
            }
            observe(rows.len())?;
        }
        let offsets = self.offsets(calibration, prior, &rows);
        let answers = self
            .questions
            .iter()
            .zip(&rows)
            .enumerate()
            .map(|(place, (worded, rows))| {
                let record = |(number, ((variant, wording), row)): (
                    usize,
                    (&(Variant, Wording), &Vec<f64>),
                )| {
                    let offset = &offsets[&bias_key(variant, wording)];
                    self.soft_record(place, number, (variant, wording), &distribution(row, offset))
                };
                worded.iter().zip(rows).enumerate().map(record).collect()
            })
            .collect();
        Ok((answers, usage))
    }

    /// The variants of some questions; what they share is run once, wherever the texts part.
    fn tree(&self, places: &[usize]) -> PromptTree {
        let mut tree = PromptTree::new();
        let instruction = self.task.prompt.instruction.as_str();
        let root = tree.child(PromptTree::ROOT, instruction);
        for &place in places {
            for (number, (_, wording)) in self.questions[place].iter().enumerate() {
                let node = tree.child(root, wording.text.as_str());
                let id = format!("{}, variant {number}", self.examples[place].id);
                tree.ask(node, id, &PromptTree::labels(wording.words.iter().copied()));
            }
        }
        tree
    }

    /// The bias to take off in each form of question. It is of the word as shown, so the letters of
    /// options have one whatever option they stand for.
    fn offsets(
        &self,
        calibration: Calibration,
        prior: &Prior,
        rows: &[Vec<Vec<f64>>],
    ) -> BTreeMap<BiasKey, Vec<f64>> {
        // The words of a form stand for the same labels in every question, except where these are
        // options, which have no prior.
        let mut groups: BTreeMap<BiasKey, (&[usize], Vec<&[f64]>)> = BTreeMap::new();
        for (worded, rows) in self.questions.iter().zip(rows) {
            for ((variant, wording), row) in worded.iter().zip(rows) {
                let group = groups.entry(bias_key(variant, wording));
                group.or_insert((&wording.labels, Vec::new())).1.push(row);
            }
        }
        groups
            .into_iter()
            .map(|(key, (labels, rows))| {
                let offset = batch_offset(calibration, &rows, rows[0].len());
                let prior = match prior {
                    Prior::Given(shares) => {
                        Prior::Given(labels.iter().map(|&label| shares[label]).collect())
                    }
                    other => other.clone(),
                };
                (key, prior.offset(&rows, offset))
            })
            .collect()
    }

    fn soft_record(
        &self,
        place: usize,
        number: usize,
        (variant, wording): (&Variant, &Wording<'_>),
        logprobs: &[f64],
    ) -> AnswerRecord {
        let label_name = |label: usize| self.task.labels[label].name.clone();
        let mut entries: Vec<(usize, f64)> =
            wording.labels.iter().copied().zip(logprobs.iter().map(|lp| lp.exp())).collect();
        let answer = label_name(wording.labels[best_label(logprobs)]);
        entries.sort_unstable_by_key(|(label, _)| *label);
        AnswerRecord {
            id: self.examples[place].id.clone(),
            variant: number,
            prompt: self.prompt(wording),
            option_order: variant.option_order.clone(),
            output: None,
            answer: Some(answer),
            distribution: Some(entries.into_iter().map(|(l, p)| (label_name(l), p)).collect()),
        }
    }

    fn prompt(&self, wording: &Wording<'_>) -> String {
        [self.task.prompt.instruction.as_str(), wording.text.as_str()].concat()
    }

    /// Returns what is written after every variant, and the answer read from it.
    ///
    /// A prompt is put without the blanks at its end, which the model writes itself.
    ///
    /// # Errors
    /// As [`Generator::write`]; [`ErrorKind::Context`] names the question.
    pub fn votes<G: Generator>(
        &self,
        parser: ParserName,
        max_new_tokens: usize,
        generator: &mut G,
        observe: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<(Vec<Vec<AnswerRecord>>, Usage)> {
        let mut usage = Usage::default();
        let mut answers: Vec<Vec<AnswerRecord>> = Vec::with_capacity(self.questions.len());
        while answers.len() < self.questions.len() {
            let first = answers.len();
            let mut prompts: Vec<String> = Vec::new();
            let mut end = first;
            while end < self.questions.len()
                && (end == first || prompts.len() + self.questions[end].len() <= TEXTS_WRITTEN)
            {
                let worded = self.questions[end].iter();
                prompts.extend(worded.map(|(_, wording)| {
                    self.prompt(wording).trim_end_matches([' ', '\t']).to_owned()
                }));
                end += 1;
            }
            let questions = (first..end).flat_map(|place| {
                self.questions[place].iter().enumerate().map(move |(number, _)| (place, number))
            });
            for (prompt, (place, number)) in prompts.iter().zip(questions) {
                generator.check_room(prompt).map_err(|error| {
                    error
                        .of(format_args!("example `{}`, variant {number}", self.examples[place].id))
                })?;
            }
            let written = generator.write(&prompts, max_new_tokens)?;
            let mut both = prompts.into_iter().zip(written);
            for place in first..end {
                let mut rows = Vec::new();
                for (number, (variant, wording)) in self.questions[place].iter().enumerate() {
                    let Some((prompt, written)) = both.next() else {
                        return Err(Error::new(ErrorKind::Internal, "fewer texts than prompts"));
                    };
                    usage = usage.plus(Usage {
                        tokens_computed: (written.num_prompt_tokens + written.num_tokens) as u64,
                        tokens_full_prompts: (written.num_prompt_tokens + written.num_tokens)
                            as u64,
                        num_questions: 1,
                    });
                    let answer = self.read(parser, place, (variant, wording), &written.text);
                    rows.push(AnswerRecord {
                        id: self.examples[place].id.clone(),
                        variant: number,
                        prompt,
                        option_order: variant.option_order.clone(),
                        output: Some(written.text),
                        answer,
                        distribution: None,
                    });
                }
                answers.push(rows);
            }
            observe(answers.len())?;
        }
        Ok((answers, usage))
    }

    /// The answer that a text gives, in the names of the task.
    fn read(
        &self,
        parser: ParserName,
        place: usize,
        (variant, wording): (&Variant, &Wording<'_>),
        text: &str,
    ) -> Option<String> {
        let own = &self.examples[place].options;
        let shown: Vec<&str> = match variant.option_order.as_slice() {
            [] => own.iter().map(String::as_str).collect(),
            order => order.iter().map(|&option| own[option].as_str()).collect(),
        };
        match parse(parser, text, Choices { words: &wording.words, options: &shown })? {
            Parsed::Choice(shown) => {
                Some(self.task.labels[*wording.labels.get(shown)?].name.clone())
            }
            Parsed::Text(text) => Some(text),
        }
    }
}

/// What a bias to a word may depend on besides the word: the words there are, the wording, and the
/// order in which the words are listed.
type BiasKey = (Vec<String>, Option<usize>, Vec<usize>);

fn bias_key(variant: &Variant, wording: &Wording<'_>) -> BiasKey {
    let words = wording.words.iter().map(|word| (*word).to_owned()).collect();
    (words, variant.template, variant.word_order.clone())
}
