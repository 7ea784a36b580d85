//! Continuing from the published table of answers, and writing one.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::uncertainty::Votes;
use crate::data::{
    AnswerRecord, Example, PublishedRow, Task, WeakRecord, final_number, option_letter,
    read_published_rows,
};
use crate::error::{Error, ErrorKind, Result};

/// Spellings of an answer that could not be read, in the published tables.
const UNREAD: [&str; 5] = ["", "None", "nan", "-1", "-100000000"];
/// Two entropies that differ by less are one, in nats: tables are rounded.
const SAME_NATS: f64 = 1e-3;

/// The answers of a published table.
#[derive(Clone, Debug)]
pub struct Published {
    /// A list for each question.
    pub answers: Vec<Vec<AnswerRecord>>,
    /// Questions whose entropy in the table is not that of their answers.
    pub num_other_entropy: usize,
}

/// Returns the answers of a published table.
///
/// With `examples` a question is found among them by its id, its text, or the options in its prompt;
/// tasks with options need them, for the table gives the option's text and not its letter. Without,
/// an `ind` is the id, and a question without one is `row-N` by its place.
///
/// # Errors
/// [`ErrorKind::Data`] with the line for a question that is not among the examples, or an answer that
/// is none of the task's; otherwise as [`read_published_rows`].
pub fn read_published(path: &Path, task: &Task, examples: Option<&[Example]>) -> Result<Published> {
    if task.has_options() && examples.is_none() {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("the table gives texts of options; task `{}` names them by letters", task.name),
        )
        .hint("give the questions too: `--data FILE`"));
    }
    let questions = read_published_rows(path)?;
    let mut finder = examples.map(Finder::new);
    let mut seen = HashSet::new();
    let mut found =
        Published { answers: Vec::with_capacity(questions.len()), num_other_entropy: 0 };
    for (place, rows) in questions.iter().enumerate() {
        let first = &rows[0];
        let example = match &mut finder {
            Some(finder) => Some(finder.find(first, path)?),
            None => None,
        };
        let is_ind = first.question.len() < 24 && !first.question.contains(' ');
        let id = match example {
            Some(example) => example.id.clone(),
            None if is_ind => first.question.clone(),
            None => format!("row-{}", place + 1),
        };
        if !seen.insert(id.clone()) {
            return Err(Error::new(ErrorKind::Data, format!("question `{id}` is there twice"))
                .at_line(path, first.line)
                .hint("the rows of a question stand together"));
        }
        let answers: Vec<AnswerRecord> = rows
            .iter()
            .enumerate()
            .map(|(variant, row)| {
                Ok(AnswerRecord {
                    id: id.clone(),
                    variant,
                    prompt: row.prompt.clone(),
                    option_order: example.map_or_else(Vec::new, |e| order_shown(e, &row.prompt)),
                    output: Some(row.output.clone()),
                    answer: answer(row, task, example, path)?,
                    distribution: None,
                })
            })
            .collect::<Result<_>>()?;
        let entropy = Votes::of(answers.iter().map(|row| row.answer.as_deref())).entropy_nats();
        let same = |nats: f64| (nats - entropy).abs() <= SAME_NATS;
        let all_same = rows.iter().all(|row| row.entropy_nats.is_some_and(same));
        found.num_other_entropy += usize::from(!all_same);
        found.answers.push(answers);
    }
    Ok(found)
}

/// Finds the examples that the rows of a table ask about.
struct Finder<'a> {
    examples: &'a [Example],
    by_id: HashMap<&'a str, usize>,
    by_text: HashMap<&'a str, Vec<usize>>,
    used: Vec<bool>,
}

impl<'a> Finder<'a> {
    fn new(examples: &'a [Example]) -> Self {
        let mut by_text: HashMap<&str, Vec<usize>> = HashMap::new();
        for (place, example) in examples.iter().enumerate() {
            for text in example.fields.values() {
                by_text.entry(text.trim()).or_default().push(place);
            }
        }
        let by_id = examples.iter().enumerate().map(|(i, e)| (e.id.as_str(), i)).collect();
        Self { examples, by_id, by_text, used: vec![false; examples.len()] }
    }

    fn find(&mut self, row: &PublishedRow, path: &Path) -> Result<&'a Example> {
        let named = self.by_id.get(row.question.as_str()).copied().filter(|&i| !self.used[i]);
        let in_prompt = |example: &Example| {
            let longest = example.fields.values().max_by_key(|text| text.len());
            example.options.iter().chain(longest).all(|text| row.prompt.contains(text.trim()))
        };
        let texts = self.by_text.get(row.question.as_str()).map_or(&[][..], Vec::as_slice);
        let free = |i: &usize| !self.used[*i];
        let place = named
            .or_else(|| texts.iter().copied().filter(free).find(|&i| in_prompt(&self.examples[i])))
            .or_else(|| texts.iter().copied().find(free))
            .or_else(|| {
                (0..self.examples.len()).filter(free).find(|&i| in_prompt(&self.examples[i]))
            });
        let Some(place) = place else {
            let shown: String = row.question.chars().take(60).collect();
            return Err(Error::new(
                ErrorKind::Data,
                format!("question `{shown}` of the table is not in the data"),
            )
            .at_line(path, row.line)
            .hint("give the file that the table was made from"));
        };
        self.used[place] = true;
        Ok(&self.examples[place])
    }
}

