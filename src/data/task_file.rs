//! From the text of a task file to a checked [`Task`].
//!
//! Unknown keys, contradictions and settings that could have no effect are errors with their line.
//! The gold firewall begins here: no field, group or key may come from a column that holds gold.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::gold_spec::{GoldSpec, ReferenceSpec};
use super::key::KeyRule;
use super::record::Reader;
use super::task::Task;
use super::task_answers::{self, AnswersTable, OptionSpec, OptionsTable};
use super::task_gold::{GoldTable, gold};
use super::task_parts::{Field, HubSource, Label, Rule};
use super::task_preference::{Preference, PreferenceTable};
use super::task_prompt::{self, LabelTable, PromptTable, VariantTable, is_plain};
use super::task_source::{Source, check_not_gold};
use super::value::quoted;
use crate::error::{Error, ErrorKind, Result};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Spanned<String>,
    description: Spanned<String>,
    #[serde(default)]
    source: String,
    positive: Option<Spanned<String>>,
    columns: Option<Spanned<Vec<String>>>,
    header: Option<Spanned<bool>>,
    id: Option<Spanned<Vec<String>>>,
    reader: Option<Reader>,
    fields: Spanned<BTreeMap<String, Spanned<FieldTable>>>,
    prompt: PromptTable,
    #[serde(default)]
    variants: BTreeMap<String, Spanned<VariantTable>>,
    labels: Option<Spanned<Vec<Spanned<LabelTable>>>>,
    options: Option<Spanned<OptionsTable>>,
    #[serde(default)]
    answers: AnswersTable,
    #[serde(default)]
    gold: GoldTable,
    #[serde(default)]
    consistency: ConsistencyTable,
    preference: Option<Spanned<PreferenceTable>>,
    hub: Option<Spanned<HubTable>>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a list of columns, or { columns = [..], default = \"..\" }"
)]
enum FieldTable {
    Columns(Vec<String>),
    Optional(OptionalField),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OptionalField {
    columns: Vec<String>,
    default: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HubTable {
    repo: String,
    split: String,
    files: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ConsistencyTable {
    group: Option<Spanned<Vec<String>>>,
    key: Option<Spanned<KeyTable>>,
    rules: Option<Spanned<Vec<Rule>>>,
    reference: Option<Spanned<ReferenceTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReferenceTable {
    columns: Vec<String>,
    by_label: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyTable {
    from: KeySource,
    field: Option<String>,
    fields: Option<Vec<String>>,
    column: Option<String>,
    at: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum KeySource {
    Text,
    YesNo,
    FinalNumber,
    Order,
    Split,
    Column,
}

/// Returns the task that `toml` describes, with `toml` and `sha256` still empty.
///
/// # Errors
/// [`ErrorKind::Task`] with the line of the setting at fault.
pub(super) fn parse(toml: &str, path: &Path) -> Result<Task> {
    let source = Source { toml, path };
    let file: File = toml::from_str(toml).map_err(|fault| {
        let message = fault.message().lines().next().unwrap_or("not a task file").to_owned();
        let error = match fault.span() {
            Some(span) => source.fault(span, message),
            None => Error::new(ErrorKind::Task, message).at(path),
        };
        error.hint("data/tasks/README.md lists every key of a task file")
    })?;
    check_name(&file, &source)?;
    let labels = labels(&file, &source)?;
    let positive = match &file.positive {
        None => labels.len().saturating_sub(1),
        Some(name) => {
            labels.iter().position(|label| label.name == *name.get_ref()).ok_or_else(|| {
                source
                    .fault(name.span(), format!("positive label `{}` is no label", name.get_ref()))
                    .hint(format!("labels are {}", quoted(labels.iter().map(|l| &l.name))))
            })?
        }
    };
    let gold = gold(&file.gold, &labels, &source)?;
    let closed = closed_columns(&gold, &file.gold.forbidden, file.consistency.reference.as_ref());
    let fields = fields(&file.fields, &closed, &source)?;
    if let Some(columns) = &file.columns {
        check_columns(columns, &source)?;
    }
    if let Some(header) = file.header.as_ref().filter(|_| file.columns.is_none()) {
        return Err(source
            .fault(header.span(), "`header` without `columns`")
            .hint("a table without a header needs names for its columns: columns = [..]"));
    }
    let id_columns = match &file.id {
        None => vec!["id".to_owned()],
        Some(id) if id.get_ref().is_empty() => {
            return Err(source.fault(id.span(), "`id` names no column"));
        }
        Some(id) => {
            check_not_gold("the id", id.get_ref(), &closed, id.span(), &source)?;
            id.get_ref().clone()
        }
    };
    let consistency = consistency(&file, &labels, &fields, &closed, &source)?;
    let preference = file
        .preference
        .as_ref()
        .map(|table| Preference::of(table, &labels, &fields, &source))
        .transpose()?;
    let options = match &file.options {
        Some(table) => {
            let options = OptionSpec::of(table, &source)?;
            options.check(&closed, table.span(), &source)?;
            Some(options)
        }
        None => None,
    };
    let option_columns = options.as_ref().map(OptionSpec::columns).unwrap_or_default();
    let paraphrases: Vec<String> = file.answers.columns().cloned().collect();
    check_not_gold("a paraphrase", &paraphrases, &closed, 0..0, &source)?;
    let known_columns: Vec<String> = fields
        .iter()
        .flat_map(|field| &field.columns)
        .chain(&option_columns)
        .chain(&paraphrases)
        .chain(&closed)
        .chain(&id_columns)
        .chain(&consistency.group_columns)
        .map(|column| column.split_once('.').map_or(column.as_str(), |(root, _)| root).to_owned())
        .collect();
    let hub = file.hub.map(|hub| hub_source(hub, &source)).transpose()?;
    let variants = task_prompt::variants(
        file.prompt,
        file.variants,
        &task_prompt::Maker {
            labels: &labels,
            fields: &fields,
            has_options: options.is_some(),
            source: &source,
        },
    )?;
    let answers =
        task_answers::answers(file.answers, &variants, &fields, options.is_some(), &source)?;
    Ok(Task {
        name: file.name.into_inner(),
        description: file.description.into_inner(),
        source: file.source,
        labels,
        positive,
        prompt: variants[0].clone(),
        variants,
        rules: consistency.rules,
        toml: String::new(),
        sha256: String::new(),
        preference,
        hub,
        answers,
        options,
        known_columns,
        fields,
        reader: file.reader,
        gold,
        closed,
        reference: consistency.reference,
        // Files without an `id` are numbered; any other name is of a column that must be there.
        names_id: id_columns[0] != "id",
        is_id_given: false,
        has_header: file.header.map(Spanned::into_inner),
        id_columns,
        group_columns: consistency.group_columns,
        key: consistency.key,
        columns: file.columns.map(Spanned::into_inner),
    })
}

/// Returns the labels listed, or a letter for each option, or none for open answers.
fn labels(file: &File, source: &Source<'_>) -> Result<Vec<Label>> {
    match (&file.labels, &file.options, file.answers.is_open()) {
        (Some(labels), None, false) => task_prompt::labels(labels, source),
        (None, Some(_), false) => Ok(task_answers::letters()),
        (None, None, true) => Ok(Vec::new()),
        (None, None, false) => Err(Error::new(ErrorKind::Task, "task has no labels")
            .at(source.path)
            .hint("list [[labels]], or say where the options of a question are under [options], or set `open = true` under [answers]")),
        _ => Err(Error::new(
            ErrorKind::Task,
            "task has more than one of [[labels]], [options] and `answers.open`",
        )
        .at(source.path)
        .hint("options are labelled by their letters; open answers have no labels")),
    }
}

fn check_name(file: &File, source: &Source<'_>) -> Result<()> {
    let name = file.name.get_ref();
    if !is_plain(name) {
        return Err(source
            .fault(file.name.span(), format!("task name `{name}` cannot be used"))
            .hint("a name is made of letters, digits, `-`, `_` and `.`"));
    }
    if file.description.get_ref().contains('\n') {
        return Err(source.fault(file.description.span(), "description has more than one line"));
    }
    Ok(())
}

/// Returns every column that no text may come from.
fn closed_columns(
    gold: &GoldSpec,
    forbidden: &[String],
    reference: Option<&Spanned<ReferenceTable>>,
) -> Vec<String> {
    // `label` is where labels of every kind are written, so it is closed even if not listed.
    let mut columns = vec!["label".to_owned()];
    columns.extend(gold.all_columns().chain(forbidden).cloned());
    let from_gold = reference.filter(|table| table.get_ref().by_label.is_some());
    columns.extend(from_gold.into_iter().flat_map(|table| table.get_ref().columns.clone()));
    columns
}

fn fields(
    tables: &Spanned<BTreeMap<String, Spanned<FieldTable>>>,
    closed: &[String],
    source: &Source<'_>,
) -> Result<Vec<Field>> {
    let mut fields = Vec::new();
    for (name, table) in tables.get_ref() {
        let (columns, default) = match table.get_ref() {
            FieldTable::Columns(columns) => (columns, None),
            FieldTable::Optional(OptionalField { columns, default }) => (columns, Some(default)),
        };
        if ["options", "words"].contains(&name.as_str()) {
            return Err(source
                .fault(table.span(), format!("a field cannot be called `{name}`"))
                .hint("in a template `{options}` and `{words}` stand for the options and the label words"));
        }
        if columns.is_empty() {
            return Err(source
                .fault(table.span(), format!("field `{name}` has no columns"))
                .hint(format!("write {name} = [\"{name}\"]")));
        }
        check_not_gold(&format!("field `{name}`"), columns, closed, table.span(), source)?;
        fields.push(Field {
            name: name.clone(),
            columns: columns.clone(),
            default: default.cloned(),
        });
    }
    if fields.is_empty() {
        return Err(source.fault(tables.span(), "task has no fields"));
    }
    if fields.iter().all(|field| field.default.is_some()) {
        return Err(source
            .fault(tables.span(), "every field has a default")
            .hint("a record without any text cannot be told from a wrong file"));
    }
    Ok(fields)
}

fn hub_source(table: Spanned<HubTable>, source: &Source<'_>) -> Result<HubSource> {
    let span = table.span();
    let HubTable { repo, split, files } = table.into_inner();
    if !files.contains_key(&split) {
        return Err(source
            .fault(span, format!("hub split `{split}` has no file"))
            .hint(format!("files are of {}", quoted(files.keys()))));
    }
    Ok(HubSource { repo, split, files })
}

fn check_columns(columns: &Spanned<Vec<String>>, source: &Source<'_>) -> Result<()> {
    let names = columns.get_ref();
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) || name.trim().is_empty() {
            return Err(source
                .fault(columns.span(), format!("`columns` names `{name}` twice or not at all")));
        }
    }
    Ok(())
}

/// The consistency part of a task.
struct Consistency {
    group_columns: Vec<String>,
    key: Option<KeyRule>,
    rules: Vec<Rule>,
    reference: Option<ReferenceSpec>,
}

fn reference(
    table: &Spanned<ReferenceTable>,
    labels: &[Label],
    source: &Source<'_>,
) -> Result<ReferenceSpec> {
    let ReferenceTable { columns, by_label } = table.get_ref();
    let Some(by_label) = by_label else {
        return Ok(ReferenceSpec { columns: columns.clone(), by_label: None });
    };
    let keys: Option<Vec<String>> =
        labels.iter().map(|label| by_label.get(&label.name).cloned()).collect();
    match keys {
        Some(keys) if by_label.len() == labels.len() => {
            Ok(ReferenceSpec { columns: columns.clone(), by_label: Some(keys) })
        }
        _ => Err(source
            .fault(table.span(), "`by_label` does not have one key for each label")
            .hint(format!("labels are {}", quoted(labels.iter().map(|l| &l.name))))),
    }
}

fn consistency(
    file: &File,
    labels: &[Label],
    fields: &[Field],
    gold: &[String],
    source: &Source<'_>,
) -> Result<Consistency> {
    let ConsistencyTable { group, key, rules, reference: published } = &file.consistency;
    let mut group_columns = Vec::new();
    if let Some(group) = group {
        check_not_gold("the consistency group", group.get_ref(), gold, group.span(), source)?;
        group_columns.clone_from(group.get_ref());
    }
    let rule = match key {
        Some(key) => Some(key_rule(key, fields, gold, source)?),
        None => None,
    };
    let reference = published.as_ref().map(|table| reference(table, labels, source)).transpose()?;
    let Some(rules) = rules else {
        return Ok(Consistency { group_columns, key: rule, rules: Vec::new(), reference });
    };
    let fault = |message: &str| source.fault(rules.span(), message);
    let listed = rules.get_ref();
    if listed.iter().enumerate().any(|(index, rule)| listed[..index].contains(rule)) {
        return Err(fault("a rule is listed twice"));
    }
    if !listed.is_empty() && rule.is_none() {
        return Err(fault("rules without a key").hint("say where `consistency.key` comes from"));
    }
    let makes_groups = matches!(rule, Some(KeyRule::Order { .. } | KeyRule::Split { .. }));
    if !listed.is_empty() && group_columns.is_empty() && !makes_groups {
        return Err(fault("rules without a group would never apply")
            .hint("name the columns of `consistency.group`"));
    }
    if listed.contains(&Rule::Contradiction) && file.positive.is_none() {
        return Err(fault("rule `contradiction` without a positive label")
            .hint("say with `positive` which label two different keys cannot both have"));
    }
    if listed.contains(&Rule::Asymmetry) && labels.len() != 2 {
        return Err(fault("rule `asymmetry` on a task that has more than two labels"));
    }
    Ok(Consistency { group_columns, key: rule, rules: listed.clone(), reference })
}

fn key_rule(
    key: &Spanned<KeyTable>,
    declared: &[Field],
    gold: &[String],
    source: &Source<'_>,
) -> Result<KeyRule> {
    let KeyTable { from, field, fields, column, at } = key.get_ref();
    let fault = |message: String| source.fault(key.span(), message);
    let known = |name: &String| {
        if declared.iter().any(|declared| declared.name == *name) {
            Ok(name.clone())
        } else {
            Err(fault(format!("key comes from the field `{name}`, which is not declared")))
        }
    };
    match (from, field, fields.as_deref(), column, at) {
        (KeySource::Text, Some(field), None, None, None) => {
            Ok(KeyRule::Text { field: known(field)? })
        }
        (KeySource::YesNo, Some(field), None, None, None) => {
            Ok(KeyRule::YesNo { field: known(field)? })
        }
        (KeySource::FinalNumber, Some(field), None, None, None) => {
            Ok(KeyRule::FinalNumber { field: known(field)? })
        }
        (KeySource::Order, None, Some([first, second]), None, None) if first != second => {
            Ok(KeyRule::Order { first: known(first)?, second: known(second)? })
        }
        (KeySource::Split, Some(field), None, None, Some(at)) if !at.trim().is_empty() => {
            Ok(KeyRule::Split { field: known(field)?, at: at.clone() })
        }
        (KeySource::Column, None, None, Some(column), None) => {
            check_not_gold("the key", std::slice::from_ref(column), gold, key.span(), source)?;
            Ok(KeyRule::Column { column: column.clone() })
        }
        (KeySource::Order, ..) => {
            Err(fault("key `order` takes `fields` with two names and nothing else".to_owned()))
        }
        (KeySource::Split, ..) => {
            Err(fault("key `split` takes `field`, `at` and nothing else".to_owned()))
        }
        (KeySource::Column, ..) => {
            Err(fault("key `column` takes `column` and nothing else".to_owned()))
        }
        _ => Err(fault("this key takes `field` and nothing else".to_owned())),
    }
}
