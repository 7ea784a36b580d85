//! `w2s score`: the smallest door to the engine.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::backend::{Backend, Need};
use super::model::ModelOptions;
use super::observer::Event;
use super::results::{PromptScores, ScoredLabel};
use super::server::ServerOptions;
use super::session::Session;
use super::voice::Voice;
use super::warning::{Part, Warning};
use crate::error::{Error, ErrorKind, Result};
use crate::score::{LabelScores, PromptTree, Scorer};

/// Write the log-probabilities of label words after prompts
///
/// Reads JSON lines with `id`, `prompt` and `labels` (a list of words) and writes one JSON line for
/// each: `id`, `logprobs` (natural log, summed over the label's tokens) and `num_tokens` (how many
/// tokens that were). Prompt and label are tokenised together: a prompt that ends in a space is
/// scored as it would be read. All labels of a line are summed from the first token at which any two
/// of them differ; a label that begins another is scored with whatever may follow it.
///
/// Example: {"id": "1", "prompt": "Claim: 2 + 2 = 4\nI think this claim is ", "labels": ["True", "False"]}
#[derive(Clone, Debug, Args, Serialize)]
#[command(verbatim_doc_comment)]
pub struct ScoreJob {
    /// The model.
    #[serde(flatten)]
    #[command(flatten)]
    pub model: ModelOptions,
    /// How a server is asked, where the model is one.
    #[serde(flatten)]
    #[command(flatten)]
    pub server: ServerOptions,
    /// JSON lines with id, prompt and labels
    #[arg(long, value_name = "FILE.jsonl", help_heading = "Input")]
    pub input: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: serde_json::Value,
    prompt: String,
    labels: Vec<String>,
}

/// Questions answered between two writes: enough to share beginnings, few enough to see progress.
const CHUNK: usize = 256;

pub(super) fn run(mut args: ScoreJob, session: &mut Session) -> Result<Vec<PromptScores>> {
    args.model.follow(&session.voice)?;
    let lines = read(&args.input)?;
    warn_of_beginnings(&lines, &session.voice);
    let mut scorer = Backend::open(&args.model, &args.server, Need::Scores, session)?;
    // A server remembers what was asked last: lines that begin alike go together.
    let mut order: Vec<usize> = (0..lines.len()).collect();
    if matches!(scorer, Backend::Server(_)) {
        order.sort_by(|&a, &b| lines[a].prompt.cmp(&lines[b].prompt));
    }
    let mut answers: Vec<Option<LabelScores>> = lines.iter().map(|_| None).collect();
    let mut all = Vec::new();
    for chunk in order.chunks(CHUNK) {
        let mut tree = PromptTree::new();
        for &at in chunk {
            let line = &lines[at];
            let node = tree.child(PromptTree::ROOT, line.prompt.as_str());
            let labels = PromptTree::labels(line.labels.iter().cloned());
            tree.ask(node, name(&line.id), &labels);
        }
        let (scores, _) = scorer.score(&tree)?;
        for (&at, score) in chunk.iter().zip(scores) {
            answers[at] = Some(score);
        }
        // In the order of the file, as far as there are no gaps.
        while let Some(Some(score)) = answers.get_mut(all.len()).map(Option::take) {
            let scores = found(&lines[all.len()], &score);
            session.voice.event(&Event::Scored(&scores))?;
            all.push(scores);
        }
    }
    scorer.tell_cost(&session.voice);
    scorer.give_back(session);
    Ok(all)
}

/// What was found of a line.
fn found(line: &Line, score: &LabelScores) -> PromptScores {
    let numbers = score.logprobs.iter().zip(&score.num_tokens);
    let labels = line.labels.iter().zip(numbers).map(|(label, (&logprob, &num_tokens))| {
        ScoredLabel { label: label.clone(), logprob, num_tokens }
    });
    PromptScores { id: line.id.clone(), labels: labels.collect() }
}

/// Warns of labels that begin others, once for all lines.
fn warn_of_beginnings(lines: &[Line], voice: &Voice<'_>) {
    let begun = |line: &Line| -> Option<(String, String)> {
        line.labels.iter().find_map(|word| {
            let longer = line.labels.iter().find(|o| *o != word && o.starts_with(word.as_str()))?;
            Some((word.clone(), longer.clone()))
        })
    };
    let mut with = lines.iter().filter_map(begun);
    if let Some((word, longer)) = with.next() {
        let lines = Some(Part { num: 1 + with.count(), of: lines.len() });
        voice.warn(&Warning::BegunWord { word, longer, lines });
    }
}

fn name(id: &serde_json::Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}

fn read(path: &std::path::Path) -> Result<Vec<Line>> {
    let file = std::fs::File::open(path).map_err(|e| Error::io("read", path, &e))?;
    let mut lines = Vec::new();
    let mut seen = std::collections::HashMap::new();
    for (i, text) in BufReader::new(file).lines().enumerate() {
        let number = i + 1;
        let fail = |message: String| Error::new(ErrorKind::Data, message).at_line(path, number);
        let text = text.map_err(|e| fail(format!("cannot be read as UTF-8 text: {e}")))?;
        if text.trim().is_empty() {
            continue;
        }
        let line: Line = serde_json::from_str(&text).map_err(|e| {
            fail(format!("not a question: {e}")).hint(
                "expected one JSON object a line, with `id`, `prompt` (text) and `labels` (list of texts)",
            )
        })?;
        if line.labels.is_empty() || line.labels.iter().any(String::is_empty) {
            return Err(fail("`labels` is empty or holds an empty word".into()));
        }
        let twin = |(i, word): (usize, &String)| line.labels[..i].contains(word);
        if let Some((_, word)) = line.labels.iter().enumerate().find(|&(i, word)| twin((i, word))) {
            return Err(fail(format!("`labels` has `{word}` twice")));
        }
        if let Some(first) = seen.insert(name(&line.id), number) {
            return Err(fail(format!("id `{}` is in line {first} too", name(&line.id))));
        }
        lines.push(line);
    }
    if lines.is_empty() {
        return Err(Error::new(ErrorKind::Data, "the file has no questions").at(path));
    }
    Ok(lines)
}
