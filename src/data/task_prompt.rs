//! From the prompt tables of a task file to checked labels and prompt variants.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use super::task_parts::{Field, Label, PromptCase, PromptSpec};
use super::task_source::Source;
use super::template::Template;
use super::value::{quoted, spelling};
use crate::error::Result;

/// Name of a task's own prompt, where the file gives it none.
const DEFAULT_VARIANT: &str = "default";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PromptTable {
    name: Option<Spanned<String>>,
    #[serde(default)]
    instruction: String,
    template: Spanned<String>,
    #[serde(default = "blank_line")]
    separator: String,
    chat_request: Option<Spanned<String>>,
    option: Option<Spanned<String>>,
    option_separator: Option<Spanned<String>>,
    #[serde(default)]
    cases: Vec<Spanned<CaseTable>>,
}

/// How an option is written, where the task does not say.
const OPTION: &str = "{letter}. {option}";

/// What a chat model is told after the question, where the task does not say.
const CHAT_REQUEST: &str = "Answer with {words} only.";

fn blank_line() -> String {
    "\n\n".to_owned()
}

/// What a variant leaves out is as in `[prompt]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VariantTable {
    instruction: Option<String>,
    template: Option<Spanned<String>>,
    separator: Option<String>,
    chat_request: Option<Spanned<String>>,
    option: Option<Spanned<String>>,
    option_separator: Option<Spanned<String>>,
    words: Option<Spanned<BTreeMap<String, String>>>,
    cases: Option<Vec<Spanned<CaseTable>>>,
}

/// What a case leaves out is as in its variant.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseTable {
    field: String,
    is: Vec<String>,
    template: Option<Spanned<String>>,
    words: Option<Spanned<BTreeMap<String, String>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LabelTable {
    name: String,
    word: Option<String>,
    #[serde(default)]
    accept: Vec<String>,
}

/// Returns the labels, with the words of the task's own prompt.
pub(super) fn labels(
    tables: &Spanned<Vec<Spanned<LabelTable>>>,
    source: &Source<'_>,
) -> Result<Vec<Label>> {
    let mut labels: Vec<Label> = Vec::new();
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    for table in tables.get_ref() {
        let LabelTable { name, word, accept } = table.get_ref();
        let word = word.as_ref().unwrap_or(name);
        let fault = |message: String| source.fault(table.span(), message);
        if name.trim().is_empty() || name.trim() != name {
            return Err(fault(format!("label name `{name}` is empty or has blanks round it")));
        }
        if labels.iter().any(|other| other.name == *name) {
            return Err(fault(format!("label `{name}` is there twice")));
        }
        let label = Label { name: name.clone(), word: word.clone(), accept: accept.clone() };
        for spelled in label.spellings() {
            if spelled.is_empty() {
                return Err(fault(format!("label `{name}` accepts an empty spelling")));
            }
            match owners.insert(spelled.clone(), name.clone()) {
                Some(other) if other != *name => {
                    return Err(fault(format!(
                        "spelling `{spelled}` stands for both `{other}` and `{name}`"
                    ))
                    .hint("spellings are compared without regard to case"));
                }
                _ => {}
            }
        }
        labels.push(label);
        check_words(labels.iter().map(|l| (&l.name, &l.word)), table.span(), source)?;
    }
    if labels.len() < 2 {
        return Err(source
            .fault(tables.span(), format!("task has {} labels, expected two or more", labels.len()))
            .hint("each label is a table [[labels]] with a name"));
    }
    Ok(labels)
}

