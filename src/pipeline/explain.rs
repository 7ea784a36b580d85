//! `w2s explain`: the concept behind a run's labels, in the words of a chat model.

use std::path::PathBuf;

use clap::Args;
use rand::seq::SliceRandom;
use serde::Serialize;
use serde_json::json;

use super::backend::{Backend, Need};
use super::model::ModelOptions;
use super::observer::Event;
use super::results::{ExplainedGroup, Explanation};
use super::run_labels::{Labelled, RunLabels};
use super::server::ServerOptions;
use super::session::Session;
use super::usage::wrong;
use crate::error::{Error, ErrorKind, Result};
use crate::prompt::PromptFormat;
use crate::run::{EXPLANATION, SeedStream};

/// Describe the concept behind the labels, by asking a chat model
///
/// Shows the model a sample of the labelled examples, as many of each label, under letters instead of
/// the labels' names, and asks what tells the groups apart. The answer is written into the run folder
/// (explanation.json) and shown by `w2s report`. Gold labels are not read. It is what a model makes of
/// a sample, and no measurement.
///
/// Example:
///   w2s explain runs/mine --model http://localhost:8000/v1#NAME
#[derive(Clone, Debug, Args, Serialize)]
#[command(verbatim_doc_comment)]
pub struct ExplainJob {
    /// Run folder of `w2s label`, `relabel` or `filter`
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// The model.
    #[serde(flatten)]
    #[command(flatten)]
    pub model: ModelOptions,
    /// How a server is asked, where the model is one.
    #[serde(flatten)]
    #[command(flatten)]
    pub server: ServerOptions,
    /// Data of the run [default: where the run read them]
    #[arg(long, value_name = "FILE", help_heading = "Input")]
    pub data: Option<PathBuf>,
    /// Examples of each label that are shown
    #[arg(long, value_name = "N", default_value_t = 12, help_heading = "Input")]
    pub num_examples: usize,
    /// Most characters of an example that are shown
    #[arg(long, value_name = "N", default_value_t = 400, help_heading = "Input")]
    pub max_characters: usize,
    /// Most tokens of the answer
    #[arg(long, value_name = "TOKENS", default_value_t = 300, help_heading = "Input")]
    pub max_new_tokens: usize,
    /// Seed of the sample
    #[arg(long, value_name = "SEED", default_value_t = 0, help_heading = "Input")]
    pub seed: u64,
    /// Replace an explanation that is there
    #[arg(long, help_heading = "Input")]
    pub force: bool,
}

pub(super) fn run(mut args: ExplainJob, session: &mut Session) -> Result<Explanation> {
    args.model.follow(&session.voice)?;
    let labels = RunLabels::read(&args.run, args.data.as_deref())?;
    let path = labels.folder.file(EXPLANATION);
    if path.exists() && !args.force {
        return Err(Error::new(ErrorKind::Run, "the run is explained already")
            .at(&path)
            .hint("replace the explanation with `--force`"));
    }
    if args.num_examples == 0 {
        return Err(wrong("`--num-examples` is 0", "show one or more"));
    }
    let groups = sample(&labels, args.num_examples, args.seed);
    if groups.len() < 2 {
        return Err(Error::new(ErrorKind::Data, "all examples have the same label")
            .at(&args.run)
            .hint("there is nothing to tell apart"));
    }
    let message = message(&labels, &groups, args.max_characters)?;
    let mut backend = Backend::open(&args.model, &args.server, Need::Writing, session)?;
    let (text, model) = match &mut backend {
        Backend::Server(served) => {
            let messages = json!([{ "role": "user", "content": message }]);
            let more = json!({ "max_tokens": args.max_new_tokens, "temperature": 0 });
            let service = served.scorer.service();
            (service.chat(&messages, &more)?.text, service.address().to_string())
        }
        Backend::Local(scorer) => {
            let written = scorer.answer(&message, args.max_new_tokens)?;
            (written.text, args.model.model.display().to_string())
        }
    };
    let text = text.trim().to_owned();
    if text.is_empty() {
        return Err(Error::new(ErrorKind::Server, "the model wrote nothing").hint(
            "raise `--max-new-tokens`, if it thinks before it answers, or ask another model",
        ));
    }
    let groups = groups.iter().enumerate().map(|(i, (label, shown))| ExplainedGroup {
        letter: letter(i),
        label: label.clone(),
        ids: shown.iter().map(|labelled| labels.example(labelled).id.clone()).collect(),
    });
    let explanation = Explanation {
        text,
        model,
        groups: groups.collect(),
        seed: args.seed,
        message,
        w2s: env!("CARGO_PKG_VERSION").to_owned(),
    };
    labels.folder.write_json(EXPLANATION, &explanation)?;
    backend.tell_cost(&session.voice);
    backend.give_back(session);
    session.voice.event(&Event::Explained { explanation: &explanation, file: &path })?;
    Ok(explanation)
}

fn letter(group: usize) -> String {
    char::from_u32('A' as u32 + group as u32).map_or_else(|| group.to_string(), String::from)
}

/// As many of each label, drawn, the labels in the order of the task.
fn sample(labels: &RunLabels, num: usize, seed: u64) -> Vec<(String, Vec<&Labelled>)> {
    let mut rng = SeedStream::new(seed).rng("explain", &[]);
    let mut groups: Vec<(String, Vec<&Labelled>)> = Vec::new();
    for labelled in &labels.labels {
        match groups.iter_mut().find(|(label, _)| *label == labelled.label) {
            Some((_, group)) => group.push(labelled),
            None => groups.push((labelled.label.clone(), vec![labelled])),
        }
    }
    let place = |label: &str| labels.task.labels.iter().position(|own| own.name == label);
    groups.sort_by_key(|(label, _)| place(label));
    // Where answers are open, the most frequent ones.
    if labels.task.answers.is_open {
        groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.len()));
    }
    groups.truncate(26);
    for (_, group) in &mut groups {
        group.shuffle(&mut rng);
        group.truncate(num);
    }
    groups
}

fn message(labels: &RunLabels, groups: &[(String, Vec<&Labelled>)], most: usize) -> Result<String> {
    let format = PromptFormat::new(&labels.task)?;
    let mut text = format!(
        "Texts were sorted into {} groups by a rule that nobody wrote down. Find the rule.\n",
        groups.len()
    );
    for (i, (_, group)) in groups.iter().enumerate() {
        text += &format!("\nGroup {}:\n", letter(i));
        for labelled in group {
            let question = format.question(labels.example(labelled))?;
            let line = question.split_whitespace().collect::<Vec<_>>().join(" ");
            let shown: String = line.chars().take(most).collect();
            let dots = if shown.len() < line.len() { "..." } else { "" };
            text += &format!("- {shown}{dots}\n");
        }
    }
    text += "\nSay in at most four sentences what the texts of each group have in common and what tells the groups apart. Give the simplest rule that fits nearly all of them, and say how sure you are.";
    Ok(text)
}
