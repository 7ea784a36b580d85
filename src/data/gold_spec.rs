//! What a task file says about gold: which columns hold it and how their values become labels.
//!
//! Nothing here reads a file: [`GoldLabels`](super::GoldLabels) and
//! [`ReferenceKeys`](super::ReferenceKeys) do.

use std::collections::BTreeMap;

use serde_json::Value;

use super::value::{lookup, spelling, structured, text_of};

/// The gold columns of a task.
#[derive(Clone, Debug, Default)]
pub(super) struct GoldSpec {
    /// Columns, or names of concepts, of which the first filled one is the gold label.
    pub(super) columns: Vec<String>,
    /// Values that say there is no label.
    pub(super) ignore: Vec<String>,
    /// Further ideas of the label, by name.
    pub(super) concepts: BTreeMap<String, Concept>,
}

/// A label that follows from a column's value.
#[derive(Clone, Debug)]
pub(super) struct Concept {
    /// The columns it may come from, in order.
    pub(super) columns: Vec<String>,
    pub(super) test: Test,
    /// The label of values that the test says nothing of, if they have one.
    pub(super) otherwise: Option<usize>,
}

/// How a value becomes a label.
#[derive(Clone, Debug)]
pub(super) enum Test {
    /// Spelling and label.
    Spelled(Vec<(String, usize)>),
    /// This label where a number is above a bound.
    Above(f64, usize),
    /// This label where a list has one of these items.
    Contains(Vec<String>, usize),
}

/// What a concept says of one record.
pub(super) enum Verdict<'r> {
    /// The record has none of the columns, or its value says nothing.
    Absent,
    /// The label's place.
    Label(usize),
    /// A column and a value that is not understood.
    Unknown(&'r str, String),
}

impl GoldSpec {
    /// Returns the columns that spell labels themselves.
    pub(super) fn plain_columns(&self) -> impl Iterator<Item = &String> {
        self.columns.iter().filter(|column| !self.concepts.contains_key(*column))
    }

    /// Returns every column that any part of gold is read from.
    pub(super) fn all_columns(&self) -> impl Iterator<Item = &String> {
        self.plain_columns().chain(self.concepts.values().flat_map(|concept| &concept.columns))
    }

    /// Returns whether a value says that there is no label.
    pub(super) fn is_ignored(&self, value: &Value) -> bool {
        text_of(value).is_some_and(|text| self.ignore.contains(&spelling(&text)))
    }
}

impl Concept {
    /// Returns the label of a record; values that `gold` ignores are absent.
    pub(super) fn label<'s>(
        &'s self,
        values: &serde_json::Map<String, Value>,
        gold: &GoldSpec,
    ) -> Verdict<'s> {
        let found = self.columns.iter().find_map(|column| {
            let value = lookup(values, column)?;
            (!super::value::is_blank(&value)).then_some((column.as_str(), value))
        });
        let Some((column, value)) = found else { return Verdict::Absent };
        if gold.is_ignored(&value) {
            return Verdict::Absent;
        }
        let label = match &self.test {
            Test::Spelled(spellings) => text_of(&value).and_then(|text| {
                let text = spelling(&text);
                spellings.iter().find(|(known, _)| *known == text).map(|(_, label)| *label)
            }),
            Test::Above(bound, label) => {
                let Some(number) = number(&value) else {
                    return Verdict::Unknown(column, value.to_string());
                };
                (number > *bound).then_some(*label)
            }
            Test::Contains(items, label) => {
                let value = structured(value.clone());
                let Value::Array(list) = value.as_ref() else {
                    return Verdict::Unknown(column, value.to_string());
                };
                let mut there = list.iter().filter_map(text_of).map(|text| spelling(&text));
                there.any(|item| items.contains(&item)).then_some(*label)
            }
        };
        match label.or(self.otherwise) {
            Some(label) => Verdict::Label(label),
            None => Verdict::Unknown(column, text_of(&value).unwrap_or_default().into_owned()),
        }
    }
}

/// Returns a number, also one that is written as text or with a percent sign (`83 %`).
fn number(value: &Value) -> Option<f64> {
    let text = text_of(value)?;
    let text = text.trim().trim_end_matches('%').trim_end();
    text.parse::<f64>().ok().filter(|number| number.is_finite())
}

/// How the published code makes its consistency keys, of which some come from the gold label.
#[derive(Clone, Debug)]
pub(super) struct ReferenceSpec {
    /// Columns that hold the key.
    pub(super) columns: Vec<String>,
    /// The key of each label, where the key is made from the gold label.
    pub(super) by_label: Option<Vec<String>>,
}
