//! `[preference]` of a task file: tasks that ask which of two answers to a question is the better one.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::example::Example;
use super::key::folded;
use super::task_parts::{Field, Label};
use super::task_source::Source;
use super::template::Template;
use super::value::quoted;
use crate::error::{Error, ErrorKind, Result};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PreferenceTable {
    prompt: Spanned<String>,
    answers: Spanned<Vec<String>>,
}

/// How the question and the two answers of a preference task are read, without the claim about them.
///
/// The task's positive label says that the first answer is the better one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preference {
    prompt: Template,
    answers: [String; 2],
}

/// A question with two answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerPair<'e> {
    /// The answer that the claim names first.
    pub first: &'e str,
    /// The other.
    pub second: &'e str,
}

impl Preference {
    pub(super) fn of(
        table: &Spanned<PreferenceTable>,
        labels: &[Label],
        fields: &[Field],
        source: &Source<'_>,
    ) -> Result<Self> {
        let PreferenceTable { prompt, answers } = table.get_ref();
        if labels.len() != 2 {
            return Err(source
                .fault(table.span(), "a preference on a task that has not two labels")
                .hint("the positive label says that the first answer is the better one, the other that the second is"));
        }
        let declared = |name: &str| fields.iter().any(|field| field.name == name);
        let names = || quoted(fields.iter().map(|field| &field.name));
        let [first, second] = answers.get_ref().as_slice() else {
            return Err(source.fault(answers.span(), "`answers` takes the names of two fields"));
        };
        for name in [first, second] {
            if !declared(name) {
                return Err(source
                    .fault(answers.span(), format!("`{name}` is no field"))
                    .hint(format!("fields are {}", names())));
            }
        }
        if first == second {
            return Err(source.fault(answers.span(), "`answers` names one field twice"));
        }
        let template = Template::parse(prompt.get_ref())
            .map_err(|why| source.fault(prompt.span(), why.message().to_owned()))?;
        for name in template.fields() {
            if !declared(name) {
                return Err(source
                    .fault(
                        prompt.span(),
                        format!("the prompt asks for `{name}`, which is no field"),
                    )
                    .hint(format!("fields are {}", names())));
            }
            if name == first || name == second {
                return Err(source
                    .fault(prompt.span(), format!("the prompt shows the answer `{name}`"))
                    .hint("what is to be learnt must not stand in the prompt"));
            }
        }
        Ok(Self { prompt: template, answers: [first.clone(), second.clone()] })
    }

    /// Returns the text that each of the answers follows.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] if the example lacks a field; one read with this task does not.
    pub fn prompt(&self, example: &Example) -> Result<String> {
        self.prompt.render(&example.fields).map_err(|why| why.of(format_args!("`{}`", example.id)))
    }

    /// Returns the two answers.
    ///
    /// # Errors
    /// As [`prompt`](Self::prompt).
    pub fn answers<'e>(&self, example: &'e Example) -> Result<AnswerPair<'e>> {
        let of = |fields: &'e BTreeMap<String, String>, name: &String| {
            fields.get(name).map(String::as_str).ok_or_else(|| {
                Error::new(
                    ErrorKind::Data,
                    format!("example `{}` has no field `{name}`", example.id),
                )
            })
        };
        let [first, second] = &self.answers;
        Ok(AnswerPair { first: of(&example.fields, first)?, second: of(&example.fields, second)? })
    }
}

impl AnswerPair<'_> {
    /// Returns the two texts as consistency keys compare them, in one order for both ways in which a
    /// pair is stored, and whether they were turned for it; `None` if they are equal.
    pub fn in_order(&self) -> Option<([String; 2], bool)> {
        let (first, second) = (folded(self.first), folded(self.second));
        match first.cmp(&second) {
            std::cmp::Ordering::Less => Some(([first, second], false)),
            std::cmp::Ordering::Greater => Some(([second, first], true)),
            std::cmp::Ordering::Equal => None,
        }
    }
}
