//! What a task file says about options and about answering several variants of one question.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use toml::Spanned;

use super::record::Record;
use super::task_parts::{Field, Label, PromptSpec};
use super::task_source::{Source, check_not_gold};
use super::template::Template;
use super::value::{first_filled, is_blank, kind_of, lookup, quoted, structured, text_of};
use crate::error::{Error, ErrorKind, Result};

/// Most options of a question: one letter each.
pub const MAX_OPTIONS: usize = 26;

/// Returns the letter of an option by its zero-based place, `A` for the first.
///
/// # Panics
/// If `place` is not below [`MAX_OPTIONS`].
pub fn option_letter(place: usize) -> char {
    assert!(place < MAX_OPTIONS, "option {place} has no letter");
    (b'A' + place as u8) as char
}

/// What one question can be varied in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VariantKind {
    /// The order in which the options are shown.
    OptionOrders,
    /// The order in which the question lists the label words.
    WordOrders,
    /// The wording around the record's texts, one template each.
    Templates,
    /// The wording of the record's own text, as the data give it.
    Paraphrases,
}

impl VariantKind {
    /// The kind's name, as task files and the command line spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::OptionOrders => "option-orders",
            Self::WordOrders => "word-orders",
            Self::Templates => "templates",
            Self::Paraphrases => "paraphrases",
        }
    }
}

/// How a written answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParserName {
    /// The one option a text names by its letter or quotes.
    OptionLetter,
    /// The first letter of the text, whatever follows it.
    PublishedLetter,
    /// The one label word of the first sentence, not negated.
    LabelWord,
    /// The first word of the text.
    PublishedWord,
    /// The number of the first line.
    FirstLineNumber,
    /// The number the text ends on.
    FinalNumber,
    /// The first line, if it is a whole number and nothing else.
    PublishedInteger,
}

impl ParserName {
    /// The parser's name, as task files and the command line spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::OptionLetter => "option-letter",
            Self::PublishedLetter => "published-letter",
            Self::LabelWord => "label-word",
            Self::PublishedWord => "published-word",
            Self::FirstLineNumber => "first-line-number",
            Self::FinalNumber => "final-number",
            Self::PublishedInteger => "published-integer",
        }
    }

    /// Whether the parser reads one of the options or words of a question, and not a number.
    pub fn is_closed(self) -> bool {
        !matches!(self, Self::FirstLineNumber | Self::FinalNumber | Self::PublishedInteger)
    }
}

/// How the answers to a task's questions are asked for and read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerSpec {
    /// Whether answers are written freely; the task then has no labels.
    pub is_open: bool,
    /// How written answers are read.
    pub parser: ParserName,
    /// Most tokens of a written answer.
    pub max_new_tokens: usize,
    /// What questions are varied in, unless another kind is asked for.
    pub variants: Option<VariantKind>,
    /// Further wordings of the question, besides that of the prompt.
    pub templates: Vec<String>,
    /// The field that paraphrases of a record stand for.
    pub paraphrased: Option<String>,
    /// Fields that say of what kind a question is.
    pub kinds: Vec<String>,
    /// The prompt variant in which the filter asks, if it is not the task's own.
    pub prompt: Option<String>,
    pub(super) paraphrase_columns: Vec<String>,
}

/// Tokens of a written answer where the task does not say: as published.
const MAX_NEW_TOKENS: usize = 50;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AnswersTable {
    open: bool,
    parser: Option<Spanned<ParserName>>,
    max_new_tokens: Option<Spanned<usize>>,
    variants: Option<Spanned<VariantKind>>,
    templates: Vec<Spanned<String>>,
    paraphrases: Option<Spanned<ParaphrasesTable>>,
    kinds: Option<Spanned<Vec<String>>>,
    prompt: Option<Spanned<String>>,
}

