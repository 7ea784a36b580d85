//! From the gold table of a task file to how gold is read.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::gold_spec::{Concept, GoldSpec, Test};
use super::task_parts::Label;
use super::task_source::Source;
use super::value::{quoted, spelling};
use crate::error::{Error, ErrorKind, Result};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct GoldTable {
    columns: Vec<String>,
    pub(super) forbidden: Vec<String>,
    ignore: Vec<String>,
    concepts: BTreeMap<String, Spanned<ConceptTable>>,
}

impl Default for GoldTable {
    fn default() -> Self {
        Self {
            columns: vec!["label".to_owned()],
            forbidden: Vec::new(),
            ignore: Vec::new(),
            concepts: BTreeMap::new(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConceptTable {
    columns: Vec<String>,
    labels: Option<BTreeMap<String, Vec<String>>>,
    above: Option<f64>,
    contains: Option<Vec<String>>,
    then: Option<String>,
    otherwise: Option<String>,
}

/// Returns how gold is read.
pub(super) fn gold(table: &GoldTable, labels: &[Label], source: &Source<'_>) -> Result<GoldSpec> {
    if table.columns.is_empty() {
        return Err(Error::new(ErrorKind::Task, "`gold.columns` is empty")
            .at(source.path)
            .hint("leave [gold] out to use the column `label`"));
    }
    let mut concepts = BTreeMap::new();
    for (name, concept) in &table.concepts {
        concepts.insert(name.clone(), concept_of(name, concept, labels, source)?);
    }
    let ignore = table.ignore.iter().map(|value| spelling(value)).collect();
    Ok(GoldSpec { columns: table.columns.clone(), ignore, concepts })
}

fn concept_of(
    name: &str,
    table: &Spanned<ConceptTable>,
    labels: &[Label],
    source: &Source<'_>,
) -> Result<Concept> {
    let fault =
        |message: String| source.fault(table.span(), format!("gold concept `{name}`: {message}"));
    let ConceptTable { columns, labels: spelled, above, contains, then, otherwise } =
        table.get_ref();
    if columns.is_empty() {
        return Err(fault("has no columns".to_owned()));
    }
    let place = |label: &String| {
        labels.iter().position(|known| known.name == *label).ok_or_else(|| {
            fault(format!("`{label}` is no label"))
                .hint(format!("labels are {}", quoted(labels.iter().map(|l| &l.name))))
        })
    };
    let otherwise = otherwise.as_ref().map(place).transpose()?;
    let then = then.as_ref().map(place).transpose()?;
    let test = match (spelled, above, contains, then) {
        (Some(spelled), None, None, None) => {
            let mut pairs: Vec<(String, usize)> = Vec::new();
            for (label, spellings) in spelled {
                let label = place(label)?;
                for text in spellings.iter().map(|text| spelling(text)) {
                    if pairs.iter().any(|(known, _)| *known == text) {
                        return Err(fault(format!("value `{text}` is there twice")));
                    }
                    pairs.push((text, label));
                }
            }
            Test::Spelled(pairs)
        }
        (None, Some(bound), None, Some(then)) if bound.is_finite() => Test::Above(*bound, then),
        (None, None, Some(items), Some(then)) if !items.is_empty() => {
            Test::Contains(items.iter().map(|item| spelling(item)).collect(), then)
        }
        _ => {
            return Err(fault("takes `labels`, or `above` or `contains` with `then`".to_owned())
                .hint("data/tasks/README.md shows one of each"));
        }
    };
    if otherwise.is_none() && !matches!(test, Test::Spelled(_)) {
        return Err(fault("has no `otherwise`, so it would know one label only".to_owned()));
    }
    Ok(Concept { columns: columns.clone(), test, otherwise })
}
