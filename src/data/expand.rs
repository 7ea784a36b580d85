//! Named readers: one record of a published data set becomes the records that a task asks about.
//!
//! Most data sets need only other column names, which a task file gives. These hold several
//! questions in one record. Reading goes by column, so a file that already has one question a
//! record passes through unchanged. Where a data set tells right from wrong by place (the first
//! choice is the right one), the records made of it are put in an order by the digest of their
//! texts: the place of an example must say nothing of its gold label.

use serde_json::{Map, Value, json};

use super::record::{Reader, Record, sha256_hex};
use super::value::{lookup, structured, text_of};

type Values = Map<String, Value>;

/// Returns the records that `reader` makes of `records`, and how many it had nothing to make of.
pub(super) fn expand(reader: Reader, records: Vec<Record>) -> (Vec<Record>, usize) {
    let mut made = Vec::with_capacity(records.len());
    let mut num_unused = 0;
    for record in records {
        let parts = match reader {
            Reader::AnswerClaims => answer_claims(&record.values),
            Reader::AnswerPairs => answer_pairs(&record.values),
            Reader::BothOrders => both_orders(&record.values),
            Reader::TwoOptions => two_options(&record.values),
            Reader::TwoActions => two_actions(&record.values),
        };
        let Some(parts) = parts else {
            made.push(Record { row: made.len() + 1, ..record });
            continue;
        };
        num_unused += usize::from(parts.is_empty());
        let own_id = record.values.get("id").and_then(text_of);
        for (index, mut values) in parts.into_iter().enumerate() {
            if let Some(id) = own_id.as_deref().filter(|id| !id.trim().is_empty()) {
                values.insert("id".into(), format!("{}-{}", id.trim(), index + 1).into());
            }
            values.entry("consistency_id").or_insert(record.row.into());
            made.push(Record { row: made.len() + 1, line: record.line, values });
        }
    }
    (made, num_unused)
}

/// Returns the texts of a list, or of text with `; ` between the items.
fn texts(values: &Values, columns: &[&str]) -> Option<Vec<String>> {
    let value = structured(columns.iter().find_map(|column| lookup(values, column))?);
    match value.as_ref() {
        Value::Array(items) => {
            Some(items.iter().filter_map(text_of).map(|text| text.into_owned()).collect())
        }
        Value::String(text) => Some(
            text.split(';').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect(),
        ),
        _ => None,
    }
}

fn text(values: &Values, columns: &[&str]) -> Option<String> {
    let value = columns.iter().find_map(|column| lookup(values, column))?;
    text_of(&value).map(|text| text.into_owned())
}

/// Every answer with whether it is right: TruthfulQA's `mc2_targets` and `mc1_targets`, its lists
/// of correct and incorrect answers, and the columns of `TruthfulQA.csv`.
fn answers(values: &Values) -> Option<Vec<(String, bool)>> {
    let mut found: Vec<(String, bool)> = Vec::new();
    let mut add = |answer: String, right: bool| {
        if !found.iter().any(|(known, _)| *known == answer) {
            found.push((answer, right));
        }
    };
    let mut any = false;
    for targets in ["mc2_targets", "mc1_targets"] {
        let choices = texts(values, &[&format!("{targets}.choices")]);
        let labels = lookup(values, &format!("{targets}.labels")).map(structured);
        if let (Some(choices), Some(Value::Array(labels))) = (choices, labels.as_deref()) {
            any = true;
            for (choice, label) in choices.into_iter().zip(labels) {
                add(choice, label.as_f64() == Some(1.0) || label.as_bool() == Some(true));
            }
        }
    }
    let right = texts(values, &["correct_answers", "Correct Answers"]);
    let wrong = texts(values, &["incorrect_answers", "Incorrect Answers"]);
    if let (Some(right), Some(wrong)) = (right, wrong) {
        any = true;
        right.into_iter().for_each(|answer| add(answer, true));
        wrong.into_iter().for_each(|answer| add(answer, false));
    }
    any.then_some(found)
}

fn question(values: &Values) -> Value {
    text(values, &["question", "Question"]).map_or(Value::Null, Value::String)
}