impl AnswersTable {
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// The columns of paraphrases.
    pub(super) fn columns(&self) -> impl Iterator<Item = &String> {
        self.paraphrases.iter().flat_map(|table| &table.get_ref().columns)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ParaphrasesTable {
    of: String,
    columns: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OptionsTable {
    columns: Vec<String>,
}

/// Where the options of a record stand: patterns with `{index}` from 0 or `{letter}` from A.
#[derive(Clone, Debug)]
pub(super) struct OptionSpec {
    patterns: Vec<String>,
}

impl OptionSpec {
    pub(super) fn of(table: &Spanned<OptionsTable>, source: &Source<'_>) -> Result<Self> {
        let patterns = table.get_ref().columns.clone();
        let bad = patterns.iter().find(|p| !p.contains("{index}") && !p.contains("{letter}"));
        if let Some(bad) = bad {
            return Err(source
                .fault(table.span(), format!("option column `{bad}` is the same for every option"))
                .hint(
                    "write `choices.{index}` (from 0) for a list, `{letter}` for columns A, B, ..",
                ));
        }
        if patterns.is_empty() {
            return Err(source.fault(table.span(), "options have no columns"));
        }
        Ok(Self { patterns })
    }

    /// Returns the columns of every option by every pattern.
    pub(super) fn columns(&self) -> Vec<String> {
        self.patterns.iter().flat_map(|p| (0..MAX_OPTIONS).map(|i| column(p, i))).collect()
    }

    pub(super) fn check(
        &self,
        closed: &[String],
        span: std::ops::Range<usize>,
        source: &Source<'_>,
    ) -> Result<()> {
        check_not_gold("an option", &self.columns(), closed, span, source)
    }

    /// Returns the options of a record, two or more.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] if there are fewer or more than [`MAX_OPTIONS`], one is empty or no text,
    /// or a text that should be a list is none.
    pub(super) fn read(&self, record: &Record, id: &str, path: &Path) -> Result<Vec<String>> {
        let fault =
            |message: String| Error::new(ErrorKind::Data, message).at_line(path, record.line);
        for pattern in &self.patterns {
            let get = |i: usize| lookup(&record.values, &column(pattern, i));
            let mut options = Vec::new();
            // One more than there may be shows that there are too many.
            let num = (0..=MAX_OPTIONS).rev().find(|&i| get(i).is_some_and(|v| !is_blank(&v)));
            for i in 0..num.map_or(0, |last| last + 1) {
                if i == MAX_OPTIONS {
                    return Err(fault(format!(
                        "question `{id}` has more than {MAX_OPTIONS} options"
                    )));
                }
                let value = get(i).filter(|value| !is_blank(value)).ok_or_else(|| {
                    fault(format!("option {} of `{id}` is empty", option_letter(i))).hint(
                        "give it a text, or leave out the options behind it; letters stand for places",
                    )
                })?;
                let text = text_of(&value).ok_or_else(|| {
                    fault(format!(
                        "option {} of `{id}` is {}, expected text",
                        option_letter(i),
                        kind_of(&value)
                    ))
                })?;
                options.push(text.into_owned());
            }
            match options.len() {
                0 => {}
                1 => {
                    return Err(fault(format!(
                        "question `{id}` has one option, expected two or more"
                    ))
                    .hint("remove the question; it has nothing to choose from"));
                }
                _ => return Ok(options),
            }
            self.check_list(pattern, record, id, path)?;
        }
        let there = record.values.keys().filter(|name| !name.is_empty());
        Err(fault(format!(
            "question `{id}` has no options, tried column {}, has {}",
            quoted(&self.patterns),
            quoted(there)
        ))
        .hint("name the file's columns under [options] of the task file"))
    }

    /// Refuses a text where a list is expected, which Python or JSON would print otherwise.
    fn check_list(&self, pattern: &str, record: &Record, id: &str, path: &Path) -> Result<()> {
        let Some((root, _)) = pattern.split_once('.') else { return Ok(()) };
        let Some(value) = record.values.get(root).filter(|value| !is_blank(value)) else {
            return Ok(());
        };
        match structured(std::borrow::Cow::Borrowed(value)).as_ref() {
            Value::Array(items) if items.is_empty() => Err(Error::new(
                ErrorKind::Data,
                format!("question `{id}` has no options: `{root}` is an empty list"),
            )
            .at_line(path, record.line)),
            Value::String(text) => {
                let shown: String = text.chars().take(60).collect();
                Err(Error::new(
                    ErrorKind::Data,
                    format!("column `{root}` of `{id}` is not a list that can be read: `{shown}`"),
                )
                .at_line(path, record.line)
                .hint("expected a list as Python or JSON prints it, such as ['one', \"it's two\"]"))
            }
            _ => Ok(()),
        }
    }
}

fn column(pattern: &str, place: usize) -> String {
    // The place behind the last letter is asked for to see that nothing stands there.
    let letter =
        if place < MAX_OPTIONS { option_letter(place).to_string() } else { "{".to_owned() };
    pattern.replace("{index}", &place.to_string()).replace("{letter}", &letter)
}

/// Returns one label for each letter, which gold spells as the letter or the zero-based place.
pub(super) fn letters() -> Vec<Label> {
    (0..MAX_OPTIONS)
        .map(|place| {
            let name = option_letter(place).to_string();
            Label { word: name.clone(), name, accept: vec![place.to_string()] }
        })
        .collect()
}

/// Returns how answers are asked for and read.
pub(super) fn answers(
    table: AnswersTable,
    prompts: &[PromptSpec],
    fields: &[Field],
    has_options: bool,
    source: &Source<'_>,
) -> Result<AnswerSpec> {
    let known = |name: &str| fields.iter().any(|field| field.name == name);
    let AnswersTable {
        open,
        parser,
        max_new_tokens,
        variants,
        templates,
        paraphrases,
        kinds,
        prompt: asked_in,
    } = table;
    // What varies is looked for in the words that the filter puts.
    let prompt = match &asked_in {
        None => &prompts[0],
        Some(name) => {
            prompts.iter().find(|prompt| prompt.name == *name.get_ref()).ok_or_else(|| {
                source
                    .fault(name.span(), format!("task has no prompt variant `{}`", name.get_ref()))
                    .hint(format!("it has {}", quoted(prompts.iter().map(|p| &p.name))))
            })?
        }
    };
    let own = match (open, has_options) {
        (true, _) => ParserName::FirstLineNumber,
        (false, true) => ParserName::OptionLetter,
        (false, false) => ParserName::LabelWord,
    };
    if let Some(parser) = &parser
        && parser.get_ref().is_closed() == open
    {
        let what = if open { "open answers" } else { "labels" };
        return Err(source.fault(
            parser.span(),
            format!("parser `{}` does not read {what}", parser.get_ref().name()),
        ));
    }
    if let Some(num) = max_new_tokens.as_ref().filter(|num| *num.get_ref() == 0) {
        return Err(source.fault(num.span(), "`max_new_tokens` is 0"));
    }
    for template in &templates {
        if !prompt.cases.is_empty() {
            return Err(source
                .fault(template.span(), "templates of a prompt with cases")
                .hint("the records of a case would all be asked in the same words"));
        }
        let parsed = Template::parse(template.get_ref())
            .map_err(|error| error.at_line(source.path, source.line(template.span().start)))?;
        let of_own = Template::parse(&prompt.template)?;
        let (mut used, mut wanted) = (parsed.fields(), of_own.fields());
        for names in [&mut used, &mut wanted] {
            names.retain(|name| *name != "words");
            names.sort_unstable();
        }
        if used != wanted {
            return Err(source
                .fault(
                    template.span(),
                    format!("template names {}, expected {}", quoted(&used), quoted(&wanted)),
                )
                .hint("another wording asks about the same fields as the prompt does"));
        }
    }
    let mut paraphrased = None;
    let mut paraphrase_columns = Vec::new();
    if let Some(table) = paraphrases {
        if !known(&table.get_ref().of) || table.get_ref().columns.is_empty() {
            return Err(source
                .fault(table.span(), "paraphrases need a field they stand for, and their columns")
                .hint("write paraphrases = { of = \"question\", columns = [\"paraphrases\"] }"));
        }
        let table = table.into_inner();
        paraphrased = Some(table.of);
        paraphrase_columns = table.columns;
    }
    if let Some(kinds) = &kinds
        && let Some(name) = kinds.get_ref().iter().find(|name| !known(name))
    {
        return Err(
            source.fault(kinds.span(), format!("`kinds` names `{name}`, which is no field"))
        );
    }
    let spec = AnswerSpec {
        is_open: open,
        parser: parser.map_or(own, Spanned::into_inner),
        max_new_tokens: max_new_tokens.map_or(MAX_NEW_TOKENS, Spanned::into_inner),
        variants: None,
        templates: templates.into_iter().map(Spanned::into_inner).collect(),
        paraphrased,
        kinds: kinds.map(Spanned::into_inner).unwrap_or_default(),
        prompt: asked_in.map(Spanned::into_inner),
        paraphrase_columns,
    };
    let possible = spec.possible(prompt, has_options);
    let chosen = match variants {
        Some(kind) if !possible.contains(kind.get_ref()) => {
            return Err(source
                .fault(kind.span(), format!("the task cannot vary `{}`", kind.get_ref().name()))
                .hint(spec.what_is_possible(prompt, has_options)));
        }
        Some(kind) => Some(kind.into_inner()),
        None => possible.first().copied(),
    };
    Ok(AnswerSpec { variants: chosen, ..spec })
}

impl AnswerSpec {
    /// Returns the kinds of variants that questions of `prompt` can have.
    pub(super) fn possible(&self, prompt: &PromptSpec, has_options: bool) -> Vec<VariantKind> {
        let lists_words = |template: &str| {
            Template::parse(template).is_ok_and(|template| template.fields().contains(&"words"))
        };
        let templates: Vec<&String> = std::iter::once(&prompt.template)
            .chain(prompt.cases.iter().map(|c| &c.template))
            .collect();
        let word_orders = !self.is_open && templates.iter().all(|template| lists_words(template));
        [
            (has_options, VariantKind::OptionOrders),
            (word_orders && !has_options, VariantKind::WordOrders),
            (!self.templates.is_empty(), VariantKind::Templates),
            (self.paraphrased.is_some(), VariantKind::Paraphrases),
        ]
        .into_iter()
        .filter_map(|(can, kind)| can.then_some(kind))
        .collect()
    }

    pub(super) fn what_is_possible(&self, prompt: &PromptSpec, has_options: bool) -> String {
        let possible = self.possible(prompt, has_options);
        if possible.is_empty() {
            return "give it options, `{words}` in its template, or `templates` or `paraphrases` under [answers]".to_owned();
        }
        format!("it can vary {}", quoted(possible.iter().map(|kind| kind.name())))
    }

    /// Returns the paraphrases of a record; empty if it has none.
    pub(super) fn paraphrases(
        &self,
        record: &Record,
        id: &str,
        path: &Path,
    ) -> Result<Vec<String>> {
        let Some((column, value)) = first_filled(&record.values, &self.paraphrase_columns) else {
            return Ok(Vec::new());
        };
        let fault = |what: &str| {
            Error::new(ErrorKind::Data, format!("`{column}` of `{id}` is {what}"))
                .at_line(path, record.line)
                .hint("expected a list of texts")
        };
        match structured(value).as_ref() {
            Value::Array(items) => items
                .iter()
                .map(|item| {
                    let text = text_of(item).filter(|text| !text.trim().is_empty());
                    text.map(|text| text.into_owned())
                        .ok_or_else(|| fault("a list with something that is no text"))
                })
                .collect(),
            other => Err(fault(&format!("{}, which is no list", kind_of(other)))),
        }
    }
}