/// Returns the prompt variants, the task's own first.
pub(super) fn variants(
    own: PromptTable,
    others: BTreeMap<String, Spanned<VariantTable>>,
    maker: &Maker<'_>,
) -> Result<Vec<PromptSpec>> {
    let Maker { labels, source, .. } = *maker;
    let name = own.name.as_ref().map_or(DEFAULT_VARIANT, |name| name.get_ref()).to_owned();
    if !is_plain(&name) {
        let span = own.name.map_or(0..0, |name| name.span());
        return Err(source.fault(span, format!("prompt name `{name}` cannot be used")));
    }
    maker.check_template(&own.template)?;
    let mut base = PromptSpec {
        name,
        instruction: own.instruction,
        template: own.template.into_inner(),
        separator: own.separator,
        chat_request: match own.chat_request {
            Some(request) => maker.chat_request(request)?,
            None => CHAT_REQUEST.to_owned(),
        },
        words: labels.iter().map(|label| label.word.clone()).collect(),
        option: maker.option(own.option)?.unwrap_or_else(|| OPTION.to_owned()),
        option_separator: maker.separator(own.option_separator)?.unwrap_or_else(|| "\n".to_owned()),
        cases: Vec::new(),
    };
    base.cases = maker.cases(own.cases, &base)?;
    let mut variants = vec![base];
    for (name, table) in others {
        let span = table.span();
        if !is_plain(&name) || variants[0].name == name {
            return Err(source
                .fault(span, format!("prompt variant `{name}` cannot have this name"))
                .hint("a name is made of letters, digits, `-`, `_` and `.`, and is there once"));
        }
        let VariantTable {
            instruction,
            template,
            separator,
            chat_request,
            option,
            option_separator,
            words,
            cases,
        } = table.into_inner();
        let mut variant = PromptSpec { name: name.clone(), ..variants[0].clone() };
        if let Some(template) = template {
            maker.check_template(&template)?;
            // The cases of the base are of its template.
            variant.cases.clear();
            variant.template = template.into_inner();
        }
        if let Some(words) = &words {
            variant.cases.clear();
            variant.words = maker.words(words)?;
        }
        if let Some(instruction) = instruction {
            variant.instruction = instruction;
        }
        if let Some(separator) = separator {
            variant.separator = separator;
        }
        if let Some(request) = chat_request {
            variant.chat_request = maker.chat_request(request)?;
        }
        if let Some(option) = maker.option(option)? {
            variant.option = option;
        }
        if let Some(separator) = maker.separator(option_separator)? {
            variant.option_separator = separator;
        }
        if let Some(cases) = cases {
            variant.cases = maker.cases(cases, &variant)?;
        }
        let same = PromptSpec { name, ..variants[0].clone() };
        if variant == same {
            return Err(source.fault(
                span,
                format!("prompt variant `{}` is no other than `{}`", same.name, variants[0].name),
            ));
        }
        variants.push(variant);
    }
    Ok(variants)
}

/// Returns whether a name can stand on a command line and in a file name.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// What the prompts of a task are made and checked with.
pub(super) struct Maker<'m> {
    pub(super) labels: &'m [Label],
    pub(super) fields: &'m [Field],
    pub(super) has_options: bool,
    pub(super) source: &'m Source<'m>,
}