fn record(entries: Value) -> Values {
    match entries {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn by_digest<T>(items: &mut [T], text: impl Fn(&T) -> String) {
    items.sort_by_cached_key(|item| sha256_hex(text(item).as_bytes()));
}

fn answer_claims(values: &Values) -> Option<Vec<Values>> {
    let mut answers = answers(values)?;
    by_digest(&mut answers, |(answer, _)| answer.clone());
    let question = question(values);
    let claim = |(answer, right): (String, bool)| {
        record(json!({ "question": question, "choice": answer, "label": right }))
    };
    Some(answers.into_iter().map(claim).collect())
}

fn answer_pairs(values: &Values) -> Option<Vec<Values>> {
    let (right, wrong): (Vec<_>, Vec<_>) = answers(values)?.into_iter().partition(|(_, r)| *r);
    let mut pairs = Vec::new();
    for (right, _) in &right {
        for (wrong, _) in &wrong {
            pairs.push((right.clone(), wrong.clone(), true));
            pairs.push((wrong.clone(), right.clone(), false));
        }
    }
    by_digest(&mut pairs, |(first, second, _)| format!("{first}\u{1f}{second}"));
    let question = question(values);
    let pair = |(first, second, label): (String, String, bool)| {
        record(json!({
            "question": question, "choice": first, "choice_2": second, "label": label }))
    };
    Some(pairs.into_iter().map(pair).collect())
}

/// AlpacaFarm's annotations: `preference` is 1 or 2, and 0 or 1.5 where neither is better.
fn both_orders(values: &Values) -> Option<Vec<Values>> {
    let instruction = text(values, &["instruction"])?;
    let first = text(values, &["output_1"])?;
    let second = text(values, &["output_2"])?;
    let question = match text(values, &["input"]).filter(|input| !input.trim().is_empty()) {
        Some(input) => format!("{instruction}\n\n{input}"),
        None => instruction,
    };
    let preference = text(values, &["preference"]).and_then(|text| text.trim().parse().ok());
    let label = |better: f64| match preference {
        Some(1.0 | 2.0) => Value::Bool(preference == Some(better)),
        _ => Value::Null,
    };
    let pair = |choice: &str, other: &str, label: Value| {
        record(json!({
            "question": question, "choice": choice, "choice_2": other, "label": label }))
    };
    Some(vec![pair(&first, &second, label(1.0)), pair(&second, &first, label(2.0))])
}

/// GlobalOpinionQA: `selections` gives the shares of the options by country. Gold is one column a
/// country, `label_COUNTRY`; a question with other than two options gives no record.
fn two_options(values: &Values) -> Option<Vec<Values>> {
    if values.contains_key("option") || values.contains_key("choice") {
        return None;
    }
    let options = texts(values, &["options"])?;
    let selections = lookup(values, "selections").map(structured);
    let Ok([first, second]) = <[String; 2]>::try_from(options) else { return Some(Vec::new()) };
    let question = question(values);
    let claim = |option: &str, mine: usize| {
        let mut claim = record(json!({ "question": question, "option": option }));
        let Some(Value::Object(countries)) = selections.as_deref() else { return claim };
        for (country, shares) in countries {
            let share = |index: usize| shares.get(index).and_then(Value::as_f64);
            if let (Some(mine), Some(other)) = (share(mine), share(1 - mine))
                && mine != other
            {
                claim.insert(format!("label_{country}"), Value::Bool(mine > other));
            }
        }
        claim
    };
    Some(vec![claim(&first, 0), claim(&second, 1)])
}

/// MoralChoice: in its low-ambiguity part the first action is the right one, and the columns
/// `a1_RULE`, `a2_RULE` say which rules an action breaks (`breaks_RULE` here).
fn two_actions(values: &Values) -> Option<Vec<Values>> {
    let situation = text(values, &["context", "question"])?;
    let first = text(values, &["action1", "choice"])?;
    let second = text(values, &["action2", "choice_2"])?;
    let is_low = text(values, &["ambiguity"]).is_some_and(|text| text.trim() == "low");
    let action = |text: &str, place: usize| {
        let mut action = record(json!({ "question": situation, "choice": text }));
        if is_low {
            action.insert("label".into(), Value::Bool(place == 1));
        }
        let prefix = format!("a{place}_");
        for (column, value) in values {
            if let Some(rule) = column.strip_prefix(&prefix) {
                action.insert(format!("breaks_{rule}"), value.clone());
            }
        }
        (text.to_owned(), action)
    };
    let mut actions = [action(&first, 1), action(&second, 2)];
    by_digest(&mut actions, |(text, _)| text.clone());
    let mut records: Vec<Values> = actions.into_iter().map(|(_, action)| action).collect();
    if let Some(id) = lookup(values, "consistency_id") {
        records.iter_mut().for_each(|r| {
            r.insert("consistency_id".into(), id.as_ref().clone());
        });
    }
    Some(records)
}