/// The order in which a prompt shows the options, if it can be told.
fn order_shown(example: &Example, prompt: &str) -> Vec<usize> {
    let num = example.options.len();
    let mut order = Vec::with_capacity(num);
    for shown in 0..num {
        let spelled = |&i: &usize| {
            !order.contains(&i)
                && prompt.contains(&format!("{}. {}", option_letter(shown), example.options[i]))
        };
        // Of options that begin alike the longest is the one that is shown.
        match (0..num).filter(spelled).max_by_key(|&i| example.options[i].len()) {
            Some(place) => order.push(place),
            None => return Vec::new(),
        }
    }
    order
}

fn answer(
    row: &PublishedRow,
    task: &Task,
    example: Option<&Example>,
    path: &Path,
) -> Result<Option<String>> {
    let text = row.answer.as_str();
    if UNREAD.contains(&text) {
        return Ok(None);
    }
    let found = if task.answers.is_open {
        final_number(text)
    } else if let Some(example) = example.filter(|example| !example.options.is_empty()) {
        let place = example.options.iter().position(|option| option.trim() == text);
        place.map(|place| option_letter(place).to_string())
    } else {
        task.label_index(&text.into()).map(|label| task.labels[label].name.clone())
    };
    match found {
        Some(answer) => Ok(Some(answer)),
        None => {
            let shown: String = text.chars().take(60).collect();
            Err(Error::new(
                ErrorKind::Data,
                format!("model_pred `{shown}` is no answer of task `{}`", task.name),
            )
            .at_line(path, row.line)
            .hint("expected the text of an option, a label or a number; None where nothing could be read"))
        }
    }
}

/// Returns the published table of answers: `ind, target, prompt, model_output, model_pred, entropy`.
///
/// `records` are those of the questions; `gold` gives the gold answer of a question where it may be
/// known, from which `target` follows: the place at which the variant shows it, or the answer itself.
///
/// # Errors
/// [`ErrorKind::Internal`] if the table cannot be written.
pub fn write_published(
    answers: &[Vec<AnswerRecord>],
    records: &[&WeakRecord],
    examples: Option<&[Example]>,
    gold: impl Fn(&str) -> Option<String>,
) -> Result<Vec<u8>> {
    let fault = |e: String| Error::new(ErrorKind::Internal, format!("cannot write the table: {e}"));
    let entropies: HashMap<&str, f64> =
        records.iter().map(|record| (record.id.as_str(), record.entropy_nats)).collect();
    let by_id: HashMap<&str, &Example> =
        examples.unwrap_or_default().iter().map(|e| (e.id.as_str(), e)).collect();
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer
        .write_record(["ind", "target", "prompt", "model_output", "model_pred", "entropy"])
        .map_err(|e| fault(e.to_string()))?;
    for row in answers.iter().flatten() {
        let place = |answer: &str| {
            let option = option_place(answer)?;
            row.option_order.iter().position(|&shown| shown == option)
        };
        let target = gold(&row.id).map(|gold| match place(&gold) {
            Some(place) => place.to_string(),
            None => gold,
        });
        let example = by_id.get(row.id.as_str());
        let text = row.answer.as_deref().map(|answer| {
            let option = example.and_then(|e| e.options.get(option_place(answer)?));
            option.map_or_else(|| answer.to_owned(), Clone::clone)
        });
        // Where the model was not asked to write, what it would have named.
        let output = row.output.clone().or_else(|| {
            let answer = row.answer.as_deref()?;
            Some(place(answer).map_or_else(|| answer.to_owned(), |p| option_letter(p).to_string()))
        });
        let entropy = entropies.get(row.id.as_str()).copied().unwrap_or_default().to_string();
        let cells = [
            row.id.as_str(),
            target.as_deref().unwrap_or_default(),
            &row.prompt,
            output.as_deref().unwrap_or_default(),
            text.as_deref().unwrap_or("None"),
            &entropy,
        ];
        writer.write_record(cells).map_err(|e| fault(e.to_string()))?;
    }
    writer.into_inner().map_err(|e| fault(e.to_string()))
}

/// The zero-based place of the option that a letter names.
fn option_place(answer: &str) -> Option<usize> {
    match answer.as_bytes() {
        [letter @ b'A'..=b'Z'] => Some(usize::from(letter - b'A')),
        _ => None,
    }
}