impl Maker<'_> {
    fn cases(&self, tables: Vec<Spanned<CaseTable>>, base: &PromptSpec) -> Result<Vec<PromptCase>> {
        let mut cases = Vec::new();
        for table in tables {
            let span = table.span();
            let CaseTable { field, is, template, words } = table.into_inner();
            let fault = |message: String| self.source.fault(span.clone(), message);
            if !self.fields.iter().any(|known| known.name == field) {
                return Err(fault(format!(
                    "case is of the field `{field}`, which is not declared"
                ))
                .hint(self.known_fields()));
            }
            if is.is_empty() || (template.is_none() && words.is_none()) {
                return Err(fault("case would never change anything".to_owned())
                    .hint("say which values it `is`, and give it a `template` or `words`"));
            }
            if let Some(template) = &template {
                self.check_template(template)?;
            }
            cases.push(PromptCase {
                field,
                values: is.iter().map(|value| spelling(value)).collect(),
                template: template.map_or_else(|| base.template.clone(), Spanned::into_inner),
                words: match &words {
                    Some(words) => self.words(words)?,
                    None => base.words.clone(),
                },
            });
        }
        Ok(cases)
    }

    /// Returns how an option is spelled, if it is said.
    fn option(&self, option: Option<Spanned<String>>) -> Result<Option<String>> {
        let Some(option) = option else { return Ok(None) };
        let fields = Template::parse(option.get_ref())
            .map(|template| template.fields().into_iter().map(str::to_owned).collect::<Vec<_>>());
        let good = fields.is_ok_and(|names| {
            names.len() == 2 && ["letter", "option"].iter().all(|n| names.iter().any(|m| m == n))
        });
        if !good || !self.has_options {
            return Err(self
                .source
                .fault(option.span(), "`option` does not say how an option is written")
                .hint("write option = \"{letter}. {option}\", in a task with [options]"));
        }
        Ok(Some(option.into_inner()))
    }

    fn separator(&self, separator: Option<Spanned<String>>) -> Result<Option<String>> {
        match separator {
            Some(separator) if !self.has_options => {
                Err(self.source.fault(separator.span(), "`option_separator` without [options]"))
            }
            separator => Ok(separator.map(Spanned::into_inner)),
        }
    }

    fn chat_request(&self, request: Spanned<String>) -> Result<String> {
        let fault = |message: String| {
            self.source.fault(request.span(), message).hint(
                "`{words}` stands for the label words, as in `Answer with {words} only.`; a plain brace is `{{` or `}}`",
            )
        };
        let text = request.get_ref();
        let template = Template::parse(text).map_err(|e| fault(e.message().to_owned()))?;
        if let Some(other) = template.fields().into_iter().find(|name| *name != "words") {
            return Err(fault(format!("chat_request names `{other}`, expected `words`")));
        }
        if text.trim().is_empty() {
            return Err(fault("chat_request is empty".to_owned()));
        }
        Ok(text.trim().to_owned())
    }

    /// Returns one word a label, in the order of the labels.
    fn words(&self, table: &Spanned<BTreeMap<String, String>>) -> Result<Vec<String>> {
        let words = table.get_ref();
        let names = || quoted(self.labels.iter().map(|label| &label.name));
        if let Some(name) = words.keys().find(|name| self.labels.iter().all(|l| l.name != **name)) {
            return Err(self
                .source
                .fault(table.span(), format!("`words` names `{name}`, which is no label"))
                .hint(format!("labels are {}", names())));
        }
        let mut of_labels = Vec::new();
        for label in self.labels {
            let Some(word) = words.get(&label.name) else {
                return Err(self
                    .source
                    .fault(table.span(), format!("`words` has none for label `{}`", label.name))
                    .hint(format!("give a word for each of {}", names())));
            };
            of_labels.push(word.clone());
        }
        let pairs = self.labels.iter().map(|label| &label.name).zip(&of_labels);
        check_words(pairs, table.span(), self.source)?;
        Ok(of_labels)
    }

    fn known_fields(&self) -> String {
        format!("fields are {}", quoted(self.fields.iter().map(|field| &field.name)))
    }

    fn check_template(&self, template: &Spanned<String>) -> Result<()> {
        let source = self.source;
        let fault = |message: String| source.fault(template.span(), message);
        let parsed = Template::parse(template.get_ref())
            .map_err(|error| error.at_line(source.path, source.line(template.span().start)))?;
        let mut used = parsed.fields();
        // What a question is filled with besides its fields.
        used.retain(|name| *name != "words" || self.labels.is_empty());
        if self.has_options && !used.contains(&"options") {
            return Err(fault("template does not show the options".to_owned())
                .hint("`{options}` stands for all of them, each as `option` writes it"));
        }
        used.retain(|name| *name != "options" || !self.has_options);
        if used.is_empty() {
            return Err(fault("template names no field".to_owned())
                .hint("every question would be the same text"));
        }
        match used.iter().find(|name| !self.fields.iter().any(|field| field.name == **name)) {
            None => Ok(()),
            Some(name) => {
                Err(fault(format!("template names the field `{name}`, which is not declared"))
                    .hint(self.known_fields()))
            }
        }
    }
}

/// Refuses a word that is no word, and two labels with one.
fn check_words<'w>(
    words: impl Iterator<Item = (&'w String, &'w String)>,
    span: Range<usize>,
    source: &Source<'_>,
) -> Result<()> {
    let mut seen: Vec<(&String, &String)> = Vec::new();
    for (name, word) in words {
        if word.trim().is_empty() || word.trim() != word {
            return Err(source
                .fault(span, format!("word `{word}` of label `{name}` is empty or has blanks"))
                .hint("put the blank before a label word at the end of the template"));
        }
        if let Some((other, _)) = seen.iter().find(|(_, known)| *known == word) {
            return Err(source
                .fault(span, format!("labels `{other}` and `{name}` have one word"))
                .hint("a model tells labels apart by their words only"));
        }
        seen.push((name, word));
    }
    Ok(())
}
