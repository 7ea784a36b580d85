//! From the text of a task file to a checked [`Task`].
//!
//! Unknown keys, contradictions and settings that could have no effect are errors with their line.
//! The gold firewall begins here: no field, group or key may come from a column that holds gold.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::key::KeyRule;
use super::task::{Label, PromptSpec, Rule, Task};
use super::value::quoted;
use crate::error::{Error, ErrorKind, Result};
use crate::prompt::Template;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Spanned<String>,
    description: Spanned<String>,
    #[serde(default)]
    source: String,
    positive: Option<Spanned<String>>,
    columns: Option<Spanned<Vec<String>>>,
    fields: Spanned<BTreeMap<String, Spanned<Vec<String>>>>,
    prompt: PromptTable,
    labels: Spanned<Vec<Spanned<LabelTable>>>,
    #[serde(default)]
    gold: GoldTable,
    #[serde(default)]
    consistency: ConsistencyTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PromptTable {
    #[serde(default)]
    instruction: String,
    template: Spanned<String>,
    #[serde(default = "blank_line")]
    separator: String,
}

fn blank_line() -> String {
    "\n\n".to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelTable {
    name: String,
    word: Option<String>,
    #[serde(default)]
    accept: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct GoldTable {
    columns: Vec<String>,
    forbidden: Vec<String>,
}

impl Default for GoldTable {
    fn default() -> Self {
        Self { columns: vec!["label".to_owned()], forbidden: Vec::new() }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ConsistencyTable {
    group: Option<Spanned<Vec<String>>>,
    key: Option<Spanned<KeyTable>>,
    rules: Option<Spanned<Vec<Rule>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyTable {
    from: KeySource,
    field: Option<String>,
    fields: Option<Vec<String>>,
    column: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum KeySource {
    Text,
    YesNo,
    FinalNumber,
    Order,
    Column,
}

/// A task file's text and path, for errors that name the line.
struct Source<'s> {
    toml: &'s str,
    path: &'s Path,
}

impl Source<'_> {
    fn line(&self, offset: usize) -> usize {
        let before = &self.toml.as_bytes()[..offset.min(self.toml.len())];
        1 + before.iter().filter(|&&byte| byte == b'\n').count()
    }

    fn fault(&self, span: Range<usize>, message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Task, message).at_line(self.path, self.line(span.start))
    }
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
    let labels = labels(&file.labels, &source)?;
    let positive = match &file.positive {
        None => labels.len() - 1,
        Some(name) => {
            labels.iter().position(|label| label.name == *name.get_ref()).ok_or_else(|| {
                source
                    .fault(name.span(), format!("positive label `{}` is no label", name.get_ref()))
                    .hint(format!("labels are {}", quoted(labels.iter().map(|l| &l.name))))
            })?
        }
    };
    let gold = gold_columns(&file.gold, &source)?;
    let fields = fields(&file.fields, &gold, &source)?;
    check_template(&file.prompt.template, &fields, &source)?;
    if let Some(columns) = &file.columns {
        check_columns(columns, &source)?;
    }
    let (group_columns, key, rules) = consistency(&file, &fields, &gold, &source)?;
    Ok(Task {
        name: file.name.into_inner(),
        description: file.description.into_inner(),
        source: file.source,
        labels,
        positive,
        prompt: PromptSpec {
            instruction: file.prompt.instruction,
            template: file.prompt.template.into_inner(),
            separator: file.prompt.separator,
        },
        rules,
        toml: String::new(),
        sha256: String::new(),
        fields,
        gold_columns: file.gold.columns,
        group_columns,
        key,
        columns: file.columns.map(Spanned::into_inner),
    })
}

fn check_name(file: &File, source: &Source<'_>) -> Result<()> {
    let name = file.name.get_ref();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || !name.chars().all(plain) {
        return Err(source
            .fault(file.name.span(), format!("task name `{name}` cannot be used"))
            .hint("a name is made of letters, digits, `-`, `_` and `.`"));
    }
    if file.description.get_ref().contains('\n') {
        return Err(source.fault(file.description.span(), "description has more than one line"));
    }
    Ok(())
}

fn labels(tables: &Spanned<Vec<Spanned<LabelTable>>>, source: &Source<'_>) -> Result<Vec<Label>> {
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
        if word.trim().is_empty() || word.trim() != word {
            return Err(fault(format!("word `{word}` of label `{name}` is empty or has blanks"))
                .hint("put the blank before a label word at the end of the template"));
        }
        if let Some(other) = labels.iter().find(|label| label.word == *word) {
            return Err(fault(format!("labels `{}` and `{name}` have one word", other.name))
                .hint("a model tells labels apart by their words only"));
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
    }
    if labels.len() < 2 {
        return Err(source
            .fault(tables.span(), format!("task has {} labels, expected two or more", labels.len()))
            .hint("each label is a table [[labels]] with a name"));
    }
    Ok(labels)
}

/// Returns every column that no text may come from.
fn gold_columns(gold: &GoldTable, source: &Source<'_>) -> Result<Vec<String>> {
    if gold.columns.is_empty() {
        return Err(Error::new(ErrorKind::Task, "`gold.columns` is empty")
            .at(source.path)
            .hint("leave [gold] out to use the column `label`"));
    }
    // `label` is where labels of every kind are written, so it is closed even if not listed.
    let mut columns = vec!["label".to_owned()];
    columns.extend(gold.columns.iter().chain(&gold.forbidden).cloned());
    Ok(columns)
}

/// Refuses a text, group or key column that holds gold.
fn check_not_gold(
    what: &str,
    columns: &[String],
    gold: &[String],
    span: Range<usize>,
    source: &Source<'_>,
) -> Result<()> {
    match columns.iter().find(|column| gold.contains(column)) {
        None => Ok(()),
        Some(column) => Err(source
            .fault(span, format!("{what} comes from column `{column}`, which holds gold"))
            .hint("gold columns are `label` and those of `gold.columns` and `gold.forbidden`")),
    }
}

fn fields(
    tables: &Spanned<BTreeMap<String, Spanned<Vec<String>>>>,
    gold: &[String],
    source: &Source<'_>,
) -> Result<Vec<(String, Vec<String>)>> {
    let mut fields = Vec::new();
    for (name, columns) in tables.get_ref() {
        if columns.get_ref().is_empty() {
            return Err(source
                .fault(columns.span(), format!("field `{name}` has no columns"))
                .hint(format!("write {name} = [\"{name}\"]")));
        }
        check_not_gold(
            &format!("field `{name}`"),
            columns.get_ref(),
            gold,
            columns.span(),
            source,
        )?;
        fields.push((name.clone(), columns.get_ref().clone()));
    }
    if fields.is_empty() {
        return Err(source.fault(tables.span(), "task has no fields"));
    }
    Ok(fields)
}

fn check_template(
    template: &Spanned<String>,
    fields: &[(String, Vec<String>)],
    source: &Source<'_>,
) -> Result<()> {
    let fault = |message: String| source.fault(template.span(), message);
    let parsed = Template::parse(template.get_ref())
        .map_err(|error| error.at_line(source.path, source.line(template.span().start)))?;
    let used = parsed.fields();
    if used.is_empty() {
        return Err(fault("template names no field".to_owned())
            .hint("every question would be the same text"));
    }
    match used.iter().find(|name| !fields.iter().any(|(field, _)| field == *name)) {
        None => Ok(()),
        Some(name) => {
            Err(fault(format!("template names the field `{name}`, which is not declared"))
                .hint(format!("fields are {}", quoted(fields.iter().map(|(field, _)| field)))))
        }
    }
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

type Consistency = (Vec<String>, Option<KeyRule>, Vec<Rule>);

fn consistency(
    file: &File,
    fields: &[(String, Vec<String>)],
    gold: &[String],
    source: &Source<'_>,
) -> Result<Consistency> {
    let ConsistencyTable { group, key, rules } = &file.consistency;
    let mut group_columns = Vec::new();
    if let Some(group) = group {
        check_not_gold("the consistency group", group.get_ref(), gold, group.span(), source)?;
        group_columns.clone_from(group.get_ref());
    }
    let rule = match key {
        Some(key) => Some(key_rule(key, fields, gold, source)?),
        None => None,
    };
    let Some(rules) = rules else { return Ok((group_columns, rule, Vec::new())) };
    let fault = |message: &str| source.fault(rules.span(), message);
    let listed = rules.get_ref();
    if listed.iter().enumerate().any(|(index, rule)| listed[..index].contains(rule)) {
        return Err(fault("a rule is listed twice"));
    }
    if !listed.is_empty() && rule.is_none() {
        return Err(fault("rules without a key").hint("say where `consistency.key` comes from"));
    }
    let makes_groups = matches!(rule, Some(KeyRule::Order { .. }));
    if !listed.is_empty() && group_columns.is_empty() && !makes_groups {
        return Err(fault("rules without a group would never apply")
            .hint("name the columns of `consistency.group`"));
    }
    if listed.contains(&Rule::Contradiction) && file.positive.is_none() {
        return Err(fault("rule `contradiction` without a positive label")
            .hint("say with `positive` which label two different keys cannot both have"));
    }
    if listed.contains(&Rule::Asymmetry) && file.labels.get_ref().len() != 2 {
        return Err(fault("rule `asymmetry` on a task that has more than two labels"));
    }
    Ok((group_columns, rule, listed.clone()))
}

fn key_rule(
    key: &Spanned<KeyTable>,
    declared: &[(String, Vec<String>)],
    gold: &[String],
    source: &Source<'_>,
) -> Result<KeyRule> {
    let KeyTable { from, field, fields, column } = key.get_ref();
    let fault = |message: String| source.fault(key.span(), message);
    let known = |name: &String| {
        if declared.iter().any(|(declared, _)| declared == name) {
            Ok(name.clone())
        } else {
            Err(fault(format!("key comes from the field `{name}`, which is not declared")))
        }
    };
    match (from, field, fields.as_deref(), column) {
        (KeySource::Text, Some(field), None, None) => Ok(KeyRule::Text { field: known(field)? }),
        (KeySource::YesNo, Some(field), None, None) => Ok(KeyRule::YesNo { field: known(field)? }),
        (KeySource::FinalNumber, Some(field), None, None) => {
            Ok(KeyRule::FinalNumber { field: known(field)? })
        }
        (KeySource::Order, None, Some([first, second]), None) if first != second => {
            Ok(KeyRule::Order { first: known(first)?, second: known(second)? })
        }
        (KeySource::Column, None, None, Some(column)) => {
            check_not_gold("the key", std::slice::from_ref(column), gold, key.span(), source)?;
            Ok(KeyRule::Column { column: column.clone() })
        }
        (KeySource::Order, ..) => {
            Err(fault("key `order` takes `fields` with two names and nothing else".to_owned()))
        }
        (KeySource::Column, ..) => {
            Err(fault("key `column` takes `column` and nothing else".to_owned()))
        }
        _ => Err(fault("this key takes `field` and nothing else".to_owned())),
    }
}
